"""Axes for the pictures of estimators; pyplot is left alone where axes are given."""

import numpy as np


def axes(ax=None):
    """`ax`, or that of a new figure."""
    if ax is None:
        import matplotlib.pyplot as plt  # not above: only here

        ax = plt.figure(layout="constrained").subplots()
    return ax


def entries(entry, order, row, ax=None):
    """Draw at which λ the rows enter, first ones first; row: what they are called. Returns ax."""
    ax = axes(ax)
    ax.plot(np.arange(1, len(order) + 1), entry[order])
    ax.set(xlabel=f"{row}, most suspicious first", ylabel="λ at which it is shifted")
    return ax
