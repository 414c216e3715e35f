"""Pictures of a sweep."""

from statistics import mean, stdev

import numpy as np

from common.plots import figure


def means(rows, column):
    """dict of density -> (mean, sample standard deviation or 0) over the seeds of one method."""
    found = {}
    for level in sorted({row["density"] for row in rows}):
        values = [row[column] for row in rows if row["density"] == level]
        found[level] = (mean(values), stdev(values) if len(values) > 1 else 0.0)
    return found


def accuracy(path, rows, dense):
    """Top-1 and top-5 against the density that was reached, one line a method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with figure(path, 1, 2, size=(11, 4.2)) as (made, axes):
        import matplotlib as mpl

        colours = mpl.colormaps["tab20"]
        for axis, column in zip(axes, ("top1", "top5"), strict=True):
            for number, method in enumerate(methods):
                own = [row for row in rows if row["method"] == method]
                reached = means(own, "density_all")
                values = means(own, column)
                axis.errorbar(
                    [reached[level][0] for level in values],
                    [100 * value for value, _ in values.values()],
                    [100 * spread for _, spread in values.values()],
                    label=method,
                    color=colours(number % 20),
                    marker=".",
                    linewidth=1,
                    linestyle="-" if number < 20 else "--",
                )
            axis.axhline(100 * dense[column], color="gray", linestyle=":", label="dense")
            axis.set(xlabel="density: nonzero / all parameters", xlim=(0, 1))
        axes[0].set(ylabel="test top-1 in %")
        axes[1].set(ylabel="test top-5 in % (chance: 50 with ten classes)")
        made.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)


def layers(path, rows):
    """Density of every layer, one panel a method, one line a level."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    columns = 5
    lines = -(-len(methods) // columns)
    size = (2.4 * columns, 0.6 + 1.7 * lines)
    with figure(path, lines, columns, size=size, squeeze=False, sharex=True, sharey=True) as (
        _,
        axes,
    ):
        for axis in axes.flat[len(methods) :]:
            axis.axis("off")
        for axis, method in zip(axes.flat, methods, strict=False):
            first = min(row["seed"] for row in rows)
            for row in rows:
                if row["method"] == method and row["seed"] == first:
                    shares = list(row["layers"].values())
                    axis.plot(np.arange(len(shares)), shares, linewidth=0.8)
            axis.set_title(method, fontsize=8)
            axis.set_ylim(0, 1)
        axes[-1, 0].set(xlabel="layer (qkv, proj, fc1, fc2 by block)", ylabel="density")
