"""Vision Transformers and the files that hold them."""
