"""Vowels have their pitch and formants; digits keep their ink and bounce."""

import numpy as np
import pytest

from functa_jax.modalities import sets, sound, video
from groundfloor.errors import UserError


def test_a_resonator_rings_at_its_frequency_with_its_bandwidth():
    feedback = sound.resonance(1000, 80)
    frequencies = np.linspace(500, 1500, 4001)
    z = np.exp(-2j * np.pi * frequencies / sound.RATE)
    gain = np.abs(1 / (feedback[0] + feedback[1] * z + feedback[2] * z**2))
    assert frequencies[gain.argmax()] == pytest.approx(1000, abs=5)
    wide = np.ptp(frequencies[gain > gain.max() / np.sqrt(2)])
    assert wide == pytest.approx(80, rel=0.05)


def test_the_glottis_has_its_pitch():
    flow = sound.glottis(120, sound.RATE, np.random.default_rng(0))[sound.BEFORE :]
    assert flow[0] == 0 and flow[1] > 0  # where a pulse begins
    spectrum = np.abs(np.fft.rfft(flow - flow.mean()))
    assert spectrum.argmax() == pytest.approx(120, abs=2)  # one second: bins of 1 Hz
    assert flow.min() >= 0 and flow.max() < 1.3


def test_a_vowel_is_loud_around_its_first_formant_and_not_between_formants():
    waves = [
        sound.vowel(sound.VOWELS["heed"], 0, 2048, np.random.default_rng(seed)) for seed in range(8)
    ]
    power = np.mean([np.abs(np.fft.rfft(wave)) ** 2 for wave in waves], axis=0)
    frequencies = np.fft.rfftfreq(2048, 1 / sound.RATE)

    def between(low, high):
        return power[(frequencies > low) & (frequencies < high)].mean()

    assert between(200, 400) > 20 * between(900, 1600)
    assert between(2000, 2600) > between(1000, 1600)


def test_speakers_of_test_are_not_heard_in_train():
    data = sound.load(speakers=20, samples=64)
    assert [len(s) for s in (data.train, data.val, data.test)] == [140, 20, 40]
    heard = [set(split.ids // 10) for split in (data.train, data.val, data.test)]
    assert not heard[0] & heard[1] and not heard[0] & heard[2] and not heard[1] & heard[2]
    for split in (data.train, data.val, data.test):
        assert len(set(np.bincount(split.labels))) == 1
        assert split.values.min() >= 0 and split.values.max() <= 1


def test_first_frequencies_of_a_siren_of_w0_30_reach_a_quarter_of_the_rate():
    step = np.diff(sound.times(10)[:, 0])
    assert np.allclose(30 * step, np.pi / 2, atol=1e-6)  # radians a sample
    assert sound.times(10).sum() == 0


def test_mirrors_fold_a_straight_way():
    places = np.array([0.0, 3, 5, 7, 10, 13, -2])
    assert np.array_equal(video.bounced(places, 5), [0, 3, 5, 3, 0, 3, 2])


def test_a_digit_keeps_its_ink_and_moves_in_steps_of_one_size():
    random = np.random.default_rng(0)
    digit = np.zeros((6, 6), np.float32)
    digit[2:4, 2:4] = 200
    for _ in range(5):
        film = video.film(digit, 8, 12, random).astype(float)
        assert np.allclose(film.sum((1, 2)), 800, atol=8)  # rounding
        rows = (film.sum(2) * np.arange(12)).sum(1) / film.sum((1, 2))
        steps = np.abs(np.diff(rows))
        assert steps.max() <= 1.5 * 6 / 8 + 0.1
        assert np.median(np.abs(steps - steps.max())) < 0.1  # but for where it bounces


def test_films_of_embedded_digits(tmp_path, capsys):
    data = video.load(tmp_path, count=20, frames=3, side=8)
    assert "scikit-learn" in capsys.readouterr().out
    assert data.train.values.shape == (20, 192, 1) and data.train.values.dtype == np.uint8
    assert data.lattice == (3, 8, 8) and data.name == "video"
    assert len(data.val) == len(data.test) == 2
    again = video.load(tmp_path, dataset="digits", count=20, frames=3, side=8)
    assert again.fingerprint == data.fingerprint


def test_shares_of_every_class_are_met():
    labels = np.repeat(np.arange(3), (10, 20, 5))
    parts = sets.stratified(labels)
    for label, counts in ((0, (7, 1, 2)), (1, (14, 2, 4)), (2, (4, 0, 1))):
        assert tuple(sum(parts[labels == label] == part) for part in sets.PARTS) == counts


@pytest.mark.parametrize(
    "load, wrong", [(sound.load, {"speakers": 5}), (video.load, {"side": 4, "dataset": "digits"})]
)
def test_impossible_sizes_are_refused(load, wrong):
    with pytest.raises(UserError, match="are needed"):
        load(**wrong)
