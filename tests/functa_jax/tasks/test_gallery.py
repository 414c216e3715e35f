"""What tasks share: galleries of pictures, rows in batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.tasks import batches
from functa_jax.tasks.gallery import HIDDEN, colours, gallery


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_galleries_show_every_kind_of_picture(channels, tmp_path):
    picture = np.full((2, 6, 6, channels), 0.5)
    picture[:, 0, 0] = np.nan
    gallery(tmp_path / "x.png", {"seen": picture, "large": np.full((1, 12, 9, 3), 2.0)})
    shown = colours(picture)
    assert shown.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(shown[:, 0, 0], [HIDDEN] * 2)
    np.testing.assert_allclose(shown[:, 1, 1], 0.75 if channels in (2, 4) else 0.5)


@given(st.integers(0, 20), st.integers(1, 8))
def test_batches_have_one_size_and_lose_no_row(rows, size):
    array, sizes = np.arange(3 * rows).reshape(rows, 3), []

    def function(batch, numbers):
        sizes.append(len(batch))
        return 2 * batch + numbers[:, None]

    joined = batches.in_batches(function, [array, np.arange(rows)], size)
    np.testing.assert_array_equal(joined, 2 * array + np.arange(rows)[:, None])
    assert set(sizes) == {size} and len(sizes) == max(1, -(-rows // size))
