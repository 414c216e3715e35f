"""tables: what is written is read back, and LaTeX's signs are text."""

import csv

from groundfloor import tables

ROWS = [
    {"name": "a, b_1", "share": 1 / 3, "count": 12_345_678, "left": None},
    {"name": '50 % of "x" & {y}\\', "share": 1e-9, "count": 0, "left": 2},
]


def test_a_csv_table_is_read_back_in_full(tmp_path):
    tables.write(tmp_path / "t", ROWS, "csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        back = list(csv.DictReader(file))
    for row, expected in zip(back, ROWS, strict=True):
        assert row["name"] == expected["name"]
        assert float(row["share"]) == expected["share"]
        assert int(row["count"]) == expected["count"]
    assert [row["left"] for row in back] == ["", "2"]


def test_a_latex_table_has_a_cell_for_each_value_and_no_sign_of_its_own(tmp_path):
    tables.write(tmp_path / "t", ROWS, "tex")
    text = (tmp_path / "t.tex").read_text()
    assert text.startswith("\\begin{tabular}{lrrl}\n\\toprule\nname & share & count & left \\\\\n")
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert body[0] == r"a, b\_1 & 0.3333 & 12345678 & -- \\"
    assert body[1] == r'50 \% of "x" \& \{y\}\textbackslash{} & 1e-09 & 0 & 2 \\'


def test_a_table_without_rows_is_empty(tmp_path):
    assert tables.as_text([]) == ""
    for kind in ("csv", "tex"):
        tables.write(tmp_path / "t", [], kind)
    assert not list(tmp_path.iterdir())


def test_no_kind_writes_nothing(tmp_path):
    tables.write(tmp_path / "t", ROWS, None)
    assert not list(tmp_path.iterdir())
