"""Code that the report quotes: functions of the files themselves, by name, without docstrings."""

import ast
from pathlib import Path

from groundfloor.errors import UserError

ROOT = Path(__file__).parents[2]


def quoted(path, name):
    """Source of a function or method "Class.method" of a file of the repository.

    Raises UserError where there is none of that name.
    """
    source = (ROOT / path).read_text(encoding="utf-8")
    node = ast.parse(source)
    for part in name.split("."):
        inside = [n for n in node.body if getattr(n, "name", None) == part]
        if not inside:
            raise UserError(f"{path} has no {name}, which the report quotes")
        node = inside[0]
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        del lines[first.lineno - node.lineno : first.end_lineno - node.lineno + 1]
        if not lines[first.lineno - node.lineno].strip():
            del lines[first.lineno - node.lineno]
    return "\n".join(line[node.col_offset :] for line in lines)
