"""What does DessiLBI find with Adam and others moving W, and why does Γ need a clock of its own?

    python -m experiments.dessilbi_bases --jobs 2        25 minutes on 2 CPU cores
    python -m experiments.dessilbi_bases cifar10         on a GPU; not yet run

Assignment 4.3 of 2023: change the update of W, keep that of Γ, report accuracy and structure. Γ on
every layer, by filter and by entry. V moves by lr / ν: at Adam's rate of 0.001 and ν = 20 a weight
would have to stay above 14 for these epochs to pass the threshold, so Γ stays empty
("adam, lr as clock"). With lr_gamma = 0.1 it moves as in the paper, yet the pull of W to Γ keeps
the strength lr / ν; a hundred times smaller ν gives both their strength back ("adam, small ν":
0.2 for MNIST's 20).

Rates are the usual ones of each optimizer, not tuned. All 60,000 train images; test is looked at
once. Results: dessilbi_bases_NAME.json, .png.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.plots import figure
from common.runs import environment, write_json
from experiments import runner

OWN_CLOCK = "--lr-gamma 0.1"
VARIANTS = {  # name: flags
    "sgd": "--base sgd --lr 0.1",
    "adam, lr as clock": "--base adam --lr 0.001",
    "adam": f"--base adam --lr 0.001 {OWN_CLOCK}",
    "adam, coupled": f"--base adam --lr 0.001 {OWN_CLOCK} --coupling coupled",
    "adam, small ν": "--base adam --lr 0.001 --nu 0.2",
    "adam, Γ by Adam": "--base adam --lr 0.001 --lr-gamma 0.002 --gamma-adaptive",
    "adamw": f"--base adamw --lr 0.001 --weight-decay 0.01 {OWN_CLOCK}",
    "radam": f"--base radam --lr 0.001 {OWN_CLOCK}",
    "rmsprop": f"--base rmsprop --lr 0.001 --momentum 0 {OWN_CLOCK}",
    "adagrad": f"--base adagrad --lr 0.01 {OWN_CLOCK}",
}
NAMES = {"w": "W", "w_on_support": "W on supp Γ", "gamma": "Γ"}


@dataclass(frozen=True)
class Config:
    """Which runs."""

    preset: str
    """Preset of optim_torch.train."""
    flags: str
    """More flags of all runs, as one string."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each."""
    jobs: int = 1
    """Runs side by side."""
    out: Path | None = None
    """Folder for the runs; default runs/dessilbi_bases_NAME."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""


PRESETS = {
    "mnist": Config("mnist-lenet", "--val-fraction 0 --epochs 3 --schedule constant"),
    "cifar10": Config("cifar10-resnet", "--val-fraction 0 --epochs 60 --drop-every 25"),
}


def main(config, name):
    """Run what is missing, then write, draw and print the table."""
    out = config.out or Path("runs") / f"dessilbi_bases_{name}"
    commands = {}
    for number, flags in enumerate(VARIANTS.values()):
        for seed in config.seeds:
            words = ["optim_torch.train", config.preset, *shlex.split(config.flags)]
            commands[out / f"{number:02d}-seed{seed}"] = [
                *[*words, *shlex.split(flags), "--seed", seed]
            ]
    summaries = runner.all_finished(commands, config.jobs)
    table = []
    for number, (variant, flags) in enumerate(VARIANTS.items()):
        runs = [summaries[out / f"{number:02d}-seed{seed}"] for seed in config.seeds]
        table.append(
            {
                "variant": variant,
                "flags": flags,
                **{n: runner.spread(run["test"][n]["accuracy"] for run in runs) for n in NAMES},
                "density": runner.spread(run["test"]["gamma"]["density"] for run in runs),
                "layers": {
                    row["layer"]: runner.spread(
                        next(r["density"] for r in run["layers"] if r["layer"] == row["layer"])
                        for run in runs
                    )
                    for row in runs[0]["layers"]
                },
                "clock": runs[0]["clock"],
            }
        )
    path = config.results / f"dessilbi_bases_{name}.json"
    write_json(
        path,
        {
            "command": f"python -m experiments.dessilbi_bases {name}",
            "flags": [config.preset, config.flags],
            "seeds": list(config.seeds),
            "table": table,
            **environment(),
        },
    )
    draw(path.with_suffix(".png"), table)
    print(
        f"\n{'variant':18s} " + "".join(f"{label:>18s}" for label in NAMES.values()) + "   density"
    )
    for row in table:
        cells = "".join(f"{runner.percent(row[n]):>18s}" for n in NAMES)
        print(f"{row['variant']:18s} {cells}   {row['density']['mean']:.3f}")
    print(path)


def draw(path, table):
    """Accuracy of the three sets of weights, and the density of every layer, for each variant."""
    with figure(path, 1, 2, size=(9.5, 0.8 + 0.33 * len(table)), sharey=True) as (made, axes):
        positions = range(len(table))[::-1]
        for (name, label), marker in zip(NAMES.items(), "os^", strict=True):
            axes[0].errorbar(
                [100 * row[name]["mean"] for row in table],
                positions,
                xerr=[100 * (row[name]["std"] or 0) for row in table],
                fmt=marker,
                label=label,
                markersize=4,
            )
        axes[0].set_yticks(positions, [row["variant"] for row in table])
        axes[0].set(xlabel="test accuracy in %")
        axes[0].legend(fontsize=7)
        layers = list(table[0]["layers"])
        shares = [[row["layers"][layer]["mean"] for layer in layers] for row in table[::-1]]
        image = axes[1].imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto", origin="lower")
        if len(layers) <= 8:
            axes[1].set_xticks(range(len(layers)), [x.removesuffix(".weight") for x in layers])
            for y, row in enumerate(shares):
                for x, share in enumerate(row):
                    colour = "white" if share > 0.6 else "black"
                    text = {"ha": "center", "va": "center", "fontsize": 7, "color": colour}
                    axes[1].text(x, y, f"{share:.2f}", **text)
        axes[1].grid(visible=False)
        made.colorbar(image, label="share of entries on supp Γ")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
