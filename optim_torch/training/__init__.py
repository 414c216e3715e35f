"""Training of one network: its parts, its loop, its pictures."""
