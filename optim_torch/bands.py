"""Bands of loss and gradient: along a line in one network, or over networks of several rates.

The paper (Santurkar et al. 2018) probes one model; the course bands several models trained at
several rates. They answer different questions and have different names here. The functions
`VGG_Loss_Landscape`, `VGG_Grad_Pred` and `VGG_Beta_Smooth` carry the course's names.
"""

from statistics import mean

import numpy as np

from common.errors import UserError
from common.plots import figure
from common.runs import spread
from optim_torch.traces import Spec

COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink")
TITLES = {"none": "without normalisation", "batch": "batch normalisation"}


def band(values):
    """(min_curve, max_curve) over the first axis of (models, steps); nan where there is none.

    A model that diverged counts as long as it lasted.
    """
    values = np.asarray(values, dtype=float)
    known = ~np.isnan(values).all(0)
    low, high = (np.full(values.shape[1], np.nan) for _ in range(2))
    low[known], high[known] = np.nanmin(values[:, known], 0), np.nanmax(values[:, known], 0)
    return low, high


def local(trace):
    """The paper's three measures of one trace: dict of step, and of (P,) or (P, lengths) arrays.

    loss_low, loss_high, change_low, change_high: over the lengths. beta: for each length; its
    maximum, beta_most, is ruled by the shortest length wherever gradients are far from parallel.
    """
    loss_low, loss_high = band(trace["point_loss"].T)
    change_low, change_high = band(trace["point_change"].T)
    return {
        "step": trace["probed"],
        **{"loss_low": loss_low, "loss_high": loss_high},
        **{"change_low": change_low, "change_high": change_high},
        "beta": trace["point_beta"],
        "beta_most": band(trace["point_beta"].T)[1],
    }


def across(traces, what, definition="steps"):
    """The course's band over models of several rates: (steps, min_curve, max_curve).

    what: "loss"; "change", of the gradient; or "beta", change over distance. definition: "steps":
    from each step of a model to the next (2020); "line": along the gradient's direction, at the
    length of the learning rate or next to it (2023).
    """
    if definition not in ("steps", "line"):
        raise ValueError(f'definition must be "steps" or "line", got {definition!r}')
    if what == "loss" or definition == "steps":
        values = [
            trace["change"] / trace["moved"] if what == "beta" else trace[what] for trace in traces
        ]
        return np.arange(len(values[0])), *band(values)
    own = int(np.abs(np.log(traces[0]["lengths"])).argmin())
    return traces[0]["probed"], *band([trace[f"point_{what}"][:, own] for trace in traces])


def summary(found):
    """A row (dict) for each normaliser and rate; medians over steps, means over seeds.

    found: dict of `traces.Spec` -> trace.
    """
    table = []
    for norm, rate in dict.fromkeys((spec.norm, spec.rate) for spec in found):
        own = [trace for spec, trace in found.items() if (spec.norm, spec.rate) == (norm, rate)]
        measured = [local(trace) for trace in own]
        table.append(
            {
                **{"norm": norm, "rate": rate, "seeds": len(own)},
                **{
                    split: spread(float(trace[split]) for trace in own) for split in ("val", "test")
                },
                "loss_width": _median([m["loss_high"] - m["loss_low"] for m in measured]),
                "change_most": _median([m["change_high"] for m in measured]),
                "beta": [_median([m["beta"][:, i] for m in measured]) for i in _lengths(own)],
                "beta_most": _median([m["beta_most"] for m in measured]),
                "lengths": own[0]["lengths"].tolist(),
                "last_loss": _median([trace["loss"][-50:] for trace in own]),
                "diverged": sum(bool(np.isnan(trace["loss"][-1])) for trace in own),
            }
        )
    return table


def _lengths(traces):
    return range(len(traces[0]["lengths"]))


def _median(arrays):
    values = np.concatenate(arrays)
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def best_rates(found):
    """dict of normaliser -> the rate of the best validation accuracy, mean over seeds."""
    rows = summary(found)
    norms = dict.fromkeys(row["norm"] for row in rows)
    return {
        norm: max((r for r in rows if r["norm"] == norm), key=lambda r: r["val"]["mean"])["rate"]
        for norm in norms
    }


def draw(folder, found):
    """All pictures of a run: the paper's panels, the course's, and accuracy against rate."""
    rates = list(dict.fromkeys(spec.rate for spec in found))
    norms = list(dict.fromkeys(spec.norm for spec in found))
    best = best_rates(found)
    if len(rates) > 1:
        same = max(rates, key=lambda r: sum(_val(found, norm, r) for norm in norms))
        panels(folder / "landscape_same_rate.png", found, dict.fromkeys(norms, same))
        panels(folder / "landscape_best_rates.png", found, best)
        usable_rates(folder / "rates.png", found)
        for function in (VGG_Loss_Landscape, VGG_Grad_Pred, VGG_Beta_Smooth):
            function(found, folder / f"{function.__name__}.png")
    else:
        panels(folder / "landscape.png", found, best)


