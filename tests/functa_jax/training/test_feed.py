"""Streamed images: the same training as with all of them on the device, from any step on."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax import meta_train
from functa_jax.functa import load
from functa_jax.training import devices, exporter, feed, loop
from functa_jax.training.samples import Samples
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.data.records import Records
from groundfloor.errors import UserError
from groundfloor.runs import Run
from tests.functa_jax.training.tiny import TINY, assert_same
from tests.tfds import labelled, png, rewrite, shard, write_shard, write_small, write_tfds

CONFIG = replace(TINY, dataset="small", batch_size=8, eval_every=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_small(root)
    return root


@pytest.fixture(scope="module")
def both(folder):
    """The same data set in memory and in its files."""
    return [datasets.load("small", folder, resident=resident) for resident in ("yes", "no")]


def test_images_in_files_are_those_in_memory(both):
    inside, outside = both
    assert isinstance(outside.train.images, Records)
    for part in ("train", "val", "test"):
        one, other = getattr(inside, part), getattr(outside, part)
        np.testing.assert_array_equal(np.asarray(other.images), one.images)
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_array_equal(other.ids, one.ids)
    assert outside.num_classes == inside.num_classes


@given(st.data())
def test_rows_of_records_are_rows_of_the_array(both, data):
    inside, outside = (dataset.train.images for dataset in both)
    count = len(inside)
    rows = data.draw(
        st.one_of(
            st.integers(-count, count - 1),
            st.slices(count),
            st.lists(st.integers(0, count - 1)).map(lambda x: np.array(x, np.int64)),
            st.lists(st.booleans(), min_size=count, max_size=count).map(np.array),
        )
    )
    np.testing.assert_array_equal(outside[rows], inside[rows])
    if np.ndim(inside[rows]) == 4:
        np.testing.assert_array_equal(np.asarray(outside.take(rows)), inside[rows])


def test_the_fingerprint_is_of_the_content(folder, tmp_path, both):
    write_small(tmp_path, shards=3)
    same = datasets.load("small", tmp_path, resident="no")
    assert same.fingerprint == both[1].fingerprint
    assert len(same.fingerprint) == 16
    other = write_small(tmp_path, "other")
    write_shard(shard(other, "test", 0), labelled(10, seed=5)[2])
    assert datasets.load("other", tmp_path, resident="no").fingerprint != same.fingerprint


def test_a_run_knows_its_images_by_their_files_or_in_memory(folder, tmp_path, both):
    for known in (both[0].fingerprint, both[1].fingerprint):
        functa = SimpleNamespace(
            metadata={"data": "small", "data_fingerprint": known},
            of_images=True,
            resolution=both[0].train.images.shape[1:3],
        )
        for resident, kind in (("yes", np.ndarray), ("no", Records)):
            data = exporter.data_of(functa, tmp_path, folder, resident=resident)
            assert isinstance(data.train.images, kind) and data.fingerprint == known
    functa.metadata["data_fingerprint"] = "of others"
    assert exporter.data_of(functa, tmp_path, folder).fingerprint == both[0].fingerprint


def trained(data, out, config):
    return loop.train(config, data, Run(out, {}, data_fingerprint=data.fingerprint))[0]


def test_streamed_and_resident_training_are_the_same_bit_for_bit(both, tmp_path):
    resident = trained(both[0], tmp_path / "resident", replace(CONFIG, resident="yes"))
    streamed = trained(both[1], tmp_path / "streamed", replace(CONFIG, resident="no"))
    assert_same(streamed, resident)


@pytest.mark.slow
def test_a_streamed_training_is_resumed_bit_for_bit(both, tmp_path):
    half = replace(CONFIG, resident="no", steps=6, schedule="constant")
    whole = replace(half, steps=12)
    trained(both[1], tmp_path / "halved", half)
    resumed = trained(both[1], tmp_path / "halved", whole)
    assert_same(resumed, trained(both[1], tmp_path / "whole", whole))


@pytest.mark.slow
def test_a_run_goes_on_with_its_images_read_in_the_other_way(folder, tmp_path, capsys):
    """Each half by another --resident; all that is written is that of a run with one."""
    flags = ["--images", "16", "--width", "4", "--depth", "2", "--latent-dim", "2"]
    flags += ["--batch-size", "4", "--eval-every", "3", "--schedule", "constant", "--resident"]
    for first, second in (("yes", "no"), ("no", "yes")):
        for name, halves in (("whole", ((first, 6),)), ("halves", ((first, 3), (second, 6)))):
            for resident, steps in halves:
                out = tmp_path / f"{first}-{name}"
                args = [*flags, resident, "--steps", str(steps), "--out", str(out)]
                settings = ["--dataset", "small", "--data-dir", str(folder), *args]
                cli.run(meta_train.main, meta_train.Config, meta_train.PRESETS, settings)
        whole, halves = (load(tmp_path / f"{first}-{name}") for name in ("whole", "halves"))
        assert_same(whole, halves)
        assert whole.metadata == halves.metadata
    assert "going on from step 3 to 6" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_feed_begins_at_any_step(both, workers):
    config = replace(CONFIG, class_loss=True, workers=workers)
    mesh = devices.data_mesh(config.batch_size)
    model = loop.model_config(config, both[0])
    resident = feed.Resident(config, Samples.of(model, both[0].train), both[0].train.labels, mesh)
    streamed = feed.Streamed(model, config, both[1].train, mesh)
    for step, until in ((5, 8), (8, 9), (2, 4)):
        values, labels, rows = resident.steps(step, until)
        images, kinds, none = streamed.steps(step, until)
        assert none is None
        np.testing.assert_array_equal(images, np.asarray(values)[np.asarray(rows)])
        np.testing.assert_array_equal(kinds, np.asarray(labels)[np.asarray(rows)])


def test_damage_is_one_line_that_names_the_row(tmp_path):
    folder = write_small(tmp_path)
    data = datasets.load("small", tmp_path, resident="no")
    rewrite(shard(folder, "train", 0), lambda content: content[:-200])
    with pytest.raises(UserError) as caught:
        np.asarray(data.train.images)
    assert "small" in str(caught.value) and "\n" not in str(caught.value)


def test_what_stays_in_its_files_cannot_be_reduced(folder):
    with pytest.raises(UserError, match="prepare it at that resolution, or give --resident yes"):
        datasets.load("small", folder, resident="no", resolution=4)


MANY = """
import resource
import sys
from dataclasses import replace
from functa_jax.training import loop
from groundfloor.data import datasets
from tests.functa_jax.training.tiny import TINY
data = datasets.load("many", sys.argv[1], resident="no")
assert len(data.train) == 180_000
loop.train(replace(TINY, dataset="many", images=None, resident="no"), data, None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_stays_flat_with_200_000_images(tmp_path):
    """32x32x3: 600 MB as arrays, twice that while they are arranged and sent."""
    random = np.random.default_rng(0)
    stored = [png(image) for image in random.integers(0, 256, (500, 32, 32, 3), np.uint8)]
    train = [{"image": stored[i % 500], "label": i % 10} for i in range(200_000)]
    test = [{"image": image, "label": 0} for image in stored[:100]]
    write_tfds(tmp_path, "many", {"train": train, "test": test}, shape=(32, 32, 3))
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout.split()[-1]) < 1.5e6  # kB
