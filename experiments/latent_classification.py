"""Why do latents classify better or worse than pixels, or than PCA with as many numbers?

    python -m experiments.latent_classification --run runs/meta_train-digits   1 minute on 2 cores
    python -m experiments.latent_classification --run runs/meta_train-mnist    20 minutes;
                                                                       not yet run

Two fixed classifiers, a linear one and an SVM (RBF kernel, C = 10), see features that differ in one
thing at a time; nothing is chosen, so the test split is all that is needed.

1. Fitting steps: latents after k = 0, 1, 2, 3, 5, 10 steps, train and test alike. Starting from
   zero, the first step is an affine function of the image, as PCA is; later steps are not. Images
   rebuilt from these latents, taken as pixels, tell what is lost from how it is stored.
2. Training images: balanced subsets of all classes, three draws, mean and standard deviation.
3. Numbers per image: this run and its sibling runs (folders beside it) on the same images.

Expected: latents need at most as many training images as pixels; more steps reconstruct better but
do not classify better (NeoMLP, 2024, and public re-runs of functa report the same on CIFAR-10).
Writes latent_classification_DATA.json and .png into --out, and into --results if that is given.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from experiments import runner
from functa_jax.evaluation import reconstruction
from functa_jax.functaset import load_functaset
from functa_jax.tasks import task as tasks
from groundfloor import checks, cli
from groundfloor.checks import Count, CountOrZero
from groundfloor.plots import COLOURS, WIDTH, figure, legend
from groundfloor.runs import spread

CLASSIFIERS = {
    "SVM": lambda: SVC(C=10.0, cache_size=1000),
    "linear": lambda: LogisticRegression(max_iter=1000),
}
STYLES = {"SVM": "o-", "linear": "^:"}


@dataclass(frozen=True)
class Config(tasks.TaskConfig):
    """Which run, and how much of its data."""

    steps: tuple[CountOrZero, ...] = (0, 1, 2, 3, 5, 10)
    """Fitting steps to compare."""
    images: Count = 5000
    """Training images, at most; the largest balanced subset is smaller."""
    test_images: Count = 5000
    """Test images, at most."""
    draws: Count = 3
    """Subsets of each size."""
    results: Path | None = None
    """Folder to keep the table and the figure in besides; default none."""

    def __post_init__(self):
        super().__post_init__()
        checks.require(self.steps, "steps", self.steps, "give one number of steps at least")


def main(config):
    """Three panels of accuracies, their table and a figure; returns the report (dict)."""
    material = tasks.load(config, images_only=True)
    data = material.data
    data.require(classes=2, test=1)
    train, test = data.train.take(slice(config.images)), data.test.take(slice(config.test_images))
    labels = train.labels, test.labels
    print(
        f"{len(train):,} training and {len(test):,} test images of {data.name}; writing "
        f"{material.path(f'latent_classification_{data.name}.json')}",
        flush=True,
    )
    functaset = material.functaset
    latents = functaset.train.latents[: len(train)], functaset.test.latents[: len(test)]
    pixels = tuple(split.images / np.float32(255) for split in (train, test))
    fixed = {"latents": latents, "PCA": reduced(pixels, latents[0][0].size), "pixels": pixels}
    fixed = {name: features for name, features in fixed.items() if features is not None}
    panels = {
        "steps": by_steps(config, material, (train.images, test.images), labels, fixed),
        "training images": by_images(config, fixed, labels),
        "numbers": by_numbers(config, material, pixels, labels),
    }
    name = f"latent_classification_{data.name}"
    draw(material.path(f"{name}.png"), panels, material.functa.inner_steps)
    rows = [{"against": panel, **row} for panel, rows in panels.items() for row in rows]
    remarks = [
        f"test accuracy in % of {len(test):,} images, {len(train):,} training images; one seed of "
        f"the functa; subsets: mean of {config.draws} draws",
        "SVM: RBF kernel, C=10; linear: logistic regression, C=1; features divided by one number",
        "rebuilt: pixels of the images that the latents stand for; 0 steps tell nothing",
    ]
    report = tasks.report(material, name, config, rows, [f"{name}.png"], remarks)
    if config.results:
        for file in (f"{name}.json", f"{name}.png"):
            runner.copy_file(material.path(file), config.results / file)
    return report


def accuracies(name, features, labels):
    """{"NAME CLASSIFIER": test accuracy in %} of (train, test) features and labels."""
    rows = [reconstruction.as_rows(np.asarray(part, np.float32)) for part in features]
    # One mean and one scale for all numbers, which keeps their proportions.
    mean, scale = rows[0].mean(dtype=np.float64), rows[0].std(dtype=np.float64) or 1.0
    x, x_test = (np.float32((part - mean) / scale) for part in rows)
    return {
        f"{name} {short}": 100 * make().fit(x, labels[0]).score(x_test, labels[1])
        for short, make in CLASSIFIERS.items()
    }


def reduced(pixels, numbers):
    """PCA of (train, test) images, fitted on train; None if images have no more numbers."""
    model = reconstruction.pca(np.uint8(np.rint(pixels[0] * 255)), numbers)
    return model and tuple(model.transform(reconstruction.as_rows(part)) for part in pixels)


def by_steps(config, material, images, labels, fixed):
    """A row for each number of fitting steps; PCA and pixels do not depend on it."""
    functa, steps = material.functa, sorted({*config.steps})
    fits = [functa.course(split, max(steps)) for split in images]
    beside = {}
    for name in fixed:
        if name != "latents":
            beside |= accuracies(name, fixed[name], labels)
    rows = []
    for k in steps:
        latents = [latents[:, k] for latents, _ in fits]
        rebuilt = [np.clip(functa.decode(z), 0, 1) for z in latents]
        rows.append(
            {
                "value": k,
                "PSNR dB": float(reconstruction.mean_psnr(fits[1][1][:, k])),
                **accuracies("latents", latents, labels),
                **accuracies("rebuilt", rebuilt, labels),
                **beside,
            }
        )
    return rows


def by_images(config, fixed, labels):
    """A row for each size of balanced subsets, up to the largest, and its spread over draws."""
    counts = np.bincount(labels[0])
    most = counts[counts > 0].min()
    sizes = [n for n in (2, 5, 10, 20, 50, 100, 200, 500) if n < most] + [int(most)]
    rows = []
    for size in sizes:
        draws = []
        for draw in range(config.draws):
            kept = balanced(labels[0], size, np.random.default_rng((config.seed, draw)))
            row = {}
            for name, (x, x_test) in fixed.items():
                row |= accuracies(name, (x[kept], x_test), (labels[0][kept], labels[1]))
            draws.append(row)
        spreads = {key: spread(row[key] for row in draws) for key in draws[0]}
        rows.append(
            {
                "value": len(kept),
                **{key: value["mean"] for key, value in spreads.items()},
                **{f"{key} ±": value["std"] for key, value in spreads.items()},
            }
        )
    return rows


def balanced(labels, size, random):
    """Indices of `size` examples of each class, in random order within a class."""
    order = random.permutation(len(labels))
    return np.concatenate([order[labels[order] == c][:size] for c in np.unique(labels)])


def by_numbers(config, material, pixels, labels):
    """A row for this run and each of its siblings with a functaset of the same images."""
    mine = material.functaset
    folder = config.run if config.run.is_dir() else config.run.parent
    latents_of_runs, (n, n_test) = {}, map(len, labels)
    for path in sorted(folder.resolve().parent.glob("*/functaset.npz")):
        other = load_functaset(path)
        if made_alike(other, mine) and np.array_equal(other.train.ids[:n], mine.train.ids[:n]):
            both = other.train.latents[:n], other.test.latents[:n_test]
            latents_of_runs[path.parent.name] = both
    own = mine.train.latents[:n], mine.test.latents[:n_test]
    latents_of_runs.setdefault(folder.resolve().name, own)
    beside, rows = {}, []
    shown = accuracies("pixels", pixels, labels)
    for name, latents in latents_of_runs.items():
        numbers = latents[0][0].size
        if numbers not in beside:
            features = reduced(pixels, numbers)
            beside[numbers] = {} if features is None else accuracies("PCA", features, labels)
        row = {"value": numbers, "run": name, **accuracies("latents", latents, labels)}
        rows.append({**row, **beside[numbers], **shown})
    return sorted(rows, key=lambda row: row["value"])


def made_alike(functaset, other):
    """Whether both hold latents of the same images, fitted in the same way."""
    return all(
        functaset.metadata.get(name, default) == other.metadata.get(name, default)
        for name, default in SAME.items()
    )


# Of metadata, and what is meant where they do not say it.
SAME = {"data": None, "data_fingerprint": None, "resolution": None, "lbfgs_steps": 0}


def draw(path, panels, inner_steps):
    """Accuracy against each of the three; colours are features, dashes classifiers."""
    titles = {
        "steps": f"fitting steps (the run: {inner_steps})",
        "training images": "training images, balanced",
        "numbers": "numbers per image",
    }
    # A panel with one number per image would say what the others do.
    several = {name: rows for name, rows in panels.items() if len({r["value"] for r in rows}) > 1}
    panels = several or panels
    with figure(path, 1, len(panels), size=(WIDTH, 4), squeeze=False) as (picture, axes):
        axes = axes[0]
        for ax, (panel, rows) in zip(axes, panels.items(), strict=True):
            x = [row["value"] for row in rows]
            for key in dict.fromkeys(key for row in rows for key in row):
                name, _, short = key.partition(" ")
                if name not in COLOURS or short not in CLASSIFIERS:
                    continue
                y = np.array([row.get(key, np.nan) for row in rows], float)
                # PCA is wide: it may lie under others. Runs with as many numbers: a line of means.
                style = {"color": COLOURS[name], "lw": 2.6 if name == "PCA" else 1.2, "ms": 4}
                fixed = panel == "steps" and name in ("PCA", "pixels")
                line, marker = STYLES[short][1:], "" if fixed else STYLES[short][0]
                label = f"{'images rebuilt' if name == 'rebuilt' else name}, {short}"
                values = np.unique(x)
                means = [y[np.equal(x, value)].mean() for value in values]
                ax.plot(x, y, ls="", marker=marker, alpha=0.5, **style)
                ax.plot(values, means, ls=line, marker=marker, label=label, **style)
                if panel == "training images":
                    bands = np.array([row[f"{key} ±"] or 0 for row in rows])
                    ax.fill_between(x, y - bands, y + bands, color=COLOURS[name], alpha=0.12, lw=0)
            ax.set(xlabel=titles[panel])
            if panel != "steps":
                ax.set_xscale("log", base=2 if panel == "numbers" else 10)
        steps = panels.get("steps") or next(iter(panels.values()))
        fitted = [row for row in steps if row["value"]] or steps
        low = min(v for row in fitted for key, v in row.items() if "SVM" in key)
        axes[0].set(ylabel="test accuracy in %", ylim=(max(0, low - 8), 100.5))
        if "numbers" in panels:
            numbers = sorted({row["value"] for row in panels["numbers"]})
            axes[-1].set_xticks(numbers, [str(n) for n in numbers])
            axes[-1].minorticks_off()
        legend(picture, axes, loc="outside lower center", ncols=4)


if __name__ == "__main__":
    cli.run(main, Config)
