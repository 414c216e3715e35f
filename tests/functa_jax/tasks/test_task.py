"""What every task starts from belongs together: run, functaset and images."""

import json
import re
import shutil
import sys
import textwrap
import types

import numpy as np
import pytest

from functa_jax import export, functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import __main__ as tasks
from functa_jax.tasks import task
from functa_jax.tasks.generation.codes import codes_of
from functa_jax.tasks.restoration.estimates import Models
from functa_jax.tasks.task import TaskConfig
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError

MODEL = siren.ModelConfig(1, width=4, depth=3, latent_dim=3, w0=5.0, inner_rate=1.0)


def functa_of(resolution):
    return functa.Functa(
        MODEL, siren.init(MODEL, 0), (resolution,) * 2, 1, metadata={"data": "digits"}
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run on the first 30 images of each split."""
    folder = tmp_path_factory.mktemp("kept")
    functa_of(8).save(folder / "functa.npz")
    (folder / "config.json").write_text(json.dumps({"dataset": "digits", "images": 30}))
    exported(folder)
    return folder


@pytest.fixture
def run(kept, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(kept, tmp_path / "run")


def exported(run, *flags):
    cli.run(export.main, export.Config, args=["--run", str(run), *flags])


@pytest.mark.parametrize("copies", [0, 2])
def test_rows_of_latents_are_those_of_images(run, copies):
    if copies:
        exported(run, "--copies", str(copies))
    path = run / ("functaset-x2.npz" if copies else "functaset.npz")
    found = task.load(TaskConfig(run, functaset=path))
    assert len(found.functaset.train) == 30 * (1 + copies)
    labels = np.resize(found.data.train.labels, len(found.functaset.train))
    np.testing.assert_array_equal(found.functaset.train.labels, labels)
    for name in ("val", "test"):
        mine, theirs = getattr(found.functaset, name), getattr(found.data, name)
        np.testing.assert_array_equal(mine.labels, theirs.labels)


def test_augmented_copies_are_for_networks_alone(run):
    """What stands beside PCA of the images knows the latents of these images."""
    exported(run, "--copies", "3")
    plain, copied = (
        task.load(TaskConfig(run, functaset=run / name))
        for name in ("functaset.npz", "functaset-x3.npz")
    )
    gaussians = [Models.of(material).gaussian for material in (plain, copied)]
    np.testing.assert_allclose(gaussians[1].mean, gaussians[0].mean, atol=1e-6)
    latents = [codes_of(material)[0].train for material in (plain, copied)]
    np.testing.assert_allclose(latents[1], latents[0], atol=1e-6)


@pytest.mark.parametrize("images", [29, 31, None])
def test_latents_of_fewer_or_more_images_are_refused(run, images):
    data = datasets.load("digits", images=images)
    exporter.export(functa.load(run), data, run / "functaset.npz")
    with pytest.raises(UserError, match="made from other images"):
        task.load(TaskConfig(run))


def test_latents_of_another_version_of_the_data_are_refused(run):
    functaset = load_functaset(run)
    functaset.metadata["data_fingerprint"] = "0" * 16
    functaset.save(run / "functaset.npz")
    with pytest.raises(UserError, match="made from other images"):
        task.load(TaskConfig(run))


def test_a_network_alone_says_which_images_it_takes(tmp_path):
    """Without config.json: all images, at the resolution of the network."""
    path = tmp_path / "small.npz"
    functa_of(4).save(path)
    exported(path)
    found = task.load(TaskConfig(path))
    assert found.data.train.images.shape == (1293, 4, 4, 1)
    assert len(found.functaset.train) == 1293


def test_impossible_seeds_are_refused(run):
    for seed in (-1, 10**20):
        with pytest.raises(ValueError, match=f"--seed {seed}: must be in"):
            TaskConfig(run, seed=seed)


def test_without_a_functaset_the_command_that_makes_it_is_named(run):
    (run / "functaset.npz").unlink()
    with pytest.raises(
        UserError, match=r"no functaset at .*functa_jax.export --run .* --functaset"
    ):
        task.load(TaskConfig(run))
    (run / "functaset.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"damaged or not a functaset \(.*\)$"):
        task.load(TaskConfig(run))


def test_equal_images_are_refused(run, monkeypatch):
    data = datasets.load("digits", images=30)
    data.train.images[:] = data.train.images[0]
    monkeypatch.setattr(exporter, "data_of", lambda *_: data)
    with pytest.raises(UserError, match="no two train images that differ"):
        task.load(TaskConfig(run))


def test_origin_is_decided_by_content_alone(run):
    before = task.load(TaskConfig(run))
    (run / "functaset.npz").unlink()
    exported(run)
    assert task.load(TaskConfig(run)).origin == before.origin
    functaset = load_functaset(run)
    functaset.test.latents[-1, 0] += 1
    functaset.save(run / "functaset.npz")
    changed = task.load(TaskConfig(run)).origin
    assert [key for key in changed if changed[key] != before.origin[key]] == ["functaset"]


@pytest.mark.parametrize(
    "labels, said",
    [(None, "digits has no labels"), (3, "digits has 1 class in train, at least 2 are needed")],
)
def test_what_a_task_needs_of_the_classes(labels, said):
    data = datasets.load("digits", images=30)
    data.train.labels[:] = -1 if labels is None else labels
    classes = 0 if labels is None else 10
    data = datasets.Dataset("digits", data.train, data.val, data.test, classes, "")
    with pytest.raises(task.NotForThese, match=f"nothing to find: {said}"):
        task.require(data, "nothing to find", classes=2)


@pytest.mark.parametrize("total, count, places", [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8])])
def test_places_are_evenly_spaced(total, count, places):
    assert task.spaced(total, count).tolist() == places


# ---- a new task ----


@pytest.fixture
def brightness(monkeypatch):
    """The task that the docstring of task.py adds, as a module of its name."""
    name, code = "functa_jax.tasks.brightness", task.__doc__
    code = textwrap.dedent(code[code.index('    """How') : code.index("and the line in")])
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, name, "exec"), module.__dict__)
    line = re.search(r'"brightness": (\d+)', task.__doc__)
    monkeypatch.setattr(tasks, "TASKS", {"brightness": int(line[1])})
    return module


def test_the_task_of_the_docstring_is_one(kept, tmp_path, brightness, capsys):
    args = ["--run", str(kept), "--out", str(tmp_path), "--count", "7", "--table", "tex"]
    report = cli.run(brightness.main, brightness.Config, args=args)
    images = datasets.load("digits", images=30).test.images[:7]
    (row,) = report["rows"]
    assert row["images"] == 7 and row["mean"] == pytest.approx(images.mean() / 255)
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert json.loads(files["brightness.json"]) == report
    assert f"7 & {row['mean']:.4g}" in files["brightness.tex"]
    assert f"{tmp_path / 'brightness.tex'}" in capsys.readouterr().out


def test_it_runs_with_all_others_and_is_on_their_page(kept, tmp_path, brightness):
    args = ["--run", str(kept), "--out", str(tmp_path)]
    cli.run(tasks.main, tasks.Config, args=args)
    reports = cli.run(tasks.main, tasks.Config, args=[*args, "--table", "csv"])
    assert (tmp_path / "brightness.csv").read_text().startswith("images,mean\n30,")
    assert list(reports) == ["brightness"] and reports["brightness"]["rows"][0]["images"] == 30
    assert "How bright are the test images?" in (tmp_path / "index.html").read_text()
