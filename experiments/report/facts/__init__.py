"""The numbers of the paper: one module a study, each gives a dict of texts and tables.

Where the text says that one thing is ahead of another, `results.holds` beside the numbers ends the
build when the results no longer show it.
"""

from pathlib import Path

from experiments.claims import CLAIMS
from experiments.report.facts import (
    batchnorm,
    compression,
    dessilbi,
    functa,
    networks,
    origins,
    pruning,
    published,
    readers,
    robust,
    tasks,
)
from experiments.report.quoting import quoted
from experiments.report.results import Results

CODE = {
    "fit": ("functa_jax/training/inner_loop.py", "fit"),
    "siren": ("functa_jax/model/siren.py", "Siren.__call__"),
    "gauss_newton": ("functa_jax/training/inner_loop.py", "_gauss_newton"),
    "top_masks": ("prune_torch/density.py", "top_masks"),
    "compensate": ("prune_torch/methods/compensated.py", "OneShot.masks"),
    "select": ("optim_torch/dessilbi/updates.py", "select"),
    "couple": ("optim_torch/dessilbi/optimizer.py", "DessiLBI._couple"),
    "point": ("optim_torch/landscape/probing.py", "_point"),
}


def gather(folder, authors=()):
    """All facts (dict of dicts that JSON can hold) from the folder of results.

    Raises UserError where a file or a key is missing, and where a sentence is no longer true.
    """
    results = Results(Path(folder))
    return {
        "authors": list(authors) or origins.authors(),
        "published": published.facts(),
        "functa": functa.facts(results) | readers.facts(results) | compression.facts(results),
        "tasks": tasks.facts(results),
        "pruning": pruning.facts(results),
        "dessilbi": dessilbi.facts(results),
        "batchnorm": batchnorm.facts(results),
        "networks": networks.facts(results),
        "robust": robust.facts(results),
        "pictures": {
            name: results.picture(f"{stem}_landscape.png", f"{stem}_landscape_same_rate.png")
            for name, stem in (
                ("landscape_digits", "landscape_digits"),
                ("landscape_cifar10", "landscape_cifar10-light"),
            )
        },
        "origins": origins.table(results, CLAIMS),
        "code": {name: quoted(path, function) for name, (path, function) in CODE.items()},
    }
