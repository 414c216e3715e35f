"""The benchmark compares equals: both sides train alike, and its figures hang together."""

import json

import pytest

from experiments import bench
from functa_jax.training import loop
from groundfloor import cli
from groundfloor.runs import environment


@pytest.fixture(scope="module")
def row():
    shape = bench.Shape(width=8, depth=3, latent_dim=4, side=4, channels=1, batch=8)
    return shape, bench.functa_row(shape, bench.Config(rounds=1, seconds=0.01))


@pytest.mark.slow
def test_both_sides_log_the_same_psnr(row):
    assert row[1]["psnr_difference_db"] < 1e-3


def test_figures_hang_together(row):
    shape, figures = row
    rates = figures["ours_images_per_s"], figures["reference_images_per_s"]
    assert figures["ratio"] == pytest.approx(rates[0] / rates[1], rel=0.02, abs=0.006)
    flops = 18 * loop.forward_flops(shape, 16) * rates[0]
    share = flops / (figures["matmul_gflops"] * 1e9)
    assert figures["matmul_share"] == pytest.approx(share, abs=0.002)


@pytest.mark.slow
def test_rows_are_kept_where_asked(tmp_path, capsys):
    args = ["dessilbi", "--rounds", "1", "--seconds", "0.01", "--json", "--results", str(tmp_path)]
    cli.run(bench.main, bench.Config, dict.fromkeys(bench.BENCHES, bench.Config()), args)
    assert (tmp_path / "bench_dessilbi.jsonl").read_text() == capsys.readouterr().out


def test_a_row_stands_above_what_was_kept_of_it(tmp_path, monkeypatch, capsys):
    rows = [{"network": "lenet", "base": base, "training_ratio": 1.25} for base in ("SGD", "AdamW")]
    monkeypatch.setitem(bench.BENCHES, "dessilbi", lambda config: ({**row} for row in rows))
    monkeypatch.setattr(bench.runner, "RESULTS", tmp_path)
    old = {"network": "lenet", "base": "SGD", "training_ratio": 4.5, "machine": "a mill"}
    (tmp_path / "bench_dessilbi.jsonl").write_text(json.dumps(old) + "\n")
    made = bench.main(bench.Config(), "dessilbi")
    head, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["network", "base", "training_ratio", "machine", "date"]
    assert [line[:3] for line in lines] == [
        ["lenet", "SGD", "1.25"],
        ["lenet", "SGD", "4.5"],
        ["lenet", "AdamW", "1.25"],
    ]
    assert "mill" in lines[1] and made[0]["machine"] == environment()["machine"]
