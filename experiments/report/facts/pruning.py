"""A Vision Transformer with few of its weights: a converged one, an older one at nine densities,
and one of digits with all methods."""

from itertools import pairwise
from statistics import mean

from experiments.report.results import holds, number, percent

REFITTED = ("magnitude", "magnitude-refit")
FILE = "prune_cifar10-small.csv"  # three densities, three seeds, accuracy before recovery
FIRST = "prune_cifar10-first.csv"  # nine densities of a network that had not converged, one seed
DIGITS = "prune_digits.csv"  # the same protocol on 8x8 digits, all methods
DENSITIES = tuple(f"0.{tenth}" for tenth in range(1, 10))
LEAST = "0.1"
NAMES = {
    "sparsegpt": "SparseGPT",
    "wanda": "Wanda",
    "compensated": "compensation",
    "dessilbi": "DessiLBI",
    "l1": "lasso",
    "group-lasso": "group lasso",
    "magnitude-refit": "magnitude, refitted",
    "synflow": "SynFlow",
    "snip": "SNIP",
    "lora": "LoRA's scores",
}
TRAINED_ON = 45_000  # images of CIFAR-10 without those of validation


def facts(results):
    """Texts and tables of its section."""
    rows, summary = results(FILE), results("prune_cifar10-small.json")
    densities = sorted({row["density"] for row in rows} & {*DENSITIES})
    first, last = (means(rows, column) for column in ("top1_before", "top1"))
    dense, width = summary["dense"]["test"], half_width(rows, LEAST)
    (unpruned,) = (value for (method, _), value in last.items() if method == "unpruned")
    magnitude = {density: last["magnitude", density] for density in densities}
    order = ("supermask", "magnitude-refit", "magnitude", "lora", "dessilbi")
    for better, worse in pairwise(order):
        holds(last[better, LEAST] - last[worse, LEAST] > 2**0.5 * width, f"{better} beats {worse}")
    holds(first["magnitude-refit", LEAST] > first["magnitude", LEAST], "a fit helps before steps")
    holds(unpruned - magnitude["0.5"] > width, "half of the parameters are not free")
    return {
        "seeds": number(len({row["seed"] for row in rows}), 0),
        "parameters": number(int(rows[0]["total"]), 0),
        "steps": number(int(rows.rows(method="magnitude")[0]["steps"]), 0),
        "stays_dense": percent(summary["stays_dense"], 1),
        "dense": percent(dense["top1"]),
        "dense_top5": percent(dense["top5"]),
        "unpruned": percent(unpruned, 1),
        "interval": number(100 * width, 1),
        "half": percent(magnitude["0.5"], 1),
        "half_refitted": percent(last["magnitude-refit", "0.5"], 1),
        "tenth": percent(magnitude[LEAST], 1),
        "tenth_before": percent(first["magnitude", LEAST], 1),
        "tenth_supermask": percent(last["supermask", LEAST], 1),
        "tenth_refitted": percent(last["magnitude-refit", LEAST], 1),
        "tenth_refitted_before": percent(first["magnitude-refit", LEAST], 1),
        "tenth_lora": percent(last["lora", LEAST], 1),
        "tenth_dessilbi": percent(last["dessilbi", LEAST], 1),
        "refit_passes": number(
            mean(int(row["extra_passes"]) for row in rows.rows(method="magnitude-refit")), 0
        ),
        "densities": densities,
        "around": around(rows, order, densities),
        **of_recovery(results),
        **of_groups(results),
        **of_first(results),
        **of_digits(results),
    }


def of_recovery(results):
    """Steps in place of a fit: they do not bring as much."""
    found = results("prune_recovery_cifar10-small.json")
    rows = {name: [r for r in found["table"] if r["method"] == name] for name in REFITTED}
    plain, fitted = (rows[name] for name in REFITTED)
    longest, at_once = plain[-1], fitted[0]
    holds(at_once["steps"] == 0 and longest["passes"] > 5 * at_once["passes"], "a fit is cheaper")
    holds(at_once["top1"]["mean"] > longest["top1"]["mean"], "a fit brings more than steps do")
    return {
        "recovery_density": number(found["density"], 1),
        "recovery_steps": number(longest["steps"], 0),
        "recovery_plain": percent(longest["top1"]["mean"], 1),
        "recovery_refitted": percent(at_once["top1"]["mean"], 1),
    }


def of_groups(results):
    """Heads and neurons that are cut out: what stays, and what is gained."""
    rows = results("prune_cifar10-groups.csv")
    first, last = (means(rows, column) for column in ("top1_before", "top1"))
    best, zeros, penalty = "compensated", "magnitude", "group-lasso"
    for density in ("0.3", "0.5", "0.7"):
        holds(last[zeros, density] > last[best, density], f"cutting out costs more at {density}")
        holds(last[best, density] > last[penalty, density], f"compensation leads at {density}")
    holds(first[best, "0.3"] > first[zeros, "0.3"], "before recovery compensation is ahead")
    speeds = results("prune_speed_cifar10-small.json")["rows"]

    def ratio(density, engine, batch):
        name = f"{best}-d{density}"
        return number(speeds.row(name=name, engine=engine, batch=batch)["ratio"])

    return {
        "cut_before": percent(first[best, "0.3"], 1),
        "cut_after": percent(last[best, "0.3"], 1),
        "cut_half": percent(last[best, "0.5"], 1),
        "cut_penalty": percent(last[penalty, "0.3"], 1),
        "cut_zeros": percent(last[zeros, "0.3"], 1),
        "cut_time_half": ratio("0.5", "eager", 64),
        "cut_time": ratio("0.3", "eager", 64),
        "cut_time_one": ratio("0.3", "eager", 1),
    }


