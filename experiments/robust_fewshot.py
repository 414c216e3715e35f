"""One or five labels a class: what do credible pseudo-labels add, on which features?

    python -m experiments.robust_fewshot --data-dir DIR      30 minutes on one CPU core

MNIST and CIFAR-10, 5-way, 15 queries a class, 600 episodes: 100 for each of three seeds and each
half of the ten classes, from test images. Features, less their mean over training images and then
of norm 1:
  functa   latents of the networks that lie in experiments/results, 64 and 8x8x16 numbers
  PCA      as many principal components of the pixels
  CNN      128 neurons of a network that learned the other five classes (experiments/small_cnn.py)
No feature knows a label of the five classes in play; functa and PCA were fitted to training images
of all ten, without labels. The queries are the unlabelled images (transductive). Each method has
the settings with the best mean on 10 episodes of the other five classes, validation images; those
of the CNN are chosen where its features are better than later. ± is a 95 % interval over the
episodes; gains are paired, method less logistic regression alone.
Results: experiments/results/robust_fewshot.json and .png; a killed run goes on in --out.

Expected. ICI gains what most confident first gains, or a little less, never more beyond the
interval: with one label on MNIST 5 to 8 % over logistic regression alone. LabelSpreading on functa
latents is best there (72 % with one label, 86 % with five), ahead of PCA and of the CNN. On
CIFAR-10 unlabelled images help nobody much: functa and PCA have 28 and 36 %, the CNN 44 and 54 %,
with ICI 44 and 55 %.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier

import functa_jax
from experiments import runner
from experiments.small_cnn import SmallCnn
from groundfloor import checks, cli, seeds
from groundfloor.checks import AtLeastTwo, Count, Seed
from groundfloor.data import datasets
from groundfloor.plots import WIDTH, figure, legend
from groundfloor.runs import Progress, Run
from optim_torch.robust.credibility import InstanceCredibility

FUNCTAS = {"mnist": "functa_mnist.npz", "cifar10": "functa_cifar10-spatial-cpu.npz"}
EPOCHS = {"mnist": 1, "cifar10": 3}  # of the network
HALVES = {"0 to 4": range(5), "5 to 9": range(5, 10)}
SHOTS, QUERIES = (1, 5), 15
FITTED = 10_000  # training images that PCA is fitted to
CENTRED = 2000  # training images whose features have mean 0
HELD = 1000  # validation images
C = (10.0, 100.0)


def logistic(c):
    return LogisticRegression(C=c, max_iter=300)


# Name of a method: a function that makes it, and the settings to choose from.
METHODS = {
    "logistic regression alone": (logistic, [(c,) for c in C]),
    "nearest centroid alone": (NearestCentroid, [()]),
    "ICI": (lambda c: InstanceCredibility(logistic(c)), [(c,) for c in C]),
    "most confident first": (
        lambda c: InstanceCredibility(logistic(c), order="confidence"),
        [(c,) for c in C],
    ),
    "SelfTrainingClassifier": (
        lambda c, threshold: SelfTrainingClassifier(logistic(c), threshold=threshold),
        [*itertools.product(C, (0.4, 0.7))],
    ),
    "LabelPropagation": (
        lambda gamma: LabelPropagation(gamma=gamma, max_iter=3000),
        [(gamma,) for gamma in (1, 3, 10, 30)],
    ),
    "LabelSpreading": (
        lambda gamma, alpha: LabelSpreading(gamma=gamma, alpha=alpha, max_iter=100),
        [*itertools.product((1, 3, 10, 30), (0.2, 0.8))],
    ),
}


@dataclass(frozen=True)
class Config(checks.Settings):
    """The data, the seeds, and how many episodes."""

    data_dir: Path | None = None
    """Folder with MNIST and CIFAR-10; default $FUNCTA_DATA or ~/.cache/functa."""
    datasets: tuple[str, ...] = ("mnist", "cifar10")
    """Which of the two."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of the CNN and of episodes."""
    episodes: AtLeastTwo = 100
    """For each seed and half of the classes."""
    choosing: Count = 10
    """Episodes that choose the settings, likewise."""
    out: Path = Path("runs/robust_fewshot")
    """Folder for the episodes that are done."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""

    def __post_init__(self):
        super().__post_init__()
        known = set(self.datasets) <= set(FUNCTAS)
        checks.require(known, "datasets", self.datasets, f"must be of {', '.join(FUNCTAS)}")


def main(config):
    """All episodes; returns what the JSON holds."""
    rows, made_by = [], []
    for name in config.datasets:
        data, file = datasets.load(name, config.data_dir), runner.RESULTS / FUNCTAS[name]
        settings = {"episodes": config.episodes, "choosing": config.choosing}
        run = Run(
            config.out / name, settings, data_fingerprint=data.fingerprint, files={"functa": file}
        )
        made_by.append(run.environment)
        cells = [*itertools.product(config.seeds, HALVES)]
        done = [(row["seed"], row["half"]) for row in run.rows()]
        left = [cell for cell in cells if cell not in done]
        with Progress(len(cells), "half", start=len(cells) - len(left)) as progress:
            fixed = unlabelled_features(data, functa_jax.load(file), progress) if left else None
            for seed, half in left:
                found = episodes_of(config, data, fixed, EPOCHS[name], seed, half)
                run.log(data=name, seed=seed, half=half, cells=found)
                progress.advance(1)
        rows += [row for row in run.rows() if (row["seed"], row["half"]) in cells]
    table = gathered(rows, config)
    facts = {"seeds": list(config.seeds), "episodes": config.episodes, "table": table}
    target = config.results / "robust_fewshot.json"
    result = runner.write(target, "robust_fewshot", facts, made_by)
    draw(target.with_suffix(".png"), table)
    for row in table:
        print(
            f"{row['data']:8s} {row['features']:6s} {row['shots']} "
            f"{row['method']:26s}{text(row['accuracy'])} %  gain {text(row['gain'])}"
        )
    print(target)
    return result


# ---- features ----


def unlabelled_features(data, functa, progress):
    """{name: {part: features (n, d)}} of functa and PCA; parts: train (some), val (some), test."""
    images = {
        "train": data.train.images[:CENTRED],
        "val": data.val.images[:HELD],
        "test": data.test.images,
    }
    progress.say(f"{data.name}: {sum(map(len, images.values())):,} images are encoded")
    latents = {part: functa.encode(own)[0].reshape(len(own), -1) for part, own in images.items()}
    pixels = {part: own.reshape(len(own), -1) / np.float32(255) for part, own in images.items()}
    fitted = data.train.images[:FITTED].reshape(min(FITTED, len(data.train)), -1) / np.float32(255)
    pca = PCA(latents["train"].shape[1], svd_solver="covariance_eigh").fit(fitted)
    return {
        "functa": latents,
        "PCA": {part: pca.transform(own) for part, own in pixels.items()},
    }


def learned_features(data, others, epochs, seed):
    """The same of a network that has learned the classes `others`, of their training images."""
    train = data.train.take(np.isin(data.train.labels, others))
    network = SmallCnn(train.images, np.searchsorted(others, train.labels), epochs, seed)
    return {
        "train": network.features(train.images[:CENTRED]),
        "val": network.features(data.val.images[:HELD]),
        "test": network.features(data.test.images),
    }


# ---- episodes ----


def episodes_of(config, data, fixed, epochs, seed, half):
    """Accuracies in all episodes of one half of the classes: a list of dicts."""
    classes = np.array(HALVES[half])
    others = np.setdiff1d(np.arange(10), classes)
    learned = learned_features(data, others, epochs, seed)
    cells = []
    for (features, parts), shots in itertools.product({**fixed, "CNN": learned}.items(), SHOTS):
        mean = parts["train"].mean(0)
        held, test = data.val.take(slice(HELD)).labels, data.test.labels

        def drawn(use, part, labels, wanted, count, parts=parts, mean=mean, shots=shots):
            random = np.random.default_rng(seeds.fold(seed, use, half, shots))
            rows = normalize(parts[part] - mean)
            return [episode(random, rows, labels, wanted, shots) for _ in range(count)]

        trials = drawn("choosing", "val", held, others, config.choosing)
        draws = drawn("episodes", "test", test, classes, config.episodes)
        for name, (make, options) in METHODS.items():
            chosen = options[0]
            if len(options) > 1:
                scores = [
                    np.mean([accuracy(make(*option), *trial) for trial in trials])
                    for option in options
                ]
                chosen = options[int(np.argmax(scores))]
            found = [accuracy(make(*chosen), *draw) for draw in draws]
            cell = {"features": features, "shots": shots, "method": name, "chosen": chosen}
            cells.append(cell | {"accuracies": found})
    return cells


def episode(random, features, labels, classes, shots):
    """X (n, d) and y (n,): `shots` labelled rows of each class, then the queries."""
    drawn = [
        random.choice(np.flatnonzero(labels == code), shots + QUERIES, replace=False)
        for code in classes
    ]
    rows = np.array(drawn).T.ravel()  # one of each class, and again
    X = features[rows]
    if X.shape[1] > len(X):  # turned into the span of its rows: distances and products stay
        left, values, _ = np.linalg.svd(X, full_matrices=False)
        X = left * values
    return X, labels[rows]


def accuracy(model, X, y):
    """Share of an episode's queries that are labelled rightly; they are its last rows."""
    known = len(y) - QUERIES * len(np.unique(y))
    if isinstance(model, LogisticRegression | NearestCentroid):
        model.fit(X[:known], y[:known])
    else:
        model.fit(X, np.append(y[:known], np.full(len(y) - known, -1)))
    return float((model.predict(X[known:]) == y[known:]).mean())


