"""Image data sets as NumPy arrays, whatever holds them."""
