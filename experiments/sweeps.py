"""The rows of a pruning sweep, as its table (prune_NAME.csv) keeps them."""

import csv

from groundfloor.errors import UserError, first_line

WORDS = ("method", "note", "exact", "checkpoint")


def read(path):
    """Rows of a sweep (dicts), as it had them; UserError if the file holds none."""
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [row(texts) for texts in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no table of a sweep ({first_line(error)})") from None


def row(texts):
    """A line of the table (dict of text) as the sweep had it: numbers, no empty columns."""
    numbers = {k: float(v) for k, v in texts.items() if v != "" and k not in WORDS}
    density = numbers.pop("density", None)
    words = {k: texts[k] for k in WORDS}
    return {**words, **numbers, "density": density, "seed": int(texts["seed"])}
