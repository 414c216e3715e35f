"""A Vision Transformer at nine densities."""

from statistics import mean

from experiments.report.results import holds, number, percent

DENSITIES = tuple(f"0.{tenth}" for tenth in range(1, 10))
FILE = "prune_cifar10-first.csv"
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
SMALL = "prune_digits.csv"  # the same protocol on 8x8 digits, with accuracy before recovery
LOW = ("0.1", "0.2", "0.3")  # of its densities, where methods differ
SHOWN = ("magnitude", "magnitude-refit", "wanda", "sparsegpt", "compensated")


def facts(results):
    """Texts and tables of its section."""
    rows, summary = results(FILE), results("prune_cifar10-first.json")
    seeds = sorted({row["seed"] for row in rows})
    top1 = {key: mean(values) for key, values in cells(rows, "top1").items()}
    magnitude = {d: top1["magnitude", d] for d in DENSITIES}
    bounds = {d: half_width(rows, d) for d in DENSITIES}
    for density in DENSITIES:
        best = max(value for (_, d), value in top1.items() if d == density)
        holds(
            best - magnitude[density] <= bounds[density],
            f"nothing beats magnitude after recovery by more than its interval at {density}",
        )
    trained, dense = summary["dense"], summary["dense"]["test"]
    (unpruned,) = (value for (method, _), value in top1.items() if method == "unpruned")
    half = magnitude["0.5"]
    holds(abs(half - unpruned) < bounds["0.5"], "half of the parameters cost nothing")
    holds(magnitude["0.1"] > top1["dessilbi", "0.1"], "magnitude is ahead of DessiLBI at 0.1")
    for method in ("movement", "supermask"):
        behind = [magnitude[d] - top1[method, d] > bounds[d] for d in DENSITIES[1:7]]
        holds(all(behind), f"{method} is behind magnitude from 0.2 to 0.7")
    holds(
        magnitude["0.3"] - top1["magnitude-late", "0.3"] > bounds["0.3"],
        "magnitude with few steps of recovery is behind at 0.3",
    )
    return {
        "seeds": number(len(seeds), 0),
        "parameters": number(int(rows[0]["total"]), 0),
        "others": number(len({row["method"] for row in rows} - {"unpruned", "magnitude"}), 0),
        "steps": number(int(rows.rows(method="magnitude")[0]["steps"]), 0),
        "epochs": number(int(trained["dense_steps"]) * int(trained["batch_size"]) / TRAINED_ON, 1),
        "dense": percent(dense["top1"]),
        "dense_top5": percent(dense["top5"]),
        "unpruned": percent(unpruned),
        "half": percent(half),
        "tenth": percent(magnitude["0.1"]),
        "tenth_supermask": percent(top1["supermask", "0.1"]),
        "tenth_dessilbi": percent(top1["dessilbi", "0.1"]),
        "tenth_random": percent(top1["random", "0.1"]),
        "fifth": percent(magnitude["0.2"]),
        "interval": number(100 * bounds["0.5"], 1),
        "stays_dense": percent(summary["stays_dense"], 1),
        "late_tenth": percent(top1["magnitude-late", "0.1"]),
        "top1": by_density(rows, "top1"),
        "top5": by_density(rows, "top5"),
        **speed(rows),
        **before(results),
    }


def cells(rows, column):
    """{(method, density): values over the seeds}, of methods without a teacher."""
    found = {}
    for row in rows:
        if row[column] and not float(row["distil"]):
            found.setdefault((row["method"], row["density"]), []).append(float(row[column]))
    return found


def half_width(rows, density):
    """Half of the 95 % interval of magnitude's top-1 at a density, of its test images."""
    found = rows.rows(method="magnitude", density=density)
    return mean((float(row["top1_high"]) - float(row["top1_low"])) / 2 for row in found)


def by_density(rows, column):
    """Rows of a table, in %: methods by densities, the best of each density marked by a star."""
    found = {key: mean(values) for key, values in cells(rows, column).items()}
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


def speed(rows):
    """What removal of whole groups gains."""
    groups = {d: rows.rows(method="group-lasso", density=d) for d in ("0.3", "0.5")}
    ratios = {d: mean(float(row["latency_ratio"]) for row in found) for d, found in groups.items()}
    holds(ratios["0.3"] < ratios["0.5"] < 1, "networks without the groups are faster")
    sparse = rows.rows(method="magnitude", density="0.1")
    full = mean(4e-6 * float(row["total"]) for row in sparse)
    return {
        "latency_half": number(ratios["0.5"]),
        "latency_third": number(ratios["0.3"]),
        "megabytes": number(mean(float(row["megabytes"]) for row in sparse)),
        "megabytes_dense": number(full),
    }


def before(results):
    """Accuracy before and after the steps of recovery at low densities, and who is ahead of
    magnitude at a tenth: of the sweep on digits, where it was made."""
    if not results.has(SMALL):
        return {"before": None}
    rows = results(SMALL)
    first, last = (
        {key: mean(values) for key, values in cells(rows, column).items()}
        for column in ("top1_before", "top1")
    )
    table = [
        [NAMES.get(method, method)]
        + [number(100 * found[method, d], 1) for d in LOW for found in (first, last)]
        for method in SHOWN
    ]
    magnitude, refitted = SHOWN[:2]
    least, *_, most = LOW
    interval = 2**0.5 * half_width(rows, least)
    behind = {m for m, d in last if d == least and last[m, d] <= last[magnitude, d] + interval}
    ahead = [m for m, d in last if d == least and m not in behind]
    ahead.sort(key=lambda method: -last[method, least])
    holds(ahead[0] == refitted, "refitted magnitude is the best at a tenth")
    holds(first[refitted, least] > last[magnitude, least], "the fit alone is ahead of the steps")
    level = abs(last[refitted, most] - last[magnitude, most]) < half_width(rows, most)
    holds(level, "refitted and plain magnitude are level at three tenths")
    names = [NAMES.get(method, method) for method in ahead[1:]]
    return {
        "before": table,
        "before_densities": list(LOW),
        "before_methods": number(len({row["method"] for row in rows} - {"unpruned"}), 0),
        "before_seeds": number(len({row["seed"] for row in rows}), 0),
        "before_steps": number(int(rows.rows(method=magnitude)[0]["steps"]), 0),
        "before_interval": number(100 * interval, 1),
        "before_magnitude": percent(first[magnitude, least], 1),
        "before_refitted": percent(first[refitted, least], 1),
        "after_magnitude": percent(last[magnitude, least], 1),
        "after_refitted": percent(last[refitted, least], 1),
        "after_ahead": ", ".join(names[:-1]) + f" and {names[-1]}",
    }
