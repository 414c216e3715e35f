"""Curves that the page of results lets a reader follow: a path of Γ, and landscapes.

    python -m experiments.curves      5 minutes of one CPU core; no download

LeNet with DessiLBI on digits: norms of the filters of W and of Γ against epochs. VGG_A_Light on
digits, with and without BatchNorm, at four rates: loss, change of the gradient and β along the
gradient. One seed; both runs are the default presets of their commands, thinned for the page.
Result: curves/digits.json.
"""

import shlex
from dataclasses import dataclass

import numpy as np

from experiments import runner
from groundfloor import cli, npz
from optim_torch.landscape import bands

MOST_GROUPS, MOST_TIMES = 40, 51  # of each layer


@dataclass(frozen=True, kw_only=True)
class Config(runner.RunsConfig):
    """Where the two runs go, and the result."""


def main(config):
    """Run what is missing, thin, write; returns what the JSON holds."""
    out, flags = config.folder("curves"), shlex.split(config.flags)
    train = runner.finished(["optim_torch.train", "digits", *flags], out / "train")
    command = ["optim_torch.landscape", "digits", "--seeds", 0]
    landscapes = runner.finished(command, out / "landscape")
    facts = {
        "seeds": [0],
        "test": train["test"],
        "path": path(out / "train" / "path.npz"),
        "landscape": landscape(out / "landscape"),
    }
    target = config.results / "curves" / "digits.json"
    return runner.write(target, "curves", facts, [train, landscapes])


def path(file):
    """{"epochs", "layers": {layer: {"selected", "w", "gamma"}}} of a recorded path of filters.

    w and gamma: norms at the epochs, a text of `rounded` for each group; the groups are spread over
    those that were recorded.
    """
    with npz.reading(file, "a recorded path") as arrays:
        times, layers = spread_over(len(arrays["time"]), MOST_TIMES), {}
        for key in [key for key in arrays if key.startswith("w/") and arrays[key].ndim == 2]:
            name = key.removeprefix("w/")
            shown = spread_over(arrays[key].shape[1], MOST_GROUPS)
            w, gamma = (arrays[f"{kind}/{name}"][times][:, shown].T for kind in ("w", "gamma"))
            layers[name.removesuffix(".weight")] = {
                "selected": (arrays[f"gamma/{name}"][-1][shown] > 0).tolist(),
                "w": rounded(w),
                "gamma": rounded(gamma),
            }
        return {"epochs": rounded(arrays["time"][times]), "layers": layers}


def landscape(folder):
    """Rows of norm, rate, diverged, step and of low and high along the line, or β."""
    rows = []
    for spec, trace in bands.load(folder).items():
        own = bands.local(trace)
        row = {"norm": spec.norm, "rate": spec.rate, "diverged": bool(trace["diverged"])}
        row |= {key: rounded(own[key]) for key in ("step", *LINES)}
        row |= {"beta": rounded(own["beta"][:, trace["lengths"].argmin()])}
        rows.append(row)
    return rows


LINES = ("loss_low", "loss_high", "change_low", "change_high")


def spread_over(total, most):
    """At most `most` places among `total`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, total - 1, min(total, most)).round().astype(int))


def rounded(values):
    """Numbers (n,) to three digits as one text, which keeps the file short; (m, n): m of them."""
    values = np.asarray(values, float)
    if values.ndim > 1:
        return [rounded(part) for part in values]
    return " ".join(f"{value:.3g}" for value in values)


if __name__ == "__main__":
    cli.run(main, Config)
