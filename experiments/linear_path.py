"""Does the path of split LBI pass a sparse truth that the lasso misses, and in which order?

    python -m experiments.linear_path      3 minutes on one CPU core; no download

(a) Sparse truth: 100 rows, 200 standardised Gaussian columns (neighbours correlated by 0, 0.5 or
0.8), 10 coefficients of ±1, noise 0.5; nothing is tuned. How often is the exact support on the
path? How good is the best support on it (F1)? Do the true ones enter first (AUC of entry times)?
(b) scikit-learn's diabetes data, ten columns: in which order do they enter, and how?

y is scaled so that LARS, the lasso, LBI and ISS let the first coefficient in at time 1; the
lasso's time is 1/penalty. "Split ISS" is the exact limit of split LBI: ISS of whitened data.
Results: experiments/results/linear_path.json and .png.

Expected. (a) With ν = 10 the exact support is on the path of split ISS for 100, 96 and 76 % of the
data sets, on that of ISS for 68, 36 and 0 %, of the lasso 58, 24 and 0 %: whitening takes from the
columns what they share (Huang et al. 2016 weaken the lasso's irrepresentable condition by it). ISS
and the lasso let the same coefficients in at the same times (AUC equal), but ISS drops wrong ones
sooner. LBI and split LBI stay a little below their limits: at κ = 30 some enter for a moment.
(b) The same order for LARS, the lasso and ISS, at the same times until s3 leaves ISS at 173. LBI
lets s2 in for a moment where s1 enters; split ISS with ν = 10 prefers sex to s3 and delays s6.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from scipy.linalg import toeplitz
from scipy.stats import rankdata
from sklearn.datasets import load_diabetes
from sklearn.linear_model import lars_path
from sklearn.metrics import roc_auc_score

from experiments import runner
from groundfloor import checks, cli
from groundfloor.checks import LARGEST, AtLeastTwo, Count, Interval, NotNegative, Positive
from groundfloor.errors import UserError
from groundfloor.plots import WIDTH, figure, legend, many
from groundfloor.runs import Progress
from optim_torch.robust import linear

Correlation = Annotated[float, Interval(-1, 1, without_low=True, without_high=True)]
PIECES = 10  # points that LARS and the lasso get between two of their knots
DIABETES_UNTIL = 1000  # all of the ten have entered, and the lasso is done


@dataclass(frozen=True)
class Config(checks.Settings):
    """The sparse truths, and how the paths are followed."""

    seeds: AtLeastTwo = 50
    """Data sets of each correlation, seeds 0, 1, ..."""
    rows: Annotated[int, Interval(3, LARGEST)] = 100
    """Observations of a data set."""
    columns: Count = 200
    """Coefficients of a data set."""
    support: Count = 10
    """Coefficients of ±1; the others are 0."""
    noise: NotNegative = 0.5
    """Standard deviation of the noise."""
    correlations: tuple[Correlation, ...] = (0.0, 0.5, 0.8)
    """Of neighbouring columns; falls off geometrically."""
    kappa: Positive = 30.0
    """Damping of LBI and split LBI."""
    nu: Positive = 1.0
    """Coupling of split LBI."""
    limits: tuple[Positive, ...] = (10.0,)
    """Couplings of split ISS, beside --nu."""
    until: Annotated[float, Interval(1)] = 20.0
    """End of the paths in (a), in multiples of the time of their first entry."""
    results: Path = runner.RESULTS
    """Folder for the table and the figure."""

    def __post_init__(self):
        super().__post_init__()
        below = self.support < self.columns
        why = f"must be below --columns {self.columns}"
        checks.require(below, "support", self.support, why)


def main(config):
    """Follow all paths, write the results, print two tables; returns what the JSON holds."""
    target = config.results / "linear_path.json"
    try:
        config.results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write in {config.results}: {error.strerror}") from None
    total = config.seeds * len(config.correlations)
    print(f"Diabetes, 20 s, and {total} sparse truths, 1 s each; writes {target}", flush=True)
    diabetes = diabetes_paths(config)
    recovery = recovery_table(config)
    facts = {
        "config": {k: v for k, v in asdict(config).items() if k != "results"},
        "recovery": recovery,
        "diabetes": {name: events(path) for name, path in diabetes.items()},
    }
    result = runner.write(target, "linear_path", facts)
    draw(target.with_suffix(".png"), diabetes, config)
    report(recovery, diabetes)
    print(target)
    return result


# Paths.


def paths(X, y, config, until, every):
    """Every method's Path, up to `until` times its first entry; y as `first_at_one` gives it."""
    path_of = {
        "LARS": lars(X, y, until),
        "lasso": lasso(X, y, until),
        "ISS": linear.iss(X, y, until),
        "LBI": linear.lbi(X, y, kappa=config.kappa, until=until, every=every),
    }
    for nu in dict.fromkeys((config.nu, *config.limits)):
        white = linear.whitened(X, y, nu)
        path_of[f"split ISS, ν = {nu:g}"] = linear.iss(*white, until / largest_gradient(*white))
    end = until / largest_gradient(*linear.whitened(X, y, config.nu))
    path_of[f"split LBI, ν = {config.nu:g}"] = linear.split_lbi(
        X, y, nu=config.nu, kappa=config.kappa, until=end, every=every
    )[0]
    return path_of


