"""Bands of loss and gradient: along a line in one network, or over networks of several rates.

The paper (Santurkar et al. 2018) probes one model; the course bands several models trained at
several rates. They answer different questions and have different names: `local` and `across`.
"""

import numpy as np

from groundfloor.errors import UserError
from groundfloor.runs import spread
from optim_torch.landscape import recording, traces
from optim_torch.landscape.traces import Spec


def band(values):
    """(min_curve, max_curve) over the first axis of (models, steps); nan where there is none.

    A model that diverged counts as long as it lasted.
    """
    values = np.asarray(values, dtype=float)
    return tuple(reduce(values, 0, initial=np.nan) for reduce in (np.fmin.reduce, np.fmax.reduce))


def local(trace):
    """The paper's three measures of one trace: dict of step, and of (P,) or (P, lengths) arrays.

    loss_low, loss_high, change_low, change_high: over the lengths. beta: for each length; its
    maximum, beta_most, is ruled by the shortest length wherever gradients are far from parallel.
    """
    loss_low, loss_high = band(trace["point_loss"].T)
    change_low, change_high = band(trace["point_change"].T)
    return {
        "step": trace["probed"],
        "loss_low": loss_low,
        "loss_high": loss_high,
        "change_low": change_low,
        "change_high": change_high,
        "beta": trace["point_beta"],
        "beta_most": band(trace["point_beta"].T)[1],
    }


def edges(trace, rate):
    """How near to the edge of stability each probe was, 1 being at it: dict of name -> (P,) array.

    largest: λ rate / 2, of the full Hessian; sharpness: the same of g'Hg / |g|² on the batch; beta:
    of β at the shortest length. preconditioned, for Adam: λ of P^-1/2 H P^-1/2 times rate / 38,
    which is (1 - β1) / (2 + 2 β1) at β1 = 0.9. Empty where curvature was not measured.
    """
    if "here_largest" not in trace:
        return {}
    shortest = trace["point_beta"][:, trace["lengths"].argmin()]
    shares = {
        "largest": trace["here_largest"] * rate / 2,
        "sharpness": trace["here_sharpness"] * rate / 2,
        "beta": shortest * rate / 2,
        "preconditioned": trace["here_preconditioned"] * rate / 38,
    }
    return {name: share for name, share in shares.items() if np.isfinite(share).any()}


def times_square(trace):
    """λ_max |w|² at each probe, (P,); None where curvature was not measured.

    Where a normaliser makes the scale of a layer's weights irrelevant, f(cw) = f(w), their part of
    the Hessian is 1 / c² of what it was (van Laarhoven 2017): if all weights were such, growing
    would lower λ, but not this product. Here |w|² is of all matrices and filters together, those
    behind no normaliser among them.
    """
    if "here_largest" not in trace:
        return None
    return trace["here_largest"] * trace["here_square"]


def across(models, what, definition="steps", *, counted=None):
    """The course's band over models of several rates: (steps, min_curve, max_curve).

    models: their traces. what: "loss"; "change", of the gradient; or "beta", change over distance.
    definition: "steps": from each step of a model to the next (2020); "line": along the gradient's
    direction, at the length of the learning rate or next to it (2023). counted: a bool for each
    model, whether it is in the band; None: all that did not diverge (`recording.has_diverged`) are.
    The curves are nan where none is.
    """
    check_definition(definition)
    if counted is None:
        counted = [not trace["diverged"] for trace in models]
    used = [trace for trace, inside in zip(models, counted, strict=True) if inside]
    if what == "loss" or definition == "steps":
        steps = np.arange(len(models[0]["loss"]))
        values = [_ratio(t["change"], t["moved"]) if what == "beta" else t[what] for t in used]
    else:
        steps, own = models[0]["probed"], int(np.abs(np.log(models[0]["lengths"])).argmin())
        values = [trace[f"point_{what}"][:, own] for trace in used]
    return steps, *band(np.reshape(values, (len(used), len(steps))))


