"""batches: normalisation, orders and batches as functions of seed and step."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor.data.split import Split
from groundfloor.errors import UserError
from groundfloor.pytorch import batches


def images(pixels):
    """uint8 (n, h, w, c) as Images on the CPU."""
    count = len(pixels)
    split = Split(pixels, np.zeros(count, np.int64), np.arange(count))
    return batches.on_device(split, torch.device("cpu"))


@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_normalised_channels_have_mean_0_and_std_1(count, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 4, 3, channels), np.uint8)
    found = images(pixels)
    values = batches.normalisation(found, True)(found.pixels).double()
    std, mean = torch.std_mean(values, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std), atol=1e-5, rtol=0)
    plain = batches.normalisation(found, False)(found.pixels)
    torch.testing.assert_close(plain, found.pixels / 255)


@given(st.integers(2, 4), st.integers(0, 255), st.integers(1, 4))
def test_equal_pixels_are_centred_and_stay_finite(count, value, side):
    """One channel of one value, whose deviation is 0 or what rounding leaves; one that varies."""
    pixels = np.full((count, side, side, 2), value, np.uint8)
    pixels[0, 0, 0, 1] = 255 - value
    found = images(pixels)
    normalise = batches.normalisation(found, True)
    values = normalise(found.pixels)
    assert torch.isfinite(values).all()
    assert values[:, 0].abs().max() < 1e-5
    other = normalise(torch.full_like(found.pixels, 255 - value))[:, 0]
    assert other.abs().max() < 1.001  # in units of the whole range, not of rounding


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 5), st.integers(0, 5))
def test_each_epoch_is_full_batches_of_different_images(count, size, seed, epoch):
    held = min(size, count)
    steps = count // held
    rows = [batches.rows(count, size, seed, epoch * steps + step) for step in range(steps)]
    assert all(len(batch) == held for batch in rows)
    seen = torch.cat(rows)
    assert len(set(seen.tolist())) == steps * held and seen.min() >= 0 and seen.max() < count
    assert torch.equal(seen, batches.order(count, seed, epoch)[: steps * held])


@pytest.mark.parametrize("name", ["nothing", "cuda:99", "meta"])
def test_a_device_that_cannot_be_used(name):
    with pytest.raises(UserError, match=f"--device {name}: ") as refusal:
        batches.choose_device(name)
    assert "\n" not in str(refusal.value)
    assert batches.choose_device("cpu").type == "cpu"
