"""The benchmark compares equals: both sides train alike, and its figures hang together."""

import json
from dataclasses import replace

import pytest

from experiments import bench, streams
from functa_jax.training import feed, loop
from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.machine import environment
from tests.functa_jax.training.tiny import TINY
from tests.tfds import write_small


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


def test_streamed_and_resident_training_take_turns(monkeypatch):
    """Of a clock that ticks twice as long in a streamed turn."""
    clock, turns = [0.0], []

    def training(settings):
        def turn():
            turns.append(settings.resident)
            clock[0] += 0.5 if settings.resident == "no" else 0.25

        return turn

    monkeypatch.setattr(streams, "training", training)
    monkeypatch.setattr(streams.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(feed, "AHEAD", 100)
    settings = replace(TINY, dispatch=10, batch_size=8)
    row = streams.row("tiny", settings, bench.Config(rounds=3, seconds=1.0))
    assert row["ratio"] == 0.5
    assert (row["streamed_images_per_s"], row["resident_images_per_s"]) == (160, 320)
    once = ["no"] * 4 + ["yes"] * 6  # two dispatches that are not counted, then a second's
    assert turns == ["no", "yes"] + 3 * once


@pytest.mark.slow
def test_what_streams_is_a_training_on_images_in_files(tmp_path):
    write_small(tmp_path)
    settings = replace(TINY, dataset="small", images=None, data_dir=tmp_path)
    for resident in ("no", "yes"):
        turn = streams.training(replace(settings, resident=resident))
        turn()
        turn()
    with pytest.raises(UserError, match="digits is not there as TFDS keeps it"):
        streams.training(replace(TINY, resident="no"))


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
