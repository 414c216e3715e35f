"""Images on their way in: their values, and their sizes."""
