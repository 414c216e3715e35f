"""Pictures of landscapes: the paper's panels, the course's bands, accuracy against rate."""

import math

import numpy as np

from groundfloor.plots import BLACK, COLOURS, PALETTE, WIDTH, figure, legend, logarithmic, ordered
from optim_torch.landscape.bands import across, edges, local, summary, times_square
from optim_torch.models.vgg_a import NORMS

OTHERS = [colour for colour in PALETTE if colour not in (COLOURS["none"], COLOURS["batch"])]
NORM_COLOURS = dict(zip([n for n in NORMS if n != "batch"], OTHERS, strict=False)) | COLOURS
TITLES = {"none": "without normalisation", "batch": "batch normalisation"}
COURSE = {"VGG_Loss_Landscape": "loss", "VGG_Grad_Pred": "change", "VGG_Beta_Smooth": "beta"}
MEASURES = {
    "loss": "loss",
    "change": "change of the gradient",
    "beta": "change of the gradient / distance",
}
MOST_RATES = 4  # panels side by side


def draw(folder, networks):
    """All pictures of a run: the paper's panels, the course's, and accuracy against rate."""
    panels(folder / "landscape.png", networks)
    if len(_rates(networks)) > 1:
        usable_rates(folder / "rates.png", summary(networks))
        for name, what in COURSE.items():
            course_bands(folder / f"{name}.png", networks, what)
    if any(edges(trace, spec.rate) for spec, trace in networks.items()):
        edge(folder / "edge.png", networks)


def _norms(networks):
    return list(dict.fromkeys(spec.norm for spec in networks))


def _rates(networks):
    return list(dict.fromkeys(spec.rate for spec in networks))


def panels(path, networks):
    """Loss, change of the gradient and β along the line, a column a rate, a colour a normaliser; of
    the first seed that did not diverge. Rates at which all seeds of some normaliser did are
    left out."""
    shown, out = {}, []
    for rate in sorted(_rates(networks)):
        own = {norm: _first(networks, norm, rate) for norm in _norms(networks)}
        if all(own.values()):
            shown[rate] = own
        else:
            out.append(f"{rate:g}")
    rates = list(shown)[-MOST_RATES:]
    if not rates:
        return
    count = len(_norms(networks))
    size = (WIDTH, 5.0 + 0.2 * math.ceil(1.5 * count))  # of the legend: 3 texts each, 2 a line
    options = {"sharex": True, "sharey": "row", "squeeze": False}
    with figure(path, 3, len(rates), size=size, **options) as (made, axes):
        for column, rate in zip(axes.T, rates, strict=True):
            for norm, trace in shown[rate].items():
                _three(column, local(trace), trace["lengths"], norm, count)
            column[0].set(title=f"rate {rate:g}")
            column[-1].set(xlabel="step")
        for row, name in zip(axes, ("loss", "change of gradient", "effective β"), strict=True):
            row[0].set_ylabel(f"{name}, along gradient" if name == "loss" else name)
            _scale(row)
        title = f"left out, as one of them diverges: rate {', '.join(out)}" if out else None
        legend(made, axes, loc="outside lower center", ncols=2, title=title)


def _first(networks, norm, rate):
    """The trace of the first seed that did not diverge, or None."""
    own = [trace for spec, trace in networks.items() if (spec.norm, spec.rate) == (norm, rate)]
    return next((trace for trace in own if not trace["diverged"]), None)


def _three(axes, own, lengths, norm, count):
    """Two bands over the lengths of the probe, and β at the shortest and the longest of them.

    count: of the normalisers.
    """
    colour, name = NORM_COLOURS[norm], TITLES.get(norm, norm)
    for axis, what in zip(axes, ("loss", "change"), strict=False):
        label = f"{name}: least to most along the line"
        _fill(axis, own["step"], own[f"{what}_low"], own[f"{what}_high"], colour, label, count)
    for number, style in ((lengths.argmin(), "-"), (lengths.argmax(), ":")):
        label = f"{name}: β at {lengths[number]:g} × rate"
        beta = own["beta"][:, number]
        axes[2].plot(own["step"], beta, style, color=colour, linewidth=0.9, label=label)


EDGES = {
    "largest": "largest eigenvalue",
    "preconditioned": "largest, preconditioned",
    "sharpness": "g'Hg / |g|² of batch",
    "beta": "β at shortest length",
}


