"""Kinds of functions: images, volumes, fields on a sphere, sound, video, and one's own."""
