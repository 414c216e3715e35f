"""The entropy model: exact in whole numbers, causal, a distribution, and it learns."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.tasks.compression import context

RANDOM = np.random.default_rng(0)


def random_context(side, count, seed=0, hidden=8):
    """A Context with weights at random, of sizes that trained ones have."""
    random = np.random.default_rng(seed)
    around = 8 * count if side > 1 else 0

    def normal(size, *shape):
        return random.normal(size=shape) * size

    return context._rounded(
        {
            "around": normal(0.3, around, hidden),
            "before": normal(0.3, 2 * count, hidden),
            "start": normal(0.5, side, side, hidden),
            "units": normal(0.5, len(context.groups(count)) - 1, hidden),
            "out": normal(0.3, hidden, 2 * count),
            "usual": normal(1.0, side, side, 2 * count),
        }
    )


def symbols_of(n, side, count, seed=0):
    draws = np.random.default_rng(seed).laplace(size=(n, side, side, count)) * 3
    return np.rint(draws).astype(np.int32)


@given(st.integers(1, 3000))
def test_groups_share_out_all_symbols(count):
    bounds = context.groups(count)
    assert bounds[0] == 0 and bounds[-1] == count and (np.diff(bounds) > 0).all()
    assert np.diff(bounds).max() <= context.MOST


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 12), st.integers(0, 99))
def test_an_image_alone_has_the_very_numbers_it_has_among_others(side, count, seed):
    model, symbols = random_context(side, count, seed), symbols_of(5, side, count, seed)
    together = model.predict(symbols)
    for place in range(5):
        alone = model.predict(symbols[place : place + 1])
        for whole, one in zip(together, alone, strict=True):
            np.testing.assert_array_equal(whole[place], one[0])


def test_no_distribution_depends_on_its_own_or_later_symbols():
    side, count = 3, 9
    model, symbols = random_context(side, count), symbols_of(2, side, count)
    bounds = context.groups(count)
    order = [
        (row, column, group)
        for row, column in np.ndindex(side, side)
        for group in range(len(bounds) - 1)
    ]
    before = model.predict(symbols)
    for place in range(len(order)):
        row, column, group = order[place]
        changed = symbols.copy()
        changed[:, row, column, bounds[group]] += 7
        after = model.predict(changed)
        for r, c, g in order[: place + 1]:
            for old, new in zip(before, after, strict=True):
                part = np.s_[:, r, c, bounds[g] : bounds[g + 1]]
                np.testing.assert_array_equal(old[part], new[part])


def test_whole_numbers_say_what_the_trained_floats_say():
    model, symbols = random_context(3, 7), symbols_of(40, 3, 7)
    floats = {name: np.float32(array) for name, array in context._floats(model.arrays).items()}
    per_symbol = float(jax.jit(context._bits)(floats, np.float32(symbols)))
    found = context.ideal_bits(model, symbols)
    assert found == pytest.approx(per_symbol * symbols[0].size, rel=5e-3)


@given(st.floats(-3, 3), st.floats(0.0625, 30))
def test_probabilities_add_up_to_one(mean, scale):
    whole = np.arange(-1500, 1500)
    bits = context.laplace_bits(whole, np.float64(mean), np.float64(scale))
    assert (bits >= 0).all() and np.exp2(-bits).sum() == pytest.approx(1, abs=1e-5)


def test_bits_are_those_of_the_integrated_density():
    mean, scale = 0.3, 1.7
    cumulative = lambda x: np.where(  # noqa: E731
        x < mean, np.exp((x - mean) / scale) / 2, 1 - np.exp(-(x - mean) / scale) / 2
    )
    whole = np.arange(-9, 10)
    expected = -np.log2(cumulative(whole + 0.5) - cumulative(whole - 0.5))
    np.testing.assert_allclose(context.laplace_bits(whole, mean, scale), expected, rtol=1e-9)


def test_training_finds_that_some_symbols_tell_the_scale_of_others():
    """Loud images and quiet ones: what a model of each symbol alone cannot know costs it most."""
    loud = RANDOM.integers(0, 2, (3000, 1, 1, 1))
    rest = np.rint(RANDOM.laplace(size=(3000, 1, 1, 8)) * np.where(loud, 8.0, 0.3))
    first = np.repeat(40 * loud - 20, context.FIRST, axis=-1)
    symbols = np.concatenate([first, rest], axis=-1).astype(np.int16)
    train, held = symbols[:2500], symbols[2500:]
    found, bits = context.train(train, held, steps=200)
    assert bits == context.ideal_bits(found, held)

    def bits_of_rest(mean, scale):
        return context.laplace_bits(rest[2500:], mean, scale).sum() / len(held)

    known = bits_of_rest(np.zeros_like(rest[2500:]), np.where(loud[2500:], 8.0, 0.3))
    alone, learned = (
        bits_of_rest(*(part[..., context.FIRST :] for part in model.predict(held)))
        for model in (context._without_context(train, 0), found)
    )
    assert learned < 1.05 * known < 0.9 * alone
