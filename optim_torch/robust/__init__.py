"""Sparse statistics, in NumPy, SciPy and scikit-learn (`lista` alone needs PyTorch)."""
