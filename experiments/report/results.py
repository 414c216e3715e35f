"""Result files as the report reads them: what is not there is named, in one line."""

import csv
import json

from groundfloor import npz
from groundfloor.errors import UserError
from groundfloor.runs import read_json, read_rows


class Record:
    """A dict or list of a result file; a missing key is a UserError that names file and key."""

    def __init__(self, value, where):
        self.value, self.where = value, where

    def __getitem__(self, key):
        try:
            return _record(self.value[key], f"{self.where}: {key}")
        except (KeyError, IndexError, TypeError):
            raise UserError(f"{self.where} has no {key!r}, which the report speaks of") from None

    def __iter__(self):
        for place in self.value if isinstance(self.value, dict) else range(len(self.value)):
            yield self[place]

    def __len__(self):
        return len(self.value)

    def get(self, key, default=None):
        """As `[key]`, or the default where there is none."""
        return self[key] if key in self.value else default

    def rows(self, **wanted):
        """The rows (Records) of a list that have these values."""
        return [row for row in self if all(row.value.get(k) == v for k, v in wanted.items())]

    def row(self, **wanted):
        """The one row of a list that has these values."""
        found = self.rows(**wanted)
        if len(found) != 1:
            raise UserError(f"{self.where} has {len(found)} rows with {wanted}, not one")
        return found[0]


def _record(value, where):
    return Record(value, where) if isinstance(value, dict | list) else value


class Results:
    """The folder of result files."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        """What NAME.json, .jsonl or .csv holds; UserError where it is missing."""
        path = self.folder / name
        if path.suffix == ".csv":
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    return Record([*csv.DictReader(file)], name)
            except FileNotFoundError:
                raise UserError(f"{path} does not exist") from None
        return Record(read_rows(path) if path.suffix == ".jsonl" else read_json(path), name)

    def network(self, name):
        """What a network's file says about itself."""
        with npz.reading(self.folder / name, "a functa") as arrays:
            return Record(json.loads(str(arrays["about"])), name)

    def picture(self, *names):
        """The first of these pictures that is there; the first name where none is."""
        return next(filter(self.has, names), names[0])

    def has(self, name):
        """Whether a result is there, of those that the report can do without."""
        return (self.folder / name).exists()


def holds(statement, sentence):
    """UserError unless a statement of the text is still true of the results."""
    if not statement:
        raise UserError(f"the results no longer show what the report says: {sentence}")


# ---- numbers as text ----


def number(value, digits=2):
    """27.91, or 27.91 ± 0.06 of a spread (Record of mean and std, std perhaps none)."""
    if not isinstance(value, Record):
        return f"{value:,.{digits}f}".replace("-", "−")
    std = value["std"]
    return number(value["mean"], digits) + ("" if std is None else f" ± {std:,.{digits}f}")


def db(value, digits=2):
    """In decibels, with its unit, which no line break parts from it."""
    return number(value, digits).replace(" ", "\u00a0") + "\u00a0dB"


def percent(value, digits=2):
    """A share of one in %, with its unit."""
    return share(value, digits).replace(" ", "\u00a0") + "\u00a0%"


def share(value, digits=2):
    """A share of one in %, without its unit, for tables."""
    if not isinstance(value, Record):
        return number(100 * value, digits)
    std = value["std"]
    mean = number(100 * value["mean"], digits)
    return mean if std is None else f"{mean} ± {100 * std:.{digits}f}"


def mean(value):
    """The mean of a spread, or the number itself."""
    return value["mean"] if isinstance(value, Record) else value
