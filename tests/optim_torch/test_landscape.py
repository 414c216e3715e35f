"""Traces, bands and the landscape command, against slow recomputation."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from common import batches, cli, plots
from common.errors import UserError
from common.runs import Progress
from optim_torch import bands, course, landscape, traces
from optim_torch.landscape_settings import load_data
from tests.refusals import refusal

torch.set_num_threads(1)

TINY = dataclasses.replace(
    landscape.PRESETS["digits"],
    **{"scale": 0.25, "batch_size": 16, "n_items": 64, "steps": 6, "probe_every": 2},
    **{"rates": (0.05, 0.1), "device": "cpu"},
)
SPEC = traces.Spec("batch", 0.05, 3)


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)


@pytest.fixture(scope="module")
def digits():
    return load_data(TINY)


def record(config, spec, data_set, folder):
    with Progress(config.steps, "step") as progress:
        return traces.record(config, spec, data_set, torch.device("cpu"), folder, progress)


def run(folder, *words):
    words = ["tiny", *map(str, words), "--out", str(folder)]
    return cli.run(landscape.main, landscape.Config, {"tiny": TINY}, words)


def same(one, two):
    timed = ("seconds", "probe_seconds")
    return all(np.array_equal(one[n], two[n], equal_nan=True) for n in one if n not in timed)


def test_a_trace_holds_what_plain_training_gives(digits, tmp_path):
    """With SGD the weights move by rate * |g|; the change is that of consecutive gradients."""
    trace = record(TINY, SPEC, digits, tmp_path)
    model = traces.build(TINY, SPEC, digits).to(memory_format=torch.channels_last)
    images = batches.on_device(digits.train, "cpu")
    normalise = batches.normalisation(images, standardise=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=SPEC.rate)
    before = None
    for step in range(TINY.steps):
        rows = batches.rows(len(images), TINY.batch_size, SPEC.seed, step)
        loss = F.cross_entropy(model(normalise(images.pixels[rows])), images.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert trace["loss"][step] == pytest.approx(loss.item(), rel=1e-6)
        if before is None:
            assert np.isnan(trace["change"][0]) and np.isnan(trace["moved"][0])
        else:
            change, moved = (gradient - before).norm().item(), SPEC.rate * before.norm().item()
            assert trace["change"][step] == pytest.approx(change, rel=1e-4)
            assert trace["moved"][step] == pytest.approx(moved, rel=1e-4)
        if step % 2 == 0:
            assert trace["here_loss"][step // 2] == pytest.approx(loss.item(), rel=1e-6)
            found = trace["here_gradient"][step // 2]
            assert found == pytest.approx(gradient.norm().item(), rel=1e-5)
        before = gradient
        optimizer.step()


@pytest.mark.parametrize("direction", ["gradient", "optimizer", "random"])
def test_probes_do_not_change_training(digits, tmp_path, direction):
    often = dataclasses.replace(TINY, probe_every=1, direction=direction, optimizer="adam")
    seldom = dataclasses.replace(often, probe_every=100)
    one = record(often, SPEC, digits, tmp_path / "often")
    two = record(seldom, SPEC, digits, tmp_path / "seldom")
    assert np.array_equal(one["loss"], two["loss"])
    assert one["point_loss"].shape == (6, 4) and two["point_loss"].shape == (1, 4)


def test_a_killed_trace_goes_on_bit_for_bit(digits, tmp_path, monkeypatch):
    whole = record(TINY, SPEC, digits, tmp_path / "whole")
    monkeypatch.setattr(traces, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    advance = traces._Trace.advance

    def kill(self):
        if self.step == 3:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(traces._Trace, "advance", kill)
    with pytest.raises(KeyboardInterrupt):
        record(TINY, SPEC, digits, tmp_path / "cut")
    monkeypatch.setattr(traces._Trace, "advance", advance)
    assert same(record(TINY, SPEC, digits, tmp_path / "cut"), whole)
    assert same(record(TINY, SPEC, digits, tmp_path / "cut"), whole)  # now from its file


def test_a_network_that_diverges_ends_its_trace_alone(digits, tmp_path):
    config = dataclasses.replace(TINY, rates=(1e30,), steps=12)
    trace = record(config, traces.Spec("none", 1e30, 0), digits, tmp_path)
    assert np.isnan(trace["loss"][-1]) and np.isfinite(trace["loss"][0])
    assert trace["test"] == 0
    (row,) = bands.summary({traces.Spec("none", 1e30, 0): trace})
    assert row["diverged"] == 1


@given(hnp.arrays(float, (3, 5), elements=st.one_of(st.floats(-9, 9), st.just(np.nan))))
def test_bands_are_minimum_and_maximum_of_what_is_there(values):
    low, high = bands.band(values)
    for step in range(5):
        there = [v for v in values[:, step] if not np.isnan(v)]
        if there:
            assert (low[step], high[step]) == (min(there), max(there))
        else:
            assert np.isnan(low[step]) and np.isnan(high[step])


def test_the_courses_functions_band_models_and_the_papers_lengths(tmp_path):
    run(tmp_path, "--norms", "batch")
    found = bands.load(tmp_path)
    one, two = found.values()
    _, numbers = course.VGG_Loss_Landscape(tmp_path, tmp_path / "a.png")
    _, low, high = numbers["batch"]
    assert np.array_equal(low, np.minimum(one["loss"], two["loss"]))
    assert np.array_equal(high, np.maximum(one["loss"], two["loss"]))
    _, numbers = course.VGG_Beta_Smooth(str(tmp_path), tmp_path / "b.png")
    ratios = [trace["change"] / trace["moved"] for trace in (one, two)]
    np.testing.assert_array_equal(numbers["batch"][2][1:], np.maximum(*ratios)[1:])
    _, numbers = course.VGG_Grad_Pred([tmp_path], tmp_path / "c.png", "line")
    step, low, _ = numbers["batch"]
    at_the_rate = [trace["point_change"][:, 1] for trace in (one, two)]  # lengths 0.5, 1, 2, 4
    assert np.array_equal(low, np.minimum(*at_the_rate)) and step.tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match='"steps" or "line"'):
        course.VGG_Grad_Pred([tmp_path], tmp_path / "d.png", "other")
    local = bands.local(one)
    assert np.array_equal(local["loss_high"], one["point_loss"].max(1))
    assert np.array_equal(local["beta_most"], one["point_beta"].max(1))


def test_the_courses_functions_train_for_themselves_once(tmp_path, monkeypatch):
    fields = ("dataset", "model", "scale", "batch_size", "n_items", "steps", "probe_every")
    settings = {name: getattr(TINY, name) for name in fields}
    settings |= {"rates": (0.001, 0.002), "device": "cpu", "out": tmp_path / "run"}
    _, numbers = course.VGG_Loss_Landscape(None, tmp_path / "a.png", **settings)
    assert set(numbers) == {"none", "batch"}
    losses = [t["loss"] for s, t in bands.load(tmp_path / "run").items() if s.norm == "none"]
    assert np.array_equal(numbers["none"][2], np.maximum(*losses))
    monkeypatch.setattr(traces._Trace, "advance", None)  # nothing is trained twice
    course.VGG_Grad_Pred(None, tmp_path / "b.png", **settings)
    with pytest.raises(UserError, match="other settings"):
        course.VGG_Beta_Smooth(None, tmp_path / "c.png", **{**settings, "steps": 7})
    with pytest.raises(UserError, match="only for training"):
        course.VGG_Grad_Pred(tmp_path / "run", tmp_path / "d.png", steps=7)


def test_the_command_measures_and_draws(tmp_path):
    summary = run(tmp_path / "run", "--seeds", 0, 1)
    assert [(row["norm"], row["rate"], row["seeds"]) for row in summary["table"]] == [
        (norm, rate, 2) for norm in ("none", "batch") for rate in (0.05, 0.1)
    ]
    names = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert names == {
        *("landscape_same_rate", "landscape_best_rates", "rates"),
        *("VGG_Loss_Landscape", "VGG_Grad_Pred", "VGG_Beta_Smooth"),
    }
    assert 0 < summary["probe_seconds"] < summary["seconds"]
    run(tmp_path / "one", "--rates", 0.05, "--norms", "none", "l1")
    assert (tmp_path / "one" / "figures" / "landscape.png").exists()


def test_a_subset_has_as_many_of_each_class():
    data_set = load_data(dataclasses.replace(TINY, n_items=200))
    counts = np.bincount(data_set.train.labels)
    assert counts.sum() == 200 and counts.max() - counts.min() <= 2
    assert len(data_set.test) == len(load_data(TINY).test) > 300


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--norms batchnorm", "unknown norm 'batchnorm'"),
        ("--rates 0", "--rates must be above 0"),
        ("--lengths -1", "--lengths must be above 0"),
        ("--model VGG_B", "VGG_B"),
        ("--steps 0", "--steps must be at least 1"),
        ("--n-items 5", "--n-items must be"),
        ("--dataset nonsense", "nonsense"),
        ("--device nonsense", "--device nonsense"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(tmp_path, capsys, words, said):
    line = refusal(capsys, lambda: run(tmp_path / "run", *words.split()))
    assert said in line
    assert not (tmp_path / "run").exists()


def test_a_folder_without_traces_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no traces"):
        bands.load(tmp_path)
