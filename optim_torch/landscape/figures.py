"""Pictures of landscapes: the paper's panels, the course's bands, accuracy against rate."""

import numpy as np

from groundfloor.plots import figure
from optim_torch.landscape.bands import across, best_rates, edges, local, rank, summary
from optim_torch.models.vgg_a import NORMS

PALETTE = ("red", "blue", "green", "orange", "purple", "brown", "pink")
COLOURS = dict(zip(("none", *NORMS), [f"tab:{name}" for name in PALETTE], strict=True))
TITLES = {"none": "without normalisation", "batch": "batch normalisation"}
COURSE = {"VGG_Loss_Landscape": "loss", "VGG_Grad_Pred": "change", "VGG_Beta_Smooth": "beta"}
MEASURES = {
    "loss": "loss",
    "change": "change of the gradient",
    "beta": "change of the gradient / distance",
}


def draw(folder, networks):
    """All pictures of a run: the paper's panels, the course's, and accuracy against rate."""
    rates = list(dict.fromkeys(spec.rate for spec in networks))
    norms = _norms(networks)
    best = best_rates(networks)
    if len(rates) > 1:
        ranks = {(row["norm"], row["rate"]): rank(row) for row in summary(networks)}
        same = max(rates, key=lambda r: np.sum([ranks[norm, r] for norm in norms], 0).tolist())
        panels(folder / "landscape_same_rate.png", networks, dict.fromkeys(norms, same))
        panels(folder / "landscape_best_rates.png", networks, best)
        usable_rates(folder / "rates.png", networks)
        for name, what in COURSE.items():
            course_bands(folder / f"{name}.png", networks, what)
    else:
        panels(folder / "landscape.png", networks, best)
    if any(edges(trace, spec.rate) for spec, trace in networks.items()):
        edge(folder / "edge.png", networks)


def _norms(networks):
    return list(dict.fromkeys(spec.norm for spec in networks))


def panels(path, networks, rates):
    """Loss, change of the gradient and β along the line, one colour a normaliser; of the first
    seed that did not diverge, if there is one.

    rates: dict of normaliser -> learning rate.
    """
    with figure(path, 1, 3, size=(11, 3.2)) as (_, axes):
        for norm, rate in rates.items():
            seeds = [t for s, t in networks.items() if (s.norm, s.rate) == (norm, rate)]
            trace = min(seeds, key=lambda t: bool(t["diverged"]))
            note = " (diverged)" if trace["diverged"] else ""
            own, label = local(trace), f"{TITLES.get(norm, norm)}, {rate:g}{note}"
            for axis, what in zip(axes, ("loss", "change"), strict=False):
                _fill(
                    axis, own["step"], own[f"{what}_low"], own[f"{what}_high"], COLOURS[norm], label
                )
            for number, length in enumerate(trace["lengths"]):
                axes[2].plot(
                    own["step"],
                    own["beta"][:, number],
                    color=COLOURS[norm],
                    linewidth=0.6,
                    alpha=max(0.2, 1 - 0.2 * number),
                    label=f"{label}: {length:g} x rate" if number == 0 else None,
                )
        _finish(axes[0], "loss along the gradient")
        _finish(axes[1], "change of the gradient")
        _finish(axes[2], "effective β, a line a length")


EDGES = {
    "largest": "largest eigenvalue of the Hessian",
    "preconditioned": "the same, preconditioned by Adam",
    "sharpness": "sharpness of the batch, g'Hg / |g|²",
    "beta": "effective β at the shortest length",
}


