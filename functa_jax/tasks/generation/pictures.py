"""Figures of generated images: by class, by resolution, beside the nearest train images."""

import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.images.gallery import gallery
from functa_jax.tasks.generation import codes
from functa_jax.tasks.generation.frechet import nearest
from groundfloor import seeds
from groundfloor.plots import COLOURS, WIDTH, figure, legend

SCALES = (1, 4, 16)
SHOWN = 8


def draw_classes(path, code, prior, guidance, seed):
    """Samples of each class (of the first ten), with the guidance chosen."""
    classes = range(min(prior.num_classes, 10))
    labels = np.repeat(classes, 12)
    seed = seeds.fold(seed, "figure of classes")
    images = code.decode(prior.sample(len(labels), labels, guidance, codes.STEPS, seed))
    gallery(path, {str(label): images[labels == label] for label in classes}, size=0.62)


def draw_resolutions(path, functa, samples):
    """The same samples at the train images' resolution and above it."""
    height, width = functa.resolution
    rows = {}
    for scale in SCALES:
        shape = (height * scale, width * scale)
        rows[f"{shape[0]} x {shape[1]}"] = functa.decode(samples[:SHOWN], shape)
    gallery(path, rows, size=1.0)


def draw_neighbours(path, code, judge, samples):
    """Samples, and the train images nearest to each in pixels and in latents."""
    images = code.decode(samples[:SHOWN])
    _, by_pixels = nearest(judge.pixels, reconstruction.as_rows(images), 3)
    train = reconstruction.as_rows(code.train[: len(judge.pixels)])
    _, by_latents = nearest(train, reconstruction.as_rows(samples[:SHOWN]), 3)
    originals = judge.pixels.reshape(-1, *images.shape[1:])
    rows = {"sample": images}
    for space, indices in (("pixels", by_pixels), ("latents", by_latents)):
        for place, index in zip(("nearest", "2nd", "3rd"), indices.T, strict=True):
            rows[f"{place} in {space}"] = originals[index]
    gallery(path, rows)


def draw_distances(path, code, judge, samples):
    """Histograms of distances to the nearest train image, of samples and of test images.

    Returns the ratio of their medians in latents (the one in pixels is in the table).
    """
    pairs = {
        "pixels, root mean square": (
            judge.distances(code.decode(samples)),
            judge.reference_distances,
        ),
        "latents, root mean square": [
            nearest(reconstruction.as_rows(code.train), reconstruction.as_rows(rows))[0][:, 0]
            for rows in (samples, code.test)
        ],
    }
    with figure(path, 1, 2, size=(WIDTH, 2.9)) as (made, axes):
        for ax, (name, (ours, test)) in zip(axes, pairs.items(), strict=True):
            bins = np.linspace(0, max(ours.max(), test.max()), 40)
            for values, label, colour in (
                (ours, "samples", COLOURS["latents"]),
                (test, "test images", COLOURS["pixels"]),
            ):
                style = {"histtype": "step", "lw": 1.5, "color": colour, "label": label}
                ax.hist(values, bins, density=True, **style)
            ax.set(xlabel=f"distance to the nearest train image\n({name})", yticks=[])
        axes[0].set_ylabel("density")
        legend(made, axes, loc="outside lower center", ncols=2)
    ours, test = pairs["latents, root mean square"]
    return float(np.median(ours) / np.median(test))
