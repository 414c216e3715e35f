"""The decoders, a modulated SIREN and one that starts as PCA, and their fast sine."""
