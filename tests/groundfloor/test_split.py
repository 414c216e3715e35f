"""One's own images are drawn one by one: what is added, taken away or renamed moves no other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from groundfloor.data.datasets import load
from groundfloor.data.split import drawn
from tests.tfds import pictures

PARTS = ("train", "val", "test")
KEYS = [bytes([number // 256, number % 256]) for number in range(4000)]


@given(st.sets(st.sampled_from(KEYS[:200]), min_size=40), st.floats(0.3, 0.7))
def test_a_draw_does_not_depend_on_the_other_images(some, share):
    held = dict(zip(KEYS[:200], drawn(KEYS[:200], share, "test"), strict=True))
    assert drawn(list(some), share, "test").tolist() == [held[key] for key in some]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_shares_are_kept_and_uses_are_independent(share):
    held, other = drawn(KEYS, share, "test"), drawn(KEYS, share, "val")
    deviation = np.sqrt(share * (1 - share) / len(KEYS))
    assert abs(held.mean() - share) < 4 * deviation
    assert abs(np.corrcoef(held, other)[0, 1]) < 4 / np.sqrt(len(KEYS))
    assert not (drawn(KEYS, share / 2, "test") & ~held).any()  # a larger share takes more


@given(st.sets(st.sampled_from(KEYS), min_size=2, max_size=5), st.sampled_from([0.0, 0.999999]))
def test_of_few_images_one_is_held_and_one_is_kept(some, share):
    held = drawn(list(some), share, "test")
    assert held.sum() == (1 if share == 0 else len(some) - 1)
    assert not drawn([b"same"] * 3, share, "test").any()


def where(data):
    """dict of an image's bytes -> its part."""
    return {image.tobytes(): part for part in PARTS for image in getattr(data, part).images}


@pytest.mark.parametrize("kind", ["array", "folder"])
def test_images_that_are_added_or_renamed_move_no_other(kind, tmp_path):
    images = pictures(120)
    before, after = np.arange(80), np.random.default_rng(0).permutation(120)

    def loaded(name, rows, resolution):
        if kind == "array":
            path = tmp_path / f"{name}.npz"
            np.savez(path, images=images[rows], labels=rows % 3)
        else:
            for place, row in enumerate(rows):
                path = tmp_path / name / str(row % 3) / f"{place:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[row]).save(path)
            path = tmp_path / name
        return load(str(path), resolution=resolution)

    old, new = (where(loaded(name, rows, 8)) for name, rows in (("a", before), ("b", after)))
    assert len(old) == 80 and len(new) == 120 and set(old.values()) == set(PARTS)
    assert old.items() <= new.items()
    full, small = loaded("a", before, 8), loaded("a", before, 4)
    assert np.array_equal(full.test.ids, small.test.ids)
    assert np.array_equal(full.val.ids, small.val.ids)
