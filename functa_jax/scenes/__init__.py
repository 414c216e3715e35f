"""Scenes: posed views of things, cameras and rays, and what a radiance field makes of them."""
