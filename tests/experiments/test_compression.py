"""experiments.compression: distances to published points, points that are kept."""

import numpy as np
import pytest

from experiments import compression
from functa_jax.tasks.compression import published
from groundfloor.errors import UserError
from groundfloor.runs import read_json


def test_published_rates_and_decibels_rise_and_name_their_source():
    sources = read_json(published.PATH)["sources"]
    for entry in read_json(published.PATH)["methods"]:
        assert entry["source"] in sources and entry["rate"] and entry["psnr"]
    for curve in published.curves():
        assert len(curve.points) > 2 and (np.diff(curve.points, axis=0) > 0).all()


def test_distances_are_taken_on_a_line_in_the_logarithm_of_the_rate():
    """A curve of 6 dB a doubling, three points of it in any order; PCA 1 dB below, at one rate."""
    rows = [{"bits/pixel": rate, "PSNR (dB)": 30 + 6 * np.log2(rate)} for rate in (2.0, 0.5, 1.0)]
    below = [{**row, "PSNR (dB)": row["PSNR (dB)"] - 1} for row in rows]
    measured = {"latents": rows, "PCA": below[1:], "PCA of 8x8 blocks": below}
    other = published.Curve("RECOMBINER", ((0.4, 1.0), (0.5, 23.0), (2**0.5, 34.0)), False)
    out_of_range = published.Curve("COIN", ((0.1, 30.0),), False)
    found = compression.against(measured, [other, out_of_range])
    assert [row["bits/pixel"] for row in found] == [0.5, 2**0.5]  # not those out of our range
    assert [row["latents (dB)"] for row in found] == pytest.approx([24, 33])
    assert [row["latents ahead (dB)"] for row in found] == pytest.approx([1, -1])
    assert [row["PCA of 8x8 blocks (dB)"] for row in found] == pytest.approx([23, 32])
    assert [row["PCA (dB)"] for row in found] == [pytest.approx(23), None]


def test_a_point_is_measured_once_and_not_taken_for_one_of_other_settings(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"method": "x", "PSNR (dB)": 30.5}

    path, facts = tmp_path / "x.json", {"training": 3}
    for _ in range(2):
        assert compression.kept(path, facts, measure, None) == {"method": "x", "PSNR (dB)": 30.5}
    assert len(calls) == 1
    with pytest.raises(UserError, match="was measured with other settings"):
        compression.kept(path, {"training": 4}, measure, None)
