"""Linear codes and transforms that keep as many numbers of a function as a latent has.

    for name, rebuild in of(data, numbers=128).items():
        rebuilt = rebuild(data.test)                  # float32 (n, N, c)

PCA of the values at the shared points, by their weights; on a sphere, spherical harmonics; of sound
and films the cosine transform (DCT-II, orthonormal): its lowest frequencies, which are the same for
all, or its largest coefficients, each of which costs two numbers, its value and its place.
"""

from functools import partial

import numpy as np
from scipy.fft import dctn, idctn
from scipy.linalg import eigh

from functa_jax.images.signals import to_float
from functa_jax.modalities import sphere

COSINES = ("sound", "video")  # modalities


def of(data, numbers):
    """{name: function of Functions that rebuilds their values} for a FunctionSet.

    Empty where functions have points of their own or a mask, so that there is no common basis.
    """
    if not data.train.aligned:
        return {}
    weights = None
    found = {}
    if data.modality == "sphere":
        weights = sphere.areas(data.lattice)
        degrees = int(np.sqrt(numbers)) - 1
        basis = sphere.harmonics(data.train.coords, degrees)
        found[f"spherical harmonics to degree {degrees}"] = partial(_fitted, basis, weights)
    if data.modality in COSINES:
        found["DCT, lowest"] = partial(_cosines, data.lattice, _lowest(data.lattice, numbers))
        found["DCT, largest"] = partial(_largest, data.lattice, numbers // 2)
    mean, basis = pca(_rows(data.train), numbers, _each(weights, data.train))
    found["PCA"] = partial(_projected, mean, basis, _each(weights, data.train))
    return found


def pca(rows, count, weights=None):
    """(mean (d,), basis (d, k)) of rows (n, d); k is `count`, or what n - 1 and d allow.

    Squared errors are weighted by weights (d,), in which the basis is orthonormal. By the smaller
    of the covariance and the rows' inner products, in float64.
    """
    root = 1.0 if weights is None else np.sqrt(weights, dtype=np.float64)
    mean = rows.mean(0, dtype=np.float64)
    centred = (rows - mean) * root
    n, d = centred.shape
    count = min(count, n - 1, d)
    small = centred @ centred.T if n < d else centred.T @ centred
    last = len(small) - 1
    variances, vectors = eigh(small, subset_by_index=(last - count + 1, last))
    if n < d:
        least = max(1e-12 * variances[-1], 1e-30)  # where all are alike, too
        vectors = centred.T @ vectors / np.sqrt(np.maximum(variances, least))
    return mean, vectors[:, ::-1] / np.broadcast_to(root, d)[:, None]


def _projected(mean, basis, weights, functions):
    centred = _rows(functions) - mean
    scaled = basis if weights is None else basis * weights[:, None]
    return _shaped(mean + (centred @ scaled) @ basis.T, functions)


def _fitted(basis, weights, functions):
    """Least squares, weighted, of every channel by the columns of basis (N, k)."""
    root = np.sqrt(weights, dtype=np.float64)[:, None]
    values = np.moveaxis(to_float(functions.values), 1, 0)  # (N, n, c)
    flat = values.reshape(len(values), -1)
    coefficients = np.linalg.lstsq(basis * root, flat * root, rcond=None)[0]
    return np.moveaxis((basis @ coefficients).reshape(values.shape), 0, 1).astype(np.float32)


def _lowest(lattice, numbers):
    """bool lattice: the frequencies that are nearest to zero, in waves a side."""
    waves = np.meshgrid(*map(np.arange, lattice), indexing="ij")
    order = np.argsort(sum(wave**2 for wave in waves), axis=None, kind="stable")
    kept = np.zeros(np.prod(lattice), bool)
    kept[order[:numbers]] = True
    return kept.reshape(lattice)


def _cosines(lattice, kept, functions):
    spectrum, back = _transformed(lattice, functions)
    return back(spectrum * kept[..., None])


def _largest(lattice, count, functions):
    spectrum, back = _transformed(lattice, functions)
    sizes = np.abs(spectrum).reshape(len(spectrum), -1)
    kept = np.zeros(sizes.shape, bool)
    first = max(sizes.shape[1] - count, 0)
    np.put_along_axis(kept, np.argsort(sizes, axis=1)[:, first:], True, axis=1)
    return back(spectrum * kept.reshape(spectrum.shape))


def _transformed(lattice, functions):
    """(DCT of the values, less one half, (n, *lattice, c); function back to values (n, N, c))."""
    values = to_float(functions.values).reshape(len(functions), *lattice, -1) - 0.5
    axes = tuple(range(1, 1 + len(lattice)))

    def back(spectrum):
        return _shaped(idctn(spectrum, axes=axes, norm="ortho") + 0.5, functions)

    return dctn(values, axes=axes, norm="ortho"), back


def _rows(functions):
    return to_float(functions.values).reshape(len(functions), -1)


def _shaped(rows, functions):
    return rows.reshape(functions.values.shape).astype(np.float32)


def _each(weights, functions):
    """Weights of points (N,), once for every channel: (N c,)."""
    return None if weights is None else np.repeat(weights, functions.values.shape[2])
