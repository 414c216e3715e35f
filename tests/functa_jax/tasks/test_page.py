"""The page of all tasks: it is whole HTML, nothing is fetched, and the command goes on."""

import base64
import json
import os
import types
from dataclasses import make_dataclass
from html.parser import HTMLParser

import pytest

from common import cli
from common.errors import UserError
from functa_jax import siren
from functa_jax.functa import Functa
from functa_jax.tasks import __main__ as tasks
from functa_jax.tasks import page
from functa_jax.tasks.material import TaskConfig
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


def report_of(task, checkpoint="", figures=("a_b.png", "film.gif"), **config):
    rows = [{"method": "latents", "dB": 31.23456}, {"method": NASTY, "dB": None, "more": "x"}]
    about = {"task": task, "data": "digits", "checkpoint": checkpoint, "rows": rows}
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
    for text in ("31.23", "31.75 dB", "99.72 % (SVM)", "1,293", "1 min 47 s", NASTY, "What is"):
        assert text in said
    assert len(found.images) == 4
    for image in found.images:
        assert image["alt"] in ("a b", "film")
        kind, data = image["src"].split(",")
        expected = {"data:image/png;base64": PNG, "data:image/gif;base64": GIF}
        assert base64.b64decode(data) == expected[kind]
    # Nothing outside: addresses are data, or sections of the page.
    for address in found.addresses:
        assert address.startswith("data:") or address in ("#inpaint", "#compress")
    assert "url(" not in html and "@import" not in html and "http" not in html


def test_table_sets_numbers_right_and_leaves_no_column_out():
    html = page.table([{"name": "a", "n": 1}, {"n": None, "share": 0.123456, "yes": True}])
    assert html.count('<th scope="col" class="number">') == 2  # n and share
    cells = [text.strip() for text in Page(html).texts if text.strip()]
    assert cells == ["name", "n", "share", "yes", "a", "1", "-", "-", "-", "-", "0.1235", "True"]


def test_page_without_summary_or_reports(tmp_path):
    page.write(tmp_path / "index.html", "nothing", {}, [], {})
    assert "No task has been run." in "".join(Page((tmp_path / "index.html").read_text()).texts)


# ---- the command ----

CONFIG = siren.ModelConfig(channels=1, width=4, depth=3, latent_dim=2)


@pytest.fixture
def run(tmp_path):
    Functa(CONFIG, siren.init(CONFIG, 0), (4, 4)).save(tmp_path / "functa.npz")
    return tmp_path


def config_type(steps):
    """The Config of a task with a setting of its own, and its default."""
    return make_dataclass("Config", [("steps", tuple, steps)], bases=(TaskConfig,), frozen=True)


@pytest.fixture
def fake(monkeypatch, run):
    """Tasks `one` and `two`; calls are kept, and names in `broken` raise."""
    checkpoint = tasks._checkpoint(run)

    state = types.SimpleNamespace(
        calls=[], broken={}, config=config_type((1, 2)), checkpoint=checkpoint
    )

    def module(name):
        def main(config):
            state.calls.append((name, config))
            if name in state.broken:
                raise state.broken[name]
            out = config.out or config.run / "tasks"
            out.mkdir(exist_ok=True)
            (out / f"{name}.png").write_bytes(PNG)
            settings = {"steps": config.steps, "seed": config.seed, "functaset": None}
            made = report_of(name, checkpoint, [f"{name}.png"], run="elsewhere", **settings)
            (out / f"{name}.json").write_text(json.dumps(made))

        return types.SimpleNamespace(
            Config=state.config, main=main, __doc__=f"What is {name}?\n\nMore of it."
        )

    monkeypatch.setattr(tasks, "TASKS", {"one": "one", "two": "two"})
    monkeypatch.setattr(tasks, "TAKE_PRIOR", ("two",))
    monkeypatch.setattr(tasks, "import_module", module)
    return state


def command(*args):
    return cli.run(tasks.main, tasks.Config, args=[str(arg) for arg in args])


def test_command_runs_each_task_once_and_goes_on(run, fake, capsys):
    command("--run", run, "--only", "two", "--seed", 3)
    assert [name for name, _ in fake.calls] == ["two"]
    assert fake.calls[0][1] == fake.config(run=run, seed=3)
    command("--run", run, "--seed", 3)
    assert [name for name, _ in fake.calls] == ["two", "one"]
    html = (run / "tasks" / "index.html").read_text()
    texts = Page(html).texts
    assert "What is one?" in texts and "What is two?" in texts and "More of it." not in html
    assert html.index("What is one?") < html.index("What is two?")
    assert "two: its report is there" in capsys.readouterr().out


def test_a_task_keeps_settings_of_its_own(run, fake, capsys):
    command("--run", run, "--only", "one")
    fake.config = config_type((1, 3))
    command("--run", run)
    assert [name for name, _ in fake.calls] == ["one", "two"]
    assert "one: its report is there, with its own steps" in capsys.readouterr().out


def test_a_newer_prior_makes_what_takes_it_again(run, fake):
    command("--run", run)
    prior, report = (run / "tasks" / name for name in ("prior.npz", "two.json"))
    prior.touch()
    written = report.stat().st_mtime
    for seconds, expected in ((-1, ["one", "two"]), (1, ["one", "two", "two"])):
        os.utime(prior, (written + seconds,) * 2)
        command("--run", run)
        assert [name for name, _ in fake.calls] == expected


@pytest.mark.parametrize("change", ["seed", "figure", "checkpoint", "damage"])
def test_a_report_of_something_else_is_made_again(change, run, fake):
    command("--run", run, "--only", "one")
    path, flags = run / "tasks" / "one.json", []
    if change == "seed":
        flags = ["--seed", 1]
    elif change == "figure":
        (run / "tasks" / "one.png").unlink()
    elif change == "damage":
        path.write_text(path.read_text()[:-20])
    else:
        path.write_text(path.read_text().replace(fake.checkpoint, "f" * 16))
    command("--run", run, "--only", "one", *flags)
    assert len(fake.calls) == 2


@pytest.mark.parametrize(
    "error, said",
    [
        (UserError("no labels"), "one failed: no labels\n"),
        (ValueError("shapes\ndiffer"), "one failed: ValueError: shapes\n"),
    ],
)
def test_a_failing_task_is_named_and_the_rest_goes_on(error, said, run, fake, capsys):
    fake.broken["one"] = error
    with pytest.raises(SystemExit) as stop:
        command("--run", run)
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and said in out and "failed: one;" in err
    assert "Traceback" not in out + err
    assert [name for name, _ in fake.calls] == ["one", "two"]
    assert "What is two?" in Page((run / "tasks" / "index.html").read_text()).texts
    fake.broken.clear()
    command("--run", run)
    assert [name for name, _ in fake.calls] == ["one", "two", "one"]


def test_command_refuses_an_unknown_task_and_a_missing_run(run, fake, capsys):
    assert "three" in refusal(capsys, lambda: command("--run", run, "--only", "three"))
    missing = run / "none"
    assert "does not exist" in refusal(capsys, lambda: command("--run", missing))
    assert not missing.exists() and fake.calls == []
