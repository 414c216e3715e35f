"""The parts of a network for CIFAR-10, and the best one."""

from experiments.report.results import holds, mean, number, percent, share

LONG = ("study_cifar10-94.json", "study_cifar10-base.json")  # the first that is there is told


def facts(results):
    """Texts and tables of its section."""
    study = results("study_cifar10-cpu.json")
    table, test = study["table"], study["test"]
    base = table.row(axis="base")
    plain, residual, normal = (
        table.row(axis="blocks", value=value) for value in ("plain", "residual", "bn")
    )
    holds(mean(test["best"]) > mean(test["base"]), "the best of each part beats the base")
    worth = mean(base["val"]) - mean(residual["val"])
    alone = mean(normal["val"]) - mean(plain["val"])
    squared = table.row(axis="losses", value="squared+l2")
    holds(mean(squared["val"]) < mean(base["val"]) - 0.05, "squared error costs many points")
    bare = table.row(axis="losses", value="cross-entropy")
    holds(abs(mean(bare["val"]) - mean(base["val"])) < 0.01, "weight decay is worth nothing")
    holds(worth > 0.05 and alone > 0.05, "BatchNorm is worth many points so early")
    best = table.row(axis="combined")
    told = {
        "base": percent(test["base"]),
        "base_parameters": number(base["parameters"], 0),
        "best": percent(test["best"]),
        "best_parameters": number(best["parameters"], 0),
        "best_seconds": number(best["seconds"], 0),
        "best_parts": f"{best['setting']['activation']}, {best['setting']['optimizer']}, "
        f"{best['setting']['loss']}, width × {best['setting']['width']:g}",
        "squared": number(100 * (mean(base["val"]) - mean(squared["val"])), 0),
        "bn_residual": number(100 * worth, 0),
        "bn_alone": number(100 * alone, 0),
        "parts": [
            [
                row["axis"],
                str(row["value"]),
                f"{row['setting']['rate']:g}",
                share(row["val"], 1),
                number(row["parameters"], 0),
                number(row["seconds"], 0),
            ]
            for row in table
        ],
        "rows": number(len(table), 0),
        "long": None,
    }
    longest = [name for name in LONG if results.has(name)]
    if longest:
        long = results(longest[0])
        row = long["table"][0]
        value = long["test"]["base"]
        told |= {
            "long": percent(value),
            "long_parameters": number(row["parameters"] / 1e6, 1),
            "long_minutes": number(row["seconds"] / 60, 0),
            "long_seeds": number(value.get("seeds", 1), 0),
        }
    return told
