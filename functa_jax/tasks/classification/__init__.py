"""Features, networks that classify them, and how one is chosen."""
