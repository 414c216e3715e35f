"""Pictures of the study: its trials, and the inside of its best network."""

import numpy as np
from sklearn.calibration import calibration_curve

from groundfloor.plots import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    WIDTH,
    bare,
    figure,
    legend,
    many,
)

BINS = 15  # of calibration, as Guo et al. 2017
COLOURS = {
    "base": BLACK,
    "combined": RED,
    "widths": BLUE,
    "losses": ORANGE,
    "activations": GREEN,
    "optimizers": PINK,
    "blocks": SKY,
}


def label(entry):
    """Of a row of the table, for people."""
    width = "width × " if entry["axis"] == "widths" else ""
    name = f"{width}{entry['value']}" if entry["value"] != "" else "base"
    return f"{name} ({len(entry['diverged'])} diverged)" if entry.get("diverged") else name


def percent(share):
    """A share as a number to draw; NaN, which leaves a gap, where all seeds diverged."""
    return np.nan if share is None else 100 * share


def accuracy(path, table):
    """Validation accuracy of each setting, mean and standard deviation, an axis after the other."""
    with figure(path, size=(WIDTH, 1.2 + 0.19 * len(table))) as (made, axis):
        positions = np.arange(len(table))[::-1]
        for position, row in zip(positions, table, strict=True):
            axis.errorbar(
                percent(row["val"]["mean"]),
                position,
                xerr=percent(row["val"]["std"] or 0),
                fmt="o",
                color=COLOURS[row["axis"]],
                capsize=2,
            )
        base = percent(table[0]["val"]["mean"])
        axis.axvline(base, color=BLACK, linewidth=0.6, linestyle=":")
        axis.set_yticks(positions, [label(row) for row in table])
        _axes_legend(made, axis, table)
        axis.set(xlabel="validation accuracy in %, mean ± std over seeds; dotted: base")


def cost(path, table):
    """Validation accuracy against parameters and against seconds of training; the settings that no
    other one beats at both are named (and the base)."""
    with figure(path, 2, 1, size=(WIDTH, 5.6)) as (made, axes):
        for axis, key, name in (
            (axes[0], "parameters", "thousand parameters"),
            (axes[1], "seconds", "training seconds a network"),
        ):
            factor = 1e-3 if key == "parameters" else 1
            for row in table:
                share = percent(row["val"]["mean"])
                axis.plot(factor * row[key], share, "o", color=COLOURS[row["axis"]], ms=5)
            for row in named(table, key):
                place = (factor * row[key], percent(row["val"]["mean"]))
                style = {"fontsize": 8, "textcoords": "offset points", "va": "center"}
                axis.annotate(label(row), place, (6, 0), **style)
            axis.set(xlabel=name, ylabel="validation accuracy in %")
            axis.set_xlim(0, 1.2 * factor * max(row[key] for row in table))
        _axes_legend(made, axes[0], table)


def named(table, key):
    """The rows to name in a picture of accuracy against `key`: the best and the worst of all, the
    base, and those that stand apart in `key` or above all that take as little of it."""
    rows = [row for row in table if row["val"]["mean"] is not None]
    if not rows:
        return []
    usual = np.median([row[key] for row in rows])
    best = max(row["val"]["mean"] for row in rows)
    worst = sorted(rows, key=lambda row: row["val"]["mean"])[:3]

    def kept(row):
        cheaper = [r["val"]["mean"] for r in rows if r[key] < row[key]]
        front = row["val"]["mean"] > max(cheaper, default=-1)
        apart = key == "parameters" and not 0.5 < row[key] / usual < 2
        return row["axis"] == "base" or row["val"]["mean"] == best or row in worst or front or apart

    return _spaced([row for row in rows if kept(row)], key)


def _spaced(rows, key):
    """Of rows whose names would lie on one another, the better."""
    span = max(row[key] for row in rows) or 1
    shown = []
    for row in sorted(rows, key=lambda row: -row["val"]["mean"]):
        near = [
            other
            for other in shown
            if abs(other[key] - row[key]) < 0.16 * span
            and abs(other["val"]["mean"] - row["val"]["mean"]) < 0.013
        ]
        if not near:
            shown.append(row)
    return shown


