"""How well does one DessiLBI path serve all densities, beside magnitude pruning of SGD's network?

    python -m experiments.dessilbi_density --jobs 2      12 minutes on 2 CPU cores
    python -m experiments.dessilbi_density cifar10       on a GPU; not yet run

LeNet on MNIST, every weight its own group, nothing retrained. DessiLBI: one run gives all masks, by
entry time, then |V| (structure.masks_at); what is left of W is evaluated. Beside it, at the same
densities (nonzero / all 61,706 parameters, biases kept): global magnitude pruning of a network
that SGD trained for as long, which is a hard baseline (98.5 % at density 0.1 on the authors'
network), and magnitude pruning of DessiLBI's own W.

ν was chosen with a tenth of train held out. All 60,000 train images; test is looked at once.
Results: dessilbi_density_NAME.json, .png.
"""

import shlex
from dataclasses import dataclass

import torch

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.checks import Flags, PositiveShare
from groundfloor.plots import BLACK, BLUE, GREY, RED, WIDTH, figure, legend, logarithmic
from groundfloor.pytorch import batches, masking
from groundfloor.runs import spread
from optim_torch.dessilbi import structure
from optim_torch.training import loop

DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
METHODS = {
    "dessilbi": "DessiLBI, one path: entry time, then |V|",
    "dessilbi_magnitude": "magnitude of DessiLBI's W",
    "sgd_magnitude": "magnitude of SGD's W",
}

METHOD_COLOURS = {"dessilbi": RED, "dessilbi_magnitude": BLUE, "sgd_magnitude": BLACK}


@dataclass(frozen=True, kw_only=True)
class Config(dessilbi.DessilbiConfig):
    """Which runs, and at which densities."""

    dessilbi: Flags
    """More flags of DessiLBI's run."""
    densities: tuple[PositiveShare, ...] = DENSITIES
    """Nonzero parameters / all parameters."""


PRESETS = {
    "mnist": Config(
        preset="mnist-lenet",
        flags="--val-fraction 0 --epochs 12 --drop-every 8",
        dessilbi="--penalty l1 --nu 100 --threshold 0.1 --lr-gamma 0.3",
    ),
    "cifar10": Config(
        preset="cifar10-resnet", flags="--val-fraction 0", dessilbi="--penalty l1 --threshold 0.01"
    ),
}


def main(config, name):
    """Run what is missing, evaluate every density, write and print the table; returns what the JSON
    holds."""
    stem = f"dessilbi_density_{name}"
    out = config.folder(stem)
    words = {}
    for seed in config.seeds:
        words["dessilbi", seed] = shlex.split(config.dessilbi)
        words["sgd", seed] = dessilbi.SGD
    summaries = dessilbi.train(config, out, words)
    curves = [accuracies(config, out, seed) for seed in config.seeds]
    table = [
        {"density": density, **{m: spread(curve[m][i] for curve in curves) for m in METHODS}}
        for i, density in enumerate(config.densities)
    ]
    dense = {
        kind: spread(summaries[kind, seed]["test"]["w"]["accuracy"] for seed in config.seeds)
        for kind in ("dessilbi", "sgd")
    }
    supports = [summaries["dessilbi", seed]["test"]["gamma"] for seed in config.seeds]
    path = config.results / f"{stem}.json"
    result = runner.write(
        path,
        f"dessilbi_density {name}",
        {
            "flags": [config.preset, config.flags, config.dessilbi],
            "seeds": list(config.seeds),
            "dense_test_accuracy": dense,
            "gamma_density": spread(support["density"] for support in supports),
            "gamma_test_accuracy": spread(support["accuracy"] for support in supports),
            "table": table,
            "train_seconds": {
                f"{kind}-seed{seed}": summary["train_seconds"]
                for (kind, seed), summary in summaries.items()
            },
        },
        summaries.values(),
    )
    draw(path.with_suffix(".png"), table, dense)
    print("\ndensity  " + "  ".join(f"{label:>42s}" for label in METHODS.values()))
    for row in table:
        means = "  ".join(f"{runner.text(row[method], '%'):>42s}" for method in METHODS)
        print(f"{row['density']:7.2f}  {means}")
    ours, sgd = (runner.text(accuracy, "%") for accuracy in dense.values())
    print(f"dense: DessiLBI {ours}, SGD {sgd}")
    print(path)
    return result


def accuracies(config, out, seed):
    """Test accuracy of the three methods at every density: {method: list}."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings, data_set, ours = loop.load(out / f"dessilbi-seed{seed}", device=device)
    _, _, sgd = loop.load(out / f"sgd-seed{seed}", device=device)
    train_images = batches.on_device(data_set.train, device)
    test = batches.on_device(data_set.test, device)
    normalise = batches.normalisation(train_images, settings.standardise)
    curves = {method: [] for method in METHODS}
    for density in config.densities:
        path_masks = structure.masks_at(ours.optimizer, density)
        for method, trained, masks in (
            ("dessilbi", ours, path_masks),
            ("dessilbi_magnitude", ours, magnitude_masks(ours.model, path_masks)),
            ("sgd_magnitude", sgd, magnitude_masks(sgd.model, path_masks)),
        ):
            accuracy = dessilbi.masked_accuracy(
                trained.model, masks, train_images, test, normalise, settings.augment
            )
            curves[method].append(accuracy)
    return curves


def magnitude_masks(model, like):
    """The largest weights over all tensors named in `like`, as many as `like` keeps."""
    return masking.largest(dict(model.named_parameters()), like)


def draw(path, table, dense):
    """Accuracy against density, and a second panel of the error on logarithmic axes."""
    with figure(path, 1, 2, size=(WIDTH, 3.1)) as (made, axes):
        densities = [row["density"] for row in table]
        for method, label in METHODS.items():
            means = [100 * row[method]["mean"] for row in table]
            spreads = [100 * (row[method]["std"] or 0) for row in table]
            style = {"label": label, "capsize": 2, "marker": ".", "color": METHOD_COLOURS[method]}
            axes[0].errorbar(densities, means, spreads, **style)
            axes[1].errorbar(densities, [100 - m for m in means], spreads, **style)
        axes[0].set(xlabel="density: nonzero / all", ylabel="test accuracy in %")
        axes[1].set(xlabel="density: nonzero / all", ylabel="test error in %")
        accuracy = 100 * dense["sgd"]["mean"]
        for axis, level in zip(axes, (accuracy, 100 - accuracy), strict=True):
            axis.axhline(level, color=GREY, linestyle=":", label="SGD's network, dense")
        logarithmic(axes[1], "x")
        logarithmic(axes[1], "y")
        legend(made, axes, loc="outside lower center", ncols=2)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
