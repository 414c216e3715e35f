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
from pathlib import Path

import torch

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Count, Flags, PositiveShare, Seed
from groundfloor.plots import figure
from groundfloor.pytorch import batches
from groundfloor.runs import environment, spread, write_json
from optim_torch.dessilbi import structure
from optim_torch.training import evaluate, loop

METHODS = {
    "dessilbi": "DessiLBI, one path: entry time, then |V|",
    "dessilbi_magnitude": "magnitude of DessiLBI's W",
    "sgd_magnitude": "magnitude of SGD's W",
}


@dataclass(frozen=True)
class Config:
    """Which runs, and at which densities."""

    preset: str
    """Preset of optim_torch.train."""
    flags: Flags
    """More flags of both runs, as one string."""
    dessilbi: str
    """More flags of DessiLBI's run."""
    densities: tuple[PositiveShare, ...] = (
        0.01,
        0.02,
        0.05,
        *(round(0.1 * i, 1) for i in range(1, 10)),
    )
    """Nonzero parameters / all parameters."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of each."""
    jobs: Count = 1
    """Runs side by side."""
    out: Path | None = None
    """Folder for the runs; default runs/dessilbi_density_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""

    def __post_init__(self):
        checks.check(self)


PRESETS = {
    "mnist": Config(
        "mnist-lenet",
        "--val-fraction 0 --epochs 12 --drop-every 8",
        "--penalty l1 --nu 100 --threshold 0.1 --lr-gamma 0.3",
    ),
    "cifar10": Config("cifar10-resnet", "--val-fraction 0", "--penalty l1 --threshold 0.01"),
}


def main(config, name):
    """Run what is missing, evaluate every density, write and print the table."""
    out = config.out or Path("runs") / f"dessilbi_density_{name}"
    commands = {}
    for seed in config.seeds:
        words = ["optim_torch.train", config.preset, *shlex.split(config.flags), "--seed", seed]
        commands[out / f"dessilbi-seed{seed}"] = [*words, *shlex.split(config.dessilbi)]
        commands[out / f"sgd-seed{seed}"] = [*words, "--optimizer", "sgd"]
    summaries = runner.all_finished(commands, config.jobs)
    curves = {method: [] for method in METHODS}  # of each seed, a list over densities
    for seed in config.seeds:
        for method, found in accuracies(config, out, seed).items():
            curves[method].append(found)
    table = [
        {
            "density": density,
            **{m: spread(curve[i] for curve in curves[m]) for m in METHODS},
        }
        for i, density in enumerate(config.densities)
    ]
    dense = {
        kind: spread(
            summaries[out / f"{kind}-seed{seed}"]["test"]["w"]["accuracy"] for seed in config.seeds
        )
        for kind in ("dessilbi", "sgd")
    }
    supports = [summaries[out / f"dessilbi-seed{s}"]["test"]["gamma"] for s in config.seeds]
    path = config.results / f"dessilbi_density_{name}.json"
    write_json(
        path,
        {
            "command": f"python -m experiments.dessilbi_density {name}",
            "flags": [config.preset, config.flags, config.dessilbi],
            "seeds": list(config.seeds),
            "dense_test_accuracy": dense,
            "gamma_density": spread(row["density"] for row in supports),
            "gamma_test_accuracy": spread(row["accuracy"] for row in supports),
            "table": table,
            "train_seconds": {str(k.name): s["train_seconds"] for k, s in summaries.items()},
            **environment(),
        },
    )
    draw(path.with_suffix(".png"), table, dense)
    print("\ndensity  " + "  ".join(f"{METHODS[m]:>42s}" for m in METHODS))
    for row in table:
        print(
            f"{row['density']:7.2f}  "
            + "  ".join(f"{runner.percent(row[m]):>42s}" for m in METHODS)
        )
    print(
        f"dense: DessiLBI {runner.percent(dense['dessilbi'])}, SGD {runner.percent(dense['sgd'])}"
    )
    print(path)


def accuracies(config, out, seed):
    """Test accuracy of the three methods at every density: {method: list}."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings, data_set, ours = loop.load(out / f"dessilbi-seed{seed}", device=device)
    _, _, sgd = loop.load(out / f"sgd-seed{seed}", device=device)
    train_images = batches.on_device(data_set.train, device)
    test = batches.on_device(data_set.test, device)
    normalise = batches.normalisation(train_images, settings.standardise)
    found = {method: [] for method in METHODS}
    for density in config.densities:
        path_masks = structure.masks_at(ours.optimizer, density)
        for method, trained, masks in (
            ("dessilbi", ours, path_masks),
            ("dessilbi_magnitude", ours, magnitude_masks(ours.model, path_masks)),
            ("sgd_magnitude", sgd, magnitude_masks(sgd.model, path_masks)),
        ):
            model, named = trained.model, dict(trained.model.named_parameters())
            weights = {name: named[name].detach() * mask for name, mask in masks.items()}
            with (
                structure.exchanged(named, weights),
                evaluate.recalibrated(model, train_images, normalise),
            ):
                found[method].append(evaluate.accuracy(model, test, normalise))
    return found


def magnitude_masks(model, like):
    """The largest weights over all tensors named in `like`, as many as `like` keeps."""
    weights = {name: model.get_parameter(name).detach().abs() for name in like}
    flat = torch.cat([weight.flatten() for weight in weights.values()])
    count = sum(int(mask.sum()) for mask in like.values())
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.topk(count).indices] = True
    parts = chosen.split([weight.numel() for weight in weights.values()])
    return {n: part.view_as(weights[n]) for n, part in zip(weights, parts, strict=True)}


def draw(path, table, dense):
    """Accuracy against density, and a second panel of the error on logarithmic axes."""
    with figure(path, 1, 2, size=(8.4, 3.2)) as (_, axes):
        densities = [row["density"] for row in table]
        for method, label in METHODS.items():
            means = [100 * row[method]["mean"] for row in table]
            spreads = [100 * (row[method]["std"] or 0) for row in table]
            axes[0].errorbar(densities, means, spreads, label=label, capsize=2, marker=".")
            axes[1].errorbar(
                densities, [100 - m for m in means], spreads, label=label, capsize=2, marker="."
            )
        axes[0].set(xlabel="density", ylabel="test accuracy in %")
        axes[1].set(xlabel="density", ylabel="test error in %", xscale="log", yscale="log")
        axes[1].axhline(100 - 100 * dense["sgd"]["mean"], color="gray", linestyle=":")
        axes[0].legend(fontsize=7)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
