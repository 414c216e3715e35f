"""Does DessiLBI end at the density that was asked for, and how good is what it keeps?

    python -m experiments.dessilbi_target --jobs 2                 9 minutes on 2 CPU cores
    python -m experiments.dessilbi_target --targets 0.02 0.05 0.2 --jobs 2      not yet run

LeNet on MNIST, as in dessilbi_density, every weight its own group, nothing retrained; but λ follows
the gap between Γ's density and the target, so that W trains around the support that is evaluated.
There one path serves all densities: its order keeps 87.8 % at density 0.1, the magnitude of
DessiLBI's W 98.66 %. Here each density is a run of its own. All 60,000 train images; nothing was
tuned for the targets; test is looked at once.
Expected: densities within half a point. Results: dessilbi_target_mnist.json.
"""

import shlex
from dataclasses import dataclass

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.checks import Flags, InnerShare
from groundfloor.runs import spread


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
    )
}


def main(config, name):
    """Run what is missing, then write and print the table; returns what the JSON holds."""
    stem = f"dessilbi_target_{name}"
    words = {
        (f"target{target:g}", seed): [*shlex.split(config.dessilbi), "--target-density", target]
        for target in config.targets
        for seed in config.seeds
    }
    summaries = dessilbi.train(config, config.folder(stem), words)
    rows = []
    for target in config.targets:
        tests = [summaries[f"target{target:g}", seed]["test"] for seed in config.seeds]
        rows.append(
            {
                "target": target,
                "density": spread(test["w_on_support"]["density"] for test in tests),
                **{
                    weights: spread(test[weights]["accuracy"] for test in tests)
                    for weights in ("w", "w_on_support", "gamma")
                },
            }
        )
        print(f"{target:g}: {runner.text(rows[-1]['w_on_support'], '%')} on supp Γ")
    settings = {
        "flags": [config.preset, config.flags, config.dessilbi],
        "seeds": list(config.seeds),
    }
    path = config.results / f"{stem}.json"
    facts = {**settings, "rows": rows}
    return runner.write(path, f"dessilbi_target {name}", facts, summaries.values())


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
