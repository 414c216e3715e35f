"""Does DessiLBI end at the density that was asked for, and how good is what it keeps?

    python -m experiments.dessilbi_target --jobs 2                12 minutes on 2 CPU cores
    python -m experiments.dessilbi_target --targets 0.02 0.05 0.2 --jobs 2      not yet run
    python -m experiments.dessilbi_target cifar10 --jobs 2         70 minutes on 2 CPU cores a seed

Every weight its own group, nothing retrained; λ follows the gap between Γ's density and the target,
so that W trains around the support that is evaluated. Beside it the network that SGD trains as
long at the same rates and decay: dense, and with as many of its largest weights. One DessiLBI path
for all densities is in dessilbi_density; here each density is a run of its own.

mnist: LeNet. cifar10: ResNet-20, 24 epochs of crops and mirror images, cosine. All train images;
nothing was tuned for the targets; test is looked at once. Fu et al. 2020 trained ResNet-20 for 160
epochs. Expected: densities within half a point; on CIFAR-10 90 % for W, one point less on supp Γ.
Results: dessilbi_target_NAME.json.
"""

import shlex
from dataclasses import dataclass

import torch

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.checks import Flags, InnerShare
from groundfloor.pytorch import batches, masking
from groundfloor.runs import spread
from optim_torch.training import build, loop


@dataclass(frozen=True, kw_only=True)
class Config(dessilbi.DessilbiConfig):
    """Which runs, and the densities asked for."""

    dessilbi: Flags
    """More flags of DessiLBI's runs."""
    targets: tuple[InnerShare, ...] = (0.1,)
    """Nonzero parameters / all parameters."""


PRESETS = {
    "mnist": Config(
        preset="mnist-lenet",
        flags="--val-fraction 0 --epochs 12 --drop-every 8",
        dessilbi="--penalty l1 --nu 100 --threshold 0.1 --lr-gamma 0.3",
    ),
    "cifar10": Config(
        preset="cifar10-resnet",
        flags="--model resnet20 --schedule cosine --weight-decay 0.0005 --val-fraction 0 "
        "--epochs 24",
        dessilbi="--penalty l1 --no-scale-by-size --nu 100 --lr-gamma 0.3",
        targets=(0.3,),
        seeds=(0,),
    ),
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"dessilbi_target_{name}"
    out = config.folder(stem)
    words = {
        (f"target{target:g}", seed): [*shlex.split(config.dessilbi), "--target-density", target]
        for target in config.targets
        for seed in config.seeds
    } | {("sgd", seed): dessilbi.SGD for seed in config.seeds}
    summaries = dessilbi.train(config, out, words)
    rows = []
    for target in config.targets:
        tests = [summaries[f"target{target:g}", seed]["test"] for seed in config.seeds]
        rivals = [
            magnitude(out / f"sgd-seed{seed}", test["w_on_support"]["density"])
            for seed, test in zip(config.seeds, tests, strict=True)
        ]
        rows.append(
            {
                "target": target,
                "density": spread(test["w_on_support"]["density"] for test in tests),
                **{
                    weights: spread(test[weights]["accuracy"] for test in tests)
                    for weights in ("w", "w_on_support", "gamma")
                },
                "sgd_magnitude": spread(rivals),
            }
        )
        print(f"{target:g}: {runner.text(rows[-1]['w_on_support'], '%')} on supp Γ")
    dense = spread(summaries["sgd", seed]["test"]["w"]["accuracy"] for seed in config.seeds)
    facts = {
        "flags": [config.preset, config.flags, config.dessilbi],
        "seeds": list(config.seeds),
        "sgd_test_accuracy": dense,
        "rows": [row | {"sgd": dense} for row in rows],
        "train_seconds": {
            f"{kind}-seed{seed}": summary["train_seconds"]
            for (kind, seed), summary in summaries.items()
        },
    }
    path = config.results / f"{stem}.json"
    return runner.write(path, f"dessilbi_target {name}", facts, summaries.values())


def magnitude(folder, density):
    """Test accuracy of a run's network with its largest weights alone, at a density (nonzero / all
    parameters)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config, data_set, trained = loop.load(folder, device=device)
    images, test = (batches.on_device(part, device) for part in (data_set.train, data_set.test))
    normalise = batches.normalisation(images, config.standardise)
    named = dict(trained.model.named_parameters())
    sizes = {n: named[n].detach().abs() for n in build.penalised_names(config, trained.model)}
    total = sum(p.numel() for p in named.values())
    kept_anyway = total - sum(size.numel() for size in sizes.values())
    masks = masking.top_masks(sizes, round(density * total) - kept_anyway)
    return dessilbi.masked_accuracy(trained.model, masks, images, test, normalise, config.augment)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
