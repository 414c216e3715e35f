"""How restored images are measured: PSNR, choices on validation, the table."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.evaluation import reconstruction
from functa_jax.tasks import task
from functa_jax.tasks.prior.diffusion import PriorConfig
from functa_jax.tasks.restoration import choice, estimates, protocol
from functa_jax.tasks.restoration.estimates import Estimate
from functa_jax.tasks.restoration.fitting import Seen
from groundfloor.data import datasets
from groundfloor.errors import UserError


def test_psnr_is_the_mean_over_images_of_the_pixels_asked_for():
    originals = np.zeros((2, 4, 4, 3))
    changed, where = originals.copy(), np.zeros((2, 4, 4), bool)
    changed[0] += 0.1
    changed[1, :2] += 0.01
    changed[1, 2:] = 5  # not asked for
    where[:, :2] = True
    assert protocol.psnr(changed, originals, where) == pytest.approx((20 + 40) / 2)


def test_the_best_is_what_measures_most():
    chosen = choice.best([3, 1, 2], lambda x: -((x - 1.9) ** 2))
    assert chosen.value == 2 and not chosen.last and chosen.said("steps") == {"steps": "2"}
    chosen = choice.best([3, 1, 2], lambda x: x)
    assert chosen.value == 3 and chosen.last and "last tried" in chosen.said("steps")["steps"]


@given(st.floats(-4, 4), st.integers(0, 2), st.integers(1, 3))
def test_a_list_is_widened_to_a_peak_beyond_its_ends(peak, first, length):
    """A parabola over log2 of the candidates: the nearest power of two, as far as it may go."""
    start = [2.0**e for e in range(first - 2, first - 2 + length + 1)]
    chosen = choice.best(start, lambda x: -((np.log2(x) - peak) ** 2), 2.0)
    low, high = first - 2 - choice.WIDENED, first - 2 + length + choice.WIDENED
    at = np.log2(chosen.value)
    assert low <= at <= high
    assert chosen.last == (at in (low, high))
    if not chosen.last:
        assert abs(at - peak) <= 0.51


def test_candidates_that_differ_by_nothing_are_not_widened():
    tried = []
    chosen = choice.best([1.0, 2.0, 4.0], lambda x: tried.append(x) or 30 + 1e-4 / x, 2.0)
    assert chosen.value == 1.0 and not chosen.last and tried == [1.0, 2.0, 4.0, 0.5]


def study_of(originals):
    study = protocol.Study.__new__(protocol.Study)
    study.command = "denoise"
    study.test, study.rows, study.settings, study.figures = originals, {}, {}, []
    study.config = SimpleNamespace(shown=2)
    return study


def test_what_diverges_is_not_chosen_and_leaves_its_cell_empty(tmp_path):
    assert choice.best([1, 2, 3], {1: np.nan, 2: 5.0, 3: 4.0}.get).value == 2
    with pytest.raises(UserError, match="finite"):
        choice.best([1, 2], lambda x: np.nan)
    study = study_of(np.zeros((2, 4, 4, 1)))
    study.material = SimpleNamespace(path=lambda name: tmp_path / name)
    good, bad = Estimate(study.test + 0.1, 20.0, {"steps": "2"}), Estimate(study.test + np.nan)
    study.add(protocol.Case("x", "x.png", None, Seen(study.test)), {"good": good, "bad": bad})
    assert study.rows["good"]["x"] == pytest.approx(20) and study.rows["bad"]["x"] is None
    assert ["bad" in remark for remark in protocol.diverged([*study.rows.values()])] == [True]
    assert not protocol.diverged([study.rows["good"]])
    assert study.settings == {"good": {"x": {"steps": "2"}}, "bad": {"x": {}}}
    assert [path.name for path in tmp_path.iterdir()] == study.figures == ["x.png"]


def test_settings_are_said_by_method():
    settings = {"a": {"half": {"steps": 2}, "box": {"steps": 3}}, "b": {"half": {}, "box": {}}}
    assert protocol.settings_text(settings) == "a (half: steps 2, box: steps 3)"


def test_images_without_a_split_are_refused():
    with pytest.raises(UserError, match="no validation"):
        protocol.spaced_images(datasets.load("photos"), 3)


def test_fewer_images_than_asked_for_are_taken_and_said(capsys):
    data = datasets.load("digits")
    val, test = protocol.spaced_images(data, 21)
    assert (len(val), len(test)) == (6, 21) and not capsys.readouterr().out
    val, test = protocol.spaced_images(data, 1000)
    assert (len(val), len(test)) == (len(data.val), len(data.test))
    assert "--count 1000: digits has 360 test images; all are taken" in capsys.readouterr().out


@pytest.mark.parametrize(("latents", "pca", "kept"), [(2000, 2000, True), (2000, 500, False)])
def test_priors_stand_side_by_side_if_they_were_trained_alike(
    latents, pca, kept, vectors, monkeypatch
):
    """generate may have been stopped between the two."""
    steps = {"prior.npz": latents, "prior_pca.npz": pca}

    def found(material, name):
        return SimpleNamespace(config=PriorConfig(prior_steps=steps[name]))

    monkeypatch.setattr(estimates, "find_prior", found)
    models = estimates.Models.with_rivals(task.load(task.TaskConfig(vectors)))
    assert models.prior and (models.pca_prior is not None) == kept
    assert any("No diffusion prior of PCA" in remark for remark in models.remarks()) != kept


def test_large_images_have_no_linear_rival_and_it_is_said(vectors, monkeypatch):
    monkeypatch.setattr(reconstruction, "MOST_NUMBERS", 63)
    models = estimates.Models.with_rivals(task.load(task.TaskConfig(vectors)))
    assert models.pca is None and models.normal is None
    assert any("more than 63 numbers an image" in remark for remark in models.remarks())
