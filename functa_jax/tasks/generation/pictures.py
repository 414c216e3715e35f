"""Figures of generated images: by class, by resolution, beside the nearest train images.

Each is drawn where images, or functions of their kind, have such a figure, and returns the names of
what it wrote.
"""

import numpy as np

from functa_jax.evaluation import reconstruction
from functa_jax.images.gallery import gallery
from functa_jax.tasks import drawing
from functa_jax.tasks.generation import codes
from functa_jax.tasks.generation.frechet import nearest
from groundfloor import seeds
from groundfloor.plots import COLOURS, WIDTH, figure, legend

SCALES = (1, 4, 16)
SHOWN = 8
ROWS = 5  # of samples where there are no classes


def draw_classes(material, code, prior, guidance, seed):
    """Samples of each class (of the first ten), with the guidance chosen; or of any."""
    each = 12 if material.functa.of_images else 5
    names = {str(label): label for label in range(min(prior.num_classes, 10))}
    if not names:
        names = {f"{each * i + 1} to {each * (i + 1)}": -1 for i in range(ROWS)}
    labels = np.repeat(list(names.values()), each)
    seed = seeds.fold(seed, "figure of classes")
    images = code.decode(prior.sample(len(labels), labels, guidance, codes.STEPS, seed))
    rows = dict(zip(names, np.split(images, len(names)), strict=True))
    return drawing.draw(material, material.path("generate.png"), rows, size=0.62)


def draw_resolutions(material, samples):
    """The same samples at the train images' resolution and above it; of images alone."""
    functa = material.functa
    if not functa.of_images:
        return []
    path, (height, width) = material.path("generate_resolutions.png"), functa.resolution
    rows = {}
    for scale in SCALES:
        shape = (height * scale, width * scale)
        rows[f"{shape[0]} x {shape[1]}"] = functa.decode(samples[:SHOWN], shape)
    gallery(path, rows, size=1.0)
    return [path.name]


def draw_neighbours(material, code, judge, samples):
    """Samples, and the train images nearest to each in pixels and in latents."""
    images = code.decode(samples[: SHOWN if material.functa.of_images else 5])
    _, by_pixels = nearest(judge.pixels, reconstruction.as_rows(images), 3)
    train = reconstruction.as_rows(code.train[: len(judge.pixels)])
    _, by_latents = nearest(train, reconstruction.as_rows(samples[: len(images)]), 3)
    originals = judge.pixels.reshape(-1, *images.shape[1:])
    rows = {"sample": images}
    own = "pixels" if material.functa.of_images else "values"
    for space, indices in ((own, by_pixels), ("latents", by_latents)):
        for place, index in zip(("nearest", "2nd", "3rd"), indices.T, strict=True):
            rows[f"{place} in {space}"] = originals[index]
    return drawing.draw(material, material.path("generate_neighbours.png"), rows)


def draw_distances(material, code, judge, samples):
    """Histograms of distances to the nearest train image, of samples and of test images.

    Returns the ratio of their medians in latents (the one in pixels is in the table), and the names
    of what it wrote.
    """
    path = material.path("generate_distances.png")
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
    return float(np.median(ours) / np.median(test)), [path.name]
