"""Latents fitted to part of an image; the linear rival."""