def check_definition(definition):
    """ValueError for an unknown one."""
    if definition not in ("steps", "line"):
        raise ValueError(f'definition must be "steps" or "line", got {definition!r}')


def _ratio(change, moved):
    """nan where nothing moved, or both are beyond all bounds."""
    with np.errstate(invalid="ignore"):
        return np.divide(change, moved, out=np.full_like(change, np.nan), where=moved > 0)


def summary(networks):
    """A row (dict) for each normaliser and rate; medians over steps, means over seeds.

    networks: dict of `traces.Spec` -> trace. All numbers are over those that did not diverge
    (`recording.has_diverged`), None where none is left or nothing was measured, but for three
    counts: seeds, diverged, no_gradient (probes without a gradient to go along, in all networks).
    """
    table = []
    for norm, rate in dict.fromkeys((spec.norm, spec.rate) for spec in networks):
        own = [trace for spec, trace in networks.items() if (spec.norm, spec.rate) == (norm, rate)]
        good = [trace for trace in own if not trace["diverged"]]
        measured = [local(trace) for trace in good]
        lengths = own[0]["lengths"].tolist()
        table.append(
            {
                "norm": norm,
                "rate": rate,
                "seeds": len(own),
                "diverged": len(own) - len(good),
                "val": _spread(trace["val"] for trace in good),
                "test": _spread(trace["test"] for trace in good),
                "loss_width": _median(m["loss_high"] - m["loss_low"] for m in measured),
                "change_most": _median(m["change_high"] for m in measured),
                "beta": [_median(m["beta"][:, i] for m in measured) for i in range(len(lengths))],
                "beta_most": _median(m["beta_most"] for m in measured),
                "lengths": lengths,
                "edges": _edges(good, rate),
                "edges_most": _most(good, rate),
                "times_square": _later(map(times_square, good)),
                "growth": _later(map(_growth, good)),
                "last_loss": _median(trace["loss"][-50:] for trace in good),
                "no_gradient": sum(int(trace["no_gradient"]) for trace in own),
            }
        )
    return table


def _edges(traces, rate):
    """`edges` of the second half of the probes: {name: median}."""
    measured = [edges(trace, rate) for trace in traces]
    names = dict.fromkeys(name for shares in measured for name in shares)
    return {n: _later(shares.get(n) for shares in measured) for n in names}


def _later(curves):
    """Median of the second half of some curves; None where there is none."""
    return _median(curve[len(curve) // 2 :] for curve in curves if curve is not None)


def _growth(trace):
    """|w|² over that at the start, of each probe; None where curvature was not measured."""
    square = trace.get("here_square")
    return None if square is None else square / square[0]


def _most(traces, rate):
    """The highest of `edges`, mean over networks: {name: share}."""
    shares = [edges(trace, rate) for trace in traces]
    names = dict.fromkeys(name for own in shares for name in own)
    return {n: float(np.mean([np.nanmax(own[n]) for own in shares if n in own])) for n in names}


def _spread(accuracies):
    finite = [float(accuracy) for accuracy in accuracies if np.isfinite(accuracy)]
    return spread(finite) if finite else None


def _median(arrays):
    values = np.concatenate([*arrays, []])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def load(*folders):
    """dict of `traces.Spec` -> trace, of run folders of optim_torch.landscape.

    Read from the files' own metadata. UserError if there is none, if two are of one network, or if
    anything but normaliser, rate and seed differs between them.
    """
    networks, first = {}, None
    for path in (path for folder in folders for path in sorted(folder.glob("traces/*.npz"))):
        settings, trace = traces.read(path)
        spec = Spec(settings.pop("norm"), settings.pop("rate"), settings.pop("seed"))
        if spec in networks:
            raise UserError(f"{path} is of a network that was read already ({spec.stem})")
        if first is not None:
            recording.refuse_others(path, settings, first, "such networks cannot be compared")
        networks[spec], first = trace, settings
    if not networks:
        raise UserError(f"{', '.join(map(str, folders))}: no traces of optim_torch.landscape")
    return networks
