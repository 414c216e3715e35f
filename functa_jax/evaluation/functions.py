"""How good are latents of other functions than images? Their modality's metric, beside rivals.

Rivals have as many numbers a function: PCA of the values at the shared points, on a sphere its
harmonics, of sound and films cosines. Functions that have points of their own have no rival.
"""

import numpy as np

from functa_jax.evaluation.reconstruction import mean_psnr
from functa_jax.images.signals import to_float
from functa_jax.modalities import metrics, pictures, rivals
from functa_jax.modalities.modality import MODALITIES
from functa_jax.training.samples import point_weights

# Columns of a picture; others have 4.
SHOWN = {"voxels": 6, "sphere": 3, "sound": 3, "video": 2, "scenes": 3}


def measure(functa, split, predictions):
    """The headline metric and the PSNR in dB, each (n,), of predictions (n, N, c) of Functions.

    Those of probabilities, which a functa keeps in [0, 1], are clipped to it, whoever made them.
    """
    weights = point_weights(functa.config.modality, split.coords, split.mask)
    values = to_float(split.values)
    if functa.config.loss == "bernoulli":
        predictions = np.clip(predictions, 0, 1)
    of_modality = MODALITIES[functa.config.modality].measure
    return of_modality(predictions, values, weights), metrics.psnr(predictions, values, weights)


def course(functa, split, steps):
    """({steps: mean PSNR in dB} at the points that latents are fitted to, predictions (n, N, c) at
    all points after the functa's own steps) over all Functions of a split."""
    latents, errors = functa.course_of(split, max(steps))
    psnr = mean_psnr(errors)
    predictions = functa.decode(latents[:, functa.inner_steps], coords=split.coords)
    return {step: float(psnr[step]) for step in steps}, predictions


def rebuilt(functa, data):
    """{rival: predictions (n, N, c)} of the test functions of a FunctionSet."""
    return {
        name: rebuild(data.test) for name, rebuild in rivals.of(data, functa.config.numbers).items()
    }


def pca_features(functa, data):
    """[(n, numbers)] of train, val and test: what PCA of the train values keeps of each function;
    None where they have no common points."""
    if not data.train.aligned:
        return None
    weights = point_weights(functa.config.modality, data.train.coords)
    each = None if weights is None else np.repeat(weights, functa.config.channels)
    rows = [to_float(split.values).reshape(len(split), -1) for split in splits_of(data)]
    mean, basis = rivals.pca(rows[0], functa.config.numbers, each)
    scaled = basis if each is None else basis * each[:, None]
    return [np.float32((part - mean) @ scaled) for part in rows]


def splits_of(data):
    """[train, val, test]."""
    return [data.train, data.val, data.test]


def draw(path, functa, data, predictions):
    """A picture of some test functions, the truth above {name: predictions of all of test}, each
    with its mean over all of test; whether there is one of such functions. Films and solids move in
    a GIF beside it."""
    modality = MODALITIES[functa.config.modality]
    count = SHOWN.get(functa.config.modality, 4)
    rows = np.linspace(0, len(data.test) - 1, min(count, len(data.test))).astype(int)
    shown = {"truth": to_float(data.test.values[rows])}
    for name, found in predictions.items():
        values, _ = measure(functa, data.test, found)
        shown[pictures.described(name, modality.metric, modality.unit, values)] = found[rows]
    about = functa.config.modality, data.lattice, shown
    pictures.animate(path.with_suffix(".gif"), *about)
    return pictures.draw(path, *about)
