"""Latency in pairs, engines that are left out, and the front of accuracy against time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import cli
from groundfloor.runs import read_json
from prune_torch import compact, speed
from prune_torch.protocol import pareto
from tests.prune_torch.no_zeros import images, kill, vit
from tests.refusals import refusal

PAIRS = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.lists(PAIRS, min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points):
    found = pareto.front(points)
    for i, (cost, value) in enumerate(points):
        beaten = any((c <= cost and v >= value) and (c, v) != (cost, value) for c, v in points)
        assert (points[i] in [points[j] for j in found]) == (not beaten)
    assert len({points[j] for j in found}) == len(found)
    assert [points[j] for j in found] == sorted(points[j] for j in found)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    dense = vit(torch.float32)
    small = compact.compact(kill(vit(torch.float32), [[True, False, True]] * 2, [[True] * 24] * 2))
    for name, model in (("dense", dense), ("small", small)):
        compact.save(model, folder / f"{name}.safetensors")
    return [folder / "dense.safetensors", folder / "small.safetensors"]


def run(*words):
    return cli.run(speed.main, speed.Config, args=[str(word) for word in words])


def test_each_file_is_timed_in_each_engine_and_the_first_is_the_measure(files, tmp_path):
    words = ("--engines", "eager", "int8", "--batches", 1, 3, "--rounds", 1)
    found = run(*files, *words, "--json", tmp_path / "speed.json")
    assert found["rows"] == read_json(tmp_path / "speed.json")["rows"]
    places = [(r["engine"], r["batch"], r["file"]) for r in found["rows"]]
    assert places == [(e, b, str(f)) for e in ("eager", "int8") for b in (1, 3) for f in files]
    for row in found["rows"]:
        assert row["ms"] > 0 and (row["ratio"] == 1 or row["file"] != str(files[0]))
    sizes = {(r["engine"], r["file"]): r["megabytes"] for r in found["rows"]}
    assert sizes["eager", str(files[1])] < sizes["eager", str(files[0])]


def test_int8_gives_nearly_the_same_outputs(files):
    model = compact.load(files[1])
    inputs = images(torch.float32)
    with torch.no_grad():
        whole, rounded = model(inputs), speed.int8(model)(inputs)
    assert not torch.equal(whole, rounded)
    assert float((whole - rounded).norm() / whole.norm()) < 0.1


def test_engines_that_fail_are_said(files, monkeypatch, capsys):
    def fails(model):
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setitem(speed.ENGINES, "compile", fails)
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    words = ("--engines", "compile", "onnx", "eager", "--batches", 1, "--rounds", 1)
    found = run(*files, *words)
    assert {row["engine"] for row in found["rows"]} == {"eager"}
    assert found["left_out"]["compile"] == "no compiler"
    assert "onnx" in found["left_out"]["onnx"]
    assert "left out: compile (no compiler)" in capsys.readouterr().out


def test_mistakes_get_one_line(files, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    compact.save(vit(torch.float32, img_size=24), other)
    for words, said in (
        ((), "files"),
        ((tmp_path / "gone.safetensors",), "gone.safetensors"),
        ((*files, "--engines", "fast"), "--engines fast: there are eager"),
        ((files[0], other), "different sizes"),
    ):
        assert said in refusal(capsys, lambda words=words: run(*words))


def test_onnx_runtime_gives_the_same_outputs(files):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, inputs = compact.load(files[1]), images(torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(speed.onnx(model)(inputs), model(inputs), atol=1e-3, rtol=1e-3)
