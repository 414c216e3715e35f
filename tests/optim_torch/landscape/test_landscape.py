"""Traces of a landscape: plain training beside its probes, exact resume, files, bands."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints
from groundfloor.runs import Progress, Stopping
from optim_torch.landscape import bands, figures, recording, traces
from optim_torch.landscape.probing import probe
from tests.optim_torch.landscape.tiny import TINY

SPEC = traces.Spec("batch", 0.05, 3)


def record(config, spec, data_set, folder):
    with Progress(config.steps, "step") as progress:
        return traces.record(config, spec, data_set, torch.device("cpu"), folder, progress)


def same(one, two):
    timed = ("seconds", "probe_seconds")
    return all(np.array_equal(one[n], two[n], equal_nan=True) for n in one if n not in timed)


def test_a_trace_holds_what_plain_training_gives(digits, tmp_path):
    """With SGD the weights move by rate * |g|; the change is that of consecutive gradients."""
    trace = record(TINY, SPEC, digits, tmp_path)
    model = recording.build(TINY, SPEC, digits).to(memory_format=torch.channels_last)
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


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        dataclasses.replace(
            TINY, model="VGG_A_Dropout", scale=0.05, optimizer="adam", direction="random"
        ),
    ],
)
def test_a_killed_trace_goes_on_bit_for_bit(digits, tmp_path, monkeypatch, config):
    whole = record(config, SPEC, digits, tmp_path / "whole")
    monkeypatch.setattr("groundfloor.pytorch.steps.SECONDS", 0)
    advance = recording.Recording.advance

    def kill(self, step):
        if step == 3:
            raise KeyboardInterrupt
        advance(self, step)

    monkeypatch.setattr(recording.Recording, "advance", kill)
    with pytest.raises(KeyboardInterrupt):
        record(config, SPEC, digits, tmp_path / "cut")
    monkeypatch.setattr(recording.Recording, "advance", advance)
    assert Stopping.kept == f"step 3 in {tmp_path / 'cut'}"
    monkeypatch.setattr(Stopping, "kept", None)
    assert same(record(config, SPEC, digits, tmp_path / "cut"), whole)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [f"{SPEC.stem}.npz"]
    monkeypatch.setattr(Stopping, "kept", None)
    assert same(record(config, SPEC, digits, tmp_path / "cut"), whole)  # now from its file
    assert SPEC.stem in Stopping.kept


def test_a_network_that_diverges_ends_its_trace_alone(digits, tmp_path):
    config = dataclasses.replace(TINY, rates=(1e30,), steps=12)
    spec = traces.Spec("none", 1e30, 0)
    trace = record(config, spec, digits, tmp_path)
    assert np.isnan(trace["loss"][-1]) and np.isfinite(trace["loss"][0])
    assert np.isnan(trace["val"]) and np.isnan(trace["test"])
    (row,) = bands.summary({spec: trace})
    assert (row["seeds"], row["diverged"], row["test"], row["loss_width"]) == (1, 1, None, None)
    ended = int(np.isnan(trace["loss"]).argmax())  # the first step without a loss: none begins it
    reached = trace["here_loss"][: -(-ended // config.probe_every)]
    assert trace["no_gradient"] == row["no_gradient"] == np.isnan(reached).sum()


@given(st.integers(2, 20), st.floats(0.5, 1.5), st.floats(0, 1), st.integers(1, 10_000))
def test_chance_is_the_entropy_of_the_labels_and_the_largest_class(classes, share, accuracy, n):
    """Equal classes: log(classes) and 1 / classes, in closed form."""
    labels = np.repeat(np.arange(classes), 3)
    losses = np.concatenate([np.full(90, 0.1), np.full(10, share * math.log(classes))])
    error = math.sqrt((1 - 1 / classes) / classes / n)
    expected = share > 0.99 and accuracy <= 1 / classes + 2 * error
    assume(abs(share - 0.99) > 1e-9 and abs(accuracy - 1 / classes - 2 * error) > 1e-9)
    assert recording.has_diverged(losses, labels, accuracy, n) == expected
    assert recording.has_diverged(losses, labels, math.nan, 0) == (share > 0.99)  # none held out
    assert recording.has_diverged(np.append(losses, math.inf), labels, 1.0, n)
    assert recording.has_diverged(np.append(losses, math.nan), labels, 1.0, n)
    assert not recording.has_diverged(np.zeros(5), np.zeros(9), 1.0, n)  # one class


def test_a_network_killed_by_a_great_rate_is_found_at_chance(digits, tmp_path):
    """Its loss is finite: all ReLUs are dead and the answer is the same for all images."""
    config = dataclasses.replace(TINY, steps=40)
    dead, good = traces.Spec("none", 3.0, 0), traces.Spec("none", 0.1, 0)
    found = {spec: record(config, spec, digits, tmp_path) for spec in (dead, good)}
    assert np.isfinite(found[dead]["loss"]).all()
    assert found[dead]["diverged"] and not found[good]["diverged"]
    for what in ("loss", "change", "beta"):
        for definition in ("steps", "line"):
            both, alone, every = (
                bands.across(models, what, definition, counted=counted)
                for models, counted in (
                    (list(found.values()), None),
                    ([found[good]], [True]),
                    (list(found.values()), [True, True]),
                )
            )
            np.testing.assert_array_equal(both, alone)
            assert (every[2] > both[2]).any() or (every[1] < both[1]).any()
    step, low, high = bands.across([found[dead]], "loss")
    assert len(step) == 40 and np.isnan(low).all() and np.isnan(high).all()


def test_only_probes_without_a_gradient_are_passed_over(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "probe", lambda *_, **__: probe.missing)
    with pytest.raises(AttributeError):
        record(TINY, SPEC, digits, tmp_path)
    one_class = dataclasses.replace(
        digits,
        **{
            part: dataclasses.replace(
                getattr(digits, part), labels=0 * getattr(digits, part).labels
            )
            for part in ("train", "val", "test")
        },
        num_classes=1,
    )
    monkeypatch.setattr(recording, "probe", probe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {SPEC: record(TINY, SPEC, one_class, tmp_path)}
        assert not found[SPEC]["loss"].any() and found[SPEC]["no_gradient"] == 3
        assert bands.summary(found)[0]["beta"] == [None] * 4
        figures.draw(tmp_path / "figures", found)  # a linear axis
        for what in ("loss", "change", "beta"):
            figures.course_bands(tmp_path / "band.png", found, what)


def test_every_seed_and_step_has_a_random_direction_of_its_own(digits, tmp_path, monkeypatch):
    seen = []

    def watched(*words, generator, **options):
        seen.append(generator.initial_seed())
        return probe(*words, generator=generator, **options)

    monkeypatch.setattr(recording, "probe", watched)
    config = dataclasses.replace(TINY, direction="random")
    for seed in (0, 1):
        record(config, dataclasses.replace(SPEC, seed=seed), digits, tmp_path / "one")
    assert len(set(seen)) == len(seen) == 6
    record(config, dataclasses.replace(SPEC, seed=0), digits, tmp_path / "two")
    assert seen[6:] == seen[:3]


# ---- files ----


def test_traces_are_read_back_by_their_metadata(digits, tmp_path):
    """5e-05 in a name has a hyphen, and %g rounds: the name is not read."""
    rates = (5e-05, 0.1, 0.1 * (1 + 2**-52), 1.0)
    config = dataclasses.replace(TINY, steps=1)
    specs = [traces.Spec(norm, rate, 7) for norm in ("none", "linf") for rate in rates]
    for spec in specs:
        record(config, spec, digits, tmp_path / "traces")
    for path in (tmp_path / "traces").iterdir():
        path.rename(path.with_stem(f"renamed-{hash(path)}"))
    assert set(bands.load(tmp_path)) == set(specs)


@given(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30))
def test_other_rates_have_other_names(one, two):
    assert (one == two) == (traces.Spec("l1", one, 0).stem == traces.Spec("l1", two, 0).stem)


def test_traces_of_other_settings_or_images_are_refused(digits, tmp_path):
    record(TINY, SPEC, digits, tmp_path)
    with pytest.raises(UserError, match="steps 6 instead of 7") as refusal:
        record(dataclasses.replace(TINY, steps=7), SPEC, digits, tmp_path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="data_fingerprint"):
        record(TINY, SPEC, dataclasses.replace(digits, fingerprint="0" * 16), tmp_path)
    path = tmp_path / f"{SPEC.stem}.npz"
    path.rename(tmp_path / f"{dataclasses.replace(SPEC, seed=4).stem}.npz")
    with pytest.raises(UserError, match="seed 3 instead of 4"):
        record(TINY, dataclasses.replace(SPEC, seed=4), digits, tmp_path)
    _, arrays = traces.read(tmp_path / f"{dataclasses.replace(SPEC, seed=4).stem}.npz")
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="does not say what it was made from"):
        record(TINY, SPEC, digits, tmp_path)


@pytest.mark.parametrize("state", [{"made_from": {}}, {"step": 1}, [1, 2], {"model": None}])
def test_a_checkpoint_that_does_not_fit_gets_one_line(digits, tmp_path, state):
    if isinstance(state, dict) and "model" in state:
        state["made_from"] = traces.made_from(TINY, SPEC, digits)
    checkpoints.save(tmp_path / SPEC.stem, 3, state)
    with pytest.raises(UserError) as refusal:
        record(TINY, SPEC, digits, tmp_path)
    assert "\n" not in str(refusal.value) and str(tmp_path / SPEC.stem) in str(refusal.value)
    assert list((tmp_path / SPEC.stem).glob("*.pt"))  # nothing that was not understood is deleted


@pytest.fixture(scope="module")
def written(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    record(TINY, SPEC, digits, folder)
    return folder / f"{SPEC.stem}.npz"


@given(st.data())
def test_a_damaged_trace_is_refused_or_read_as_it_was(written, data):
    content = bytearray(written.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = written.with_name("damaged.npz")
    damaged.write_bytes(content)
    try:
        settings, arrays = traces.read(damaged)
    except UserError as refusal:
        assert "\n" not in str(refusal) and str(damaged) in str(refusal)
    else:
        expected = traces.read(written)
        assert settings == expected[0] and arrays.keys() == expected[1].keys()
        assert all(np.array_equal(arrays[n], expected[1][n], equal_nan=True) for n in arrays)


# ---- bands ----


@given(hnp.arrays(float, (3, 5), elements=st.one_of(st.floats(-9, 9), st.just(np.nan))))
def test_bands_are_minimum_and_maximum_of_what_is_there(values):
    low, high = bands.band(values)
    for step in range(5):
        there = [v for v in values[:, step] if not np.isnan(v)]
        if there:
            assert (low[step], high[step]) == (min(there), max(there))
        else:
            assert np.isnan(low[step]) and np.isnan(high[step])


def test_bands_of_all_normalisers_are_over_the_same_rates(digits, tmp_path):
    """A rate that one of them cannot take is left out for both."""
    specs = [traces.Spec(norm, rate, 0) for norm in ("none", "batch") for rate in (0.05, 0.1)]
    found = {spec: record(TINY, spec, digits, tmp_path) for spec in specs}
    for spec, trace in found.items():
        trace["diverged"] = spec == traces.Spec("none", 0.05, 0)
    made, numbers = figures.course_bands(tmp_path / "a.png", found, "loss")
    for norm in ("none", "batch"):
        kept = found[traces.Spec(norm, 0.1, 0)]["loss"]
        assert np.array_equal(numbers[norm][1], kept) and np.array_equal(numbers[norm][2], kept)
    title = made.legends[0].get_title().get_text()
    assert "rates 0.1\n" in title and "diverge: 0.05)" in title