def edge(path, networks):
    """Curvature as a share of what the rate can bear: a row a measure, a column a normaliser, a
    line a rate, mean over seeds."""
    norms, rates = _norms(networks), list(dict.fromkeys(spec.rate for spec in networks))
    measured = [edges(trace, spec.rate) for spec, trace in networks.items()]
    names = [name for name in EDGES if any(name in shares for shares in measured)]
    size = (1.2 + 3.2 * len(norms), 0.5 + 2.2 * len(names))
    with figure(
        path, len(names), len(norms), size=size, sharex=True, sharey="row", squeeze=False
    ) as (_, axes):
        for column, norm in enumerate(norms):
            axes[0, column].set_title(TITLES.get(norm, norm), fontsize=9)
            axes[-1, column].set_xlabel("step")
            for number, rate in enumerate(rates):
                own = [t for s, t in networks.items() if (s.norm, s.rate) == (norm, rate)]
                shares = [edges(trace, rate) for trace in own if not trace["diverged"]]
                for axis, name in zip(axes[:, column], names, strict=True):
                    lines = [share[name] for share in shares if name in share]
                    if lines:
                        axis.plot(
                            own[0]["probed"], np.mean(lines, 0), color=f"C{number}", label=rate
                        )
        for row, name in enumerate(names):
            axes[row, 0].set_ylabel(f"{EDGES[name]}\n/ that of the edge", fontsize=8)
            for axis in axes[row]:
                axis.axhline(1, color="black", linewidth=0.8, linestyle="--")
                axis.set_ylim(bottom=0)
        axes[0, 0].legend(title="learning rate", fontsize=7)


def _finish(axis, measure):
    """Labels, and a log axis where anything is above 0: one class alone has no loss at all."""
    drawn = np.concatenate([line.get_ydata() for line in axis.lines])
    scale = "log" if np.any(drawn > 0) else "linear"
    axis.set(xlabel="step", ylabel=measure, yscale=scale)
    axis.legend(fontsize=7)


def _fill(axis, step, low, high, colour, label):
    axis.fill_between(step, low, high, color=colour, alpha=0.35, linewidth=0)
    axis.plot(step, low, color=colour, linewidth=0.5)
    axis.plot(step, high, color=colour, linewidth=0.5, label=label)


def usable_rates(path, networks):
    """Test accuracy against the learning rate: mean and standard deviation over the seeds that did
    not diverge; a cross at the top for a rate where some did."""
    rows = summary(networks)
    with figure(path, size=(4.5, 3.2)) as (_, axis):
        for number, norm in enumerate(_norms(networks)):
            own = sorted((r for r in rows if r["norm"] == norm), key=lambda r: r["rate"])
            tested = [r for r in own if r["test"]]
            axis.errorbar(
                [r["rate"] for r in tested],
                [100 * r["test"]["mean"] for r in tested],
                [100 * (r["test"]["std"] or 0) for r in tested],
                marker="o",
                color=COLOURS[norm],
                label=TITLES.get(norm, norm),
            )
            for r in own:
                if r["diverged"]:
                    where = {"transform": axis.get_xaxis_transform(), "clip_on": False}
                    axis.plot(r["rate"], 1 - 0.04 * number, "x", color=COLOURS[norm], **where)
        if any(r["diverged"] for r in rows):
            axis.plot([], [], "x", color="black", label="rates at which some diverge")
        axis.set(xlabel="learning rate", ylabel="test accuracy in %", xscale="log")
        axis.legend(fontsize=7)


def course_bands(path, networks, what, definition="steps", *, diverged=False):
    """A band over models of several rates for each normaliser, of its first seed.

    what, definition: of `bands.across`. A rate at which any of these models diverged is left out
    for all, since bands over different rates cannot be compared, and named; diverged: none is.
    Returns (figure, dict of normaliser -> (steps, min_curve, max_curve)), nan where none is left.
    """
    first = {norm: min(s.seed for s in networks if s.norm == norm) for norm in _norms(networks)}
    models = {spec: t for spec, t in networks.items() if spec.seed == first[spec.norm]}
    out = sorted({spec.rate for spec, t in models.items() if t["diverged"] and not diverged})
    numbers = {}
    with figure(path, size=(5.5, 3.4)) as (drawn, axis):
        for norm in first:
            own = {spec.rate: t for spec, t in models.items() if spec.norm == norm}
            counted = [rate not in out for rate in own]
            numbers[norm] = across(list(own.values()), what, definition, counted=counted)
            _fill(axis, *numbers[norm], COLOURS[norm], TITLES.get(norm, norm))
        _finish(axis, f"{MEASURES[what]}, over rates")
        if out:
            rates = ", ".join(f"{rate:g}" for rate in out)
            axis.set_title(f"without rate {rates}, at which some diverge", fontsize=8)
    return drawn, numbers