# ---- results ----


def gathered(rows, config):
    """A row of the table for each data set, features, shots and method."""
    found = {}
    for row in rows:
        for cell in row["cells"]:
            key = row["data"], cell["features"], cell["shots"], cell["method"]
            found.setdefault(key, []).extend(cell["accuracies"])
    table = []
    for (data, features, shots, method), own in found.items():
        alone = found[data, features, shots, "logistic regression alone"]
        row = {"data": data, "features": features, "shots": shots, "method": method}
        row |= {"episodes": len(own), "accuracy": mean_and_interval(own)}
        row["gain"] = mean_and_interval(np.subtract(own, alone))
        if method == "ICI":
            confident = found[data, features, shots, "most confident first"]
            row["over_confidence"] = mean_and_interval(np.subtract(own, confident))
        table.append(row)
    order = [*config.datasets, *METHODS]
    table.sort(key=lambda row: (order.index(row["data"]), row["shots"], row["features"]))
    return table


def mean_and_interval(shares):
    """Mean, and half the width of its 95 % interval over episodes (dict)."""
    width = 1.96 * np.std(shares, ddof=1) / np.sqrt(len(shares))
    return {"mean": float(np.mean(shares)), "interval": float(width)}


def text(value):
    """In %."""
    return f"{100 * value['mean']:.2f} ± {100 * value['interval']:.2f}"


