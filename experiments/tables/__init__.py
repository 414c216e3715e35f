"""Every table of experiments/results in one page, and the short one of the readme."""
