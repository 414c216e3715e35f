"""Tables as text, CSV and LaTeX: every format holds every cell."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import tables

NAMES = st.text("ab &%_$#{}~^\\±,\"'", min_size=1, max_size=6)
CELLS = st.one_of(st.none(), st.floats(allow_nan=False), st.integers(), NAMES)
ROWS = st.lists(st.dictionaries(NAMES, CELLS, min_size=1), min_size=1, max_size=4)


def test_text_is_aligned_and_leaves_no_column_out():
    rows = [{"name": "a", "n": 1}, {"n": None, "share": 0.123456}]
    assert tables.as_text(rows).splitlines() == [
        "name  n  share",
        "a     1  -",
        "-     -  0.1235",
    ]


@given(ROWS)
def test_csv_gives_every_cell_back(rows):
    read = list(csv.DictReader(io.StringIO(tables.as_csv(rows), newline="")))
    columns = tables.columns_of(rows)
    for row, cells in zip(rows, read, strict=True):
        assert list(cells) == columns
        for name in columns:
            value = row.get(name)
            assert cells[name] == ("" if value is None else str(value))


@given(ROWS)
def test_latex_has_a_cell_for_each_value_and_no_bare_sign(rows):
    text = tables.as_tex(rows)
    columns = tables.columns_of(rows)
    begin, top, *lines, bottom, end = text.rstrip("\n").split("\n")
    assert (top, bottom, end) == (r"\toprule", r"\bottomrule", r"\end{tabular}")
    assert begin.startswith(r"\begin{tabular}{") and len(lines) == len(rows) + 2
    for line in (lines[0], *lines[2:]):
        assert line.endswith(r" \\") and line.count(" & ") == len(columns) - 1
        bare = line.removesuffix(r" \\").replace(" & ", "")
        for sign in "&%#_":
            assert bare.count(sign) == bare.count(f"\\{sign}")


@pytest.mark.parametrize("suffix", tables.FORMATS)
def test_files_are_in_the_format_of_their_name(suffix, tmp_path):
    rows = [{"±": 0.5, "name": "x & y"}]
    tables.write(tmp_path / f"a.{suffix}", rows)
    assert (tmp_path / f"a.{suffix}").read_text("utf-8") == tables.FORMATS[suffix](rows)
    assert r"$\pm$" in tables.as_tex(rows) and "{rl}" in tables.as_tex(rows)
