"""Figures of retrieval: neighbours, mAP by class, maps of the test images."""

import numpy as np
from sklearn.manifold import TSNE

from functa_jax.tasks import task
from functa_jax.tasks.retrieval.ranking import CLASSES_SHOWN, class_means
from groundfloor.plots import COLOURS, GREEN, RED, WIDTH, as_rgb, figure, legend

NEIGHBOURS_SHOWN = 7


def neighbour_figure(path, best, data):
    """A query of each class, and its nearest train images by latents and by pixels, framed."""
    labels = best["latents"].labels
    classes = np.unique(labels)[:CLASSES_SHOWN]
    rows = [int(np.flatnonzero(labels == k)[0]) for k in classes]
    starts = {"latents": 1.4, "pixels": 1.8 + NEIGHBOURS_SHOWN}  # columns, of one image each
    wide = starts["pixels"] + NEIGHBOURS_SHOWN
    height, width = data.test.images.shape[1:3]
    tall = height / width
    side = WIDTH / wide  # inches
    with figure(path, size=(WIDTH, side * (tall * len(rows) + 1.2))) as (_, ax):
        for line, row in enumerate(rows):
            _show(ax, data.test.images[best["latents"].places[row]], 0, line * tall, tall)
            for side, start in starts.items():
                for number, place in enumerate(best[side].neighbours[row, :NEIGHBOURS_SHOWN]):
                    right = data.train.labels[place] == labels[row]
                    image = data.train.images[place]
                    _show(ax, image, start + number, line * tall, tall, GREEN if right else RED)
        for start, title in (
            (0, "query"),
            (starts["latents"], "nearest by latents"),
            (starts["pixels"], "nearest by pixels"),
        ):
            ax.text(start, -0.1, title)
        frames = "frames: green, the query's class; orange, another"
        ax.text(starts["latents"], len(rows) * tall + 0.1, frames, va="top")
        ax.set(xlim=(-0.02, wide), ylim=(len(rows) * tall + 0.5, -0.5), aspect="equal")
        ax.set_axis_off()


def _show(ax, image, left, top, tall, frame=None):
    """An image with its upper left corner at (left, top), a little less than 1 wide."""
    from matplotlib.patches import Rectangle

    right, bottom = left + 0.9, top + 0.9 * tall
    extent = (left, right, bottom, top)
    ax.imshow(as_rgb(image), extent=extent)
    if frame:
        ax.add_patch(Rectangle((left, top), 0.9, 0.9 * tall, fill=False, ec=frame, lw=2))


def class_figure(path, best, classes):
    """mAP of each class, a group of bars a class."""
    width = 0.8 / len(best)
    with figure(path, size=(WIDTH, 2.8)) as (made, ax):
        for number, (name, answers) in enumerate(best.items()):
            values = class_means(answers.precisions, answers.labels, classes)
            values = [np.nan if value is None else value for value in values]
            x = np.arange(classes) + (number - (len(best) - 1) / 2) * width
            ax.bar(x, values, width, color=COLOURS[name], label=f"{name}, {answers.distance}")
        if classes <= CLASSES_SHOWN:
            ax.set_xticks(np.arange(classes))
        ax.set(xlabel="class", ylabel="mAP", ylim=(0, 1))
        ax.grid(False, axis="x")
        legend(made, ax)


def map_figure(path, best, data, points, seed):
    """t-SNE maps of test images, by latents, PCA (where there is one) and pixels, coloured by
    class."""
    names = [name for name in ("latents", "PCA", "pixels", "values") if name in best]
    with figure(path, 1, len(names), size=(WIDTH, 2.9), squeeze=False) as (whole, axes):
        for ax, name in zip(axes[0], names, strict=True):
            answers = best[name]
            kept = task.spaced(len(answers.rows), points)
            perplexity = min(30, (len(kept) - 1) / 3)
            rows = answers.rows[kept]
            init = "pca" if min(rows.shape) > 1 else "random"
            tsne = TSNE(init=init, perplexity=perplexity, random_state=seed)
            x, y = tsne.fit_transform(rows).T
            colors = {"c": answers.labels[kept], "cmap": "tab10", "vmin": -0.5, "vmax": 9.5}
            if data.num_classes > CLASSES_SHOWN:
                colors |= {"cmap": "nipy_spectral", "vmax": data.num_classes - 0.5}
            drawn = ax.scatter(x, y, s=4, lw=0, **colors)
            ax.set(title=f"{name}: {answers.distance}", xticks=[], yticks=[])
            ax.set_xlabel(f"t-SNE of {len(kept):,} test {data.noun}s", fontsize=8)
            ax.set_aspect("equal", adjustable="datalim")
            ax.grid(False)
        ticks = range(10) if data.num_classes <= CLASSES_SHOWN else None
        whole.colorbar(drawn, ax=axes, label="class", ticks=ticks)