def of_first(results):
    """The older network, all densities: nothing beats magnitude there."""
    rows, summary = results(FIRST), results("prune_cifar10-first.json")
    top1 = means(rows, "top1")
    magnitude = {d: top1["magnitude", d] for d in DENSITIES}
    bounds = {d: half_width(rows, d) for d in DENSITIES}
    for density in DENSITIES:
        best = max(value for (_, d), value in top1.items() if d == density)
        holds(
            best - magnitude[density] <= bounds[density],
            f"nothing beats magnitude after recovery by more than its interval at {density}",
        )
    trained = summary["dense"]
    (unpruned,) = (value for (method, _), value in top1.items() if method == "unpruned")
    half = magnitude["0.5"]
    holds(abs(half - unpruned) < bounds["0.5"], "half of the parameters cost nothing")
    for method in ("movement", "supermask"):
        behind = [magnitude[d] - top1[method, d] > bounds[d] for d in DENSITIES[1:7]]
        holds(all(behind), f"{method} is behind magnitude from 0.2 to 0.7")
    return {
        "first_parameters": number(int(rows[0]["total"]), 0),
        "first_others": number(len({row["method"] for row in rows} - {"unpruned", "magnitude"}), 0),
        "first_epochs": number(
            int(trained["dense_steps"]) * int(trained["batch_size"]) / TRAINED_ON, 1
        ),
        "first_steps": number(int(rows.rows(method="magnitude")[0]["steps"]), 0),
        "first_dense": percent(trained["test"]["top1"], 1),
        "first_half": percent(half, 1),
        "first_tenth": percent(magnitude[LEAST], 1),
        "top1": by_density(rows, "top1"),
        "top5": by_density(rows, "top5"),
        **storage(rows),
    }


def means(rows, column):
    """{(method, density): mean over the seeds}, of methods without a teacher."""
    found = {}
    for row in rows:
        if row[column] and not float(row["distil"]):
            found.setdefault((row["method"], row["density"]), []).append(float(row[column]))
    return {key: mean(values) for key, values in found.items()}


def around(rows, methods, densities):
    """Rows of a table, in %: methods by densities, before and after the steps of recovery; a dash
    where there is no cell."""
    first, last = (means(rows, column) for column in ("top1_before", "top1"))
    table = []
    for method in methods:
        values = [found.get((method, d)) for d in densities for found in (first, last)]
        texts = ["–" if value is None else number(100 * value, 1) for value in values]
        table.append([NAMES.get(method, method), *texts])
    return table


def half_width(rows, density):
    """Half of the 95 % interval of magnitude's top-1 at a density, of its test images."""
    found = rows.rows(method="magnitude", density=density)
    return mean((float(row["top1_high"]) - float(row["top1_low"])) / 2 for row in found)


def by_density(rows, column):
    """Rows of a table, in %: methods by densities, the best of each density marked by a star."""
    found = means(rows, column)
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "unpruned"]
    best = {d: max(v for (_, density), v in found.items() if density == d) for d in DENSITIES}
    table = []
    for method in methods:
        line = [NAMES.get(method, method)]
        for density in DENSITIES:
            value = found.get((method, density))
            star = "*" if value == best[density] else ""
            line.append("–" if value is None else star + number(100 * value, 1))
        table.append(line)
    return table


def storage(rows):
    """What zeros gain."""
    sparse = rows.rows(method="magnitude", density="0.1")
    full = mean(4e-6 * float(row["total"]) for row in sparse)
    return {
        "megabytes": number(mean(float(row["megabytes"]) for row in sparse)),
        "megabytes_dense": number(full),
    }


def of_digits(results):
    """Who is ahead of magnitude at a tenth, of all methods."""
    rows = results(DIGITS)
    first, last = (means(rows, column) for column in ("top1_before", "top1"))
    magnitude, refitted = "magnitude", "magnitude-refit"
    interval = 2**0.5 * half_width(rows, LEAST)
    behind = {m for m, d in last if d == LEAST and last[m, d] <= last[magnitude, d] + interval}
    ahead = [m for m, d in last if d == LEAST and m not in behind]
    ahead.sort(key=lambda method: -last[method, LEAST])
    holds(ahead[0] == refitted, "refitted magnitude is the best at a tenth")
    holds(first[refitted, LEAST] > last[magnitude, LEAST], "the fit alone is ahead of the steps")
    level = abs(last[refitted, "0.3"] - last[magnitude, "0.3"]) < half_width(rows, "0.3")
    holds(level, "refitted and plain magnitude are level at three tenths")
    names = [NAMES.get(method, method) for method in ahead[1:]]
    return {
        "digits_methods": number(len({row["method"] for row in rows} - {"unpruned"}), 0),
        "digits_steps": number(int(rows.rows(method=magnitude)[0]["steps"]), 0),
        "digits_interval": number(100 * interval, 1),
        "digits_before": percent(first[magnitude, LEAST], 1),
        "digits_before_refitted": percent(first[refitted, LEAST], 1),
        "digits_after": percent(last[magnitude, LEAST], 1),
        "digits_after_refitted": percent(last[refitted, LEAST], 1),
        "digits_ahead": ", ".join(names[:-1]) + f" and {names[-1]}",
    }
