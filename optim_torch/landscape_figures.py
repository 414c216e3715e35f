"""Pictures of landscapes: the paper's panels, the course's bands, accuracy against rate."""

from statistics import mean

from common.plots import figure
from optim_torch.bands import across, best_rates, local, summary

COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink")
TITLES = {"none": "without normalisation", "batch": "batch normalisation"}
COURSE = {"VGG_Loss_Landscape": "loss", "VGG_Grad_Pred": "change", "VGG_Beta_Smooth": "beta"}
MEASURES = {
    "loss": "loss",
    "change": "change of the gradient",
    "beta": "change of the gradient / distance",
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
        for name, what in COURSE.items():
            course_bands(folder / f"{name}.png", found, what)
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


def course_bands(path, found, what, definition="steps"):
    """A band over models of several rates for each normaliser, of the first seed.

    what, definition: of `bands.across`. Returns (figure, dict of normaliser -> (steps, min_curve,
    max_curve)).
    """
    first = min(spec.seed for spec in found)
    numbers = {}
    with figure(path, size=(5.5, 3.4)) as (made, axis):
        norms = dict.fromkeys(spec.norm for spec in found)
        for norm, colour in zip(norms, COLOURS, strict=False):
            own = [t for s, t in found.items() if (s.norm, s.seed) == (norm, first)]
            numbers[norm] = across(own, what, definition)
            _fill(axis, *numbers[norm], colour, TITLES.get(norm, norm))
        axis.set(xlabel="step", ylabel=f"{MEASURES[what]}, over rates", yscale="log")
        axis.legend(fontsize=7)
    return made, numbers
