"""Tables of prune_torch."""

from experiments.tables.markdown import Column, Table

PRUNING = (
    Table("prune_digits.csv", "digits: top-1 in %"),
    Table(
        "prune_dense_cifar10-small.json",
        "CIFAR-10, 471,786 parameters: the dense network, as released",
        (
            Column("split", "name"),
            Column("top-1", "top1", share=True),
            Column("top-5", "top5", share=True),
        ),
        rows="released",
    ),
    Table("prune_cifar10-small.csv", "CIFAR-10, 471,786 parameters: top-1 in %"),
    Table(
        "prune_recovery_cifar10-small.json",
        "CIFAR-10, 471,786 parameters: top-1 against steps of recovery, density 0.3",
        (
            Column("method", "method"),
            Column("steps", "steps"),
            Column("steps and passes", "passes", 0),
            Column("top-1", "top1", share=True),
        ),
    ),
    Table(
        "prune_cifar10-groups.csv",
        "CIFAR-10, 471,786 parameters: heads and neurons that are cut out, top-1 in %",
    ),
    Table(
        "prune_speed_cifar10-small.json",
        "CIFAR-10, 471,786 parameters: milliseconds of a call, in turns with the dense network",
        (
            Column("network", "name"),
            Column("engine", "engine"),
            Column("images at once", "batch"),
            Column("ms", "ms"),
            Column("of the dense network's", "ratio"),
            Column("MB", "megabytes"),
            Column("top-1", "top1", share=True),
        ),
        rows="rows",
    ),
    Table(
        "prune_speed_cifar10-small.json",
        "Where sparse products pay: linear layers by 64 tokens, two threads",
        (
            Column("matrix", "matrix"),
            Column("density", "density"),
            Column("dense, ms", "dense_ms", 3),
            Column("CSR, times as fast", "csr_speed"),
            Column("rows cut out, times as fast", "rows_speed"),
        ),
        rows="breakeven.rows",
        note="How many times as fast as the dense product it is with a sparse matrix (CSR), and "
        "with the same share of whole rows.",
    ),
    Table("prune_cifar10-first.csv", "CIFAR-10, 308,042 parameters: top-1 in %"),
    Table(
        "prune_memory_cpu.json",
        "Host memory of a whole cell, ViT-B/16",
        (
            Column("method", "method"),
            Column("bytes", "bytes"),
            Column("seconds", "seconds", 0),
        ),
    ),
)
