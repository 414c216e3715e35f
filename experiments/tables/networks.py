"""Tables of optim_torch: BatchNorm and the landscape, the parts of a network."""

from experiments.tables.markdown import Column, Table, accuracy

TRAINED = (Column("normaliser", "norm"), Column("rate", "rate"), accuracy("test, %", "test"))
PROBES = (
    *TRAINED,
    Column("loss at the end", "last_loss", 4),
    Column("width of the loss band", "loss_width", 4),
    Column("change of the gradient", "change_most"),
    Column("β, shortest length", "beta", 1, at=0),
    Column("β, longest length", "beta", 1, at=-1),
    Column("diverged", "diverged"),
)
EDGES = (
    *TRAINED,
    Column("λ rate / 2, most", "edges_most", at="largest"),
    Column("λ rate / 2, later", "edges", at="largest"),
    Column("batch sharpness rate / 2, later", "edges", at="sharpness"),
    Column("β rate / 2, later", "edges", at="beta"),
    Column("λ ‖w‖², later", "times_square", 0),
    Column("‖w‖² over that at the start, later", "growth"),
)

LANDSCAPE = (
    Table("landscape_digits.json", "digits, VGG_A_Light", PROBES),
    Table("landscape_cifar10-light.json", "CIFAR-10, VGG_A_Light", PROBES),
    Table(
        "landscape_cifar10-norms.json",
        "400 steps of SGD on CIFAR-10, VGG_A_Light with every normaliser",
        PROBES,
    ),
    Table("landscape_cifar10-vgg-a.json", "CIFAR-10, the course's VGG-A by Adam, 8 epochs", PROBES),
    Table(
        "landscape_digits-edge.json",
        "Gradient descent on 512 digits: shares of the edge of stability (1 is at it)",
        EDGES,
    ),
    Table(
        "landscape_cifar10-edge.json",
        "400 steps of SGD on CIFAR-10: shares of the edge, λ being that of 512 images",
        EDGES,
    ),
    Table(
        "landscape_digits-edge-adam.json",
        "Adam on 512 digits: shares of its edge of stability, the preconditioned λ being 38 / rate",
        (
            *TRAINED,
            Column("preconditioned, most", "edges_most", at="preconditioned"),
            Column("preconditioned, later", "edges", at="preconditioned"),
            Column("λ rate / 2, later", "edges", at="largest"),
        ),
    ),
)

PARTS = (
    Column("part", "axis"),
    Column("value", "value"),
    Column("rate", "setting", at="rate"),
    accuracy("validation, %", "val"),
    Column("parameters", "parameters"),
    Column("seconds", "seconds", 0),
)
TESTED = (Column("network", "name"), accuracy("test, %", "value"), Column("seeds", "seeds"))

STUDY = (
    Table("study_cifar10-cpu.json", "CIFAR-10: one part of the base changed at a time", PARTS),
    Table("study_cifar10-cpu.json", "The chosen network on test", TESTED, rows="test"),
    Table("study_cifar10-base.json", "CIFAR-10: the base of longer trainings", PARTS),
    Table("study_cifar10-base.json", "That base on test", TESTED, rows="test"),
    Table("study_cifar10-94.json", "CIFAR-10: one network for 94 %", PARTS),
    Table("study_cifar10-94.json", "That network on test", TESTED, rows="test"),
)
