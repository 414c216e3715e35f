"""The numbers of the paper: one module a study, each gives a dict of texts and tables.

Where the text says that one thing is ahead of another, `results.holds` beside the numbers ends the
build when the results no longer show it.
"""

from pathlib import Path

from experiments.claims import CLAIMS, KEPT
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
from groundfloor.errors import UserError

CODE = {
    "fit": ("functa_jax/training/inner_loop.py", "fit"),
    "siren": ("functa_jax/model/siren.py", "Siren.__call__"),
    "gauss_newton": ("functa_jax/training/inner_loop.py", "_gauss_newton"),
    "top_masks": ("groundfloor/pytorch/masking.py", "top_masks"),
    "compensate": ("prune_torch/methods/compensated.py", "OneShot.masks"),
    "select": ("optim_torch/dessilbi/updates.py", "select"),
    "couple": ("optim_torch/dessilbi/optimizer.py", "DessiLBI._couple"),
    "point": ("optim_torch/landscape/probing.py", "_point"),
}


SECTIONS = {  # of the facts: the modules that give them
    "functa": (functa, readers, compression),
    "tasks": (tasks,),
    "pruning": (pruning,),
    "dessilbi": (dessilbi,),
    "batchnorm": (batchnorm,),
    "networks": (networks,),
    "robust": (robust,),
}
PICTURES = {  # names that have changed: the first that is there
    "landscape_digits": (
        "landscape_digits_landscape.png",
        "landscape_digits_landscape_same_rate.png",
    ),
    "landscape_cifar10": (
        "landscape_cifar10-light_landscape.png",
        "landscape_cifar10-light_landscape_same_rate.png",
    ),
}


def gather(folder, authors=()):
    """All facts (dict of dicts that JSON can hold) from the folder of results.

    Raises UserError where a file, a key or a row is missing, and where a sentence is no longer
    true.
    """
    results = Results(Path(folder))
    told = {
        section: {name: fact for part in parts for name, fact in of_part(part, results).items()}
        for section, parts in SECTIONS.items()
    }
    return told | {
        "authors": list(authors) or origins.authors(),
        "published": published.facts(),
        "origins": origins.table(results, CLAIMS, KEPT),
        "pictures": {name: results.picture(*names) for name, names in PICTURES.items()},
        "code": {name: quoted(path, function) for name, (path, function) in CODE.items()},
    }


def of_part(module, results):
    """The facts of one module; UserError where the results lack a row that it looks up."""
    try:
        return module.facts(results)
    except (KeyError, IndexError, StopIteration, ValueError) as error:
        name = module.__name__.rpartition(".")[2]
        raise UserError(f"the results lack what the report says of {name}: {error}") from None
