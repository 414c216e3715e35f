"""What do weak signals add to strong ones, and is the strong part the same on other data?

    python -m experiments.robust_msplit        10 minutes on one CPU core; no download

(a) digits: which of two classes (3 or 8) from 64 pixels, 100 training images a seed, the others
test. (b) A computed lesion map: 12x12 "scans" of smooth noise with a standard deviation of 1; in
patients two lesions of +0.5 (strong) in a ring of −0.1 (weak); 200 to train, 2,000 to test.
Logistic models. MSplit LBI (all of W) and split LBI (its strong part alone), with D the identity
for digits and [differences of neighbours; identity] for scans; lasso, ridge, elastic net of
scikit-learn. Every setting is the one with the least log-loss in 5-fold cross-validation of the
training data: damping (1, 3, 10) and time (up to 80 first entries) of the split ones, penalty and
mixture of the others.
Accuracy on test; in how many seeds a setting is the first or last that was tried; stability: mean
Jaccard index of the supports of two seeds; for scans F1 of the support against the lesions. Three
seeds.
Results: experiments/results/robust_msplit.json and .png.

Expected. digits: all alike, 97.8 to 98.3 %; split LBI with 20 pixels, the others with all 52 that
ever change. Scans: lasso and elastic net 97 %, both split ones 95 %. Nearly every choice is the
least penalty or the last time that was tried, however far these went: few images of many pixels are
separated by some plane, and cross-validated log-loss then asks for next to no sparsity. So the rows
tell methods without their penalty apart, not maps of lesions (F1 at most 0.29). MSplit LBI has no
advantage here.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.ndimage import binary_dilation, gaussian_filter
from sklearn.datasets import load_digits
from sklearn.feature_extraction.image import grid_to_graph
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import Seed
from groundfloor.plots import WIDTH, figure
from groundfloor.runs import Progress, spread
from optim_torch.robust.bregman import MSplitLBIClassifier, SplitLBIClassifier
from optim_torch.robust.bregman_path import graph_differences

SIDE = 12
LESIONS = np.zeros((SIDE, SIDE), bool)
LESIONS[2:5, 2:5] = LESIONS[7:10, 6:10] = True
RING = binary_dilation(LESIONS, iterations=2) & ~LESIONS
DAMPINGS = (1.0, 3.0, 10.0)
PENALTIES = np.geomspace(1e-3, 1e3, 13)  # their reciprocals, C
SHAPES = {"digits": (8, 8), "scans": (SIDE, SIDE)}


@dataclass(frozen=True)
class Config(checks.Settings):
    """Which draws."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Of the training images, or the scans."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""

    def __post_init__(self):
        super().__post_init__()
        two = len(self.seeds) > 1
        checks.require(two, "seeds", self.seeds, "must be two or more, to compare supports")


def main(config):
    """Fit, write and print; returns what the JSON holds."""
    maps, accuracies, at_ends = {}, {}, {}
    with Progress(len(config.seeds) * len(SHAPES), "data set") as progress:
        for seed in config.seeds:
            for problem, (X, test_X, y, test_y) in data_sets(seed).items():
                found = fits(problem, X, y, test_X, test_y)
                for name, (coefficients, accuracy, at_end) in found.items():
                    maps.setdefault((problem, name), []).append(coefficients)
                    accuracies.setdefault((problem, name), []).append(accuracy)
                    at_ends.setdefault((problem, name), []).append(at_end)
                progress.advance(1)
    table = [
        {
            "problem": problem,
            "method": name,
            "test_accuracy": spread(accuracies[problem, name]),
            "at_end": f"{sum(at_ends[problem, name])} of {len(rows)}",
            "support": spread(float(np.count_nonzero(row)) for row in rows),
            "jaccard": spread(
                jaccard(one != 0, other != 0) for one, other in itertools.combinations(rows, 2)
            ),
            "lesion_f1": spread(f1_score(LESIONS.ravel(), row != 0) for row in rows)
            if problem == "scans"
            else None,
        }
        for (problem, name), rows in maps.items()
    ]
    facts = {"seeds": list(config.seeds), "table": table}
    result = runner.write(config.results / "robust_msplit.json", "robust_msplit", facts)
    draw(config.results / "robust_msplit.png", maps)
    for row in table:
        f1 = f"  F1 {runner.text(row['lesion_f1'])}" if row["lesion_f1"] else ""
        print(
            f"{row['problem']:7s} {row['method']:28s} {runner.text(row['test_accuracy'], '%')}  "
            f"support {row['support']['mean']:.1f}  Jaccard {runner.text(row['jaccard'])}{f1}"
        )
    return result


