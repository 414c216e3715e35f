"""Fréchet distance and its intervals, the classifier that judges, the whole task."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax import functa
from functa_jax.evaluation import reconstruction
from functa_jax.images.signals import to_bytes, to_float
from functa_jax.tasks import generate, task
from functa_jax.tasks.generation import classifier, codes, frechet
from functa_jax.tasks.prior.diffusion import load_prior
from functa_jax.tasks.restoration.estimates import Models
from groundfloor import cli
from groundfloor.data import datasets
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)


# ---- Fréchet distance ----


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_frechet_distance_is_the_closed_form(seed, numbers):
    random = np.random.default_rng(seed)
    a = random.standard_normal((40, numbers)) @ random.standard_normal((numbers, numbers))
    b = random.standard_normal((30, numbers)) + random.standard_normal(numbers)
    c_a, c_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = scipy.linalg.sqrtm(c_a @ c_b).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c_a + c_b - 2 * root)
    np.testing.assert_allclose(frechet.frechet_distance(a, b), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(frechet.frechet_distance(b, a), expected, rtol=1e-4, atol=1e-6)
    assert frechet.frechet_distance(a, a[::-1]) < 1e-6
    np.testing.assert_allclose(frechet.frechet_distance(a, a + 3), 9 * numbers, rtol=1e-6)


def test_frechet_distance_of_one_number():
    a, b = RANDOM.standard_normal((100, 1)), 2 + 3 * RANDOM.standard_normal((50, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    np.testing.assert_allclose(frechet.frechet_distance(a, b), expected)


def test_few_images_take_few_features_and_chance_has_its_interval():
    """Features are what a classifier says they are: here the first pixels, of known variance."""
    random = np.random.default_rng(3)
    scales = np.array([3.0, 2.0, 1.0, 0.1])

    def split(count, shift=0):
        pixels = np.clip(128 + 10 * scales * random.normal(size=(count, 4)) + shift, 0, 255)
        images = np.uint8(pixels).reshape(count, 2, 2, 1)
        return datasets.Split(images, np.zeros(count, int), np.arange(count))

    data = datasets.Dataset("x", split(400), split(25), split(300), 2, "")
    judge = frechet.Judge(
        lambda images: (reconstruction.as_rows(images), np.zeros(len(images))),
        data,
        data.test,
        data.val,
    )
    assert judge.components == 2  # a tenth of 25
    assert not judge.labelled and judge.accuracy is None
    variances = np.var(reconstruction.pixel_rows(data.train.images), axis=0)
    np.testing.assert_allclose(judge.explained, variances[:2].sum() / variances.sum(), atol=0.02)
    alike, other, far = (
        judge.row(name, to_float(split(300, shift).images))
        for name, shift in (("alike", 0), ("other", 0), ("far", 30))
    )
    assert not judge.told_apart(alike, other) and judge.told_apart(alike, far)
    assert not judge.told_apart(alike, alike)
    assert judge.told_apart(alike, far, "FID to validation")
    same = judge.row("same", to_float(data.test.images), same=True)
    np.testing.assert_allclose([same["FID"], same["FID ±"]], 0, atol=1e-6)
    # As a standard error: over new draws of both sides FID spreads as its resamples say.
    again = [
        frechet.frechet_distance(
            *(reconstruction.pixel_rows(split(300, s).images)[:, :2] for s in (0, 30))
        )
        for _ in range(100)
    ]
    assert 0.6 < far["FID ±"] / (1.96 * np.std(again)) < 1.6


def test_clusters_are_groups_that_lie_apart(monkeypatch):
    monkeypatch.setattr(classifier, "CLUSTERS", 3)
    groups = RANDOM.permutation(np.arange(60) % 3)
    values = np.float32(groups[:, None, None, None] / 3 + 0.01 * RANDOM.random((60, 4, 4, 1)))
    found = classifier.clusters(values, 0)
    assert len(set(zip(groups, found, strict=True))) == len(set(found)) == 3


def test_nearest_is_brute_force():
    train, rows = RANDOM.standard_normal((30, 4)), RANDOM.standard_normal((5, 4))
    every = np.sqrt(((rows[:, None] - train) ** 2).mean(axis=-1))
    distances, indices = frechet.nearest(train, rows, 3)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :3])


# ---- the task ----

TINY_FLAGS = "--prior-steps 3 --prior-batch 16 --width 16 --blocks 1 --heads 2 --guidance 1"
TINY_FLAGS += " --classifier-steps 3 --samples 60"


def check_samples(path, model, count):
    """The arrays of samples.npz, after a check that the images are those of the latents."""
    with np.load(path) as arrays:
        kept = dict(arrays)
    assert kept["latents"].shape == (count, *model.config.latent_shape)
    assert kept["latents"].dtype == np.float32
    assert kept["labels"].shape == (count,) and kept["labels"].dtype == np.int64
    assert kept["images"].dtype == np.uint8
    np.testing.assert_array_equal(kept["images"], to_bytes(model.decode(kept["latents"])))
    assert json.loads(str(kept["metadata"]))["checkpoint"] == model.hash
    return kept


def test_samples_are_kept_as_latents_of_the_functaset_and_as_images(vectors, tmp_path):
    material = task.load(task.TaskConfig(vectors, out=tmp_path))
    latents = material.functaset.test.latents[:20]
    labels = material.functaset.test.labels[:20]
    samples, prior = codes.Samples(0.5, latents, {}), SimpleNamespace(identity="abc")
    generate.write_samples(material, prior, samples, labels, 3)
    kept = check_samples(tmp_path / "samples.npz", material.functa, 20)
    np.testing.assert_array_equal(kept["latents"], latents)
    np.testing.assert_array_equal(kept["labels"], labels)
    about = json.loads(str(kept["metadata"]))
    assert (about["guidance"], about["prior"], about["seed"]) == (0.5, "abc", 3)


def command(run, out, flags=TINY_FLAGS):
    arguments = ["--run", str(run), "--out", str(out), *flags.split()]
    cli.run(generate.main, generate.Config, args=arguments)


@pytest.mark.slow
def test_the_whole_task(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(codes, "STEPS", 3)
    monkeypatch.setattr(frechet, "RESAMPLES", 20)
    command(vectors, tmp_path)
    report = json.loads((tmp_path / "generate.json").read_text())
    for name in report["figures"]:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    names = [row["images"] for row in report["rows"]]
    for steps in ("DDIM, guidance 1", "DDPM, guidance 1", ", 5 steps", ", 10 steps"):
        assert sum(name.endswith(steps) for name in names) == 2  # functa and PCA
    assert sum(name.startswith("PCA") for name in names) == 7
    assert all(np.isfinite(row["FID"]) and row["FID"] >= 0 for row in report["rows"])
    assert all(row["FID ±"] >= 0 for row in report["rows"])
    assert "bootstrap resamples" in report["remarks"][2]
    assert "the first 6 principal components" in report["remarks"][0]  # of 60 images
    assert report["files"] == ["samples.npz"]
    kept = check_samples(tmp_path / "samples.npz", functa.load(vectors), 60)
    assert set(kept["labels"]) <= set(range(10))
    made = load_prior(tmp_path)
    assert made.latent_shape == (6,) and made.checkpoint == report["checkpoint"]


@pytest.mark.slow
def test_images_without_labels_have_one_prior_and_one_gaussian(
    unlabelled, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(codes, "STEPS", 3)
    monkeypatch.setattr(codes, "FEW_STEPS", ())
    monkeypatch.setattr(frechet, "RESAMPLES", 20)
    command(unlabelled, tmp_path)
    assert "--guidance has no effect as" in capsys.readouterr().out
    report = json.loads((tmp_path / "generate.json").read_text())
    rows = ["of test images", "one Gaussian", "diffusion, DDIM", "diffusion, DDPM"]
    expected = [f"{code}, {row}" for code in ("functa", "PCA") for row in rows]
    assert [row["images"] for row in report["rows"]] == ["train images", *expected]
    assert all("class as asked (%)" not in row for row in report["rows"])
    assert "clusters" in report["remarks"][0] and "Guidance" not in " ".join(report["remarks"])
    kept = check_samples(tmp_path / "samples.npz", functa.load(unlabelled), 60)
    assert (kept["labels"] == -1).all()
    models = Models.with_rivals(task.load(task.TaskConfig(unlabelled, out=tmp_path)))
    assert models.prior.num_classes == models.pca_prior.num_classes == 0  # what restoration takes


def test_refusals(vectors, tmp_path, capsys):
    (tmp_path / "prior.npz").write_bytes(b"PK nothing")
    assert "prior.npz is damaged" in refusal(capsys, lambda: command(vectors, tmp_path))
    for flags, message in (
        ("--guidance -1", "guidance"),
        ("--guidance", "--guidance: needs at least one value"),
        ("--samples 1", "--samples 1: must be in [20,"),
        ("--width 10 --heads 4", "--width 10: must be even and a multiple of --heads 4"),
        ("--drop-labels 2", "--drop-labels 2.0: must be in [0, 1]"),
        ("--prior-rate nan", "--prior-rate nan: must be a finite number"),
    ):
        assert message in refusal(capsys, lambda f=flags: command(vectors, tmp_path / "new", f))
    assert not (tmp_path / "new").exists()
