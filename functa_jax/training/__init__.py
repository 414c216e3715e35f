"""Meta-learning: the inner loop, the outer loop, and what a training leaves."""