def edge(path, networks):
    """Curvature as a share of what the rate can bear, and last times the square of the weights: a
    row a measure, a column a normaliser, a line a rate, mean over seeds."""
    norms, rates = _norms(networks), sorted(_rates(networks))
    measured = [edges(trace, spec.rate) for spec, trace in networks.items()]
    names = [name for name in EDGES if any(name in shares for shares in measured)]
    size = (min(WIDTH, 1.2 + 3 * len(norms)), 2.4 + 1.7 * len(names))
    with figure(
        path, len(names) + 1, len(norms), size=size, sharex=True, sharey="row", squeeze=False
    ) as (made, axes):
        for column, norm in enumerate(norms):
            axes[0, column].set_title(TITLES.get(norm, norm))
            axes[-1, column].set_xlabel("step")
            for number, rate in enumerate(rates):
                good = [
                    trace
                    for spec, trace in networks.items()
                    if (spec.norm, spec.rate) == (norm, rate) and not trace["diverged"]
                ]
                shares = [edges(trace, rate) for trace in good]
                colour = ordered(number, len(rates))
                for axis, name in zip(axes[:-1, column], names, strict=True):
                    lines = [share[name] for share in shares if name in share]
                    if lines:
                        label = f"rate {rate:g}"
                        axis.plot(good[0]["probed"], np.mean(lines, 0), color=colour, label=label)
                if good:
                    mean = np.mean([times_square(trace) for trace in good], 0)
                    axes[-1, column].plot(good[0]["probed"], mean, color=colour)
        axes[-1, 0].set_ylabel("largest eigenvalue\n× |weights|²", fontsize=8)
        logarithmic(axes[-1, 0], "y")
        for row, name in zip(axes[:-1], names, strict=True):
            row[0].set_ylabel(f"{EDGES[name]}\n/ that of the edge", fontsize=8)
            for axis in row:
                axis.axhline(1, color=BLACK, linewidth=0.8, linestyle="--", label="edge: 2 / rate")
                axis.set_ylim(bottom=0)
        legend(made, axes, loc="outside lower center", ncols=len(rates) + 1)


def _scale(axes):
    """A log axis where anything is above 0: one class alone has no loss at all."""
    drawn = np.concatenate([line.get_ydata() for axis in axes for line in axis.lines])
    if np.any(drawn > 0):
        logarithmic(axes[0], "y")


def _fill(axis, step, low, high, colour, label, count):
    """A band, the lighter the more there are of them."""
    alpha = 0.7 / max(count, 2)
    axis.fill_between(step, low, high, color=colour, alpha=alpha, linewidth=0, label=label)
    axis.plot(step, low, color=colour, linewidth=0.5)
    axis.plot(step, high, color=colour, linewidth=0.5)


def usable_rates(path, rows):
    """Test accuracy against the learning rate, of rows of `bands.summary`: mean and, over several
    seeds, standard deviation. Where some seeds diverged it is of no use: a cross at the bottom."""
    norms = list(dict.fromkeys(row["norm"] for row in rows))
    seeds = max(row["seeds"] for row in rows)
    with figure(path, size=(WIDTH, 2.9)) as (made, axis):
        for number, norm in enumerate(norms):
            own = sorted((r for r in rows if r["norm"] == norm), key=lambda r: r["rate"])
            tested = [r for r in own if r["test"] and not r["diverged"]]
            axis.errorbar(
                [r["rate"] for r in tested],
                [100 * r["test"]["mean"] for r in tested],
                [100 * (r["test"]["std"] or 0) for r in tested] if seeds > 1 else None,
                marker="o",
                capsize=2,
                color=NORM_COLOURS[norm],
                label=TITLES.get(norm, norm),
            )
            for r in own:
                if r["diverged"]:
                    where = {"transform": axis.get_xaxis_transform(), "clip_on": False}
                    style = {"color": NORM_COLOURS[norm], "ms": 7, "mew": 1.5}
                    axis.plot(r["rate"], 0.03 + 0.07 * number, "x", **style, **where)
        if any(r["diverged"] for r in rows):
            axis.plot([], [], "x", color=BLACK, label="some seeds diverge here")
        axis.set(xlabel="learning rate", ylabel="test accuracy in %")
        logarithmic(axis, "x")
        rates = sorted({row["rate"] for row in rows})
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
        legend(made, axis, title=f"mean ± std of {seeds} seeds" if seeds > 1 else "one seed")


def course_bands(path, networks, what, definition="steps", *, diverged=False):
    """A band over models of several rates for each normaliser, of its first seed.

    what, definition: of `bands.across`. A rate at which any of these models diverged is left out
    for all, since bands over different rates cannot be compared, and named; diverged: none is.
    Returns (figure, dict of normaliser -> (steps, min_curve, max_curve)), nan where none is left.
    """
    first = {norm: min(s.seed for s in networks if s.norm == norm) for norm in _norms(networks)}
    models = {spec: t for spec, t in networks.items() if spec.seed == first[spec.norm]}
    out = sorted({spec.rate for spec, t in models.items() if t["diverged"] and not diverged})
    rates = [f"{rate:g}" for rate in _rates(networks) if rate not in out]
    numbers = {}
    with figure(path, size=(WIDTH, 3.0)) as (drawn, axis):
        for norm in first:
            own = {spec.rate: t for spec, t in models.items() if spec.norm == norm}
            counted = [rate not in out for rate in own]
            numbers[norm] = across(list(own.values()), what, definition, counted=counted)
            name = TITLES.get(norm, norm)
            _fill(axis, *numbers[norm], NORM_COLOURS[norm], name, len(first))
        axis.set(xlabel="step", ylabel=MEASURES[what])
        _scale([axis])
        title = f"least to most over\nrates {', '.join(rates)}"
        if out:
            title += f"\n(left out, as some\ndiverge: {', '.join(f'{rate:g}' for rate in out)})"
        legend(drawn, axis, title=title)
    return drawn, numbers
