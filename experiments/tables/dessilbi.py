"""Tables of optim_torch's DessiLBI."""

from experiments.tables.markdown import Column, Table, accuracy

ASKED_FOR = (
    accuracy("asked for, %", "target"),
    accuracy("density, %", "density"),
    accuracy("W, %", "w"),
    accuracy("on supp Γ, %", "w_on_support"),
    accuracy("Γ itself, %", "gamma"),
)
DESSILBI = (
    Table(
        "dessilbi_filters.json",
        "Figure 1 of the paper: which of 120 filters of conv3 are selected (paper: about 15)",
        (
            Column("filters selected", "selected_filters", 1),
            Column("left by SGD", "sgd_filters_of_w_left"),
            accuracy("density, %", "density"),
            accuracy("W, %", "test_accuracy_w"),
            accuracy("on supp Γ, %", "test_accuracy_w_on_support"),
            accuracy("Γ itself, %", "test_accuracy_gamma"),
            accuracy("SGD, %", "sgd_test_accuracy"),
        ),
    ),
    Table(
        "dessilbi_density_mnist.json",
        "One path for all densities, nothing retrained: test accuracy",
        (
            accuracy("density, %", "density"),
            accuracy("DessiLBI's order, %", "dessilbi"),
            accuracy("magnitude of DessiLBI's W, %", "dessilbi_magnitude"),
            accuracy("magnitude of SGD's W, %", "sgd_magnitude"),
        ),
    ),
    Table(
        "dessilbi_target_mnist.json",
        "A density that is asked for: λ follows it, nothing is retrained",
        ASKED_FOR,
        rows="rows",
    ),
    Table(
        "dessilbi_target_cifar10.json",
        "The same with ResNet-20 on CIFAR-10, beside SGD's network",
        (
            *ASKED_FOR,
            accuracy("SGD, %", "sgd"),
            accuracy("SGD's largest weights, %", "sgd_magnitude"),
        ),
        rows="rows",
    ),
    Table(
        "dessilbi_tickets_mnist.json",
        "Winning tickets",
        (
            Column("found after epoch", "found_after", 0),
            Column("masks", "masks"),
            Column("weights", "start"),
            accuracy("density, %", "density"),
            accuracy("test, %", "test_accuracy"),
        ),
    ),
    Table(
        "dessilbi_bases_mnist.json",
        "Other optimizers for W",
        (
            Column("base", "variant"),
            accuracy("W, %", "w"),
            accuracy("on supp Γ, %", "w_on_support"),
            accuracy("Γ itself, %", "gamma"),
            accuracy("density, %", "density"),
        ),
    ),
    Table(
        "dessilbi_growing_mnist.json",
        "Growing",
        (
            Column("network", "name"),
            Column("parameters", "parameters", 0),
            accuracy("test, %", "test_accuracy"),
        ),
    ),
    Table("linear_path.json", "Sparse regression: is the truth on the path?", rows="recovery"),
    Table("bench_dessilbi.jsonl", "Speed of a training step beside the base optimizer alone"),
)