def lasso(X, y, until):
    """scikit-learn's path of the lasso."""
    penalties, _, knots = lars_path(X, y, method="lasso", alpha_min=1 / until)
    knots[np.abs(knots) < 1e-12] = 0  # what it drops is left with a rounding error
    return piecewise(X, y, penalties, knots.T)


def lars(X, y, until):
    """Least angle regression (Efron et al. 2004).

    scikit-learn's own, method="lar", goes astray once a coefficient changes sign (up to 1e48 on
    these data, with scikit-learn 1.9.1): it flips a sign that belongs to the correlation.
    """
    gram, correlations, rank = X.T @ X / len(y), X.T @ y / len(y), np.linalg.matrix_rank(X)
    b, penalty, active = np.zeros(len(gram)), np.abs(correlations).max(), []
    penalties, knots = [penalty], [b]
    while penalty > 1 / until and len(active) < rank:
        rest = np.setdiff1d(np.arange(len(b)), active)
        active.append(rest[np.abs(correlations[rest]).argmax()])
        direction = np.zeros_like(b)
        signs = np.sign(correlations[active])
        direction[active] = np.linalg.solve(gram[np.ix_(active, active)], signs)
        fall = gram @ direction  # of the correlations; that of the active ones is 1
        rest = np.setdiff1d(rest, active)
        meets = np.concatenate(
            [(penalty - s * correlations[rest]) / (1 - s * fall[rest]) for s in (1, -1)]
        )
        step = min(meets[meets > 0], default=np.inf)
        step = min(step, penalty - 1 / until)
        b, correlations, penalty = b + step * direction, correlations - step * fall, penalty - step
        penalties.append(penalty)
        knots.append(b)
    return piecewise(X, y, np.array(penalties), np.array(knots))


def piecewise(X, y, penalties, knots):
    """The Path through `knots` (T, p) that is linear in the penalty; PIECES points a piece.

    Its time is 1/penalty, and its duals are X'(y - X b)/n · time.
    """
    whole = np.arange(len(penalties))
    at = np.linspace(0, whole[-1], PIECES * whole[-1] + 1)
    times = 1 / np.interp(at, whole, penalties)
    coefficients = np.stack([np.interp(at, whole, column) for column in knots.T], axis=1)
    duals = (y - coefficients @ X.T) @ X / len(y) * times[:, None]
    on = coefficients != 0  # and 0 at the knot where it enters
    entry = np.where(on.any(0), times[np.maximum(on.argmax(0) - 1, 0)], np.inf)
    return linear.Path(times, coefficients, duals, entry)


def largest_gradient(X, y):
    """max |X'y/n|: one over the time at which ISS lets the first coefficient in."""
    return np.abs(X.T @ y / len(y)).max()


def first_at_one(X, y):
    """X standardised and y centred, y divided by what puts the first entry at time 1; the divisor.

    Without an intercept nothing else would be the same problem for all methods.
    """
    X, y = (X - X.mean(0)) / X.std(0), y - y.mean()
    scale = largest_gradient(X, y)
    return X, y / scale, scale


# (a) Sparse truth.


def sparse_truth(config, correlation, seed):
    """X (rows, columns), y, and the support of the truth (columns,)."""
    random = np.random.default_rng(seed)
    covariance = toeplitz(correlation ** np.arange(config.columns))
    X = random.standard_normal((config.rows, config.columns)) @ np.linalg.cholesky(covariance).T
    truth = np.zeros(config.columns)
    chosen = random.choice(config.columns, config.support, replace=False)
    truth[chosen] = random.choice([-1, 1], config.support)
    return X, X @ truth + config.noise * random.standard_normal(config.rows), truth != 0


