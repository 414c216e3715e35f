"""How well are views predicted that nobody gave? A functa of scenes, and its linear rivals.

A latent is fitted to the rays of a few given views of a scene; then the rays of its novel views are
rendered. A figure is a mean over pictures of their PSNR, in dB, of scenes and novel views alike.
"""

from dataclasses import replace

import numpy as np

from functa_jax.images import signals
from functa_jax.scenes import rivals
from functa_jax.scenes.views import split_views

COUNTS = (1, 2, 4, 8)  # of given views
NAMES = ("functa", "Wiener", "PCA", "nearest", "mean")  # all that `compare` has
# That a latent is fitted to, of those that meet the ball. On validation scenes, after the hour's
# training, 1,024, 2,048 and 4,096 give 22.91, 23.23 and 23.45 dB from eight views.
MOST_RAYS = 4096


def of_views(split, lattice, views):
    """(coords, values) of the rays of these views alone: Functions whose lattice is (views of a
    scene, height, width)."""
    columns = _columns(lattice, views)
    coords = split.coords[columns] if split.shared else split.coords[:, columns]
    return coords, split.values[:, columns]


def latents(functa, split, lattice, views, most=MOST_RAYS):
    """Latents (n, L) fitted to given views of the scenes of a split, to `most` of their rays."""
    coords, values = of_views(split, lattice, views)
    found, _ = replace(functa, fit_points=most).encode(values, coords=coords)
    return found


def predictions(functa, split, lattice, given, wanted):
    """Rendered pictures (n, views, height, width, 3) of wanted views, from given ones."""
    coords, _ = of_views(split, lattice, wanted)
    found = latents(functa, split, lattice, given)
    return functa.decode(found, coords=coords).reshape(-1, len(wanted), *lattice[1:], 3)


def compare(functa, data, others=None, counts=COUNTS):
    """{count: {"functa": dB, "Wiener": ..., "PCA": ..., "nearest": ..., "mean": ...}} on the test
    scenes of a FunctionSet, from that many given views.

    others: the Rivals of the data, None for the functa alone.
    """
    lattice, test = data.lattice, data.test
    given, novel = split_views(lattice[0])
    true = of_views(test, lattice, novel)[1]
    true = signals.to_float(true).reshape(len(test), -1)
    results = {}
    for count in (count for count in counts if count <= len(given)):
        seen = given[:count]
        found = predictions(functa, test, lattice, seen, novel).reshape(len(test), -1)
        results[count] = {"functa": rivals.view_psnr(found, true, len(novel))}
        if others:
            found = others.predictions(seen, novel)
            results[count] |= {
                name: rivals.view_psnr(pictures, true, len(novel))
                for name, pictures in found.items()
            }
    return results


class Rivals:
    """All linear rivals, fitted on the training scenes of a FunctionSet, PCA with as many `numbers`
    as a latent has. The noise that they reckon with is chosen on its validation scenes.

    They need cameras that all scenes share.
    """

    def __init__(self, data, numbers):
        self.train, self.val, self.test = (
            signals.to_float(split.values).reshape(len(split), -1)
            for split in (data.train, data.val, data.test)
        )
        whole = rivals.LinearViews.of(self.train)
        self.models = {"Wiener": whole, "PCA": whole.first(numbers)}
        self.lattice = data.lattice

    def predictions(self, given, wanted):
        """{name: colours (n, all of the wanted views)} for the test scenes, from given views."""
        seen, asked = (self._numbers(views) for views in (given, wanted))
        found = {}
        for name, model in self.models.items():
            noise, _ = model.best_noise(self.val, seen, asked, len(wanted))
            found[name] = model.predict(self.test, seen, asked, noise)
        found["nearest"] = rivals.nearest(self.train, self.test, seen, asked)
        found["mean"] = np.broadcast_to(self.train[:, asked].mean(0), found["nearest"].shape)
        return found

    def _numbers(self, views):
        columns = _columns(self.lattice, views)
        return (3 * columns[:, None] + np.arange(3)).ravel()


def _columns(lattice, views):
    rays = lattice[1] * lattice[2]
    return (np.asarray(views)[:, None] * rays + np.arange(rays)).ravel()
