"""Rows of a table: dicts of column -> value, which may lack columns where they have no value."""


def complete(rows):
    """The rows with all columns that any of them has, in the order in which they appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def as_text(rows):
    """The table as aligned text."""
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
