"""How accurate is a Vision Transformer at densities 0.1 ... 0.9, method by method?

    python -m experiments.prune_sweep digits           an hour of one CPU core
    python -m experiments.prune_sweep cifar10-small    a day on 2 CPU cores; not yet run whole
    python -m experiments.prune_sweep cifar10-groups   methods that cut out heads and neurons,
                                                       three hours of one CPU core
    python -m experiments.prune_sweep cifar10-tiny     on a GPU; not yet run
    python -m experiments.prune_sweep cifar10-in21k    on a GPU, with timm's weights; not yet run

The same dense network, steps, batches and seeds for all methods; test is looked at once a cell.
prune_cifar10-small.* hold what there is so far: five methods at 0.1, 0.3 and 0.5.
Magnitude and DessiLBI once more with the dense network as teacher (cifar10-small: the best five,
`--taught ...`, when they are known). The dense network of cifar10-small comes with the package, or
is trained first (experiments.prune_dense). prune_cifar10-first.* are results of 26 November 2026 of
an older preset: a network of 308,042 parameters, 6,000 steps of 64 images, 300 a cell, one seed.
The cells' rate was chosen on validation, magnitude at 0.5 after 120 steps: 80.8, 81.8 and 81.7 % at
1e-4, 5e-4 and 2e-3 (seed 0). A cell of 250 steps takes 4 minutes of a core.
Published dense anchors of ViTs from ImageNet-21k on CIFAR-10: B/16 98.6-99.1 %, S/16 98.4-98.8 %.
Results: prune_NAME.csv, one row a cell, prune_NAME.json, and its pictures prune_NAME_*.png.
"""

from dataclasses import dataclass

from experiments import runner
from groundfloor import cli


@dataclass(frozen=True, kw_only=True)
class Config(runner.PresetConfig):
    """Which sweep."""

    taught: tuple[str, ...] = ("magnitude", "dessilbi")
    """Methods that run with distillation, too."""


CPU = (  # methods in order of interest, should a day not be enough
    "--methods unpruned magnitude dessilbi gradual l1 sparsegpt wanda-refit oats movement "
    "supermask compensated group-lasso group-envelope relevance lora magnitude-refit sparsegpt-owl "
    "magnitude-late random random-search norms-only rigl "
    "--densities 0.1 0.3 0.5 0.2 0.7 0.9 0.4 0.6 0.8 --steps 250 --jobs 2"
)
GROUPS = (
    "--methods magnitude compensated neurons group-lasso group-envelope "
    "--densities 0.3 0.5 0.7 --steps 250 --jobs 2"
)
PRESETS = {
    "digits": Config(flags="--methods all"),
    "cifar10-small": Config(flags=CPU, taught=()),
    "cifar10-groups": Config(flags=GROUPS, taught=(), preset="cifar10-small"),
    "cifar10-tiny": Config(),
    "cifar10-in21k": Config(seeds=(0,)),
}


def main(config, name):
    """Run what is missing, keep table and pictures; returns what the JSON holds."""
    out = config.folder(f"prune_sweep_{name}")
    command = ["prune_torch.sweep", config.preset or name, *config.words()]
    summary = runner.finished(command, out)
    if config.taught:
        taught = [*command, "--distil", 0.5, "--methods", *config.taught]
        summary = runner.finished(taught, out)
    return runner.keep(config, f"prune_{name}", f"prune_sweep {name}", out, summary)


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