def data_sets(seed):
    """{problem: (train X, test X, train y, test y)}"""
    X, y = load_digits(return_X_y=True)
    X, y = X[(y == 3) | (y == 8)], y[(y == 3) | (y == 8)]
    random = np.random.default_rng(seed)
    return {
        "digits": train_test_split(X, y, train_size=100, stratify=y, random_state=seed),
        "scans": train_test_split(*scans(random, 2200), train_size=200, random_state=seed),
    }


def scans(random, count):
    """Scans (count, pixels), of noise with a standard deviation of 1, and who is a patient."""
    patient = random.integers(0, 2, count)
    noise = gaussian_filter(random.standard_normal((count, SIDE, SIDE)), (0, 1, 1), mode="wrap")
    strength = 0.5 * (LESIONS - 0.2 * RING)
    return (noise / noise.std() + patient[:, None, None] * strength).reshape(count, -1), patient


def structure(problem):
    """D of a problem: None for the identity."""
    if problem == "digits":
        return None
    differences = graph_differences(grid_to_graph(SIDE, SIDE))
    return sparse.vstack([differences, sparse.eye_array(SIDE * SIDE)]).tocsr()


def fits(problem, X, y, test_X, test_y):
    """{method: (coefficients of the pixels, test accuracy, whether a setting is at an end)}"""
    found = {}
    for name, kind in (
        ("MSplit LBI", MSplitLBIClassifier),
        ("split LBI, strong part", SplitLBIClassifier),
    ):
        models = [
            kind(nu=5.0, D=structure(problem), kappa=kappa, until=80.0).fit(X, y)
            for kappa in DAMPINGS
        ]
        model = min(models, key=lambda model: model.loss_)
        coefficients = np.where(np.abs(model.coef_[0]) > 1e-9, model.coef_[0], 0)  # of projections
        last = model.kappa in (DAMPINGS[0], DAMPINGS[-1]) or model.time_ == model.path_.times[-1]
        found[name] = coefficients, model.score(test_X, test_y), last
    for name, ratios in (("lasso", [1.0]), ("ridge", [0.0]), ("elastic net", [0.2, 0.5, 0.8])):
        model = LogisticRegressionCV(
            Cs=PENALTIES,
            cv=5,
            solver="saga",
            l1_ratios=ratios,
            scoring="neg_log_loss",
            max_iter=500,
            tol=1e-3,
            use_legacy_attributes=False,
        )
        model = make_pipeline(StandardScaler(), model).fit(X, y)
        accuracy = (model.predict(test_X) == test_y).mean()
        last = np.isclose(model[-1].C_, PENALTIES[[0, -1]]).any()
        found[name] = model[-1].coef_[0] / model[0].scale_, accuracy, last
    return found


def jaccard(one, other):
    """Share of what is in both among what is in one of them."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def draw(target, maps):
    """The coefficients of the first seed as pictures, on one scale a problem."""
    names = list(dict.fromkeys(name for _, name in maps))
    with figure(target, rows=2, columns=len(names) + 1, size=(WIDTH, 2.9)) as (_, axes):
        for row, (problem, shape) in zip(axes, SHAPES.items(), strict=True):
            for ax, name in zip(row, names, strict=False):
                values = maps[problem, name][0].reshape(shape)
                most = np.abs(values).max()
                ax.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most)
                ax.set(xticks=[], yticks=[])
                ax.set_title(name.replace(", ", ",\n"), fontsize=7)
            row[0].set_ylabel(problem)
            row[-1].axis("off")
        axes[1, -1].axis("on")
        axes[1, -1].imshow(LESIONS - 0.2 * RING, cmap="RdBu_r", vmin=-1, vmax=1)
        axes[1, -1].set(title="truth", xticks=[], yticks=[])


if __name__ == "__main__":
    cli.run(main, Config)
