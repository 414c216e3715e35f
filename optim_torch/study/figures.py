"""Pictures of the study: its trials, and the inside of its best network."""

import numpy as np

from groundfloor.plots import bare, figure

COLOURS = {
    "base": "black",
    "combined": "tab:red",
    "widths": "tab:blue",
    "losses": "tab:orange",
    "activations": "tab:green",
    "optimizers": "tab:purple",
    "blocks": "tab:brown",
}


def label(entry):
    """Of a row of the table, for people."""
    name = f"{entry['value']}" if entry["value"] != "" else "base"
    return f"{name} ({len(entry['diverged'])} diverged)" if entry.get("diverged") else name


def percent(share):
    """A share as a number to draw; NaN, which leaves a gap, where all seeds diverged."""
    return np.nan if share is None else 100 * share


def accuracy(path, table):
    """Validation accuracy of each setting, mean and standard deviation, an axis after the other."""
    with figure(path, size=(5.6, 0.8 + 0.21 * len(table))) as (_, axis):
        positions = np.arange(len(table))[::-1]
        for position, row in zip(positions, table, strict=True):
            axis.errorbar(
                percent(row["val"]["mean"]),
                position,
                xerr=percent(row["val"]["std"] or 0),
                fmt="o",
                color=COLOURS[row["axis"]],
                markersize=4,
                capsize=2,
            )
        base = percent(table[0]["val"]["mean"])
        axis.axvline(base, color="black", linewidth=0.6, linestyle=":")
        axis.set_yticks(positions, [label(row) for row in table])
        for text, row in zip(axis.get_yticklabels(), table, strict=True):
            text.set_color(COLOURS[row["axis"]])
        _axes_legend(axis, table)
        axis.set(xlabel="validation accuracy, %: mean ± std over seeds")


def cost(path, table):
    """Validation accuracy against parameters and against seconds of training."""
    with figure(path, 1, 2, size=(6.8, 2.8), sharey=True) as (_, axes):
        for axis, key, name in (
            (axes[0], "parameters", "parameters"),
            (axes[1], "seconds", "training seconds a network"),
        ):
            for row in table:
                share = percent(row["val"]["mean"])
                axis.plot(row[key], share, "o", color=COLOURS[row["axis"]], ms=4)
            axis.set(xlabel=name, xlim=(0, None))
        axes[0].set(ylabel="validation accuracy, %")
        _axes_legend(axes[1], table)


def training(path, table):
    """Accuracy on the training batches against steps, mean over the seeds that did
    not diverge: a panel for each axis."""
    axes_of_study = dict.fromkeys(row["axis"] for row in table)
    names = [name for name in axes_of_study if name not in ("base", "combined")] or ["base"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    size = (3.2 * columns, 2.7 * rows)
    with figure(path, rows, columns, size=size, squeeze=False) as (_, axes):
        for axis, name in zip(axes.flat, names, strict=False):
            for entry in table:
                if entry["axis"] in (name, "base"):
                    whole = [row["curve"] for row in entry["rows"] if not row["diverged"]]
                    if not whole:
                        continue
                    steps, shares = np.mean(whole, 0).T
                    style = {"color": "black", "zorder": 3} if entry["axis"] == "base" else {}
                    axis.plot(steps, 100 * shares, linewidth=1, label=label(entry), **style)
            axis.set(title=name, xlabel="step", ylabel="accuracy on train batches, %")
            axis.legend(fontsize=6)
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)


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
        made.suptitle("filters of the first convolution, each stretched to [0, 1]", fontsize=8)
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
            text = row[0].text(0, 1.06, title, transform=row[0].transAxes, fontsize=8)
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
        axis.plot(steps[j], steps[i], "x", color="tab:red", ms=6, label="lowest of the grid")
        axis.set(xlabel="first direction, in norms of the filters", ylabel="second direction")
        axis.set_aspect("equal")
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


def mistakes(path, images, probability, labels, names):
    """Images (n, h, w, c) with what the network said and how surely, and what is true."""
    columns = min(8, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    size = (max(1.1 * columns, 3), 1.45 * rows + 0.2)
    with figure(path, rows, columns, size=size, squeeze=False) as (made, axes):
        if not len(images):
            made.suptitle("no mistakes", fontsize=8)
        _images(axes, images)
        for axis, shares, true in zip(axes.flat, probability, labels, strict=False):
            said = f"{names[shares.argmax()]}, {100 * shares.max():.0f} %"
            axis.set_title(said, fontsize=7, pad=2)
            axis.set_xlabel(f"is {names[true]}", fontsize=7, labelpad=1)


def _images(axes, images):
    """One image (h, w, c) on each of the axes; the rest empty."""
    for axis in np.ravel(axes):
        bare(axis)
    for axis, image in zip(np.ravel(axes), images, strict=False):
        top = 255 if image.dtype == np.uint8 else 1
        axis.imshow(image if image.shape[2] == 3 else image[..., 0], vmin=0, vmax=top)


def _axes_legend(axis, table):
    for name in dict.fromkeys(row["axis"] for row in table):
        axis.plot([], [], "o", color=COLOURS[name], ms=4, label=name)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7)
