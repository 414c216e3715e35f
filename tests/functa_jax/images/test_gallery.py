"""What tasks share: galleries of pictures, rows of tables."""

import numpy as np
import pytest

from functa_jax.images.gallery import HIDDEN, colours, gallery
from groundfloor import tables as rows


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_galleries_show_every_kind_of_picture(channels, tmp_path):
    picture = np.full((2, 6, 6, channels), 0.5)
    picture[:, 0, 0] = np.nan
    gallery(tmp_path / "x.png", {"seen": picture, "large": np.full((1, 12, 9, 3), 2.0)})
    shown = colours(picture)
    assert shown.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(shown[:, 0, 0], [HIDDEN] * 2)
    np.testing.assert_allclose(shown[:, 1, 1], 0.75 if channels in (2, 4) else 0.5)


def test_tables_are_aligned_and_leave_no_column_out():
    table = [{"name": "a", "n": 1}, {"n": None, "share": 0.123456}]
    assert rows.as_text(table).splitlines() == [
        "name  n  share",
        "a     1  -",
        "-     -  0.1235",
    ]
    assert rows.complete(table)[0] == {"name": "a", "n": 1, "share": None}