def training(path, table):
    """Accuracy on the training batches against steps, minus the base's at the same step, mean over
    the seeds that did not diverge: a panel for each axis. Curves that are nearly alike cannot hide
    each other then. Without other settings, the base's accuracy itself."""
    axes_of_study = dict.fromkeys(row["axis"] for row in table)
    names = [name for name in axes_of_study if name not in ("base", "combined")]
    base = _curve(table[0])
    if not names or base is None:
        _alone(path, table)
        return
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    options = {"squeeze": False, "sharex": True, "sharey": True}
    with figure(path, rows, columns, size=(WIDTH, 0.4 + 2.1 * rows), **options) as (_, axes):
        for axis, name in zip(axes.flat, names, strict=False):
            shown = [entry for entry in table if entry["axis"] == name]
            for number, entry in enumerate(shown):
                curve = _curve(entry)
                if curve is not None:
                    style = {"linewidth": 1, "label": label(entry)} | many(number)
                    axis.plot(curve[0], 100 * (curve[1] - base[1]), **style)
            axis.axhline(0, color=BLACK, linewidth=1, label="base")
            axis.set(title=name)
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
        for axis in axes[:, 0]:
            axis.set_ylabel("points above base")
        for axis in axes.flat[: len(names)][-columns:]:
            axis.set_xlabel("step")
            axis.tick_params(labelbottom=True)
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)


def _alone(path, table):
    with figure(path, size=(WIDTH, 2.6)) as (made, axis):
        for number, entry in enumerate(table):
            curve = _curve(entry)
            if curve is not None:
                axis.plot(curve[0], 100 * curve[1], label=label(entry), **many(number))
        axis.set(xlabel="step", ylabel="accuracy on train batches in %")
        legend(made, axis)


def _curve(entry):
    """(steps, shares of 1) of a setting, mean over seeds, smoothed over three records; None if all
    seeds diverged."""
    whole = [row["curve"] for row in entry["rows"] if not row["diverged"]]
    if not whole:
        return None
    steps, shares = np.mean(whole, 0).T
    padded = np.pad(shares, 1, mode="edge")
    return steps, (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def filters(path, weights):
    """Filters (n, channels, h, w), each stretched to [0, 1]: three channels as colours, else one
    image a channel."""
    low = weights.min((1, 2, 3), keepdims=True)
    span = np.maximum(weights.max((1, 2, 3), keepdims=True) - low, 1e-12)
    images = ((weights - low) / span).transpose(0, 2, 3, 1)
    if images.shape[3] != 3:
        images = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3], 1)
    columns = min(16, len(images))
    rows = -(-len(images) // columns)
    size = (max(0.4 * columns, 3.2), 0.42 * rows + 0.3)
    with figure(path, rows, columns, size=size, squeeze=False) as (made, axes):
        made.suptitle("filters of the first convolution, each stretched to [0, 1]", fontsize=9)
        _images(axes, images)


def wanted(path, groups):
    """Rows of images: [(title, images (k, h, w, c), labels)]."""
    columns = max(len(images) for _, images, _ in groups)
    size = (0.8 * columns, 1.2 * len(groups) + 0.2)
    with figure(path, len(groups), columns, size=size, squeeze=False) as (made, axes):
        made.get_layout_engine().set(h_pad=0.14)
        for row, (title, images, labels) in zip(axes, groups, strict=True):
            _images(row, images)
            for axis, text in zip(row, labels, strict=False):
                axis.set_xlabel(text, fontsize=7, labelpad=1)
            # Left out of the layout, which would make the first column as wide as the text.
            text = row[0].text(0, 1.06, title, transform=row[0].transAxes, fontweight="bold")
            text.set_in_layout(False)


def surface(path, steps, loss):
    """Contours of the loss on the plane, logarithmic; the network's place and the lowest point."""
    with figure(path, size=(4.4, 3.6)) as (made, axis):
        shown = np.log10(np.clip(loss, 1e-6, np.nanmax(loss[np.isfinite(loss)])))
        filled = axis.contourf(steps, steps, shown, levels=24, cmap="viridis")
        axis.contour(steps, steps, shown, levels=24, colors="white", linewidths=0.3)
        made.colorbar(filled, ax=axis, label="log10 of the cross-entropy")
        axis.plot(0, 0, "o", color="white", mec="black", ms=6, label="the network")
        i, j = np.unravel_index(np.nanargmin(loss), loss.shape)
        axis.plot(steps[j], steps[i], "x", color=RED, ms=6, label="lowest of the grid")
        axis.set(xlabel="first direction, in norms of the filters", ylabel="second direction")
        axis.set_aspect("equal")
        axis.locator_params(nbins=5)
        axis.grid(visible=False)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=2)