def scores(path, truth):
    """Is the exact support on the path; its best F1; AUC of its entry times, never being last."""
    on = path.coefficients != 0
    f1 = 2 * (on & truth).sum(1) / (on.sum(1) + truth.sum())
    return f1.max() == 1, f1.max(), roc_auc_score(truth, -rankdata(path.entry))


def recovery_table(config):
    """One row for each correlation and method: share of exact supports, F1 and AUC (mean, std)."""
    table = []
    with Progress(config.seeds * len(config.correlations), "truth") as progress:
        for correlation in config.correlations:
            methods = {}
            for seed in range(config.seeds):
                *data, truth = sparse_truth(config, correlation, seed)
                X, y, _ = first_at_one(*data)
                for name, path in paths(X, y, config, config.until, every=5).items():
                    methods.setdefault(name, []).append(scores(path, truth))
                progress.advance(1)
            for name, rows in methods.items():
                exact, f1, auc = np.array(rows, float).T
                table.append(
                    {
                        "correlation": correlation,
                        "method": name,
                        "exact_support": exact.mean(),
                        "best_f1": f1.mean(),
                        "best_f1_std": f1.std(ddof=1),
                        "entry_auc": auc.mean(),
                        "entry_auc_std": auc.std(ddof=1),
                    }
                )
    return table


# (b) Diabetes.


def diabetes_paths(config):
    """Every method's Path on the diabetes data, in units of the target."""
    X, y, scale = first_at_one(*load_diabetes(return_X_y=True))
    return {
        name: linear.Path(path.times, scale * path.coefficients, path.duals, path.entry)
        for name, path in paths(X, y, config, DIABETES_UNTIL, every=5).items()
    }


def events(path):
    """When each column enters, in order; which go back to zero, and when (as recorded)."""
    names = load_diabetes().feature_names
    on = path.coefficients != 0
    gone = np.argwhere(on[:-1] & ~on[1:])
    order = np.argsort(path.entry, kind="stable")
    return {
        "entry": {names[j]: path.entry[j] for j in order if path.entry[j] < np.inf},
        "gone": [[names[j], path.times[k + 1]] for k, j in gone],
    }


def draw(target, diabetes, config):
    """Three panels of the diabetes paths over the logarithm of time."""
    nu = f"ν = {config.nu:g}"
    panels = [
        ("lasso \n(dotted: LARS)", "lasso", "LARS", "default"),
        (f"LBI, κ = {config.kappa:g} \n(dotted: ISS)", "LBI", "ISS", "steps-post"),
        (
            f"Γ of split LBI, {nu} \n(dotted: split ISS)",
            f"split LBI, {nu}",
            f"split ISS, {nu}",
            "steps-post",
        ),
    ]
    names = load_diabetes().feature_names
    with figure(target, columns=3, size=(WIDTH, 4.2), sharey=True) as (picture, axes):
        for ax, (title, name, other, style) in zip(axes, panels, strict=True):
            solid, dotted = diabetes[name], diabetes[other]
            for j, label in enumerate(names):
                own = many(j)
                ax.plot(solid.times, solid.coefficients[:, j], label=label, **own)
                column, colour = dotted.coefficients[:, j], own["color"]
                ax.plot(dotted.times, column, ":", color=colour, lw=0.8, drawstyle=style)
            ax.set_title(title, fontsize=8)
            ax.set(xlabel="time", xscale="log", xlim=(0.7, solid.times[-1]))
        axes[0].set_xlabel("time = 1/penalty")
        axes[0].set_ylabel("coefficient (disease progression per std)")
        legend(picture, axes, loc="outside lower center", ncols=5)


def report(recovery, diabetes):
    """The two tables."""
    print("\ncorrelation  method             exact support          best F1        entry AUC")
    for row in recovery:
        print(
            f"{row['correlation']:11g}  {row['method']:18s} {100 * row['exact_support']:11.0f} %  "
            f"{row['best_f1']:.3f} ± {row['best_f1_std']:.3f}  "
            f"{row['entry_auc']:.4f} ± {row['entry_auc_std']:.4f}"
        )
    print("\ndiabetes: order and time of entry")
    for name, path in diabetes.items():
        history = events(path)
        order = " ".join(f"{column} {time:.4g}" for column, time in history["entry"].items())
        gone = "".join(f"; {column} gone at {time:.4g}" for column, time in history["gone"])
        print(f"{name:18s} {order}{gone}")


if __name__ == "__main__":
    cli.run(main, Config)
