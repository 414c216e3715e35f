"""Tables of results as files: CSV for programs, LaTeX for papers."""

import csv
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


def write(path, rows, kind):
    """Write `rows`, dicts with the same keys, to `path` (without suffix) .csv or .tex.

    kind: "csv" (RFC 4180, numbers in full, empty for None), "tex" (a tabular of booktabs, numbers
    with four digits) or None, which writes nothing.
    """
    if kind is None:
        return
    with atomic(path.with_name(f"{path.name}.{kind}")) as temporary:
        if kind == "csv":
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        else:
            temporary.write_text(_tabular(rows))


def _tabular(rows):
    columns = "".join("r" if isinstance(value, int | float) else "l" for value in rows[0].values())
    head = " & ".join(map(_cell, rows[0]))
    lines = "".join(" & ".join(map(_cell, row.values())) + " \\\\\n" for row in rows)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n{lines}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _cell(value):
    if value is None:
        return "--"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.translate(SPECIAL)