def confusion(path, counts, names):
    """Counts (classes, classes) of images, true by predicted; the colours are shares of a row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.2 + 0.4 * len(names)
    with figure(path, size=(side, side)) as (_, axis):
        off = shares * (1 - np.eye(len(names)))
        axis.imshow(off, cmap="Reds", vmin=0, vmax=max(off.max(), 1e-9))
        for i, j in np.ndindex(*counts.shape):
            if counts[i, j]:
                weight = "bold" if i == j else "normal"
                style = {"ha": "center", "va": "center", "fontsize": 7, "fontweight": weight}
                bright = off[i, j] > 0.6 * off.max() > 0
                axis.text(j, i, str(counts[i, j]), color="white" if bright else "black", **style)
        places = range(len(names))
        axis.set_xticks(places, names, rotation=90 if max(map(len, names)) > 3 else 0)
        axis.set_yticks(places, names)
        axis.set(xlabel="predicted", ylabel="true class", title="test images; red: mistakes")
        axis.grid(visible=False)


def calibration(path, confidence, right, error):
    """How often the network is right against how sure it is, and how many images are so sure.

    confidence, right: (n,); error: the expected calibration error, of 1.
    """
    with figure(path, 2, 1, size=(3.6, 4.2), sharex=True, height_ratios=(3, 1)) as (_, axes):
        share, mean = calibration_curve(right, confidence, n_bins=BINS)
        axes[0].plot([0, 1], [0, 1], color="gray", linestyle=":", label="calibrated")
        axes[0].plot(mean, share, "o-", color=BLUE, ms=4, label=f"error {100 * error:.1f} %")
        axes[0].set(ylabel="share that is right", title="test images")
        axes[0].legend(loc="upper left")
        axes[1].hist(confidence, BINS, (0, 1), color=BLUE)
        axes[1].set(xlabel="probability of the guess", ylabel="images", yscale="log")


def mistakes(path, images, probability, labels, names):
    """Images (n, h, w, c) with what the network said and how surely, and what is true."""
    columns = min(8, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    size = (max(WIDTH / 8 * columns, 3), 1.5 * rows + 0.2)
    with figure(path, rows, columns, size=size, squeeze=False) as (made, axes):
        if not len(images):
            made.suptitle("no mistakes", fontsize=8)
        _images(axes, images)
        for axis, shares, true in zip(axes.flat, probability, labels, strict=False):
            said = f"guess {names[shares.argmax()]}"
            axis.set_title(f"{said}\n{100 * shares.max():.0f} % sure", fontsize=7, pad=2, color=RED)
            axis.set_xlabel(f"truth {names[true]}", fontsize=7, labelpad=1)


def _images(axes, images):
    """One image (h, w, c) on each of the axes; the rest empty."""
    for axis in np.ravel(axes):
        bare(axis)
    for axis, image in zip(np.ravel(axes), images, strict=False):
        top = 255 if image.dtype == np.uint8 else 1
        axis.imshow(image if image.shape[2] == 3 else image[..., 0], vmin=0, vmax=top)


def _axes_legend(made, axis, table):
    for name in dict.fromkeys(row["axis"] for row in table):
        axis.plot([], [], "o", color=COLOURS[name], ms=5, label=name)
    legend(made, axis)
