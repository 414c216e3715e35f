"""A Vision Transformer at nine densities."""

from statistics import mean

from experiments.report.results import holds, number, percent

DENSITIES = tuple(f"0.{tenth}" for tenth in range(1, 10))
FILE = "prune_cifar10-small.csv"
NAMES = {
    "sparsegpt": "SparseGPT",
    "wanda": "Wanda",
    "compensated": "compensation",
    "dessilbi": "DessiLBI",
    "l1": "lasso",
    "group-lasso": "group lasso",
}
TRAINED_ON = 45_000  # images of CIFAR-10 without those of validation
SMALL = "prune_digits.csv"  # the same protocol on 8x8 digits, with accuracy before recovery


def facts(results):
    """Texts and tables of its section."""
    rows, summary = results(FILE), results("prune_cifar10-small.json")
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
    """Accuracy before the steps of recovery, where it was measured: of the sweep itself, else of
    the one on digits."""
    for name, data in ((FILE, "CIFAR-10"), (SMALL, "digits")):
        if results.has(name) and cells(results(name), "top1").keys():
            rows = results(name)
            if "top1_before" in rows[0].value and rows[0]["top1_before"]:
                return told_before(rows, data)
    return {"before": None}


def told_before(rows, data):
    """Rows (method; before and after at each density), and the sentence's numbers."""
    first, last = (
        {key: mean(values) for key, values in cells(rows, column).items()}
        for column in ("top1_before", "top1")
    )
    densities = [d for d in ("0.3", "0.5", "0.7") if ("magnitude", d) in first]
    others = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "unpruned"]
    shown = [
        m for m in others if m in ("magnitude", "wanda", "sparsegpt", "compensated", "variance")
    ]
    table = [
        [NAMES.get(method, method)]
        + [
            number(100 * found[method, d], 1) if (method, d) in found else "–"
            for d in densities
            for found in (first, last)
        ]
        for method in shown
    ]
    density = densities[0]
    best = max(shown, key=lambda method: first.get((method, density), 0))
    worst = min(shown, key=lambda method: first.get((method, density), 1))
    holds(best != "magnitude", "magnitude is beaten before recovery")
    holds(first[best, density] < last["magnitude", density], "recovery does more than refitting")
    return {
        "before": table,
        "before_densities": densities,
        "before_data": data,
        "before_at": density,
        "before_best": NAMES.get(best, best),
        "before_worst": NAMES.get(worst, worst),
        "before_worst_share": percent(first[worst, density], 1),
        "before_interval": number(100 * half_width(rows, density), 1),
        "before_best_share": percent(first[best, density], 1),
        "before_magnitude": percent(first["magnitude", density], 1),
        "after_best": percent(last[best, density], 1),
        "after_magnitude": percent(last["magnitude", density], 1),
        "before_seeds": number(len({row["seed"] for row in rows}), 0),
    }
