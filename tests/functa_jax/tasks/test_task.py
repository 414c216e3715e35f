"""What every task starts from belongs together: run, functaset and images."""

import json

import numpy as np
import pytest

from functa_jax import export, functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from functa_jax.tasks import task
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


@pytest.fixture
def run(tmp_path):
    """A run on the first 30 images of each split."""
    functa_of(8).save(tmp_path / "functa.npz")
    (tmp_path / "config.json").write_text(json.dumps({"dataset": "digits", "images": 30}))
    return tmp_path


def exported(run, *flags):
    cli.run(export.main, export.Config, args=["--run", str(run), *flags])


@pytest.mark.parametrize("copies", [0, 2])
def test_rows_of_latents_are_those_of_images(run, copies):
    exported(run, *(["--copies", str(copies)] if copies else []))
    path = run / ("functaset-x2.npz" if copies else "functaset.npz")
    found = task.load(TaskConfig(run, functaset=path))
    assert len(found.functaset.train) == 30 * (1 + copies)
    labels = np.resize(found.data.train.labels, len(found.functaset.train))
    np.testing.assert_array_equal(found.functaset.train.labels, labels)
    for name in ("val", "test"):
        mine, theirs = getattr(found.functaset, name), getattr(found.data, name)
        np.testing.assert_array_equal(mine.labels, theirs.labels)


@pytest.mark.parametrize("images", [29, 31, None])
def test_latents_of_fewer_or_more_images_are_refused(run, images):
    data = datasets.load("digits", images=images)
    exporter.export(functa.load(run), data, run / "functaset.npz")
    with pytest.raises(UserError, match="made from other images"):
        task.load(TaskConfig(run))


def test_latents_of_another_version_of_the_data_are_refused(run):
    exported(run)
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
    with pytest.raises(
        UserError, match=r"no functaset at .*functa_jax.export --run .* --functaset"
    ):
        task.load(TaskConfig(run))
    (run / "functaset.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"damaged or not a functaset \(.*\)$"):
        task.load(TaskConfig(run))


def test_equal_images_are_refused(run, monkeypatch):
    exported(run)
    data = datasets.load("digits", images=30)
    data.train.images[:] = data.train.images[0]
    monkeypatch.setattr(exporter, "data_of", lambda *_: data)
    with pytest.raises(UserError, match="no two train images that differ"):
        task.load(TaskConfig(run))


def test_origin_is_decided_by_content_alone(run):
    exported(run)
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


def test_flags_without_effect_are_said(run, capsys):
    task.say_unused(TaskConfig(run, seed=3), {"seed": "nothing is random", "out": "no files"})
    assert capsys.readouterr().out == "--seed has no effect: nothing is random\n"
