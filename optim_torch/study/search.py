"""What the study trains: the base, its variations, each at its best learning rate, and the best
values of all axes together.
"""

import math
from dataclasses import replace

from groundfloor.runs import spread
from optim_torch.study.trials import Setting

AXES = {  # axis: what it changes of a Setting
    "widths": "width",
    "losses": "loss",
    "activations": "activation",
    "optimizers": "optimizer",
    "blocks": "block",
}
WIDENING = 3.0  # factor by which a search of rates goes on beyond its ends
WIDENINGS = 2  # how often it may


def base(config):
    """The base setting, at its optimizer's usual rate."""
    return Setting(*(getattr(config, name) for name in AXES.values()), rate=1.0)


def variations(config):
    """(axis, value, setting) of all that is tried instead of the base, at the usual rate."""
    for axis in config.axes:
        for value in dict.fromkeys(getattr(config, axis)):
            setting = replace(base(config), **{AXES[axis]: value})
            if setting != base(config):
                yield axis, value, setting


def most_trials(config):
    """Trials that the study trains at most."""
    of_one = len(config.rates) + WIDENINGS * is_searched(config) + len(config.seeds) - 1
    return settings(config) * of_one


def settings(config):
    """How many settings are trained, the combined one included."""
    return 1 + len(list(variations(config))) + bool(config.axes and config.combine)


def is_searched(config):
    """Whether learning rates are searched at all."""
    return len(config.rates) > 1


def study(config, trainer):
    """Train all settings; returns the table: a list of dicts, the base first.

    trainer: (setting, seed) -> row. Each entry holds axis, value, setting, at_end (the best rate is
    the last that was tried), rows (one a seed), val (`over_seeds`), parameters.
    """

    def entry(axis, value, setting):
        setting, at_end = tuned(config, trainer, setting)
        rows = [trainer(setting, seed) for seed in config.seeds]
        return {
            "axis": axis,
            "value": value,
            "setting": setting,
            "at_end": at_end,
            "rows": rows,
            "val": over_seeds(row["val"] for row in rows),
            "parameters": rows[0]["parameters"],
        }

    table = [entry("base", "", base(config))]
    table += [entry(*variation) for variation in variations(config)]
    if config.axes and config.combine:
        together = base(config)
        for axis in config.axes:
            among = reliable(row for row in table if row["axis"] in ("base", axis))
            if among:
                best = max(among, key=lambda row: row["val"]["mean"])["setting"]
                together = replace(together, **{AXES[axis]: getattr(best, AXES[axis])})
        if together not in [replace(row["setting"], rate=1.0) for row in table]:
            table.append(entry("combined", "best of each", together))
    return table


def reliable(table):
    """The entries of which no seed diverged: what may be chosen."""
    return [entry for entry in table if all(row["val"] is not None for row in entry["rows"])]


def over_seeds(shares):
    """`spread` of the seeds that did not diverge (not None), their number as "seeds"."""
    shares = [share for share in shares if share is not None]
    if not shares:
        return {"mean": None, "std": None, "seeds": 0}
    return {**spread(shares), "seeds": len(shares)}


def tuned(config, trainer, setting):
    """The setting at its best rate on validation, with the first seed; is that rate at an end?

    Tried are `config.rates`, times the optimizer's usual one; while the best is the highest or the
    lowest, three times or a third of it, too. Of equals the one nearest to the usual rate. What
    diverged is worse than anything; if all do, the search goes down.
    """

    def score(rate):
        val = trainer(replace(setting, rate=rate), config.seeds[0])["val"]
        return (-1.0, -rate) if val is None else (val, -abs(math.log(rate)))

    scores = {rate: score(rate) for rate in sorted(config.rates)}
    best = max(scores, key=scores.get)
    for _ in range(WIDENINGS * is_searched(config)):
        if min(scores) < best < max(scores):
            break
        factor = WIDENING if best == max(scores) else 1 / WIDENING
        rate = float(f"{best * factor:.3g}")
        scores[rate] = score(rate)
        best = max(scores, key=scores.get)
    at_end = is_searched(config) and best in (min(scores), max(scores))
    return replace(setting, rate=best), at_end
