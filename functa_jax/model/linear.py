"""A linear layer of points that lie in several dimensions: cells and their pixels, or a picture."""

import math


def by_rows(layer, x):
    """layer(x) of x (..., n), worked on as a matrix of rows.

    The gradient of the layer's weights is then a sum over one dimension. For a sum over several XLA
    on CPUs transposes activations first, in copies that take longer than the product.
    """
    *places, numbers = x.shape
    rows = layer(x.reshape(math.prod(places), numbers))
    return rows.reshape(*places, rows.shape[-1])
