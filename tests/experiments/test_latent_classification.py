"""experiments.latent_classification: balanced subsets, one thing compared at a time."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import latent_classification
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.runs import read_json
from tests.functa_jax.tasks.conftest import IMAGES, write_run

PLAIN = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=4, w0=10.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with a plain run, one on a 2x2 grid, and one of fewer numbers."""
    folder = tmp_path_factory.mktemp("runs")
    models = {
        "plain": PLAIN,
        "grid": replace(PLAIN, grid=2),
        "smaller": replace(PLAIN, latent_dim=2),
    }
    for name, model in models.items():
        (folder / name).mkdir()
        write_run(folder / name, model)
    return folder


def test_balanced_subsets_have_as_many_of_each_class():
    labels = np.random.default_rng(0).integers(0, 4, 100)
    kept = latent_classification.balanced(labels, 7, np.random.default_rng(1))
    assert len({*kept}) == 28 and np.bincount(labels[kept]).tolist() == [7] * 4
    other = latent_classification.balanced(labels, 7, np.random.default_rng(2))
    assert {*kept} != {*other}


@pytest.mark.slow
def test_study_compares_one_thing_at_a_time(runs, tmp_path):
    args = ["--run", runs / "plain", "--out", tmp_path, "--steps", 0, 3, "--draws", 2]
    cli.run(latent_classification.main, latent_classification.Config, args=[*map(str, args)])
    assert (tmp_path / "latent_classification_digits.png").stat().st_size > 10_000
    rows = read_json(tmp_path / "latent_classification_digits.json")["rows"]
    panels = {
        name: [r for r in rows if r["against"] == name] for name in {r["against"] for r in rows}
    }
    zero, three = panels["steps"]
    assert (zero["value"], three["value"]) == (0, 3)
    labels = datasets.load("digits", images=IMAGES)
    often = np.bincount(labels.train.labels).argmax()
    chance = 100 * np.mean(labels.test.labels == often)
    # Latents that are all zero tell nothing: what is left is one class for all.
    shares = 100 * np.bincount(labels.test.labels, minlength=10) / IMAGES
    assert np.isclose(shares, zero["latents SVM"]).any() and three["latents SVM"] > chance
    functaset = load_functaset(runs / "plain")
    latents = functaset.train.latents, functaset.test.latents
    parts = latent_classification.accuracies(
        "latents", latents, (labels.train.labels, labels.test.labels)
    )
    assert three["latents linear"] == pytest.approx(parts["latents linear"], abs=2)
    numbers = [(r["value"], r["run"]) for r in panels["numbers"]]
    assert numbers == [(2, "smaller"), (4, "plain"), (16, "grid")]
    least = np.bincount(labels.train.labels).min()
    assert panels["training images"][-1]["value"] == 10 * least
    pixels = [three["pixels SVM"], zero["pixels SVM"], panels["numbers"][0]["pixels SVM"]]
    np.testing.assert_allclose(pixels, pixels[0], atol=2)  # one image may be a tie
