"""BatchNorm's three measures, and the edge of stability."""

import re

from experiments.report.results import holds, mean, number, percent

NAMES = {"none": "without", "batch": "with"}


def facts(results):
    """Texts and tables of its section."""
    digits, cifar10 = (
        results(f"landscape_{name}.json")["table"] for name in ("digits", "cifar10-light")
    )
    ratios = {rate: width_ratio(digits, rate) for rate in (0.03, 0.1, 0.3)}
    holds(min(ratios[0.03], ratios[0.1]) > 10, "BatchNorm's bands are far narrower on digits")
    holds(ratios[0.3] < 5, "at the best rate of both the bands are nearly as wide")
    far = [width_ratio(cifar10, rate) for rate in (0.05, 0.1, 0.2)]
    holds(max(max(far), 1 / min(far)) < 1.4, "in CIFAR-10's first epoch the widths agree")
    products = [row["beta"][0] * row["rate"] for row in cifar10]
    holds(
        min(products) > 1.2 and max(products) < 2,
        "β times the rate is 1.2 to 2 throughout",
    )
    shortest = [beta_ratio(cifar10, rate, 0) for rate in (0.05, 0.1, 0.2)]
    holds(max(max(shortest), 1 / min(shortest)) < 1.25, "β agrees at the shortest length")
    lower = [beta_ratio(digits, rate, 0) for rate in (0.03, 0.1, 0.3)]
    holds(min(lower) > 1.2, "on digits β is lower with BatchNorm at every rate that both train at")
    for norm in NAMES:
        slow, fast = (digits.row(norm=norm, rate=rate)["beta"][0] for rate in (0.03, 0.3))
        holds(8 < slow / fast < 15, "on digits β falls by about ten when the rate rises tenfold")
    longer = [beta_ratio(cifar10, rate, -1) for rate in (0.05, 0.1, 0.2)]
    holds(min(longer) > 1, "at the longest length β is lower with BatchNorm on CIFAR-10")
    settings = results("landscape_cifar10-light.json")
    return {
        "narrower_low": number(ratios[0.03], 0),
        "narrower": number(ratios[0.1], 0),
        "narrower_best": number(ratios[0.3], 1),
        "wider_most": number(100 * (max(max(far), 1 / min(far)) - 1), 0),
        "shortest_most": number(100 * (max(max(shortest), 1 / min(shortest)) - 1), 0),
        "product_least": number(min(products)),
        "product_most": number(max(products)),
        "lower_least": number(min(lower), 1),
        "lower_most": number(max(lower), 1),
        "longer_least": number(min(longer), 1),
        "longer_most": number(max(longer), 1),
        **longest(cifar10),
        "measures": [line(row) for row in cifar10],
        "measures_digits": [line(row) for row in digits if not row["diverged"]],
        "seeds": number(len(settings["seeds"]), 0),
        "diverged": number(sum(row["diverged"] for row in digits.rows(rate=1.0)), 0),
        "diverged_of": number(sum(row["seeds"] for row in digits.rows(rate=1.0)), 0),
        "steps": re.search(r"--steps (\d+)", settings["flags"]).group(1),
        **edge(results),
        **edge_of_batches(results),
        **trained(results),
    }


def trained(results):
    """VGG-A after eight epochs."""
    table = results("landscape_cifar10-vgg-a.json")["table"]
    plain, normal = (table.row(norm=norm) for norm in NAMES)
    holds(mean(normal["test"]) > mean(plain["test"]), "VGG-A is better with BatchNorm")
    return {
        "vgg_plain": percent(plain["test"], 1),
        "vgg_batch": percent(normal["test"], 1),
    }


def width_ratio(table, rate):
    """How many times as wide the loss band is without BatchNorm."""
    widths = [table.row(norm=norm, rate=rate)["loss_width"] for norm in NAMES]
    return widths[0] / widths[1]


def beta_ratio(table, rate, length):
    """How many times as large β is without BatchNorm, at the length of that position."""
    plain, normal = (table.row(norm=norm, rate=rate)["beta"][length] for norm in NAMES)
    return plain / normal


def longest(table):
    """β at the longest length, rate 0.1, beside the reciprocal of that length."""
    plain, normal = (table.row(norm=norm, rate=0.1) for norm in NAMES)
    inverse = 1 / (plain["lengths"][-1] * plain["rate"])
    betas = [row["beta"][-1] for row in (plain, normal)]
    holds(min(betas) > 2 * inverse, "β at the longest length is far above its reciprocal")
    return {
        "longest_plain": number(betas[0], 1),
        "longest_batchnorm": number(betas[1], 1),
        "longest_inverse": number(inverse, 1),
    }


def line(row):
    """A row of the table of measures."""
    return [
        NAMES[row["norm"]],
        f"{row['rate']:g}",
        number(100 * row["test"]["mean"], 1),
        f"{row['loss_width']:.3g}",
        f"{row['change_most']:.3g}",
        number(row["beta"][0], 1),
        number(row["beta"][-1], 1),
        number(row["beta"][0] * row["rate"]),
    ]


def edge_of_batches(results):
    """Shares of the edge of stability under SGD on CIFAR-10."""
    table = results("landscape_cifar10-edge.json")["table"]
    later = {name: [row["edges"][name] for row in table] for name in ("largest", "sharpness")}
    holds(min(later["largest"]) > 0.8, "SGD on CIFAR-10 is near the edge, all rates and networks")
    holds(max(later["largest"]) < 1.5, "and stays near it")
    holds(max(later["sharpness"]) < 0.7, "batch sharpness is far below it")
    return {
        f"{name}_{most}": number(bound(values))
        for name, values in later.items()
        for most, bound in (("least", min), ("most", max))
    }


def edge(results):
    """Shares of the edge of stability under gradient descent."""
    table = results("landscape_digits-edge.json")["table"]
    rows = {norm: table.rows(norm=norm) for norm in NAMES}
    over = [row["edges_most"]["largest"] for row in rows["none"]]
    first, *others = rows["batch"]
    holds(min(over) > 1, "without normalisation λ passes the edge at every rate")
    holds(first["edges_most"]["largest"] < 1, "with BatchNorm it is not met at the lowest rate")
    return {
        "edge_over_least": number(min(over), 1),
        "edge_over_most": number(max(over), 1),
        "edge_batch": number(first["edges_most"]["largest"]),
        "edge_batch_most": " and ".join(number(r["edges_most"]["largest"], 1) for r in others),
        "edge_rate": f"{first['rate']:g}",
    }
