"""Methods beside magnitude, cell by cell: the same seed gives both the same batches."""

from statistics import mean, stdev

from scipy.stats import ttest_1samp

from prune_torch.protocol.families import REFERENCE, lines, paired


def differences(rows, column="top1"):
    """Rows (dicts): how far each line is above magnitude, in points of `column`.

    method; density, or "all": the mean over those that both have; seeds: their number; difference,
    std: mean and sample standard deviation over seeds; p: of Student's test on the differences of
    pairs (two-sided), None for fewer than two seeds or no spread beyond rounding, not corrected for
    the number of methods. All seeds begin with one dense network: std and p say what batches and
    draws do, not what another network would. Densities of one seed have their batches in common:
    "all" has one difference a seed, too.
    """
    named = lines([row for row in rows if row["density"] is not None and column in row])
    theirs = {(row["density"], row["seed"]): row for row in named.pop(REFERENCE, ())}
    table = []
    for name, own in named.items():
        gaps = {
            level: {row["seed"]: 100 * (row[column] - other[column]) for row, other in pairs}
            for level, pairs in paired(own, theirs).items()
        }
        table += [_line(name, level, list(of_level.values())) for level, of_level in gaps.items()]
        if len(gaps) > 1:
            whole = set.intersection(*(set(seeds) for seeds in gaps.values()))
            means = [mean(gaps[level][seed] for level in gaps) for seed in sorted(whole)]
            table += [_line(name, "all", means)] if means else []
    return table


def _line(name, level, gaps):
    spread = stdev(gaps) if len(gaps) > 1 else None
    return {
        "method": name,
        "density": level,
        "seeds": len(gaps),
        "difference": mean(gaps),
        "std": spread,
        "p": float(ttest_1samp(gaps, 0.0).pvalue) if spread and spread > 1e-9 else None,
    }
