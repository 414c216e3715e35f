"""The page of all tasks: it is whole HTML, nothing is fetched, and the command goes on."""

import base64
import json
import re
import shutil
import types
from dataclasses import make_dataclass
from html.parser import HTMLParser

import pytest

from functa_jax import functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import __main__ as tasks
from functa_jax.tasks import task
from functa_jax.tasks.html import page, reading
from functa_jax.tasks.task import TaskConfig
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.runs import Stopping
from tests.refusals import refusal

PNG = b"\x89PNG\r\n\x1a\n picture"
GIF = b"GIF89a film"
VOID = {"meta", "img", "br", "link", "hr"}
SUMMARY = {
    "data": "digits",
    "train_images": 1293,
    "numbers": 32,
    "outer_steps": 3000,
    "test_psnr": 31.75,
    "pca_test_psnr": None,
    "accuracy": {"latents": {"test": 0.9972, "classifier": "SVM"}},
    "seed": 0,
    "train_seconds": 107.0,
    "device": "2 x cpu",
    "checkpoint": "0123456789abcdef",
}
NASTY = '<script>alert("1 & 2")</script>'


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps texts, images and addresses."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.images, self.addresses, self.seen = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attributes)
        self.addresses += [attributes[key] for key in ("src", "href") if key in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def report_of(task, origin=(), figures=("a_b.png", "film.gif"), **config):
    rows = [{"method": "latents", "dB": 31.23456}, {"method": NASTY, "dB": None, "more": "x"}]
    about = {"task": task, "data": "digits", **dict(origin), "rows": rows}
    return {**about, "figures": list(figures), "remarks": [f"so & so {NASTY}"], "config": config}


@pytest.fixture
def figures(tmp_path):
    (tmp_path / "a_b.png").write_bytes(PNG)
    (tmp_path / "film.gif").write_bytes(GIF)
    return tmp_path


# ---- the page ----


def test_page_is_balanced_and_holds_everything(figures):
    reports = [report_of("inpaint"), report_of("compress")]
    questions = {"inpaint": f"What is missing? {NASTY}"}
    page.write(figures / "index.html", f"digits {NASTY}", SUMMARY, reports, questions)
    html = (figures / "index.html").read_text()
    found = Page(html)
    assert "script" not in found.seen
    said = "\n".join(found.texts)
    quick = "99.72 % (SVM, quick: classify tries more)"
    for text in ("31.23", "31.75 dB", quick, "1,293", "1 min 47 s", NASTY, "What is"):
        assert text in said
    assert len(found.images) == 4
    for image in found.images:
        assert image["alt"] in ("a b", "film")
        kind, data = image["src"].split(",")
        expected = {"data:image/png;base64": PNG, "data:image/gif;base64": GIF}
        assert base64.b64decode(data) == expected[kind]
    # Nothing outside: addresses are data, or sections of the page.
    for address in found.addresses:
        assert address.startswith("data:") or address in ("#inpaint", "#compress", "#top")
    assert "url(" not in html and "@import" not in html and "http" not in html


def test_table_sets_numbers_right_and_leaves_no_column_out(tmp_path):
    rows = [{"name": "a", "n": 1}, {"n": None, "share": 0.123456, "yes": True}]
    report = report_of("one", figures=()) | {"rows": rows, "remarks": []}
    page.write(tmp_path / "index.html", "x", {}, [report], {})
    html = (tmp_path / "index.html").read_text()
    assert html.count('<th scope="col" class="number">') == 2  # n and share
    table = html[html.index("<thead>") : html.index("<footer>")]
    cells = [
        text.strip() for text in Page(f"<table>{table[: table.index('</table>')]}</table>").texts
    ]
    cells = [text for text in cells if text]
    assert cells == ["name", "n", "share", "yes", "a", "1", "-", "-", "-", "-", "0.1235", "True"]


def test_a_column_has_as_many_decimals_everywhere_and_its_best_value_is_marked(tmp_path):
    rows = [
        {"features": "latents", "classifier": "MLP", "test %": 98.5, "low": 97.1, "high": 99.25},
        {"features": "pixels", "classifier": "SVM", "test %": 97.123, "low": 95.0, "high": 98.0},
    ]
    report = report_of("classify", figures=()) | {"rows": rows, "remarks": []}
    page.write(tmp_path / "index.html", "x", SUMMARY, [report], {})
    said = Page((tmp_path / "index.html").read_text()).texts
    assert said.count("98.50 [97.10, 99.25]") == said.count("97.12") == 1
    assert any("\npixels,SVM,97.123,95.0,98.0\n" in text for text in said)
    # A number to quote has one place: what the training's classifiers reached stands there only
    # where classify has chosen none.
    assert any("quick" in text for text in said)
    rows[0]["chosen"] = "*"
    page.write(tmp_path / "index.html", "x", SUMMARY, [report], {})
    said = Page((tmp_path / "index.html").read_text()).texts
    assert "98.50 % [97.10, 99.25] (MLP, chosen by classify)" in said
    assert not any("quick" in text for text in said)


def test_lower_is_better_of_distances_and_bounds_are_no_rivals():
    rows = [
        {"images": "train images", "FID": 0.1},
        {"images": "latents, of test images", "FID": 0.2},
        {"images": "latents, diffusion", "FID": 0.4},
        {"images": "latents, Gaussian", "FID": 0.9},
    ]
    assert reading.best_rows("generate", rows) == {"FID": 2}
    cases = [{"method": "a", "half": 1.0, "box": None}, {"method": "b", "half": 2.0, "box": 3.0}]
    assert reading.best_rows("inpaint", cases) == {"half": 1}  # a box has no rival


def test_figures_of_all_tasks_have_a_sentence():
    for name in ("generate.png", "inpaint_half.png", "superresolve_x2.png", "retrieve_map.png"):
        assert reading.caption(name).endswith(".") and " " in reading.caption(name)
    assert reading.caption("superresolve_x4.png") != reading.caption("superresolve_large.png")
    assert reading.caption("my_own.png") == "my own"


def test_page_without_summary_or_reports(tmp_path):
    page.write(tmp_path / "index.html", "nothing", {}, [], {})
    assert "No task has been run." in "".join(Page((tmp_path / "index.html").read_text()).texts)


# ---- the command ----

MODEL = siren.ModelConfig(channels=1, width=4, depth=3, latent_dim=2)


def export(folder, seed=0):
    """An untrained functa and its functaset, as meta_train leaves them."""
    model = functa.Functa(MODEL, siren.init(MODEL, seed), (4, 4), 1, metadata={"data": "digits"})
    model.save(folder / "functa.npz")
    data = datasets.load("digits", resolution=4, images=30)
    exporter.export(model, data, folder / "functaset.npz")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run that is made once."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "config.json").write_text(json.dumps({"dataset": "digits", "images": 30}))
    export(folder)
    return folder


@pytest.fixture
def run(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "run")


def config_type(steps):
    """The Config of a task with a setting of its own, and its default."""
    return make_dataclass("Config", [("steps", tuple, steps)], bases=(TaskConfig,), frozen=True)


@pytest.fixture
def fake(monkeypatch, run):
    """Tasks `one` and `two`; calls are kept, and names in `broken` raise."""
    state = types.SimpleNamespace(calls=[], broken={}, pages=[], config=config_type((1, 2)))

    def module(name):
        def main(config):
            state.calls.append((name, config))
            if name in state.broken:
                raise state.broken[name]
            material = task.load(config)
            material.out.mkdir(exist_ok=True)
            meanwhile = material.path("index.html")
            state.pages.append(meanwhile.read_text() if meanwhile.exists() else "")
            material.path(f"{name}.png").write_bytes(PNG)
            material.path(f"{name}.npz").write_bytes(b"PK")
            rows, files = [{"dB": 1.5}], [f"{name}.npz"]
            task.report(material, name, config, rows, [f"{name}.png"], files=files)

        return types.SimpleNamespace(
            Config=state.config, main=main, __doc__=f"What is {name}?\n\nMore of it."
        )

    monkeypatch.setattr(tasks, "TASKS", {"one": 60, "two": 30})
    monkeypatch.setattr(tasks, "TAKE_PRIOR", ("two",))
    monkeypatch.setattr(tasks, "module_of", module)
    return state


def command(*args):
    return cli.run(tasks.main, tasks.Config, args=[str(arg) for arg in args])


def called(fake):
    return [name for name, _ in fake.calls]


def test_command_runs_each_task_once_and_goes_on(run, fake, capsys):
    command("--run", run, "--only", "two", "--seed", 3)
    assert called(fake) == ["two"]
    assert fake.calls[0][1] == fake.config(run=run, seed=3)
    command("--run", run, "--seed", 3)
    assert called(fake) == ["two", "one"]
    html = (run / "tasks" / "index.html").read_text()
    texts = Page(html).texts
    assert "What is one?" in texts and "What is two?" in texts and "More of it." not in html
    assert html.index("What is one?") < html.index("What is two?")
    assert "two: its report is there" in capsys.readouterr().out


def test_command_says_what_it_will_do_and_where_it_is(run, fake, capsys, monkeypatch):
    command("--run", run)
    said = capsys.readouterr().out
    assert "2 of 2 tasks to run: one, two; about 1 min 30 s" in said
    assert "task 1 of 2: one, about 1 min 00 s; What is one?" in said
    assert re.search(r"task 2 of 2: two, about .*; What is two\?", said)
    first, second = fake.pages
    assert not first and "Running: task 2 of 2: two, since" in second and "refresh" in second
    assert "What is one?" in second and "What is two?" not in second
    whole = (run / "tasks" / "index.html").read_text()
    assert "Running" not in whole and "refresh" not in whole
    assert Stopping.kept == f"the reports in {run / 'tasks'}"
    monkeypatch.setattr(Stopping, "kept", None)
    command("--run", run)
    assert "to run" not in capsys.readouterr().out
    assert Stopping.kept == f"the reports in {run / 'tasks'}"


def test_a_task_keeps_settings_of_its_own(run, fake, capsys):
    command("--run", run, "--only", "one")
    fake.config = config_type((1, 3))
    command("--run", run)
    assert called(fake) == ["one", "two"]
    assert "one: its report is there, with its own steps" in capsys.readouterr().out


def test_another_prior_makes_what_takes_it_again(run, fake, capsys):
    command("--run", run)
    prior = run / "tasks" / "prior.npz"
    for content, expected in ((b"a", ["two"]), (b"a", []), (b"b", ["two"])):
        prior.write_bytes(content)
        fake.calls.clear()
        command("--run", run)
        assert called(fake) == expected
    assert "its report was made with another prior" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, said",
    [
        ("seed", "has seed 0"),
        ("figure", "is damaged or lacks files"),
        ("file", "is damaged or lacks files"),
        ("damage", "is damaged or lacks files"),
        ("network", "was made from another checkpoint and functaset"),
        ("latents", "was made from another functaset"),
        ("images", "was made from another functaset and data_fingerprint"),
        ("older", "was made from another functaset and data_fingerprint"),
    ],
)
def test_a_report_of_something_else_is_made_again(change, said, run, fake, capsys, monkeypatch):
    command("--run", run, "--only", "one")
    path, flags = run / "tasks" / "one.json", []
    report = json.loads(path.read_text())
    if change == "seed":
        flags = ["--seed", 1]
    elif change == "figure":
        (run / "tasks" / "one.png").unlink()
    elif change == "file":
        (run / "tasks" / "one.npz").unlink()
    elif change == "damage":
        path.write_text(path.read_text()[:-20])
    elif change == "network":
        export(run, seed=1)
    elif change == "latents":
        functaset = load_functaset(run)
        functaset.train.latents[3] += 1
        functaset.save(run / "functaset.npz")
    elif change == "images":
        other = datasets.load("digits", resolution=4, images=30)
        other.train.images[0] = 255 - other.train.images[0]
        other = datasets.Dataset("digits", other.train, other.val, other.test, 10, "f" * 16)
        monkeypatch.setattr(exporter, "data_of", lambda *_: other)
        exporter.export(functa.load(run), other, run / "functaset.npz")
    else:  # as written before reports said so
        for key in ("functaset", "data_fingerprint", "prior", "files"):
            del report[key]
        path.write_text(json.dumps(report))
    command("--run", run, "--only", "two", *flags)  # not on the page until it is made again
    html = (run / "tasks" / "index.html").read_text()
    assert ("What is one?" in html) == (change == "seed")
    fake.calls.clear()
    command("--run", run, "--only", "one", *flags)
    assert called(fake) == ["one"]
    assert f"again, as its report {said}" in capsys.readouterr().out
    assert "What is one?" in (run / "tasks" / "index.html").read_text()


