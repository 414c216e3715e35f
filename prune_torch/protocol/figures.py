"""Pictures of a sweep."""

from statistics import mean, stdev

import matplotlib as mpl
import numpy as np

from groundfloor.plots import figure

MARKERS = "os^vD*"


def lines(rows):
    """dict of name -> rows: one line of a picture or table for each method, taught or not."""
    grouped = {}
    for row in rows:
        taught = f" + KD {row['distil']:g}" if row["distil"] else ""
        grouped.setdefault(row["method"] + taught, []).append(row)
    return grouped


def means(rows, column):
    """dict of density -> (mean, sample standard deviation or 0) over the seeds of one line; the
    density is None for a method that chooses its own."""
    spreads = {}
    for level in dict.fromkeys(row["density"] for row in rows):
        values = [row[column] for row in rows if row["density"] == level]
        spreads[level] = (mean(values), stdev(values) if len(values) > 1 else 0.0)
    return spreads


def _line(axis, number, name, rows, x, column):
    """`column` in percent against x, one point a density."""
    places, values = means(rows, x), means(rows, column)
    axis.errorbar(
        [places[level][0] for level in values],
        [100 * value for value, _ in values.values()],
        [100 * spread for _, spread in values.values()],
        label=name,
        color=mpl.colormaps["tab20"](number % 20),
        marker=MARKERS[number // 20 % len(MARKERS)],
        markersize=3,
        linewidth=1,
        linestyle="--" if rows[0]["distil"] else "-",
    )


def accuracy(path, rows, dense, classes):
    """Top-1 and top-5 against the density that was reached, one line a method."""
    with figure(path, 1, 2, size=(11, 4.6)) as (picture, axes):
        for axis, column in zip(axes, ("top1", "top5"), strict=True):
            for number, (name, own) in enumerate(lines(rows).items()):
                if own[0]["method"] == "unpruned":
                    level = 100 * means(own, column)[None][0]
                    axis.axhline(level, color="black", linestyle="-.", linewidth=1, label=name)
                else:
                    _line(axis, number, name, own, "density_all", column)
            axis.axhline(100 * dense[column], color="gray", linestyle=":", label="dense")
            axis.set(xlabel="density: nonzero / all parameters", xlim=(0, 1))
        chance = 100 * min(1, 5 / classes)
        axes[1].axhline(chance, color="gray", linewidth=0.8, linestyle="--")
        axes[1].annotate("chance", (0.99, chance + 0.3), ha="right", fontsize=7, color="gray")
        axes[0].set(ylabel="test top-1 in %")
        axes[1].set(ylabel="test top-5 in %")
        picture.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)


def cost(path, rows, merged, dense):
    """Top-1 against what a network takes: megabytes; latency and compute where they change.

    merged: rows of `tokens.curve`.
    """
    with figure(path, 1, 3, size=(12, 4.2)) as (picture, axes):
        for number, (name, own) in enumerate(lines(rows).items()):
            _line(axes[0], number, name, own, "megabytes", "top1")
            if "latency_ratio" in own[0]:
                _line(axes[1], number, name, own, "latency_ratio", "top1")
                _line(axes[2], number, name, own, "gigaflops", "top1")
        axes[2].plot(
            [row["gigaflops"] for row in merged],
            [100 * row["top1"] for row in merged],
            color="black",
            marker=".",
            label="token merging, untrained",
        )
        for axis in axes:
            axis.axhline(100 * dense["top1"], color="gray", linestyle=":", label="dense")
        axes[0].set(xlabel="megabytes: packed, or without dead parts", ylabel="test top-1 in %")
        axes[1].set(xlabel="latency / the dense network's")
        axes[2].set(xlabel="gigaflops an image")
        handles = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        picture.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=7)


def groups(path, rows):
    """Share of heads and of neurons kept in each block at each density, for structured methods."""
    panels = {name: own for name, own in lines(rows).items() if "heads" in own[0]}
    size = (1.4 + 2.6 * len(panels), 4.6)
    with figure(path, 2, len(panels), size=size, squeeze=False, sharey=True) as (picture, axes):
        for column, (name, own) in zip(axes.T, panels.items(), strict=True):
            own = sorted(own, key=lambda row: (row["seed"], row["density"]))
            own = [row for row in own if row["seed"] == own[0]["seed"]]
            for axis, part in zip(column, ("heads", "neurons"), strict=True):
                shares = np.array([row[part] for row in own]).T
                image = axis.imshow(shares, vmin=0, vmax=1, aspect="auto", origin="lower")
                axis.set_xticks(range(len(own)), [f"{row['density']:g}" for row in own], size=6)
                axis.set_yticks(range(len(shares)))
                axis.grid(visible=False)
            column[0].set_title(name, fontsize=9)
            column[1].set(xlabel="density")
        for axis, part in zip(axes[:, 0], ("heads", "neurons"), strict=True):
            axis.set(ylabel=f"{part}: block")
        picture.colorbar(image, ax=axes, label="share kept")


def layers(path, rows):
    """Density of every layer, one panel a line, one curve a density."""
    panels, columns = lines(rows), 5
    height = -(-len(panels) // columns)
    options = {"squeeze": False, "sharex": True, "sharey": True}
    with figure(path, height, columns, size=(12, 0.6 + 1.7 * height), **options) as (_, axes):
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        for axis, (name, own) in zip(axes.flat, panels.items(), strict=False):
            first = min(row["seed"] for row in own)
            for row in own:
                if row["seed"] == first:
                    shares = list(row["layers"].values())
                    colour = mpl.colormaps["viridis"](row["density_all"])
                    axis.plot(np.arange(len(shares)), shares, linewidth=0.8, color=colour)
            axis.set_title(name, fontsize=8)
            axis.set_ylim(0, 1)
        axes[-1, 0].set(xlabel="layer (qkv, proj, fc1, fc2 by block)", ylabel="density")
