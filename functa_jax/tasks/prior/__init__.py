"""Diffusion models of latents."""