def _val(found, norm, rate):
    own = [float(t["val"]) for spec, t in found.items() if (spec.norm, spec.rate) == (norm, rate)]
    return mean(own)


def panels(path, found, rates):
    """Loss, change of the gradient and β along the line, one colour a normaliser; first seed.

    rates: dict of normaliser -> learning rate.
    """
    with figure(path, 1, 3, size=(11, 3.2)) as (_, axes):
        for (norm, rate), colour in zip(rates.items(), COLOURS, strict=False):
            trace = next(t for s, t in found.items() if (s.norm, s.rate) == (norm, rate))
            own, label = local(trace), f"{TITLES.get(norm, norm)}, {rate:g}"
            for axis, what in zip(axes, ("loss", "change"), strict=False):
                _fill(axis, own["step"], own[f"{what}_low"], own[f"{what}_high"], colour, label)
            for number, length in enumerate(trace["lengths"]):
                axes[2].plot(
                    own["step"],
                    own["beta"][:, number],
                    **{"color": colour, "linewidth": 0.6, "alpha": 1 - 0.2 * number},
                    label=f"{label}: {length:g} x rate" if number == 0 else None,
                )
        axes[0].set(ylabel="loss along the gradient", yscale="log")
        axes[1].set(ylabel="change of the gradient", yscale="log")
        axes[2].set(ylabel="effective β, a line a length", yscale="log")
        for axis in axes:
            axis.set(xlabel="step")
            axis.legend(fontsize=7)


def _fill(axis, step, low, high, colour, label):
    axis.fill_between(step, low, high, color=colour, alpha=0.35, linewidth=0)
    axis.plot(step, low, color=colour, linewidth=0.5)
    axis.plot(step, high, color=colour, linewidth=0.5, label=label)


def usable_rates(path, found):
    """Test accuracy against the learning rate: mean and standard deviation over seeds."""
    rows = summary(found)
    with figure(path, size=(4.5, 3.2)) as (_, axis):
        for norm, colour in zip(dict.fromkeys(r["norm"] for r in rows), COLOURS, strict=False):
            own = sorted((r for r in rows if r["norm"] == norm), key=lambda r: r["rate"])
            axis.errorbar(
                [r["rate"] for r in own],
                [100 * r["test"]["mean"] for r in own],
                [100 * (r["test"]["std"] or 0) for r in own],
                **{"marker": "o", "color": colour, "label": TITLES.get(norm, norm)},
            )
        axis.set(xlabel="learning rate", ylabel="test accuracy in %", xscale="log")
        axis.legend(fontsize=7)


def VGG_Loss_Landscape(found, path):
    """Band of the loss over models of several rates, with and without normalisation.

    found: dict of `traces.Spec` -> trace (`load`); path: of the picture. Returns (figure, dict of
    normaliser -> (steps, min_curve, max_curve)), of the first seed.
    """
    return _course(found, path, "loss", "steps", "loss")


def VGG_Grad_Pred(found, path, definition="steps"):
    """Band of the change of the gradient; definition: of `across`. Returns as above."""
    return _course(found, path, "change", definition, "change of the gradient")


def VGG_Beta_Smooth(found, path, definition="steps"):
    """Band of change over distance; definition: of `across`. Returns as above."""
    return _course(found, path, "beta", definition, "change of the gradient / distance")


def _course(found, path, what, definition, label):
    first = min(spec.seed for spec in found)
    numbers = {}
    with figure(path, size=(5.5, 3.4)) as (made, axis):
        norms = dict.fromkeys(spec.norm for spec in found)
        for norm, colour in zip(norms, COLOURS, strict=False):
            own = [t for s, t in found.items() if (s.norm, s.seed) == (norm, first)]
            numbers[norm] = across(own, what, definition)
            _fill(axis, *numbers[norm], colour, TITLES.get(norm, norm))
        axis.set(xlabel="step", ylabel=f"{label}, over rates", yscale="log")
        axis.legend(fontsize=7)
    return made, numbers


def load(folder):
    """dict of `traces.Spec` -> trace, of a run folder of optim_torch.landscape.

    UserError if there is none.
    """
    found = {}
    for path in sorted(folder.glob("traces/*.npz")):
        norm, rate, seed = path.stem.rsplit("-", 2)
        with np.load(path) as arrays:
            found[Spec(norm, float(rate[1:]), int(seed[1:]))] = dict(arrays)
    if not found:
        raise UserError(f"{folder} holds no traces of optim_torch.landscape")
    return found
