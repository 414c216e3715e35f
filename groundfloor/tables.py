"""Tables, lists of rows (dicts of column -> value), as text, CSV and LaTeX.

A column is missing from a row where it has no value. Numbers have four digits in text and LaTeX,
all of them in CSV.
"""

import csv
import io
from typing import Literal

from groundfloor.runs import atomic

Kind = Literal["csv", "tex"] | None  # of a command's --table

LATEX = {char: rf"\{char}" for char in "&%$#_{}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX = str.maketrans(LATEX | {"±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}"})


def columns_of(rows):
    """Names of all columns, in the order in which rows name them."""
    return list(dict.fromkeys(column for row in rows for column in row))


def cell_text(value):
    """A cell as text."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value):
    """Whether a cell is a number, or empty as such cells may be."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def as_text(rows):
    """The table as aligned lines."""
    columns = columns_of(rows)
    lines = [columns] + [[cell_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_csv(rows):
    """The table as CSV, an empty cell where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_tex(rows):
    """The table as a LaTeX tabular (package booktabs), numbers set right."""
    columns = columns_of(rows)
    numeric = (all(is_number(row.get(column)) for row in rows) for column in columns)
    lines = [columns] + [[cell_text(row.get(column)) for column in columns] for row in rows]
    head, *body = (" & ".join(cell.translate(LATEX) for cell in line) + r" \\" for line in lines)
    layout = "".join("lr"[number] for number in numeric)
    parts = [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])


FORMATS = {"csv": as_csv, "tex": as_tex}


def write(path, rows):
    """Write the table in the format that the file's name ends with, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(FORMATS[path.suffix[1:]](rows), encoding="utf-8")
