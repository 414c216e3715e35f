"""Masking: many outliers hide each other from residuals. Which methods still see them?

    python -m experiments.robust_masking      3 minutes on one CPU core; no download

A design in the manner of She and Owen (2011), with whose figures nothing here is compared: 1,000
rows, 15 columns correlated by 0.5, noise 1, some rows shifted by 5, without leverage or all at one
point, L from the centre. Ten data sets each.
Masked: share of outliers missed; swamped: share of good rows accused; joint: data sets where no
outlier is missed; AUC: of the order in which rows are suspected. Rivals accuse residuals above 2.5
standard deviations: studentised by deletion, or by the median absolute deviation of scikit-learn's
Huber and RANSAC. Also: |t| of k equal outliers at one leverage point, k = 1 to 30.
Results: experiments/results/robust_masking.json and .png.

Expected. Without leverage studentised residuals miss 52 % of 100 and 94 % of 200 outliers, Huber 3
and 15 %, hard thresholds 0.7 and 0.5 %, at 1 to 2 % of good rows accused; LBI is near l1. Ten
outliers at one far point: all but studentised residuals miss 1 or 2 %. A hundred there: every
method misses nearly all, since the criterion finds it cheaper to tilt the plane than to pay for a
hundred shifts; but their order on the path of hard thresholds from a robust start is nearly right
(AUC 94 %; SCAD and MCP from the same start 73 and 78 %, studentised 61 %). Farther or more: the
robust start itself mostly fails, and nothing is found. |t| falls from 8 alone to 0.6 among 30.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import median_abs_deviation
from sklearn.linear_model import HuberRegressor, RANSACRegressor
from sklearn.metrics import roc_auc_score

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import AtLeastTwo
from groundfloor.plots import GREY, PALETTE, WIDTH, figure, legend
from groundfloor.runs import Progress, spread
from optim_torch.robust.mean_shift import MeanShiftRegressor
from optim_torch.robust.residuals import studentised

ROWS, COLUMNS, SHIFT, CUT = 1000, 15, 5.0, 2.5
SETTINGS = ((None, 100), (None, 200), (15, 10), (15, 100), (20, 100), (15, 200))  # L, outliers
CLUSTER = (1, 2, 5, 10, 20, 30)
PENALTIES = ("l1", "elasticnet", "lbi", "scad", "mcp", "hard")


@dataclass(frozen=True)
class Config(checks.Settings):
    """How many data sets, and where to write."""

    seeds: AtLeastTwo = 10
    """Data sets of each setting, seeds 0, 1, ..."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""


def main(config):
    """All settings; returns what the JSON holds."""
    table = []
    with Progress(len(SETTINGS) * config.seeds, "data set") as progress:
        for leverage, outliers in SETTINGS:
            rows = {}
            for seed in range(config.seeds):
                X, y, bad = data_set(leverage, outliers, seed)
                for method, (suspicion, accused) in accusations(X, y, seed).items():
                    missed = (~accused & bad).sum() / bad.sum()
                    swamped = (accused & ~bad).sum() / (~bad).sum()
                    rows.setdefault(method, []).append(
                        (missed, swamped, float(missed == 0), roc_auc_score(bad, suspicion))
                    )
                progress.advance(1)
            for method, values in rows.items():
                missed, swamped, joint, auc = np.array(values).T.tolist()
                row = {"leverage": leverage or "none", "outliers": outliers, "method": method}
                row |= {"masked": spread(missed), "swamped": spread(swamped)}
                table.append(row | {"joint": sum(joint) / len(joint), "auc": spread(auc)})
    cluster = [{"outliers": k, "t": cluster_t(k, config.seeds)} for k in CLUSTER]
    target = config.results / "robust_masking.json"
    facts = {"seeds": [*range(config.seeds)], "table": table, "cluster": cluster}
    result = runner.write(target, "robust_masking", facts)
    draw(target.with_suffix(".png"), table)
    for row in table:
        print(
            f"L {row['leverage']!s:5s} {row['outliers']:4d}  {row['method']:12s} masked "
            f"{runner.text(row['masked'], '%'):16s} swamped {runner.text(row['swamped'], '%'):16s} "
            f"joint {row['joint']:.0%} "
            f"AUC {runner.text(row['auc'], '%')}"
        )
    for row in cluster:
        print(f"{row['outliers']} equal outliers: |t| {runner.text(row['t'])}")
    print(target)
    return result


def data_set(leverage, outliers, seed):
    """X (n, d), y (n,), which rows are shifted."""
    random = np.random.default_rng(seed)
    covariance = 0.5 * (np.eye(COLUMNS) + 1)
    X = random.standard_normal((ROWS, COLUMNS)) @ np.linalg.cholesky(covariance).T
    if leverage:
        X[:outliers] = leverage / np.sqrt(COLUMNS)
    y = X.sum(1) + random.standard_normal(ROWS)
    y[:outliers] += SHIFT
    return X, y, np.arange(ROWS) < outliers


def accusations(X, y, seed):
    """(suspicion of each row, mask of those held for outliers) by method (dict)."""
    ones = np.column_stack([X, np.ones(len(X))])
    t = np.abs(studentised(ones, y)[0])
    accused = {"studentised": (t, t > CUT)}
    rivals = {
        "Huber": HuberRegressor(alpha=0, max_iter=2000),
        "RANSAC": RANSACRegressor(random_state=seed),
    }
    for name, model in rivals.items():
        residual = y - model.fit(X, y).predict(X)
        size = np.abs(residual) / median_abs_deviation(residual, scale="normal")
        accused[name] = size, size > CUT
    for penalty in PENALTIES:
        model = MeanShiftRegressor(penalty, random_state=seed).fit(X, y)
        accused[f"γ, {penalty}"] = -np.argsort(model.order_), model.outlier_
    return accused


def cluster_t(k, seeds):
    """|t| of k outliers of +10 at one leverage point among 100 rows: mean, std over data sets."""
    values = []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        X = random.standard_normal((100, 2))
        X[:k] = 5
        y = X.sum(1) + random.standard_normal(100)
        y[:k] += 10
        t, _ = studentised(np.column_stack([X, np.ones(100)]), y)
        values.append(float(np.abs(t[:k]).mean()))
    return spread(values)


def draw(target, table):
    """Masked, swamped, and AUC of the order, a group of bars for each setting."""
    methods = list(dict.fromkeys(row["method"] for row in table))
    with figure(target, 3, 1, size=(WIDTH, 6), sharex=True) as (picture, axes):
        for ax, key in zip(axes, ("masked", "swamped", "auc"), strict=True):
            for at, method in enumerate(methods):
                own = [row for row in table if row["method"] == method]
                x = np.arange(len(own)) + (at - len(methods) / 2) * 0.11
                colour, pattern = (*PALETTE, GREY)[at], "///" if at >= len(PALETTE) else None
                style = {"color": colour, "hatch": pattern, "label": method}
                ax.bar(x, [100 * row[key]["mean"] for row in own], 0.1, **style)
            name = "AUC of the order" if key == "auc" else key
            ax.set(ylabel=f"{name} in %", xticks=range(len(own)))
            ax.set_xticklabels([f"{r['outliers']} outliers\nL {r['leverage']}" for r in own])
        legend(picture, axes)


if __name__ == "__main__":
    cli.run(main, Config)
