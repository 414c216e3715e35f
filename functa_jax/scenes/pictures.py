"""Pictures of scenes: given and novel views beside their rivals', and a turntable that turns."""

import numpy as np

from functa_jax.images import film
from functa_jax.images.gallery import gallery
from functa_jax.images.signals import to_float
from functa_jax.scenes import cameras, novel, renderer, rivals
from functa_jax.scenes.views import body, split_views

SHOWN = 4  # given views
FRAMES = 24  # once around


def novel_views(path, functa, data, others=None, scenes=3, views=3):
    """Rows: novel views of so many test scenes, so many of each; what the functa, and `others`, the
    novel.Rivals of the data, make of them from SHOWN other views; and these."""
    lattice, rows = data.lattice, _spread(data.test, scenes)
    test = data.test.take(rows)
    given, unseen = split_views(lattice[0])
    given = given[:SHOWN]
    shape = (len(test), len(unseen), *lattice[1:], 3)
    true = to_float(novel.of_views(test, lattice, unseen)[1]).reshape(shape)
    pictures = {"truth": true}
    pictures["functa"] = novel.predictions(functa, test, lattice, given, unseen)
    if others:
        found = others.predictions(given, unseen)
        for name in ("Wiener", "PCA"):
            pictures[name] = found[name][rows].reshape(shape)
    strips = {}
    for name, of_scenes in pictures.items():
        flat = of_scenes.reshape(len(test), -1), true.reshape(len(test), -1)
        better = f"\n{rivals.view_psnr(flat[0], flat[1], len(unseen)):.1f} dB of these scenes"
        shown = of_scenes[:, :views].reshape(-1, *lattice[1:], 3)
        strips[name + ("" if name == "truth" else better)] = shown
    seen = to_float(novel.of_views(test, lattice, given)[1])
    seen = seen.reshape(len(test), len(given), *lattice[1:], 3)[:, :views]
    strips[f"given\n(first {views} of {SHOWN})"] = seen.reshape(-1, *lattice[1:], 3)
    gallery(path, strips)


def turntable(path, functa, data, scenes=6, instances=None):
    """A GIF of so many test scenes that turn, from cameras that no training scene was seen from.

    Latents are fitted to SHOWN given views. instances: of a class, for data of `scenes.views`: the
    true views stand above the rendered ones; None: the rendered ones alone.
    """
    lattice, test = data.lattice, data.test.take(_spread(data.test, scenes))
    side, given = lattice[1], split_views(lattice[0])[0][:SHOWN]
    distance, focal = cameras.seen_from(test.coords, side)
    poses = cameras.look_at(cameras.turntable(FRAMES, distance=distance))
    rays = cameras.rays(poses, side, focal).reshape(-1, 6)
    rows = {} if instances is None else {"truth": true_views(test, poses, side, instances)}
    found = functa.decode(novel.latents(functa, test, lattice, given), coords=rays)
    found = np.clip(found.reshape(len(test), FRAMES, side, side, 3), 0, 1)
    rows[f"from {len(given)} views"] = found
    film.animate(path, rows, back=False)


def true_views(test, poses, side, instances, seed=0):
    """Views float32 (n, poses, side, side, 3) of scenes of `scenes.views`, from anywhere."""
    return np.stack(
        [
            to_float(renderer.pictures(body(label, number % instances, seed), poses, side))
            for label, number in zip(test.labels.tolist(), test.ids.tolist(), strict=True)
        ]
    )


def _spread(split, count):
    """Rows of so many functions of a split, evenly spread."""
    return np.linspace(0, len(split) - 1, min(count, len(split))).astype(int)
