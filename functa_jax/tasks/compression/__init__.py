"""Quantisers, entropy coding, and their rate-distortion curves."""
