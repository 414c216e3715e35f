"""Wrong labels of CIFAR-10, features from a network that learned these same wrong labels.

    python -m experiments.robust_labels_cifar10 --data-dir DIR     15 minutes on one CPU core

45,000 training images, 20, 40, 60 or 80 % of their labels any other class (symmetric), or 40 % the
next class (pair). A small CNN (experiments/small_cnn.py) is trained on them for three epochs and
knows nothing else; its 128 neurons are the features of all methods of label_rivals.METHODS, and its
own loss is one more. None is told how many labels are wrong; the rows "half of each class" keep as
many as the path publishes (Wang, Sun, Fu 2022), by the path and by the network's loss. Test: 2,000
images, right labels, a logistic regression and five neighbours on the features of what is kept.
Symmetric 40 % has three seeds, the others one. Seconds: of NoisyLabelSelector on all 45,000 rows.
Results: experiments/results/robust_labels_cifar10.json and .png; a killed run goes on in --out.

Expected, symmetric 40 %: the network's loss, small loss, confident learning and one least-squares
residual rank wrong labels as well as the path (AUC 94 %); of half of each class 6 % are wrong by
either. Knockoffs keep 31 % of which 2 % are wrong. Logistic regression on the features gains
nothing from any of it (67 % with all labels and with the right ones alone); five neighbours do, 53
to 66 or 67 %. Pair flips, one seed: the path is clearly
ahead of small loss (AUC 80 and 69 %), and logistic regression has 68 % on what it keeps, 69 % on
what knockoffs keep, 60 % after small loss, 59 % with all labels. At 80 % the network learns nothing
in three epochs, and nobody finds anything. The selector: 8 seconds for 45,000 rows.
"""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from experiments import robust_labels, runner
from experiments.small_cnn import SmallCnn
from groundfloor import checks, cli
from groundfloor.checks import Count, Seed
from groundfloor.data import datasets
from groundfloor.runs import Progress, Run, spread
from optim_torch.robust import label_rivals
from optim_torch.robust.labels import NoisyLabelSelector

MAIN = ("symmetric", 0.4)  # what has all seeds


@dataclass(frozen=True)
class Config(checks.Settings):
    """The images, and the seeds."""

    data_dir: Path | None = None
    """Folder with CIFAR-10; default $FUNCTA_DATA or ~/.cache/functa."""
    images: Count | None = None
    """At most this many of train and test; none uses all."""
    tests: Count = 2000
    """Test images."""
    epochs: Count = 3
    """Of the network."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Of symmetric 40 %; the others have the first one."""
    out: Path = Path("runs/robust_labels_cifar10")
    """Folder for what is done."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""


def main(config):
    """All methods on all kinds of wrong labels; returns what the JSON holds."""
    data = datasets.load("cifar10", config.data_dir, images=config.images)
    settings = {"tests": config.tests, "epochs": config.epochs}
    run = Run(config.out, settings, data_fingerprint=[data.fingerprint, len(data.train)])
    cells = [(*MAIN, seed) for seed in config.seeds]
    cells += [(*kind, config.seeds[0]) for kind in robust_labels.FLIPS if kind != MAIN]
    done = [tuple(row["cell"]) for row in run.rows()]
    left = [cell for cell in cells if cell not in done]
    with Progress(len(cells), "network", start=len(cells) - len(left)) as progress:
        for cell in left:
            run.log(cell=cell, **measured(config, data, *cell))
            progress.advance(1)
    wanted = [row for row in run.rows() if tuple(row["cell"]) in cells]
    table = robust_labels.over_seeds([line for row in wanted for line in row["lines"]])
    facts = {
        "images": len(data.train),
        "seeds": list(config.seeds),
        "network_test_accuracy": {
            f"{row['cell'][0]} {row['cell'][1]:.0%}, seed {row['cell'][2]}": row["network"]
            for row in wanted
        },
        "selector_seconds": spread(row["seconds"] for row in wanted),
        "table": table,
    }
    target = config.results / "robust_labels_cifar10.json"
    result = runner.write(target, "robust_labels_cifar10", facts, [run.environment])
    robust_labels.draw(target.with_suffix(".png"), table, "logistic", "logistic regression")
    robust_labels.show(table)
    print(f"{target}; selector: {runner.text(facts['selector_seconds'])} s")
    return result


def measured(config, data, flips, share, seed):
    """Lines of all methods on one kind of wrong labels, seconds, the network's test accuracy."""
    truth, random = data.train.labels, np.random.default_rng(seed)
    codes = label_rivals.flipped(truth, data.num_classes, share, flips, random)
    network = SmallCnn(data.train.images, codes, config.epochs, seed)
    features = network.features(data.train.images)
    test = network.features(data.test.images[: config.tests])
    test_codes = data.test.labels[: config.tests]
    scale = features.std()
    losses = -network.log_probabilities(features)[np.arange(len(codes)), codes]
    favoured = network.log_probabilities(features).argmax(1)
    began = perf_counter()
    halved = NoisyLabelSelector(keep=0.5).fit(features / scale, codes)
    seconds = perf_counter() - began
    entered = label_rivals.suspicion_of(halved.order_)
    methods = label_rivals.METHODS | {
        "loss of the network": lambda *_: (losses, favoured != codes),
        "path, half of each class": lambda *_: (entered, ~halved.clean_),
        "loss, half of each class": lambda *_: (losses, upper_half(losses, codes)),
    }
    arrays = features / scale, codes, truth, test / scale, test_codes
    lines = label_rivals.compare(*arrays, methods, seed)
    about = {"labels": f"{flips} {share:.0%}", "features": "CNN"}
    right = network.log_probabilities(test).argmax(1) == test_codes
    return {
        "lines": [about | line for line in lines],
        "seconds": seconds,
        "network": float(right.mean()),
    }


def upper_half(losses, codes):
    """Mask of the half of each class whose loss is larger; among equals the last ones."""
    upper = np.zeros(len(codes), bool)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        kept = max(1, round(0.5 * len(rows)))
        upper[rows[np.argsort(losses[rows], kind="stable")[kept:]]] = True
    return upper


if __name__ == "__main__":
    cli.run(main, Config)
