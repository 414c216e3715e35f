"""Tables of results, rows of column -> value: as text, as CSV for programs, as LaTeX for papers."""

import csv
import io
from typing import Literal

from groundfloor.runs import atomic

Kind = Literal["csv", "tex"] | None  # of a command's --table
SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    }
)


def complete(rows):
    """The rows with all columns that any of them has, in the order in which they appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def as_text(rows):
    """The table as aligned text; "" without rows."""
    if not rows:
        return ""
    rows = complete(rows)
    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def cell(value):
    """A cell as text; numbers to four digits."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def is_number(value):
    """Whether a value is a number, or none where there may be one."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def write(path, rows, kind):
    """Write `rows`, dicts that may lack columns, to `path` (without suffix) .csv or .tex.

    kind: "csv" (RFC 4180, numbers in full, empty for None), "tex" (a tabular of booktabs, numbers
    with four digits) or None. Nothing is written for None and without rows.
    """
    if kind is None or not rows:
        return
    with atomic(path.with_name(f"{path.name}.{kind}")) as temporary:
        temporary.write_text(as_csv(rows) if kind == "csv" else as_tex(rows), newline="")


def as_csv(rows):
    """The table as CSV, text; "" without rows."""
    if not rows:
        return ""
    rows, file = complete(rows), io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def as_tex(rows):
    """The table as LaTeX, text; "" without rows."""
    if not rows:
        return ""
    rows = complete(rows)
    columns = "".join("r" if isinstance(value, int | float) else "l" for value in rows[0].values())
    head = " & ".join(map(_tex_cell, rows[0]))
    lines = "".join(" & ".join(map(_tex_cell, row.values())) + " \\\\\n" for row in rows)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n{lines}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _tex_cell(value):
    return "--" if value is None else cell(value).translate(SPECIAL)
