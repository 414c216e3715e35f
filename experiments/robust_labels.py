"""Which method finds wrong labels on MNIST, and what is learned without them?

    python -m experiments.robust_labels --data-dir DIR      4 minutes on one CPU core

4,000 training images, 20, 40, 60 or 80 % of their labels any other class (symmetric), or 40 % the
next class (pair); three seeds. All methods see the same features, 50 principal components of the
pixels or 200 of a Gaussian kernel (Nystroem), and none is told how many labels are wrong:
optim_torch/robust/label_rivals.py. Test: 2,000 images, right labels, two classifiers trained on
what is kept. Results: experiments/results/robust_labels.json and .png.

Expected. All are near each other where errors are symmetric, up to 60 % (AUC 95 to 99 %, knockoffs
from 92 on), and one least-squares residual is as good as the path; at 80 % small loss and confident
learning lead on kernel features (90 against 81 %). Where errors go to the next class the path is
ahead on kernel features (87; knockoffs 85, others 84, 74, 74 %), knockoffs on those of PCA (87, the
path 82), and neighbours trained without its suspects reach 89 % (64
with all labels). Knockoffs keep less than their 10 % of wrong labels throughout, pair flips
included, for which they promise nothing; at 60 % symmetric they keep almost nothing, as their
docstring says. Logistic regression on all labels is hard to beat at 20 %; neighbours gain from
nearly every method.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from sklearn.decomposition import PCA

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import LARGEST, Interval, Seed
from groundfloor.data import datasets
from groundfloor.plots import WIDTH, figure, legend, many
from groundfloor.runs import Progress
from optim_torch.robust import label_rivals

FLIPS = (
    ("symmetric", 0.2),
    ("symmetric", 0.4),
    ("symmetric", 0.6),
    ("symmetric", 0.8),
    ("pair", 0.4),
)
FEATURES = {"pca": 50, "kernel": 200}
KEYS = ("precision", "recall", "auc", "kept", "wrong_kept", "logistic", "neighbours")


@dataclass(frozen=True)
class Config(checks.Settings):
    """The images, and the seeds."""

    data_dir: Path | None = None
    """Folder with MNIST; default $FUNCTA_DATA or ~/.cache/functa."""
    images: Annotated[int, Interval(max(FEATURES.values()), LARGEST)] = 4000
    """Training images; half as many of test, or all."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of flips, features and methods."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""


def main(config):
    """All methods on all kinds of wrong labels; returns what the JSON holds."""
    data_set = datasets.load("mnist", config.data_dir, images=config.images, val_fraction=0)
    rows = []
    with Progress(len(config.seeds) * len(FEATURES) * len(FLIPS), "data set") as progress:
        for seed in config.seeds:
            for kind in FEATURES:
                tests = min(config.images // 2, len(data_set.test))
                train, test = features(data_set, kind, tests, seed)
                for flips, share in FLIPS:
                    rows += cell(data_set, train, test, flips, share, kind, seed)
                    progress.advance(1)
    table = over_seeds(rows)
    facts = {"images": config.images, "seeds": list(config.seeds), "table": table}
    target = config.results / "robust_labels.json"
    result = runner.write(target, "robust_labels", facts)
    kernel = [row for row in table if row["features"] == "kernel"]
    draw(target.with_suffix(".png"), kernel, "neighbours", "5 neighbours")
    show(table)
    print(target)
    return result


def show(table):
    """Print a line for each row."""
    for row in table:
        told = "  ".join(f"{key} {runner.text(row[key], '%')}" for key in KEYS if key in row)
        print(f"{row['labels']:14s} {row['features']:6s} {row['method']:24s} {told}")


def features(data_set, kind, tests, seed):
    """Features of train (n, d) and of the first `tests` test images."""
    train = data_set.train.images.reshape(len(data_set.train), -1) / np.float32(255)
    test = data_set.test.images[:tests].reshape(tests, -1) / np.float32(255)
    if kind == "kernel":
        return label_rivals.kernel_features(train, test, FEATURES[kind], seed)
    pca = PCA(FEATURES[kind], random_state=seed).fit(train)
    return pca.transform(train), pca.transform(test)


def cell(data_set, train, test, flips, share, kind, seed):
    """The rows of all methods on one kind of wrong labels."""
    truth, random = data_set.train.labels, np.random.default_rng(seed)
    codes = label_rivals.flipped(truth, data_set.num_classes, share, flips, random)
    test_codes = data_set.test.labels[: len(test)]
    methods = label_rivals.METHODS
    rows = label_rivals.compare(train, codes, truth, test, test_codes, methods, seed)
    return [{"labels": f"{flips} {share:.0%}", "features": kind, **row} for row in rows]


def over_seeds(rows):
    """Mean and standard deviation over seeds, a row for each kind of labels, features, method."""
    groups = {}
    for row in rows:
        groups.setdefault((row["labels"], row["features"], row["method"]), []).append(row)
    table = []
    for (labels, kind, method), own in sorted(groups.items(), key=lambda group: group[0][:2]):
        line = {"labels": labels, "features": kind, "method": method}
        for key in KEYS:
            found = runner.spread_of_known([row.get(key) for row in own])
            if found:
                line[key] = found
        table.append(line)
    return table


def draw(target, own, key_after, after):
    """AUC, and test accuracy of a classifier, by kind of wrong labels.

    own: rows of the table, with the same features. key_after, after: of the classifier, its name.
    """
    labels = list(dict.fromkeys(row["labels"] for row in own))
    with figure(target, columns=2, size=(WIDTH, 4)) as (picture, axes):
        for ax, key, title in zip(
            axes,
            ("auc", key_after),
            ("wrong labels ranked first: AUC in %", f"test accuracy in %, {after}"),
            strict=True,
        ):
            for number, method in enumerate(dict.fromkeys(row["method"] for row in own)):
                at = [row for row in own if row["method"] == method and key in row]
                if at:
                    x = [labels.index(row["labels"]) for row in at]
                    values = [100 * row[key]["mean"] for row in at]
                    errors = [100 * (row[key]["std"] or 0) for row in at]
                    style = {"label": method, "marker": "o", "ms": 3} | many(number)
                    if method in (label_rivals.ALL, label_rivals.RIGHT):
                        style["linestyle"] = ":"
                    ax.errorbar(x, values, errors, **style)
            ax.set(title=title, xticks=range(len(labels)))
            ax.set_xticklabels(labels, rotation=20)
        legend(picture, axes, loc="outside lower center", ncols=3)


if __name__ == "__main__":
    cli.run(main, Config)
