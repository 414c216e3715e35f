"""The page of results: every picture has its sentence, every chart its data, nothing from outside;
pictures that are drawn from result files alone."""

import contextlib
import csv
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments import curves, pictures, runner, sweeps
from experiments.page import __main__ as page
from experiments.page import sentences
from groundfloor.errors import UserError
from tests.browser import CHROMIUM, Browser

SMALL = ("prune_cifar10-small.csv", "prune_cifar10-small.json", "curves/digits.json")


@pytest.fixture
def results(tmp_path):
    """A folder with what the charts are of, and one picture."""
    (tmp_path / "curves").mkdir()
    for name in SMALL:
        shutil.copy(runner.RESULTS / name, tmp_path / name)
    Image.new("L", (30, 20)).save(tmp_path / "prune_cifar10-small_cost.png")
    return tmp_path


def test_every_picture_of_the_results_has_a_sentence_of_its_own():
    shown = [pair for pairs in page.chapters(runner.RESULTS).values() for pair in pairs]
    kinds = ("*.png", "*.gif")
    assert len(shown) == sum(len(list(runner.RESULTS.glob(kind))) for kind in kinds)
    for name, sentence in shown:
        assert sentence.endswith(".") and not re.search(r"\.png|\.gif|_", sentence), name
    every = [text for chapter in sentences.CHAPTERS.values() for text in chapter.values()]
    assert len(set(every)) == len(every)


