"""experiments.bfloat16 compares what it says."""

import json

import pytest

from experiments import bfloat16
from groundfloor import cli


@pytest.mark.slow
def test_a_small_job(tmp_path):
    flags = ["digits", "--steps", 20, "--seeds", 0, "--out", tmp_path, "--results", tmp_path]
    args = [str(flag) for flag in flags]
    cli.run(bfloat16.main, bfloat16.Config, bfloat16.PRESETS, args=args)
    rows = json.loads((tmp_path / "bfloat16_digits.json").read_text())["rows"]
    plain, rounded = (row["gradient_error"] for row in rows)
    assert plain < 1e-4 < rounded < 0.5
    assert rows[0]["minus_float32"]["mean"] == 0 != rows[1]["minus_float32"]["mean"]
