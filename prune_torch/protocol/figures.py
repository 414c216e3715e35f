"""Pictures of a sweep: accuracy, its difference to magnitude, costs, and where weights are left."""

import itertools

import numpy as np

from groundfloor.plots import BLACK, GREY, PALETTE, WIDTH, figure, legend
from prune_torch.protocol.families import (
    CONTROL,
    REFERENCE,
    differences,
    families,
    lines,
    means,
)

FAINT = "#dddddd"  # of the methods that a panel is not about
INSET = (0.42, 0.09, 0.55, 0.46)  # left, bottom, width and height, of a panel
UPPER = (-2.5, 1.0)  # points around the dense network's accuracy that an inset shows
AROUND = (-15.0, 15.0)  # points around magnitude's, at most


def _panels(path, count, sharey=True):
    """A figure of panels, two in a row, each with room for a legend at its right."""
    columns = min(2, max(1, count))
    rows = -(-max(1, count) // columns)
    size = (WIDTH, 0.4 + 2.5 * rows)
    return figure(path, rows, columns, size=size, sharex=True, sharey=sharey, squeeze=False)


def _line(axis, name, rows, x, column, style):
    """`column` in percent against x, one point a density; bars where there are several seeds."""
    places, values = means(rows, x), means(rows, column)
    x = [places[level][0] for level in values]
    y = [100 * value for value, _ in values.values()]
    errors = [100 * spread for _, spread in values.values()]
    style = {"label": name, "marker": "o", "markersize": 3, "linewidth": 1.2} | style
    if any(errors):
        axis.errorbar(x, y, errors, **style)
    else:
        axis.plot(x, y, **style)


def accuracy(path, rows, dense):
    """Top-1 against the density that was reached: a panel a family, with magnitude in black, the
    other families in grey, and the upper end again in an inset, where there is room.

    dense: dict of test numbers of the dense network.
    """
    panels, every = families(rows), lines(rows)
    top = 100 * dense["top1"]
    with _panels(path, len(panels)) as (_, axes):
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")

        def draw(part, own):
            for name, their in every.items():
                if name not in own and their[0]["method"] != CONTROL:
                    quiet = {"color": FAINT, "marker": "", "label": None, "zorder": 1}
                    _line(part, None, their, "density_all", "top1", quiet)
            for name, (their, style) in own.items():
                _line(part, name, their, "density_all", "top1", style)
            if REFERENCE in every:
                black = {"color": BLACK, "zorder": 3}
                _line(part, REFERENCE, every[REFERENCE], "density_all", "top1", black)
            if CONTROL in every:
                level = 100 * means(every[CONTROL], "top1")[None][0]
                part.axhline(level, color=BLACK, linestyle="-.", linewidth=0.8, label=CONTROL)
            part.axhline(top, color=GREY, linestyle=":", linewidth=1, label="dense")

        for axis, own in zip(axes.flat, panels.values(), strict=False):
            draw(axis, own)
        low, high = axes.flat[0].get_ylim()
        right = [100 * row["top1"] for row in rows if row["density_all"] > INSET[0]]
        room = min(right, default=high) > low + (INSET[1] + INSET[3] + 0.1) * (high - low)
        for axis, (title, own) in zip(axes.flat, panels.items(), strict=False):
            if room:  # else it would lie over what is drawn
                inset = axis.inset_axes(INSET)
                draw(inset, own)
                inset.set(xlim=(0.28, 1), ylim=(top + UPPER[0], top + UPPER[1]))
                inset.tick_params(labelsize=6.5, pad=1)
            axis.set(title=title, xlim=(0, 1))
            handles, names = axis.get_legend_handles_labels()
            order = [*own, REFERENCE, CONTROL, "dense"]
            handles = [handles[names.index(name)] for name in order if name in names]
            axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
        _label(axes, panels, "density: nonzero / all", "test top-1 in %")


def difference(path, rows):
    """Top-1 minus that of magnitude at the same density and seeds, in points, a panel a family.

    Bars: several seeds, the sample standard deviation of the differences; one seed, the 95 %
    interval of a difference of two shares of the test images (Newcombe 1998, from Wilson's).
    """
    panels = families(rows)
    theirs = {(row["density"], row["seed"]): row for row in lines(rows).get(REFERENCE, [])}
    gaps = [
        differences(their, theirs).values() for own in panels.values() for their, _ in own.values()
    ]
    reach = [bound for of_line in gaps for low, _, high in of_line for bound in (low - 1, high + 1)]
    reach = np.clip((min(reach, default=-1), max(reach, default=1)), *AROUND)
    with _panels(path, len(panels)) as (_, axes):
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        for axis, (title, own) in zip(axes.flat, panels.items(), strict=False):
            axis.axhline(0, color=BLACK, linewidth=1, label=REFERENCE)
            for number, (name, (their, style)) in enumerate(own.items()):
                points = differences(their, theirs)
                x = [level + 0.006 * (number - (len(own) - 1) / 2) for level in points]
                low, y, high = np.reshape(list(points.values()), (-1, 3)).T
                bars = {"yerr": [y - low, high - y], "capsize": 1.5, "elinewidth": 0.8}
                axis.errorbar(x, y, marker="o", ms=3, lw=1.2, label=name, **bars, **style)
            axis.set(title=title, xlim=(0, 1), ylim=reach)
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
        _label(axes, panels, "density: nonzero / all", f"points above {REFERENCE}")


def cost(path, rows, merged, dense):
    """Top-1 against what a network takes: megabytes; latency and compute where they change.

    merged: rows of `tokens.curve`. Magnitude is in black, structured methods have a colour and a
    marker each, and all others, which differ from magnitude in accuracy alone, are in grey.
    """
    styles = itertools.product("os^", PALETTE[:6])
    styles = itertools.cycle({"marker": marker, "color": colour} for marker, colour in styles)
    with figure(path, 1, 3, size=(WIDTH, 2.9), sharey=True) as (picture, axes):
        for name, own in lines(rows).items():
            if own[0]["method"] == CONTROL:
                continue
            changes = own[0].get("latency_ratio") is not None
            style = {"color": FAINT, "marker": "", "zorder": 1}
            label = "methods that only set zeros"
            if changes:
                label, style = name, next(styles)
            elif name == REFERENCE:
                label, style = name, {"color": BLACK}
            _line(axes[0], label, own, "megabytes", "top1", style)
            if changes:
                _line(axes[1], label, own, "latency_ratio", "top1", style)
                _line(axes[2], label, own, "gigaflops", "top1", style)
        axes[2].plot(
            [row["gigaflops"] for row in merged],
            [100 * row["top1"] for row in merged],
            markersize=3,
            label="token merging, untrained",
            **next(styles),
        )
        for axis in axes:
            axis.axhline(100 * dense["top1"], color=GREY, linestyle=":", label="dense")
            axis.set_xlim(left=0)
        axes[0].set(xlabel="megabytes, packed", ylabel="test top-1 in %")
        axes[1].set(xlabel="latency / dense")
        axes[2].set(xlabel="gigaflops an image")
        legend(picture, axes, loc="outside lower center", ncols=3)


def groups(path, rows):
    """Share of heads and of neurons kept in each block at each density, for structured methods:
    two panels a method, one above the other."""
    panels = {name: own for name, own in lines(rows).items() if "heads" in own[0]}
    parts, numbered = ("heads", "neurons"), len(panels) <= 2
    columns = min(5, len(panels))
    height = 2 * -(-len(panels) // columns)
    size = (min(WIDTH, 1.6 + 2.9 * columns), 0.8 + (1.9 if columns < 3 else 1.3) * height)
    options = {"size": size, "squeeze": False, "sharex": True, "sharey": True}
    with figure(path, height, columns, **options) as (picture, axes):
        for place, (name, own) in enumerate(panels.items()):
            row, column = 2 * (place // columns), place % columns
            own = _of_first_seed(own)
            for axis, part in zip(axes[row : row + 2, column], parts, strict=True):
                image = _heat(axis, [row[part] for row in own], own)
                if column == 0:
                    axis.set(ylabel=f"{part}: block")
                if numbered:
                    _numbers(axis, [row[part] for row in own], own)
            axes[row, column].set_title(name, fontsize=8)
            axes[row + 1, column].set(xlabel="density")
            axes[row + 1, column].tick_params(labelbottom=True)
        for axis in axes[-2:, (len(panels) - 1) % columns + 1 :].flat:
            axis.axis("off")
        axes[0, 0].set_yticks(range(len(own[0]["heads"])))
        label = "share kept (numbers in %; yellow: all)" if numbered else "share kept (yellow: all)"
        picture.colorbar(image, ax=axes, label=label, shrink=0.7)


def layers(path, rows):
    """Density of every layer (up) at every density of the network (across): a panel a line."""
    panels = {name: own for name, own in lines(rows).items() if own[0]["method"] != CONTROL}
    columns = min(6, max(1, len(panels)))
    height = -(-max(1, len(panels)) // columns)
    options = {"squeeze": False, "sharex": True, "sharey": True}
    with figure(path, height, columns, size=(WIDTH, 0.8 + 1.3 * height), **options) as made:
        picture, axes = made
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        image = None
        for axis, (name, own) in zip(axes.flat, panels.items(), strict=False):
            own = _of_first_seed(own)
            columns = [_of_blocks(row["layers"]) for row in own]
            image = _heat(axis, columns, own)
            axis.set_title(name, fontsize=7)
            depth = max(1, len(columns[0]) // 4)  # qkv, proj, fc1 and fc2 in each block
            axis.set_yticks(4 * np.arange(depth) - 0.5, range(depth))
            axis.grid(axis="y", color="white", alpha=0.7)
        _label(axes, panels, "density", None)
        picture.supylabel("block: qkv, proj, fc1, fc2", fontsize=8)
        if image:
            picture.colorbar(image, ax=axes, label="density of the layer", shrink=0.5)


def _of_blocks(layers):
    """Shares of the blocks' matrices, without patch embedding and head."""
    return [share for name, share in layers.items() if name.startswith("blocks.")]


def _of_first_seed(rows):
    """The rows of the first seed, sparsest first."""
    first = min(row["seed"] for row in rows)
    return sorted((r for r in rows if r["seed"] == first), key=lambda row: row["density_all"])


def _heat(axis, columns, rows):
    """Shares, a column for each of the rows around its density, the first number at the bottom.

    Columns are a tenth wide, or reach half way to the next.
    """
    centres = [row["density_all"] for row in rows]
    between = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    for x, low, high, shares in zip(centres, [0, *between], [*between, 1], columns, strict=True):
        sides = max(low, x - 0.05), min(high, x + 0.05)
        floors = np.arange(len(shares) + 1) - 0.5
        shares = np.array(shares, float)[:, None]
        style = {"cmap": "viridis", "edgecolor": "face", "linewidth": 0.3}  # no gaps
        image = axis.pcolormesh(sides, floors, shares, vmin=0, vmax=1, **style)
    axis.set(xlim=(0, 1), xticks=(0.1, 0.5, 0.9))
    axis.grid(visible=False)
    return image


def _numbers(axis, columns, rows):
    """The shares of `_heat` in percent, in their places."""
    for row, shares in zip(rows, columns, strict=True):
        for y, share in enumerate(shares):
            colour = "black" if share > 0.6 else "white"
            where = {"ha": "center", "va": "center", "fontsize": 6.5}
            axis.text(row["density_all"], y, f"{100 * share:.0f}", color=colour, **where)


def _label(axes, panels, x, y):
    """Names of the axes, at the left and below the lowest panel of each column."""
    columns = axes.shape[1]
    for axis in axes[:, 0] if y else ():
        axis.set_ylabel(y)
    for column in range(columns):
        used = [axes.flat[place] for place in range(column, len(panels), columns)]
        if used:
            used[-1].set_xlabel(x)
            used[-1].tick_params(labelbottom=True)