def test_a_picture_without_a_sentence_is_named(results):
    (results / "of_nothing.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"of_nothing\.png has no sentence"):
        page.main(page.Config(results=results))


@pytest.mark.parametrize("name", ["prune_cifar10-small_cost.png", "prune_cifar10-small.csv"])
def test_a_damaged_file_is_named(results, name):
    (results / name).write_text("method,density,seed\na,x,0\n")
    with pytest.raises(UserError, match=rf"{name} (cannot be read|is no table of a sweep)"):
        page.main(page.Config(results=results))


def test_the_page_names_nothing_outside_and_holds_the_sweep(results):
    html = page.main(page.Config(results=results)).read_text()
    addresses = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert {*addresses} == {"data:,", "README.md", "prune_cifar10-small_cost.png"}
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|fetch\(", html)
    assert 'width="30" height="20"' in html  # so that nothing moves when it is loaded
    found = page.sweep(results)
    with (results / "prune_cifar10-small.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["density"]]
    seeds = {}
    for row in rows:
        seeds.setdefault((row["method"], row["density"]), []).append(100 * float(row["top1"]))
    assert sum(len(line["points"]) for line in found["lines"]) == len(seeds) < len(rows)
    (magnitude,) = [line for line in found["lines"] if line["name"] == "magnitude"]
    truth = [np.mean(seeds[key]) for key in sorted(seeds) if key[0] == "magnitude"]
    np.testing.assert_allclose([top1 for _, top1, *_ in magnitude["points"]], truth, atol=1e-3)
    assert all(low < top1 < high for _, top1, low, high in magnitude["points"])


def test_without_results_there_is_a_page_without_charts(tmp_path):
    html = page.main(page.Config(results=tmp_path)).read_text()
    assert '"sweep":null' in html and '"path":null' in html and "<iframe" not in html


def test_the_committed_page_and_what_it_shows_are_small():
    (committed,) = runner.RESULTS.glob("index.html")
    sizes = [committed.stat().st_size]
    sizes += [(runner.RESULTS / name).stat().st_size for name in page.VIEWERS]
    assert sum(sizes) < 1.5e6
    for address in re.findall(r'(?:src|href)="([^"#]+)"', committed.read_text()):
        assert address == "data:," or (runner.RESULTS / address).exists(), address


@pytest.mark.slow
def test_the_charts_answer_to_the_mouse(results):
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed")
    path = page.main(page.Config(results=results))
    with contextlib.closing(Browser()) as browser:
        browser.open(path, width=1000, viewer=False)

        def said(chart):
            return browser.ask(f"document.querySelector('#{chart} .said').textContent")

        def point_at(chart, u, v):
            browser.ask(
                f"""{{
                  const svg = document.querySelector("#{chart} svg");
                  const {{ left, top, width, height }} = svg.getBoundingClientRect();
                  const at = {{ clientX: left + {u} * width, clientY: top + {v} * height }};
                  svg.dispatchEvent(new PointerEvent("pointermove", at));
                }}"""
            )

        point_at("sweep", 0.16, 0.95)  # the lowest curve, at density 0.1
        assert re.match(r"dessilbi at density 0\.10: \d\d\.\d\d % \[", said("sweep"))
        lines = "document.querySelectorAll('#sweep g path').length"
        before = browser.ask(lines)
        browser.ask("document.querySelectorAll('#sweep button')[2].click()")
        assert browser.ask(lines) == before - 2  # the method, and the bar that was shown

        point_at("path", 0.07, 0.5)
        first = said("path")
        point_at("path", 0.98, 0.5)
        assert re.match(r"epoch 0\.\d: 0 of", first) and not re.match(r"epoch 0", said("path"))

        point_at("landscape", 0.5, 0.5)
        assert "without normalisation" in said("landscape") and "NaN" not in said("landscape")
        browser.ask("document.querySelectorAll('#landscape button')[1].click()")
        drawn = (
            "[...document.querySelectorAll('path')].every((p) => !/NaN/.test(p.getAttribute('d')))"
        )
        assert browser.ask(drawn)
        assert not [e for e in browser.events if e["method"] == "Runtime.exceptionThrown"]


# ---- what the charts and pictures are made of ----


def test_curves_are_thinned_from_first_to_last(tmp_path):
    times = np.arange(0, 30, 0.25)
    gamma = np.maximum(times[:, None] - np.arange(90), 0)
    arrays = {"time": times, "w/a.weight": gamma + 1, "gamma/a.weight": gamma}
    np.savez(tmp_path / "path.npz", **arrays)
    found = curves.path(tmp_path / "path.npz")
    layer = found["layers"]["a"]
    shown = [[float(word) for word in text.split()] for text in layer["gamma"]]
    epochs = [float(word) for word in found["epochs"].split()]
    assert len(epochs) <= curves.MOST_TIMES and len(shown) == curves.MOST_GROUPS
    assert (epochs[0], epochs[-1]) == (0, 29.8)  # three digits
    groups = curves.spread_over(90, curves.MOST_GROUPS)
    assert layer["selected"] == [bool(group < times[-1]) for group in groups]
    for group, norms in zip(groups, shown, strict=True):
        np.testing.assert_allclose(norms, np.maximum(np.array(epochs) - group, 0), atol=0.06)


def test_a_sweeps_row_comes_back_from_its_table():
    texts = {"method": "l1", "note": "", "exact": "True", "checkpoint": "x", "seed": "2"}
    row = sweeps.row({**texts, "density": "", "top1": "0.5", "latency_ratio": ""})
    assert row["density"] is None and (row["seed"], row["top1"]) == (2, 0.5)
    assert "latency_ratio" not in row  # as in the row of a method that has none


def test_the_longest_beginning_of_a_name_decides_who_draws_it():
    assert pictures.drawer("robust_labels_cifar10") is pictures.labels_cifar10
    assert pictures.drawer("robust_labels") is pictures.labels
    assert pictures.drawer("tasks_digits") is None
    with pytest.raises(UserError, match="no picture of nothing"):
        pictures.main(pictures.Config(("nothing",)))


def test_a_picture_is_drawn_from_its_result_file(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "RESULTS", tmp_path)
    shutil.copy(runner.RESULTS / "reconstruction_mnist_sizes.json", tmp_path)
    assert pictures.main(pictures.Config()) == ["reconstruction_mnist_sizes"]
    assert (tmp_path / "reconstruction_mnist_sizes.png").read_bytes().startswith(b"\x89PNG")
