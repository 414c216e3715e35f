"""The sweep: its table, resuming cell by cell, cells side by side, weights from files."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundfloor import cluster, plots
from groundfloor.errors import UserError
from groundfloor.runs import Stopping, read_json
from prune_torch import pack
from prune_torch.methods import METHODS
from prune_torch.network import vit
from prune_torch.protocol import cells, figures, workers
from tests.prune_torch.sweeps import TINY, prepared, run, table

PICTURES = ("accuracy", "layers", "cost", "groups")


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    for name in PICTURES:
        monkeypatch.setattr(figures, name, lambda *_: None)


def test_rows_meet_their_densities_and_the_table_holds_them(tmp_path, monkeypatch):
    monkeypatch.undo()  # with pictures
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)
    words = ("--methods", "random", "magnitude", "neurons", "--densities", 0.5, 0.8)
    rows = run(tmp_path, *words, "--table", "csv", "--figures", "pdf")
    assert [(r["method"], float(r["density"])) for r in table(tmp_path)] == [
        (method, level) for method in ("random", "magnitude", "neurons") for level in (0.5, 0.8)
    ]
    for row in rows:
        assert row["exact"] == (row["nonzero"] == round(row["density"] * row["total"]))
        assert row["exact"] == (row["method"] != "neurons")
    for name in PICTURES:
        for kind in ("png", "pdf"):
            assert (tmp_path / "figures" / f"{name}.{kind}").exists()
    with (tmp_path / "top1.csv").open() as file:
        *methods, dense = csv.DictReader(file)
    for row in rows:
        (line,) = [line for line in methods if line["method"] == row["method"]]
        assert float(line[f"{row['density']:g}"]) == 100 * row["top1"]
    assert dense["method"] == "dense" and dense["1"] and not dense["0.5"]
    plots.use("png")
    summary = read_json(tmp_path / "summary.json")
    assert summary["cells"] == 6
    assert summary["token_merging"][0]["top1"] == summary["dense"]["test"]["top1"]
    for row in table(tmp_path):
        assert bool(row["latency_ratio"]) == (row["method"] == "neurons")
        assert float(row["megabytes"]) > 0 and float(row["gigaflops"]) > 0
    assert 0 <= summary["dense"]["test"]["top1"] <= 1


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_and_may_be_widened(tmp_path, monkeypatch, capsys):
    done = []
    run_cell = workers.run_cell

    def stop_after_two(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[2:])
        return run_cell(*arguments)

    words = ("--methods", "magnitude", "random", "--densities", 0.4, 0.8)
    monkeypatch.setattr(workers, "run_cell", stop_after_two)
    for _ in range(2):  # the second time before anything new is kept
        monkeypatch.setattr(Stopping, "kept", None)
        with pytest.raises(SystemExit):
            run(tmp_path / "cut", *words)
        assert "2 finished cells" in Stopping.kept
    begun = list(done)

    def record(*arguments):
        done.append(arguments[2:])
        return run_cell(*arguments)

    monkeypatch.setattr(workers, "run_cell", record)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", *words, "--steps", 20)
    assert "other settings (steps 10 -> 20)" in capsys.readouterr().err
    run(tmp_path / "cut", *words)
    assert len(done) == 4 and len(set(done)) == 4 and done[:2] == begun
    run(tmp_path / "whole", *words)
    for one, two in zip(table(tmp_path / "cut"), table(tmp_path / "whole"), strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    run(tmp_path / "cut", *words[:2], "--densities", 0.4, "--seeds", 0, 1, "--distil", 0, 0.5)
    assert len(table(tmp_path / "cut")) == 4 + 3
    assert len(done) == 4 + 4 + 3  # what was there before is not made again


def test_a_result_holds_the_seeds_that_were_asked_for(tmp_path, monkeypatch):
    words = ("--methods", "magnitude", "--densities", 0.4, "--seeds")
    run(tmp_path / "both", *words, 0, 1)
    run(tmp_path / "one", *words, 1)
    monkeypatch.setattr(workers, "run_cell", None)  # nothing is missing
    run(tmp_path / "both", *words, 1)
    (one,), (both,) = table(tmp_path / "one"), table(tmp_path / "both")
    assert {**one, "seconds": 0} == {**both, "seconds": 0} and one["seed"] == "1"
    assert read_json(tmp_path / "both" / "summary.json")["cells"] == 1
    run(tmp_path / "both", *words, 0, 1)
    assert [row["seed"] for row in table(tmp_path / "both")] == ["0", "1"]


def test_seeds_of_several_machines_are_one_sweep(tmp_path, monkeypatch, capsys):
    words = ("--methods", "magnitude", "random", "--densities", 0.4, "--seeds")
    run(tmp_path / "whole", *words, 0, 1)
    for seed in (0, 1):
        run(tmp_path / f"machine{seed}", *words, seed)
    both = ("--join", tmp_path / "machine0", tmp_path / "machine1")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path / "longer", *words, 0, 1, "--steps", 20, *both)
    assert "machine0 cannot be joined: it has other settings (steps 10 -> 20)" in (
        capsys.readouterr().err
    )
    monkeypatch.setattr(workers, "run_cell", None)  # nothing is missing
    run(tmp_path / "joined", *words, 0, 1, *both)
    for one, two in zip(table(tmp_path / "joined"), table(tmp_path / "whole"), strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    joined, whole = (read_json(tmp_path / name / "summary.json") for name in ("joined", "whole"))
    taken = [part for one in joined["joined"][1:] for part in one["parts"]]
    assert len(taken) == len(set(taken)) == 4 + 1  # cells, and the dense network
    for key in ("dense", "against_magnitude", "cells"):
        assert joined[key] == whole[key]


@pytest.mark.slow
def test_cells_side_by_side_give_the_same_rows(tmp_path):
    """Also those that share one search, and then keep nested sets of weights."""
    words = ("--methods", "magnitude", "dessilbi", "--densities", 0.4, 0.8)
    alone = run(tmp_path / "alone", *words)
    together = run(tmp_path / "together", *words, "--jobs", 2)
    for one, two in zip(alone, together, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    few, more = (
        pack.load(tmp_path / "together" / "cells" / f"dessilbi-d{level}-s0.safetensors")
        for level in (0.4, 0.8)
    )
    for name, weight in few.items():
        assert not bool(((weight != 0) & (more[name] == 0)).any())


def test_a_cell_that_fails_is_named_and_the_others_are_kept(tmp_path, capsys, monkeypatch):
    run_cell = workers.run_cell

    def fail(bench, folder, key):
        if key.density == 0.4:
            raise UserError("the loss is not finite")
        return run_cell(bench, folder, key)

    monkeypatch.setattr(workers, "run_cell", fail)
    with pytest.raises(SystemExit):
        run(tmp_path, "--methods", "random", "--densities", 0.4, 0.8)
    said = capsys.readouterr()
    assert "random-d0.4-s0 failed: the loss is not finite" in said.out
    assert said.err.startswith("error: 1 cell failed")
    assert [float(row["density"]) for row in table(tmp_path)] == [0.8]


def test_a_sweep_is_bound_to_its_images(tmp_path, capsys):
    prepared(tmp_path)
    words = (
        "--data-dir",
        tmp_path,
        "--dataset",
        "small",
        "--methods",
        "magnitude",
        "--densities",
        0.5,
    )
    run(tmp_path / "run", *words)
    before = (tmp_path / "run" / "results.csv").read_bytes()
    prepared(tmp_path, "1.0.1", seed=1)  # the newest version is read
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path / "run", *words, 0.7)
    assert "was made from other images" in capsys.readouterr().err
    assert (tmp_path / "run" / "results.csv").read_bytes() == before


def test_a_sweep_is_bound_to_the_content_of_its_weights(tmp_path, capsys, monkeypatch):
    """Any path to it will do; and without training it is pruned as it is."""
    state = vit.build(TINY, 10).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    words = ("--methods", "unpruned", "--dense-steps", 0, "--weights")
    (row,) = run(tmp_path / "run", *words, tmp_path / "w.safetensors")
    (dense,) = (tmp_path / "run").glob("dense-*.safetensors")
    assert all(torch.equal(v, state[n]) for n, v in load_file(dense).items())
    config = dataclasses.replace(TINY, weights=Path("gone"), dense_steps=0, device="cpu")
    worker = workers.make_bench(config, dense=dense)
    assert all(torch.equal(v, state[n]) for n, v in worker.model.state_dict().items())
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path / "run", *words, "w.safetensors") == [row]
    state["head.bias"] += 1
    save_file(state, tmp_path / "w.safetensors")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path / "run", *words, "w.safetensors")
    assert "other settings (weights" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_dense_network_is_said_and_kept(tmp_path, capsys):
    run(tmp_path, "--methods", "random", "--densities", 0.5)
    (facts,) = tmp_path.glob("dense-*.json")
    (row,) = (tmp_path / "cells").glob("*.json")
    for path, what in ((facts, "dense network"), (row, "cell")):
        whole = path.read_bytes()
        for foreign in ("[]", "{}"):
            path.write_text(foreign)
            capsys.readouterr()
            with pytest.raises(SystemExit):
                run(tmp_path, "--methods", "random", "--densities", 0.5)
            assert f"{path} is damaged (it holds no {what})" in capsys.readouterr().err
        path.write_bytes(whole)
    (dense,) = tmp_path.glob("dense-*.safetensors")
    content = bytearray(dense.read_bytes())
    content[-5] ^= 64  # one number is another, and nothing in the format tells
    dense.write_bytes(content)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path, "--methods", "random", "--densities", 0.5, 0.7)
    assert f"{dense} is damaged;" in capsys.readouterr().err
    assert dense.read_bytes() == content


def test_a_real_defect_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(workers, "run_cell", broken)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "--methods", "random", "--densities", 0.5)


@pytest.mark.slow
def test_a_method_that_chooses_its_density_has_one_cell(tmp_path):
    run(tmp_path, "--methods", "random", "2-of-4", "--densities", 0.5, 0.9, "--checkpointing")
    rows = table(tmp_path)
    assert [row["method"] for row in rows] == ["random", "random", "2-of-4"]
    assert rows[-1]["note"] and float(rows[-1]["density_blocks"]) == 0.5


def test_a_worker_elsewhere_gives_row_network_and_search_as_here(tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, device="cpu")
    bench, folder = workers.make_bench(config), tmp_path / "cells"
    dense, _ = bench.dense(tmp_path)
    remote = workers.Remote(config, dense.name, dense.read_bytes())
    key = cells.Key("magnitude-late", 0.5, 0)
    here = cells.run_cell(bench, folder, key)
    _, row, files = remote.run(key, {})
    assert {**row, "seconds": 0} == {**here, "seconds": 0}
    assert files.keys() == workers._read(folder, ["*.safetensors", "*/*.pt"]).keys()
    searches = {name: contents for name, contents in files.items() if name.endswith(".pt")}
    assert len(searches) == 1
    monkeypatch.setattr(METHODS["magnitude-late"], "optimizer", None)  # no second search
    _, row, _ = remote.run(key._replace(density=0.8), searches)
    assert row["exact"]
    remote.close()
    there = cluster.CODE / "prune_torch" / "protocol" / "cells.py"
    assert Path(cells.__file__) == there  # what machines of a cluster import


def test_cells_on_a_ray_cluster_give_the_same_rows(tmp_path):
    pytest.importorskip("ray")
    words = ("--methods", "magnitude", "neurons", "--densities", 0.5)
    alone = run(tmp_path / "alone", *words)
    spread = run(tmp_path / "spread", *words, "--ray", "local", "--jobs", 2)
    measured = dict.fromkeys(("seconds", "latency_ms", "latency_ratio"), 0)
    for one, two in zip(alone, spread, strict=True):
        assert {**one, **measured} == {**two, **measured}
        assert (tmp_path / "spread" / "cells" / two["checkpoint"]).exists()
