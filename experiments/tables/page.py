"""The page of all tables, and the lines of the readme."""

from experiments.tables import dessilbi, functa, headlines, networks, pruning, readings, robust
from experiments.tables.markdown import section, shown
from groundfloor.errors import UserError

MARKS = ("[results: written by python -m experiments.tables]", "[end of results]")
CHAPTERS = {  # title: (what its tables say, in words; its tables)
    "functa_jax: images become latents": (readings.RECONSTRUCTION, functa.LATENTS),
    "functa_jax: what latents are good for": (readings.TASKS, functa.TASKS),
    "prune_torch: a Vision Transformer at nine densities": (readings.PRUNING, pruning.PRUNING),
    "optim_torch: DessiLBI": (readings.DESSILBI, dessilbi.DESSILBI),
    "optim_torch: robust statistics": (readings.ROBUST, robust.ROBUST),
    "optim_torch: BatchNorm and the landscape": (readings.LANDSCAPE, networks.LANDSCAPE),
    "optim_torch: the parts of a network": (readings.STUDY, networks.STUDY),
}


def long_page(results):
    """The page of all tables of the folder `results`, in Markdown."""
    text = [
        "Results",
        "=======",
        "",
        "Written by `python -m experiments.tables` from the files beside it, not to be edited.",
        "Mean ± standard deviation over the seeds; without ±, one seed. A dash: not measured.",
    ]
    for chapter, (reading, tables) in CHAPTERS.items():
        text += ["", f"## {chapter}", "", reading.strip()]
        for table in tables:
            path = results / table.file
            if path.exists():
                with shown(path):
                    text += ["", f"### {table.title}", "", *section(table, path)]
                text += pictures(path)
    return "\n".join(text) + "\n"


def pictures(path):
    """A line with links to the pictures of a result file, if there are any: whose names begin with
    its own, but not with the longer one of another."""
    results = {file.stem for file in path.parent.glob("*.json*")}
    longer = tuple(stem for stem in results if stem.startswith(f"{path.stem}_"))
    names = sorted(
        picture.name
        for picture in path.parent.glob(f"{path.stem}*.png")
        if not picture.stem.startswith(longer)
    )
    links = [f"[{name.removesuffix('.png')}]({name})" for name in names]
    return ["", f"Pictures: {', '.join(links)}"] if links else []


def with_results(lines, results):
    """The readme's text with the lines between its marks written anew."""
    before, mark, rest = lines.partition(MARKS[0] + "\n")
    _, end, after = rest.partition(MARKS[1])
    if not mark or not end:
        raise UserError(f"the readme has no lines {MARKS[0]!r} and {MARKS[1]!r}")
    return (
        before
        + mark
        + "".join(f"{line}\n" for line in headlines.short_table(results))
        + end
        + after
    )