def draw(target, table):
    """Accuracy by features, a panel for each data set and number of labels."""
    panels = list(dict.fromkeys((row["data"], row["shots"]) for row in table))
    features = list(dict.fromkeys(row["features"] for row in table))
    columns = min(2, len(panels))
    shape = {"rows": -(-len(panels) // columns), "columns": columns, "squeeze": False}
    with figure(target, size=(WIDTH, 0.8 + 2.3 * shape["rows"]), **shape) as (picture, axes):
        for ax, (data, shots) in zip(axes.flat, panels, strict=False):
            for at, method in enumerate(METHODS):
                key = data, shots, method
                rows = [r for r in table if (r["data"], r["shots"], r["method"]) == key]
                x = [features.index(row["features"]) + (at - 3) * 0.11 for row in rows]
                values = [100 * row["accuracy"]["mean"] for row in rows]
                errors = [100 * row["accuracy"]["interval"] for row in rows]
                ax.errorbar(x, values, errors, label=method, fmt="o", ms=3)
            ax.set(title=f"{data}, {shots} a class", ylabel="accuracy in %")
            ax.set_xticks(range(len(features)), features)
        legend(picture, axes[0, 0], loc="outside lower center", ncols=3)


if __name__ == "__main__":
    cli.run(main, Config)
