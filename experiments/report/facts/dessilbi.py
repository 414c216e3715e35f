"""DessiLBI: which structure it finds, and what the structure is worth."""

from experiments.report.results import holds, mean, number, percent, share

SHOWN = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def facts(results):
    """Texts and tables of its section."""
    return {
        **filters(results),
        **densities(results),
        **asked_for(results),
        **tickets(results),
        **bases(results),
        **growing(results),
        **paths(results),
    }


def filters(results):
    """Figure 1 of the paper."""
    table = results("dessilbi_filters.json")["table"]
    holds(mean(table["selected_filters"]) < 30, "few filters of 120 are selected")
    return {
        "filters": number(table["selected_filters"], 1),
        "filters_sgd": number(table["sgd_filters_of_w_left"], 0),
        "filters_density": percent(table["density"], 1),
        "filters_w": percent(table["test_accuracy_w"]),
        "filters_support": percent(table["test_accuracy_w_on_support"]),
        "filters_gamma": percent(table["test_accuracy_gamma"]),
        "filters_dense": percent(table["sgd_test_accuracy"]),
    }


def densities(results):
    """One path for all densities."""
    rows = results("dessilbi_density_mnist.json")["table"]
    order, weights, sgd = "dessilbi", "dessilbi_magnitude", "sgd_magnitude"
    for density in (0.02, 0.05, 0.1, 0.2, 0.3):
        row = rows.row(density=density)
        values = [mean(row[name]) for name in (weights, sgd, order)]
        holds(
            values == sorted(values, reverse=True),
            f"magnitude of DessiLBI's W > of SGD's > order of entry at density {density}",
        )
    tenth = rows.row(density=0.1)
    return {
        "densities": [
            [number(100 * density, 0)]
            + [share(rows.row(density=density)[name]) for name in (order, weights, sgd)]
            for density in SHOWN
        ],
        "tenth_order": percent(tenth[order], 1),
        "tenth_weights": percent(tenth[weights], 1),
        "tenth_sgd": percent(tenth[sgd], 1),
    }


def asked_for(results):
    """A density that is asked for."""
    row = results("dessilbi_target_mnist.json")["rows"].row(target=0.1)
    kept = mean(row["w_on_support"])
    rows = results("dessilbi_density_mnist.json")["table"]
    weights = rows.row(density=0.1)["dessilbi_magnitude"]
    holds(
        abs(kept - mean(weights)) < row["w_on_support"]["std"] + weights["std"],
        "magnitude of DessiLBI's W keeps as much as a support of the density asked for",
    )
    order = mean(rows.row(density=0.1)["dessilbi"])
    holds(kept > order, "W around a support of the density asked for keeps more than the order")
    cifar10 = results("dessilbi_target_cifar10.json")["rows"].row(target=0.3)
    return {
        "cifar10_density": percent(cifar10["density"], 0),
        "cifar10_w": percent(cifar10["w"], 1),
        "cifar10_support": percent(cifar10["w_on_support"], 1),
        "cifar10_sgd": percent(cifar10["sgd"], 1),
        "cifar10_magnitude": percent(cifar10["sgd_magnitude"], 1),
        "target_density": percent(row["density"]),
        "target_kept": percent(row["w_on_support"], 1),
        "target_gain": number(100 * (kept - order), 0),
    }


def tickets(results):
    """Winning tickets."""
    rows = results("dessilbi_tickets_mnist.json")["table"]
    own, random, small, chance = (
        rows.row(found_after=epoch, masks=masks, start="initial")
        for epoch in (3, 1)
        for masks in ("support", "random")
    )
    spread = own["test_accuracy"]["std"] + random["test_accuracy"]["std"]
    holds(
        mean(own["test_accuracy"]) - mean(random["test_accuracy"]) < spread,
        "the support is no better a ticket than random masks of its layer sizes",
    )
    return {
        "ticket_density": percent(own["density"], 0),
        "ticket": percent(own["test_accuracy"], 1),
        "ticket_random": percent(random["test_accuracy"], 1),
        "small_density": percent(small["density"], 0),
        "small": percent(small["test_accuracy"], 0),
        "small_random": percent(mean(chance["test_accuracy"]), 0),
    }


def bases(results):
    """Other optimizers for W."""
    rows = results("dessilbi_bases_mnist.json")["table"]
    empty = rows.row(variant="adam, lr as clock")
    holds(mean(empty["density"]) < 0.01, "with Adam's rate as clock Γ stays empty")
    adam, sgd, rmsprop = (rows.row(variant=name) for name in ("adam", "sgd", "rmsprop"))
    columns = ("w", "w_on_support", "gamma", "density")
    return {
        "bases": [[row["variant"]] + [share(row[name]) for name in columns] for row in rows],
        "layers_names": [name.removesuffix(".weight") for name in sgd["layers"].value],
        "layers": [
            [row["variant"]] + [share(mean(layer), 1) for layer in layers_of(row)] for row in rows
        ],
        "empty_density": percent(empty["density"], 1),
        "adam_support": percent(adam["w_on_support"], 1),
        "adam_density": percent(adam["density"], 0),
        "sgd_support": percent(sgd["w_on_support"], 1),
        "sgd_density": percent(sgd["density"], 0),
        "rmsprop_support": percent(rmsprop["w_on_support"], 1),
    }


def layers_of(row):
    """Density of each layer."""
    return [row["layers"][name] for name in row["layers"].value]


def growing(results):
    """Growing networks."""
    table = results("dessilbi_growing_mnist.json")["table"]
    grown, same, full = (table[name] for name in ("grown", "same-shape", "full"))
    holds(
        mean(same["test_accuracy"]) >= mean(grown["test_accuracy"]),
        "the grown shape from scratch is as good as the grown network",
    )
    return {
        "grown": percent(grown["test_accuracy"], 1),
        "grown_shape": percent(same["test_accuracy"], 1),
        "grown_parameters": number(grown["parameters"]["mean"], 0),
        "full": percent(full["test_accuracy"], 1),
        "full_parameters": number(full["parameters"]["mean"], 0),
    }


def paths(results):
    """Sparse regression, where the truth is known; and what a step costs."""
    rows = results("linear_path.json")["recovery"]
    found = {}
    for method in ("split ISS, ν = 10", "split ISS, ν = 1", "lasso"):
        values = [rows.row(correlation=c, method=method)["exact_support"] for c in (0.0, 0.5, 0.8)]
        found[method] = ", ".join(number(100 * value, 0) for value in values)
    holds(
        rows.row(correlation=0.8, method="split ISS, ν = 10")["exact_support"] > 0.5,
        "the split path passes the truth where columns are correlated by 0.8",
    )
    ratios = [row["training_ratio"] for row in results("bench_dessilbi.jsonl")]
    return {
        "path_split": found["split ISS, ν = 10"],
        "path_split_1": found["split ISS, ν = 1"],
        "path_lasso": found["lasso"],
        "cost_least": number(min(ratios)),
        "cost_most": number(max(ratios)),
    }
