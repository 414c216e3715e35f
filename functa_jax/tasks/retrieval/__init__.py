"""Rankings of images by distance, and their figures."""
