"""The page of results: every picture with its sentence, and what answers to the mouse."""
