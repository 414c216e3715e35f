"""The pages of tables: what stands in them is what stands in the files, and neither is stale."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import runner
from experiments.tables import __main__ as tables
from experiments.tables import markdown, page
from experiments.tables.markdown import Column, Table
from experiments.tables.page import CHAPTERS, MARKS
from groundfloor.errors import UserError
from groundfloor.runs import read_json


def test_means_over_some_seeds_say_how_many():
    values = [0.5, None, 0.7]
    row = {"precision": runner.spread_of_known(values)}
    assert row["precision"]["known"] == 2
    assert markdown.text(row, markdown.Column("p", "precision")) == "0.60 ± 0.14 (2 seeds)"
    whole = runner.spread_of_known([0.5, 0.7])
    assert markdown.text({"p": whole}, markdown.Column("p", "p")) == "0.60 ± 0.14"
    assert runner.spread_of_known([None, None]) is None


def test_the_pages_of_the_repository_are_fresh():
    tables.main(tables.Config(check=True))
    assert len(tables.README.read_text(encoding="utf-8").splitlines()) < 200


def test_every_result_file_is_in_the_page():
    named = {table.file for _, chapter in CHAPTERS.values() for table in chapter}
    there = {path.name for path in runner.RESULTS.iterdir() if path.suffix in (".json", ".jsonl")}
    with_csv = {name for name in there if (runner.RESULTS / name).with_suffix(".csv").exists()}
    assert there - with_csv <= named


def test_a_picture_belongs_to_the_result_of_the_longest_name(tmp_path):
    for name in ("a.json", "a_b.json", "a.png", "a_x.png", "a_b.png", "a_b_x.png", "c.json"):
        (tmp_path / name).touch()
    found = {name: page.pictures(tmp_path / f"{name}.json") for name in ("a", "a_b", "c")}
    assert found == {
        "a": ["", "Pictures: [a](a.png), [a_x](a_x.png)"],
        "a_b": ["", "Pictures: [a_b](a_b.png), [a_b_x](a_b_x.png)"],
        "c": [],
    }


@given(st.floats(0.01, 1e6), st.floats(0, 1e3), st.integers(0, 4), st.booleans())
def test_a_number_is_written_to_its_digits(mean, std, digits, share):
    scale = 100 if share else 1
    told = markdown.text({"x": {"mean": mean, "std": std}}, Column("x", "x", digits, share))
    first, second = (float(part.replace(",", "")) for part in told.split(" ± "))
    if scale * max(mean, std) < 10.0**-digits:
        assert (first, second) == pytest.approx((scale * mean, scale * std), rel=0.06)
        return
    assert first == pytest.approx(scale * mean, abs=0.51 * 10.0**-digits)
    assert second == pytest.approx(scale * std, abs=0.51 * 10.0**-digits)


@pytest.mark.parametrize(
    ("row", "column", "told"),
    [
        ({"x": None}, Column("x", "x"), "–"),
        ({}, Column("x", "x"), "–"),
        ({"x": True}, Column("x", "x"), "yes"),
        ({"x": 12345}, Column("x", "x"), "12,345"),
        ({"x": "a|b"}, Column("x", "x"), r"a\|b"),
        ({"x": 0.5}, Column("x", "x", share=True), "50.00"),
        ({"x": {"mean": 2.0, "std": None}}, Column("x", "x", 1), "2.0"),
        ({"x": 2.0, "x_std": 0.25}, Column("x", "x"), "2.00 ± 0.25"),
        ({"x": [1.0, 3.0]}, Column("x", "x", 0, at=-1), "3"),
        ({"noise 0.05": 1.5}, Column("", "noise 0.05"), "1.50"),
    ],
)
def test_text(row, column, told):
    assert markdown.text(row, column) == told


def test_a_sweep_is_averaged_over_seeds(tmp_path):
    """Cells with a teacher are lines of their own."""
    path = tmp_path / "prune.csv"
    path.with_suffix(".json").write_text(json.dumps({"command": "x"}))
    columns = "method,density,seed,distil,top1,top1_before,note,exact,checkpoint"
    cells = [
        "a,0.1,0,0.0,0.5,0.25,,,",
        "a,0.1,1,0.0,0.6,0.25,,,",
        "a,0.1,0,0.5,0.7,0.25,,,",
        "b,0.1,0,0.0,0.25,,,,",
        "c,,0,0.0,1,,,,",
    ]
    path.write_text("\n".join([columns, *cells]))
    written = markdown.section(Table("prune.csv", ""), path)
    assert written[-13:-9] == [
        "| a | – | 55.0 ± 7.1 |",
        "| a + KD 0.5 | – | 70.00 |",
        "| b | – | 25.00 |",
        "| c | 100.00 | – |",
    ]
    assert written[-9:] == [
        "",
        "Before the steps of recovery:",
        "",
        "| method | its own density | 0.1 |",
        "| --- | --- | --- |",
        "| a | – | 25.0 ± 0.0 |",
        "| a + KD 0.5 | – | 25.00 |",
        "| b | – | – |",
        "| c | – | – |",
    ]


def test_a_sweep_shows_top_5_and_differences_where_they_are(tmp_path):
    path = tmp_path / "prune.csv"
    difference = {"method": "a", "density": 0.1, "seeds": 2, "difference": -0.001, "std": 0.25}
    mean = {"method": "a", "density": "all", "seeds": 2, "difference": 1.5, "std": 0.5, "p": 0.04}
    single = {"method": "b", "density": 0.1, "seeds": 1, "difference": 2.0, "std": None, "p": None}
    rows = [{**difference, "p": 0.5}, mean, single]
    path.with_suffix(".json").write_text(json.dumps({"command": "x", "against_magnitude": rows}))
    path.write_text(
        "method,density,seed,distil,top1,top5,note,exact,checkpoint\na,0.1,0,0.0,0.5,0.75,,,"
    )
    written = markdown.section(Table("prune.csv", ""), path)
    assert "| a | 75.00 |" in written[written.index("Top-5:") :]
    assert written[-2:] == [
        "| a | +0.00 ± 0.25 | +1.50 ± 0.50 | 0.04 |",
        "| b | +2.00 | – | – |",
    ]


def test_the_readme_is_written_between_its_marks(tmp_path):
    readme = tmp_path / "readme.txt"
    readme.write_text("\n".join(["above", MARKS[0], "old", MARKS[1], "below"]))
    results = tmp_path / "results"
    results.mkdir()
    name = "reconstruction_digits.json"
    contents = read_json(runner.RESULTS / name)
    contents["table"][0]["test_psnr"] = 12.345
    (results / name).write_text(json.dumps(contents))
    with pytest.raises(UserError, match=r"README\.md and readme\.txt: stale"):
        tables.main(tables.Config(results, readme, check=True))
    assert "old" in readme.read_text() and not (results / "README.md").exists()
    tables.main(tables.Config(results, readme))
    tables.main(tables.Config(results, readme, check=True))
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("below")
    assert "old" not in text and "12.35" in text.replace("12.34 ", "12.35 ")
    page = (results / "README.md").read_text()
    assert page.count("###") == 1  # a number without a file is not printed
    readme.write_text("no marks")
    with pytest.raises(UserError, match="the readme has no lines"):
        tables.main(tables.Config(results, readme))
    (results / name).write_text("[1]")
    with pytest.raises(UserError, match=f"{name} does not hold what its table shows"):
        tables.main(tables.Config(results, readme))
    with pytest.raises(UserError, match="has no result files"):
        tables.main(tables.Config(tmp_path / "mistyped", readme))
    (results / name).write_text("{")
    with pytest.raises(UserError, match=name):
        tables.main(tables.Config(results, readme))
