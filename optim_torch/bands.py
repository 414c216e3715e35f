"""Bands of loss and gradient: along a line in one network, or over networks of several rates.

The paper (Santurkar et al. 2018) probes one model; the course bands several models trained at
several rates. They answer different questions and have different names: `local` and `across`.
"""

import numpy as np

from common.errors import UserError
from common.runs import spread
from optim_torch.traces import Spec


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
