"""Sweeps that begin with a network which is sparse already: its zeros stay."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch

import prune_torch
from prune_torch import compact, density
from prune_torch.methods import METHODS, base
from prune_torch.protocol import cells
from tests.prune_torch.sweeps import run
from tests.prune_torch.tiny import CONFIG
from tests.refusals import refusal


@pytest.fixture(scope="module")
def sparse(bench):
    """The tiny bench, half of whose weights in the blocks are zero, at random."""
    model = copy.deepcopy(bench.model)
    parameters, generator = density.prunable(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.mul_(torch.rand(parameter.shape, generator=generator) < 0.5)
    held = {name: parameter.detach() != 0 for name, parameter in parameters.items()}
    shared = {"config": CONFIG, "task": bench.task, "device": bench.device, "made_from": "sparse"}
    return SimpleNamespace(model=model, held=held, **shared)


QUICK = ("random", "gradual", "movement", "lora", "rigl", "dessilbi", "magnitude-refit", "l1")
QUICK += ("lottery", "wanda", "sparsegpt", "neurons", "group-lasso")
INEXACT = ("2-of-4", "norms-only", "set")  # of set a newcomer may stay at zero
CASES = [(name, 0.35) for name in QUICK]
CASES += [(name, 0.5) for name in ("magnitude-refit", "neurons", "dessilbi")]  # its own density
OTHERS = itertools.product([name for name in METHODS if name != "oats"], (0.35, 0.5))
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS if case not in CASES]


@pytest.mark.parametrize(("name", "level"), CASES)
def test_zeros_stay_and_the_level_is_met(sparse, tmp_path, monkeypatch, name, level):
    key, networks = cells.Key(name, level, 0), []
    if cells.method_of(sparse, key, copy.deepcopy(sparse.model)).refusal() is not None:
        pytest.skip("the level is out of reach")
    monkeypatch.setattr(cells, "_cost", lambda _, model, *others: networks.append(model) or {})
    row = cells.run_cell(sparse, tmp_path, key)
    weights = density.prunable(networks[0])
    assert not any(weights[n][~mask].any() for n, mask in sparse.held.items())
    if METHODS[name].structured:  # the last group that fits leaves less than the largest
        least = 0 if "block" in name else 0.8 * level
        assert least < row["density_all"] < level
    elif not METHODS[name].chooses and name not in INEXACT:
        assert row["exact"], row["nonzero"]


@pytest.mark.usefixtures("without_pictures")
def test_a_sweep_goes_on_from_a_file_to_less_and_to_two_of_four(tmp_path, capsys):
    run(tmp_path / "one", "--methods", "magnitude", "--densities", 0.5)
    file = tmp_path / "one" / "cells" / "magnitude-d0.5-s0.safetensors"
    before = density.prunable(prune_torch.load(file))
    words = ("--methods", "magnitude", "2-of-4", "oats", "--densities", 0.4, 0.6)
    capsys.readouterr()
    rows = run(tmp_path / "two", *words, "--from-sparse", file)
    said = capsys.readouterr().out
    assert "left out: magnitude 0.6 (the network of --from-sparse has" in said
    assert "left out: oats 0.4" in said and "sparse network: test top-1" in said
    assert [row["method"] for row in rows] == ["magnitude", "2-of-4"]
    for row in rows:
        after = density.prunable(prune_torch.load(tmp_path / "two" / "cells" / row["checkpoint"]))
        assert not any(after[n][p == 0].any() for n, p in before.items())
    assert rows[0]["exact"]
    assert rows[1]["density_blocks"] < 0.5  # zeros of both


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_networks_of_uneven_widths_go_on_too(tmp_path):
    run(tmp_path / "one", "--methods", "neurons", "--densities", 0.7)
    file = tmp_path / "one" / "cells" / "neurons-d0.7-s0.safetensors"
    words = ("--methods", "magnitude", "heads", "--densities", 0.7)
    rows = run(tmp_path / "two", *words, "--from-sparse", file)
    assert rows[0]["exact"] and rows[0]["total"] == sum(
        p.numel() for p in prune_torch.load(file).parameters()
    )


def test_lost_branches_and_zeros_elsewhere_are_refused(bench, tmp_path, capsys):
    model = copy.deepcopy(bench.model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        parameters["head.weight"].view(-1)[::2] = 0.0
    compact.save(model, tmp_path / "head.safetensors")
    with torch.no_grad():
        for name in ("fc1.weight", "fc1.bias", "fc2.weight"):
            parameters[f"blocks.0.mlp.{name}"].zero_()
    compact.save(compact.compact(model), tmp_path / "lost.safetensors")
    for name, said in (("head", "--prunable matrices"), ("lost", "a whole attention or MLP")):
        words = ("--from-sparse", tmp_path / f"{name}.safetensors", "--densities", 0.9)
        assert said in refusal(capsys, lambda words=words: run(tmp_path / "run", *words))


def test_schedules_begin_at_what_is_there(sparse, monkeypatch):
    firsts = []
    monkeypatch.setattr(base, "cubic", lambda *args: firsts.append(args[2]) or args[3])
    for name in ("gradual", "movement", "movement-soft", "lora", "l1-steered"):
        key = cells.Key(name, 0.35, 0)
        method = cells.method_of(sparse, key, copy.deepcopy(sparse.model))
        optimizer = method.optimizer()
        method.start(optimizer)
        method.loss(method.cell.model, method.cell.task.batch(0, 0)).backward()
        optimizer.step()
        for step in range(10):
            method.after_step(step)
    left = sum(int(mask.sum()) for mask in sparse.held.values())
    assert set(firsts) == {left}


def test_what_is_no_network_of_ours_is_refused(tmp_path, capsys):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for name, said in (("gone", "does not exist"), ("x.safetensors", "x.safetensors")):
        words = ("--from-sparse", tmp_path / name)
        assert said in refusal(capsys, lambda words=words: run(tmp_path / "run", *words))
