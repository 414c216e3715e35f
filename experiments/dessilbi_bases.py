"""What does DessiLBI find with Adam and others moving W, and why does Γ need a clock of its own?

    python -m experiments.dessilbi_bases --jobs 2        25 minutes on 2 CPU cores
    python -m experiments.dessilbi_bases cifar10         on a GPU; not yet run

Assignment 4.3 of 2023: change the update of W, keep that of Γ, report accuracy and structure.
Entries of every layer are selected one by one. Two numbers of the setting matter, each per step:
the pull of W to Γ, lr / ν, and V's clock, lr_gamma / ν. The paper's has one rate for both. At
Adam's 0.001 a weight would have to stay near 7 for these epochs to pass the threshold, so Γ stays
empty ("adam, lr as clock"); with lr_gamma as for SGD Γ fills, but W is hardly pulled ("adam, own
clock"). ν and lr_gamma in proportion to lr keep both numbers ("adam" and all other bases). A
coupled pull goes through Adam's moments, which make up for the rate themselves.

Rates are the usual ones of each optimizer, not tuned. All 60,000 train images; test is looked at
once. Results: dessilbi_bases_NAME.json, .png.
"""

import shlex

from experiments import dessilbi, runner
from groundfloor import cli
from groundfloor.plots import WIDTH, figure, legend, logarithmic
from groundfloor.runs import spread

SMALL = "--lr 0.001 --nu 1 --lr-gamma 0.003"  # SGD's numbers, lr / ν and lr_gamma / ν, again
VARIANTS = {  # name: flags
    "sgd": "--base sgd --lr 0.1 --nu 100 --lr-gamma 0.3",
    "adam, lr as clock": "--base adam --lr 0.001 --nu 100",
    "adam, own clock": "--base adam --lr 0.001 --nu 100 --lr-gamma 0.3",
    "adam": f"--base adam {SMALL}",
    "adam, coupled": "--base adam --lr 0.001 --nu 100 --lr-gamma 0.3 --coupling coupled",
    "adam, Γ by Adam": "--base adam --lr 0.001 --nu 1 --lr-gamma 0.0001 --gamma-adaptive",
    "adamw": f"--base adamw --weight-decay 0.01 {SMALL}",
    "radam": f"--base radam {SMALL}",
    "rmsprop": f"--base rmsprop --momentum 0 {SMALL}",
    "adagrad": "--base adagrad --lr 0.01 --nu 10 --lr-gamma 0.03",
}
NAMES = {"w": "W", "w_on_support": "W on supp Γ", "gamma": "Γ"}
Config = dessilbi.DessilbiConfig
PRESETS = {
    "mnist": Config(
        preset="mnist-lenet",
        flags="--val-fraction 0 --epochs 4 --drop-every 3 --penalty l1 --threshold 0.1",
    ),
    "cifar10": Config(
        preset="cifar10-resnet",
        flags="--val-fraction 0 --epochs 60 --drop-every 25 --penalty l1 --threshold 0.1 "
        "--no-scale-by-size",
    ),
}


def main(config, name):
    """Run what is missing, then write, draw and print the table; returns what the JSON holds."""
    stem = f"dessilbi_bases_{name}"
    numbers = {variant: f"{number:02d}" for number, variant in enumerate(VARIANTS)}
    words = {
        (numbers[variant], seed): shlex.split(flags)
        for variant, flags in VARIANTS.items()
        for seed in config.seeds
    }
    summaries = dessilbi.train(config, config.folder(stem), words)
    table = [
        row(variant, [summaries[number, seed] for seed in config.seeds])
        for variant, number in numbers.items()
    ]
    path = config.results / f"{stem}.json"
    settings = {"flags": [config.preset, config.flags], "seeds": list(config.seeds)}
    facts = {**settings, "table": table}
    result = runner.write(path, f"dessilbi_bases {name}", facts, summaries.values())
    draw(path.with_suffix(".png"), table)
    heads = "".join(f"{label:>18s}" for label in NAMES.values())
    print(f"\n{'variant':18s} {heads}   density")
    for line in table:
        accuracies = "".join(f"{runner.text(line[name], '%'):>18s}" for name in NAMES)
        print(f"{line['variant']:18s} {accuracies}   {line['density']['mean']:.3f}")
    print(path)
    return result


def row(variant, runs):
    """A row of the table, from the summaries of a variant's seeds."""
    layers = {
        layer["layer"]: spread(run["layers"][number]["density"] for run in runs)
        for number, layer in enumerate(runs[0]["layers"])
    }
    return {
        "variant": variant,
        "flags": VARIANTS[variant],
        **{name: spread(run["test"][name]["accuracy"] for run in runs) for name in NAMES},
        "density": spread(run["test"]["gamma"]["density"] for run in runs),
        "layers": layers,
        "clock": runs[0]["clock"],
    }


def draw(path, table):
    """Error of the three sets of weights, and the density of every layer, for each variant."""
    with figure(path, 1, 2, size=(WIDTH, 1 + 0.28 * len(table)), sharey=True) as (picture, axes):
        positions = range(len(table))[::-1]
        for (name, label), marker in zip(NAMES.items(), "os^", strict=True):
            axes[0].errorbar(
                [100 * (1 - row[name]["mean"]) for row in table],
                positions,
                xerr=[100 * (row[name]["std"] or 0) for row in table],
                fmt=marker,
                label=label,
                markersize=4,
            )
        axes[0].set_yticks(positions, [row["variant"] for row in table])
        axes[0].set(xlabel="test error in %")
        logarithmic(axes[0], "x")
        legend(picture, axes[0], loc="outside lower center", ncols=3)
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
        picture.colorbar(image, label="share of entries on supp Γ")


if __name__ == "__main__":
    cli.run(main, Config, PRESETS)
