"""Sparse statistics, in NumPy and SciPy alone."""
