"""export_onnx: the file computes what torch computes, and every refusal is one line."""

import importlib.util

import numpy as np
import pytest
import timm
import torch
from torch import nn

from groundfloor import cli
from prune_torch import compact, export_onnx
from prune_torch.network import stored
from tests.refusals import refusal


def saved(path):
    """A tiny compact ViT in a file: one head less, a whole attention and a whole MLP gone."""
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=8,
        embed_dim=12,
        depth=2,
        num_heads=3,
        num_classes=5,
    )
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=random)
    with torch.no_grad():
        model.blocks[0].attn.proj.weight[:, :4] = 0
        model.blocks[1].attn.proj.weight.zero_()
        model.blocks[0].mlp.fc2.weight.zero_()
    compact.save(compact.compact(model), path)
    return path


def called(*args):
    return cli.run(export_onnx.main, export_onnx.Config, args=list(map(str, args)))


def needs_the_packages():
    for name in export_onnx.PACKAGES:
        pytest.importorskip(name)


def test_the_exported_file_computes_the_same(tmp_path, capsys):
    needs_the_packages()
    from onnxruntime import InferenceSession

    out = tmp_path / "new" / "model.onnx"
    file = saved(tmp_path / "small.safetensors")
    called(file, "--out", out)
    assert str(out) in capsys.readouterr().out
    assert list(out.parent.iterdir()) == [out]
    session = InferenceSession(out, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = np.random.default_rng(count).normal(size=(count, 3, 16, 16)).astype(np.float32)
        (found,) = session.run(["logits"], {"images": images})
        with torch.no_grad():
            wanted = compact.load(file)(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_program_of_torch_export_computes_the_same_without_the_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    file, out = saved(tmp_path / "small.safetensors"), tmp_path / "model.pt2"
    called(file, "--out", out)
    program = torch.export.load(out).module()
    for count in (1, 3):
        images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            torch.testing.assert_close(program(images), compact.load(file)(images))


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, capsys, monkeypatch):
    needs_the_packages()
    monkeypatch.setattr(export_onnx, "TOLERANCE", -1.0)
    file, out = saved(tmp_path / "small.safetensors"), tmp_path / "out" / "model.onnx"
    with pytest.raises(SystemExit) as stop:
        called(file, "--out", out)
    assert stop.value.code == 2
    assert "differ from torch's" in capsys.readouterr().err
    assert not list(out.parent.iterdir())


def test_missing_packages_are_named_in_one_line(tmp_path, capsys, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name[:4] == "onnx" else real(name)
    )
    line = refusal(capsys, lambda: called(tmp_path / "any.safetensors"))
    assert line.endswith("pip install onnx onnxruntime onnxscript\n")


def test_a_missing_file_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_onnx, "PACKAGES", ())
    line = refusal(capsys, lambda: called(tmp_path / "none.safetensors"))
    assert "none.safetensors does not exist" in line


def test_nothing_is_overwritten(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_onnx, "PACKAGES", ())
    file = saved(tmp_path / "small.safetensors")
    before = file.read_bytes()
    line = refusal(capsys, lambda: called(file, "--out", file))
    assert "small.safetensors exists; choose another --out" in line
    assert file.read_bytes() == before


def test_a_file_without_a_network_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_onnx, "PACKAGES", ())
    stored.write(tmp_path / "w.safetensors", {"w": torch.ones(3)})
    (tmp_path / "empty.safetensors").touch()
    for name, said in [("w", "does not say which network"), ("empty", "is damaged")]:
        out = tmp_path / "new" / "model.onnx"
        line = refusal(capsys, lambda: called(tmp_path / f"{name}.safetensors", "--out", out))  # noqa: B023
        assert f"{name}.safetensors" in line and said in line
        assert not out.parent.exists()