def test_a_failing_task_is_named_and_the_rest_goes_on(run, fake, capsys):
    log = run / "tasks" / "one.error.txt"
    for error, said in (
        (UserError("no images"), "one failed: no images\n"),
        (ValueError("shapes\ndiffer"), f"one failed: ValueError: shapes; traceback in {log}\n"),
    ):
        fake.broken["one"] = error
        fake.calls.clear()
        with pytest.raises(SystemExit) as stop:
            command("--run", run)
        out, err = capsys.readouterr()
        assert stop.value.code == 1 and said in out and "failed: one;" in err
        assert "Traceback" not in out + err and called(fake)[0] == "one"
        assert log.exists() == isinstance(error, ValueError)
        assert "What is two?" in Page((run / "tasks" / "index.html").read_text()).texts
    written = log.read_text()
    assert "Traceback" in written and "shapes" in written and "raise state.broken" in written
    fake.broken.clear()
    fake.calls.clear()
    command("--run", run)
    assert called(fake) == ["one"] and not log.exists()


def test_a_task_without_an_answer_for_the_data_is_left_out(run, fake, capsys):
    fake.broken["one"] = task.NotForThese("digits has no labels")
    command("--run", run)
    assert "one is left out: digits has no labels\n" in capsys.readouterr().out
    assert "What is one?" not in (run / "tasks" / "index.html").read_text()


def test_nothing_is_left_behind_where_nothing_can_be_done(run, fake, capsys):
    assert "three" in refusal(capsys, lambda: command("--run", run, "--only", "three"))
    assert "seed" in refusal(capsys, lambda: command("--run", run, "--seed", "-1"))
    missing = run / "none"
    assert "does not exist" in refusal(capsys, lambda: command("--run", missing))
    alone = run / "alone"
    alone.mkdir()
    (run / "functa.npz").rename(alone / "functa_digits.npz")
    said = refusal(capsys, lambda: command("--run", alone / "functa_digits.npz"))
    assert "functa_jax.export --run" in said and "--functaset FILE" in said
    assert [path.name for path in alone.iterdir()] == ["functa_digits.npz"]
    export(run)
    for name in ("one", "two"):
        fake.broken[name] = UserError("no")
    with pytest.raises(SystemExit):
        command("--run", run, "--out", run / "out")
    assert not (run / "out").exists() and not missing.exists()
