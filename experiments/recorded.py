"""What a result file says about its own making: the commit, and the seconds that it took."""

import csv

from groundfloor.runs import read_json


def commits(path):
    """The commits of a JSON result, several if several machines made it; None where it names none,
    and of other files."""
    contents = read_json(path) if path.suffix == ".json" else {}
    made = [one.get("commit") for one in contents.get("joined", [contents])]
    return [None if commit == "unknown" else commit for commit in made]


def seconds(path):
    """Seconds that a JSON result, or the table beside it, took in all; None where they are not
    recorded.

    They stand in the file once, or with each of its runs or rows: a number, a list over seeds, or
    the mean over them.
    """
    if path.suffix != ".json" or not path.exists():
        return None
    table = path.with_suffix(".csv")
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            return sum(float(row["seconds"] or 0) for row in csv.DictReader(file))
    contents = read_json(path)
    for one in (contents, *(contents.get(key) for key in ("runs", "rows", "table"))):
        rows = one if isinstance(one, list) else [one or {}]
        found = [taken(row, len(contents.get("seeds", [0]))) for row in rows]
        if any(found):
            return sum(found)
    return None


def taken(row, seeds):
    """Seconds of a row, over all its seeds; 0 where it has none."""
    value = row.get("seconds", row.get("train_seconds", 0)) or 0
    if isinstance(value, dict):
        return seeds * value["mean"] if "mean" in value else sum(value.values())
    return sum(value) if isinstance(value, list) else value
