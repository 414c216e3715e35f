"""Do wrong comparisons spoil a ranking, and are they found?

    python -m experiments.robust_ranking      3 minutes on one CPU core; no download

16 items of Gaussian scores, 240 or 1,000 random comparisons, 0 to 50 % of the answers turned round;
twenty data sets each. Graded answers: the difference of scores with noise 0.3; binary: its sign.
Kendall's τ between the true ranking and that of least squares (HodgeRank), Huber's estimate
(scikit-learn), the Bradley-Terry model on all answers, and `RobustRanker`, which also says which
answers are wrong (precision, recall; AUC of its order beside that of least-squares residuals).
Results: experiments/results/robust_ranking.json and .png.

Expected. Graded answers: least squares fall from 0.97 to 0.67 at 30 % wrong (of 240), Huber
to 0.89, RobustRanker to 0.94, which finds 80 % of the wrong ones with a precision of 78 %;
Bradley-Terry throws the grades away and is last. At 40 % the criterion often accuses nobody and
Huber is ahead; at 50 % nothing is left to find. Binary answers: without wrong ones Bradley-Terry is
ahead (0.93 of 240, RobustRanker 0.89), from 20 % on Huber by up to 0.025, and the criterion accuses
nobody, although the order is good at 20 and 30 % (AUC 89 to 97 %, that of least squares as good):
give `threshold`, or look at the first of the order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau
from sklearn.linear_model import HuberRegressor, LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo, NotNegative
from groundfloor.plots import WIDTH, figure, legend
from groundfloor.runs import Progress
from optim_torch.robust.ranking import RobustRanker

ITEMS, COUNTS, ANSWERS = 16, (240, 1000), ("graded", "binary")
FLIPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
TAU = {
    "tau_least_squares": "least squares",
    "tau_huber": "Huber",
    "tau_bradley_terry": "Bradley-Terry",
    "tau_robust": "RobustRanker",
}


@dataclass(frozen=True)
class Config(checks.Settings):
    """How many data sets, and where to write."""

    seeds: AtLeastTwo = 20
    """Data sets of each kind, seeds 0, 1, ..."""
    noise: NotNegative = 0.3
    """Standard deviation of an answer, beside scores of 1."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""


def main(config):
    """All data sets; returns what the JSON holds."""
    table = []
    with Progress(len(ANSWERS) * len(COUNTS) * len(FLIPS) * config.seeds, "data set") as progress:
        for answers in ANSWERS:
            for count in COUNTS:
                for share in FLIPS:
                    rows = []
                    for seed in range(config.seeds):
                        rows.append(data_set(answers, count, share, config.noise, seed))
                        progress.advance(1)
                    row = {"answers": answers, "comparisons": count, "wrong": share}
                    table.append(row | over_seeds(rows))
    target = config.results / "robust_ranking.json"
    facts = {"seeds": [*range(config.seeds)], "noise": config.noise, "table": table}
    result = runner.write(target, "robust_ranking", facts)
    draw(target.with_suffix(".png"), table)
    for row in table:
        told = "  ".join(f"{key} {runner.text(row[key])}" for key in row if "_" in key)
        print(f"{row['answers']:7s} {row['comparisons']:5d} {row['wrong']:4.0%}  {told}")
    print(target)
    return result


def data_set(answers, count, share, noise, seed):
    """Scores of all methods on one data set (dict)."""
    random = np.random.default_rng(seed)
    truth = random.standard_normal(ITEMS)
    first = random.integers(0, ITEMS, count)
    pairs = np.column_stack([first, (first + random.integers(1, ITEMS, count)) % ITEMS])
    y = truth[pairs[:, 0]] - truth[pairs[:, 1]] + noise * random.standard_normal(count)
    y = y if answers == "graded" else np.sign(y)
    wrong = random.random(count) < share
    y = np.where(wrong, -y, y)
    C = np.eye(ITEMS)[pairs[:, 0]] - np.eye(ITEMS)[pairs[:, 1]]
    least = LinearRegression(fit_intercept=False).fit(C, y)
    huber = HuberRegressor(alpha=1e-6, fit_intercept=False, max_iter=1000).fit(C, y)
    ranker = RobustRanker().fit(pairs, y)
    scores = np.zeros(ITEMS)
    scores[ranker.items_] = ranker.scores_
    row = {
        "tau_least_squares": kendalltau(least.coef_, truth)[0],
        "tau_huber": kendalltau(huber.coef_, truth)[0],
        "tau_bradley_terry": kendalltau(bradley_terry(C, y), truth)[0],
        "tau_robust": kendalltau(scores, truth)[0],
        "inconsistency_share": ranker.inconsistency_,
    }
    if share:
        rank = np.argsort(ranker.order_)
        hits = (ranker.outlier_ & wrong).sum()
        row["auc_residual"] = roc_auc_score(wrong, np.abs(y - least.predict(C)))
        row["auc_path"] = roc_auc_score(wrong, -rank)
        row["outlier_recall"] = hits / wrong.sum()
        row["outlier_precision"] = hits / ranker.outlier_.sum() if ranker.outlier_.any() else None
    return row


def bradley_terry(C, y):
    """Scores of the Bradley-Terry model for the signs of y; weakly penalised, since an item that
    wins all its comparisons would have no finite score."""
    model = LogisticRegression(C=10, fit_intercept=False)  # each answer and its mirror: two classes
    return model.fit(np.r_[C, -C], np.r_[y > 0, y < 0]).coef_[0]


def over_seeds(rows):
    """Mean and standard deviation of what the data sets have."""
    columns = {key: runner.spread_of_known([row[key] for row in rows]) for key in rows[0]}
    return {key: value for key, value in columns.items() if value}


def draw(target, table):
    """τ over the share of wrong answers, a panel for each kind of data."""
    size = (WIDTH, 5)
    with figure(target, len(ANSWERS), len(COUNTS), size=size, sharex=True, squeeze=False) as (
        picture,
        axes,
    ):
        for line, answers in zip(axes, ANSWERS, strict=True):
            for ax, count in zip(line, COUNTS, strict=True):
                own = [r for r in table if (r["answers"], r["comparisons"]) == (answers, count)]
                for key, name in TAU.items():
                    values = [row[key]["mean"] for row in own]
                    errors = [row[key]["std"] for row in own]
                    ax.errorbar(FLIPS, values, errors, label=name, marker="o", ms=3, capsize=2)
                ax.set(title=f"{answers}, {count:,} comparisons", ylabel="Kendall's τ")
        for ax in axes[-1]:
            ax.set_xlabel("share of wrong answers")
        legend(picture, axes, loc="outside lower center", ncols=4)


if __name__ == "__main__":
    cli.run(main, Config)
