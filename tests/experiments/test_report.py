"""The paper: it builds from the results, and what it lacks or no longer shows ends the build."""

import io
import json
import re
import zipfile
from html.parser import HTMLParser

import pytest

from experiments import runner
from experiments.report import build, facts, quoting
from experiments.report.results import Record, db, holds, number, percent
from groundfloor.errors import UserError

MAIN_PAGES = 9
TEXT_WIDTH = 5.5 * 72  # points


@pytest.fixture(scope="module")
def told():
    return facts.gather(runner.RESULTS, ("A. Author",))


@pytest.fixture(scope="module")
def compiler(told):
    return build.compiler(told)


@pytest.fixture(scope="module")
def pdf(compiler):
    return compiler.compile(format="pdf")


def test_the_text_has_nine_pages_and_the_fonts_are_embedded(compiler, pdf):
    place = compiler.eval("locate(<end-of-text>).page()")
    assert int(json.loads(place)) <= MAIN_PAGES
    assert pdf.startswith(b"%PDF")
    names = set(re.findall(rb"/FontName ?/[A-Z]{6}\+([\w-]+)", pdf))
    assert any(name.startswith(b"STIX") for name in names)
    descriptors = len(re.findall(rb"/Type ?/FontDescriptor", pdf))
    assert descriptors == len(re.findall(rb"/FontFile[23]? ", pdf)) > 0


def test_no_figure_is_wider_than_the_text(compiler):
    widths = json.loads(compiler.query("<width>", field="value"))
    assert len(widths) == int(json.loads(compiler.eval("query(figure).len()"))) > 15
    assert max(widths) <= TEXT_WIDTH + 0.01


def test_the_page_has_the_same_figures_tables_and_references(told, compiler):
    page = build.page(told)
    tags = Tags()
    tags.feed(page)
    assert len(tags.ids) == len(set(tags.ids))
    assert tags.targets <= set(tags.ids)
    figures = json.loads(compiler.eval("query(figure).len()"))
    assert tags.count["figcaption"] == figures
    assert tags.count["math"] > 50
    assert not tags.loaded  # pictures are inside
    assert "showModal" in page and "??" not in page


class Tags(HTMLParser):
    """Identities, targets of links inside the page, and what it would load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.count, self.loaded = [], set(), {}, []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.count[tag] = self.count.get(tag, 0) + 1
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if attrs.get("href", "").startswith("#"):
            self.targets.add(attrs["href"][1:])
        if tag in ("img", "script", "link") and not attrs.get("src", "data:").startswith("data:"):
            self.loaded.append(attrs)


def test_a_fact_that_is_missing_ends_the_build(told):
    without = told | {"functa": {k: v for k, v in told["functa"].items() if k != "mnist_gain"}}
    with pytest.raises(UserError, match="mnist_gain"):
        build.compiled(without)


@pytest.fixture
def results(tmp_path):
    """A folder of links to the results, and a function that replaces one by a changed copy."""
    for path in runner.RESULTS.iterdir():
        if path.suffix != ".md":
            (tmp_path / path.name).symlink_to(path)

    def change(name, edit, source=None):
        contents = json.loads((runner.RESULTS / (source or name)).read_text())
        edit(contents)
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).write_text(json.dumps(contents))

    return tmp_path, change


def test_a_key_row_or_file_that_is_missing_is_named(results):
    folder, change = results
    change("dessilbi_filters.json", lambda contents: contents["table"].pop("selected_filters"))
    with pytest.raises(UserError, match=r"dessilbi_filters\.json: table has no 'selected_filters'"):
        facts.gather(folder)
    (folder / "dessilbi_filters.json").unlink()
    with pytest.raises(UserError, match=r"dessilbi_filters\.json does not exist"):
        facts.gather(folder)
    csv = (runner.RESULTS / "prune_cifar10-small.csv").read_text()
    (folder / "prune_cifar10-small.csv").unlink()
    (folder / "prune_cifar10-small.csv").write_text(csv.replace("supermask,", "other,"))
    with pytest.raises(UserError, match=r"lack what the report says of pruning: .*supermask"):
        facts.gather(folder)


def test_a_sentence_that_is_no_longer_true_ends_the_build(results):
    folder, change = results

    def filter_well(contents):
        for row in contents["tasks"]["denoise"]["rows"]:
            if row["method"] == "total variation":
                row["noise 0.2"] = 40.0

    change("tasks_mnist.json", filter_well)
    with pytest.raises(UserError, match=r"no longer show.*latents are best on MNIST, denoise"):
        facts.gather(folder)


def test_results_that_are_still_to_come_are_told_when_they_are_there(results):
    folder, change = results

    def add_psnr(contents):
        for row in contents["rows"]:
            row["psnr"] = None

    change("latent_readers_decoded.json", add_psnr, source="latent_readers_grid.json")
    change("study_cifar10-94.json", lambda contents: None, source="study_cifar10-cpu.json")
    page = build.page(facts.gather(folder))
    assert "Read through the decoder" in page and "A recipe for longer trainings" in page


def test_quoted_code_is_that_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(quoting, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(
        'class A:\n    def f(self):\n        """Twice.\n\n        More.\n        """\n\n'
        "        # why\n        return 2\n\n\ndef g():\n    return 1\n"
    )
    assert quoting.quoted("a.py", "A.f") == "def f(self):\n    # why\n    return 2"
    assert quoting.quoted("a.py", "g") == "def g():\n    return 1"
    with pytest.raises(UserError, match=r"no A\.h"):
        quoting.quoted("a.py", "A.h")


def test_the_package_has_code_and_paper(tmp_path):
    path = tmp_path / "Final-Project.zip"
    build.package(path, b"%PDF of a test")
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        names = set(archive.namelist())
        assert archive.read("Final-Project/report.pdf") == b"%PDF of a test"
    assert {"Final-Project/readme.txt", "Final-Project/functa_jax/__init__.py"} <= names


def test_numbers_as_text():
    spread, one = (
        Record({"mean": 0.98765, "std": 0.00123}, ""),
        Record({"mean": 2, "std": None}, ""),
    )
    assert percent(spread) == "98.77\u00a0±\u00a00.12\u00a0%"
    assert db(one, 1) == "2.0\u00a0dB"
    assert number(-1234.5, 1) == "−1,234.5"
    with pytest.raises(UserError, match="no longer"):
        holds(False, "a is above b")
