"""Files of compact networks: every bit comes back, and damage and strangers are refused by name."""

import json

import numpy as np
import pytest
import safetensors
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import prune_torch
from groundfloor.errors import UserError
from prune_torch import compact, costs, pack
from prune_torch.network import stored
from tests.prune_torch.no_zeros import (
    ALL,
    DIM,
    HEADS,
    HIDDEN,
    SIZES,
    VARIANTS,
    images,
    kill,
    vit,
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_comes_back_bit_for_bit(variant, tmp_path):
    model = vit(torch.float32, **VARIANTS[variant])
    small = compact.compact(
        kill(model, [[True, False, True], ALL * HEADS], [ALL * HIDDEN, [True, False] * 12])
    )
    for dtype, saved in ((torch.float32, small), (torch.float64, model.double())):
        path = tmp_path / "model.safetensors"
        compact.save(saved, path)
        again = prune_torch.load(path)
        assert str(again) == str(saved)
        assert not again.training
        state = again.state_dict()
        assert state.keys() == saved.state_dict().keys()
        assert all(torch.equal(state[name], old) for name, old in saved.state_dict().items())
        with torch.no_grad():
            assert torch.equal(again(images(dtype)), saved(images(dtype)))
        compact.save(again, tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_the_file_is_as_small_as_the_model_and_says_what_it_holds(tmp_path):
    model = kill(vit(torch.float32), [[True, False, False]] * 2, [ALL * HIDDEN] * 2)
    small = compact.compact(model)
    compact.save(small, tmp_path / "small.safetensors")
    with safetensors.safe_open(tmp_path / "small.safetensors", "np") as file:
        described = json.loads(file.metadata()[compact.KEY])
    assert described["model"] == model.pretrained_cfg["architecture"] + ".augreg_in21k_ft_in1k"
    assert described["arguments"] == {
        **SIZES,
        "img_size": [16, 16],
        "in_chans": 3,
        "global_pool": "token",
    }
    assert described["heads"] == [2, 2]
    assert described["neurons"] == [0, 0]
    size = (tmp_path / "small.safetensors").stat().st_size
    assert 0 < size - 4 * costs.parameters(small) < 4096


def test_a_new_head_and_another_size_are_saved(tmp_path):
    model = vit(torch.float32)
    model.reset_classifier(7)
    model.set_input_size(24)
    compact.save(model, tmp_path / "model.safetensors")
    again = compact.load(tmp_path / "model.safetensors").eval()
    pixels = images(torch.float32, size=24)
    with torch.no_grad():
        assert torch.equal(again(pixels), model(pixels))


def without_origin():
    return timm.models.VisionTransformer(img_size=8, patch_size=4, embed_dim=12, num_heads=3)


def with_another_activation():
    model = vit()
    model.blocks[1].mlp.act = nn.ReLU()
    return model


def with_a_new_head():
    model = vit()
    model.head = nn.Linear(DIM, 9)
    return model


UNSAVABLE = [
    without_origin,
    with_another_activation,
    with_a_new_head,
    lambda: vit(act_layer=nn.ReLU),
]


@pytest.mark.parametrize("make", UNSAVABLE)
def test_what_could_not_be_rebuilt_is_not_saved(make, tmp_path):
    with pytest.raises(ValueError, match=r"timm\.create_model cannot make it again") as refused:
        compact.save(make(), tmp_path / "model.safetensors")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path):
    good = tmp_path / "good.safetensors"
    compact.save(vit(torch.float32), good)
    bad = tmp_path / "bad.safetensors"
    with pytest.raises(UserError, match=r"bad\.safetensors does not exist"):
        compact.load(bad)
    with safetensors.safe_open(good, "pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata[compact.KEY])
    arguments = described["arguments"]
    state = load_file(good)
    fewer = {name: tensor for name, tensor in state.items() if name != "head.bias"}
    changes = [
        {"heads": [3]},
        {"heads": [2, 3]},
        {"neurons": [HIDDEN, -1]},
        {"model": "resnet18", "arguments": {}},
        {"model": "hf-hub:someone/something"},
        {"model": "local-dir:/tmp"},
        {"model": 3},
        {"arguments": {**arguments, "checkpoint_path": "/tmp/theirs.bin"}},
        {"arguments": {**arguments, "pretrained": True}},
        {"arguments": {**arguments, "embed_dim": 13}},
        {"arguments": None},
    ]
    for tensors, notes in [
        (state, None),
        (state, {compact.KEY: "{"}),
        (fewer, metadata),
        *((state, {compact.KEY: json.dumps({**described, **change})}) for change in changes),
    ]:
        save_file(tensors, bad, notes)
        with pytest.raises(UserError, match=r"bad\.safetensors") as refused:
            compact.load(bad)
        assert "\n" not in str(refused.value)
    bad.write_bytes(good.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"bad\.safetensors"):
        compact.load(bad)
    np.savez(bad.with_suffix(".npz"), x=1)
    with pytest.raises(UserError, match=r"bad\.npz"):
        compact.load(bad.with_suffix(".npz"))


def test_tensors_that_do_not_fit_are_named_with_both_shapes(tmp_path):
    path = tmp_path / "w.safetensors"
    model = vit(torch.float32)
    metadata, state = compact.description(model), model.state_dict()
    for change, said in [
        ({"head.bias": torch.zeros(7)}, r"head\.bias is \(7,\) in the file, \(5,\) in the model"),
        ({"other": torch.zeros(7)}, "the model has no other"),
        ({"head.bias": None}, r"it has no head\.bias"),
    ]:
        changed = {name: t for name, t in {**state, **change}.items() if t is not None}
        stored.write(path, changed, metadata)
        with pytest.raises(UserError, match=said) as refused:
            compact.load(path)
        assert path.name in str(refused.value) and "\n" not in str(refused.value)


def test_packed_and_unpacked_networks_are_networks(tmp_path):
    """Also with a weight that two layers share, which become two."""
    model = vit(torch.float32)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc1.weight[torch.rand(HIDDEN, DIM) < 0.7] = 0
    model.cls_token = nn.Parameter(model.norm.weight.detach()[None, None])
    model.cls_token.data = model.norm.weight.data[None, None]  # the same memory
    path, plain = tmp_path / "packed", tmp_path / "plain"
    pack.save(model.state_dict(), path, compact.description(model))
    pack.main(pack.Config(path.rename(tmp_path / "packed.safetensors"), plain, unpack=True))
    compact.save(model, tmp_path / "saved")
    for file in (tmp_path / "packed.safetensors", plain, tmp_path / "saved"):
        with torch.no_grad():
            found = compact.load(file)(images(torch.float32))
            assert torch.equal(found, model(images(torch.float32)))
    assert plain.read_bytes() == (tmp_path / "saved").read_bytes()
    stored.write(plain, model.state_dict())
    with pytest.raises(UserError, match="does not say which network"):
        compact.load(plain)


def test_a_distillation_token_is_only_one_more(tmp_path):
    sizes = {**SIZES, "img_size": 16}
    model = timm.create_model("deit_tiny_distilled_patch16_224", **sizes).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    kill(model, [[True, False, False]] * 2, [[True, False] * 12] * 2)
    compact.save(compact.compact(model), tmp_path / "small")
    with torch.no_grad():
        torch.testing.assert_close(compact.load(tmp_path / "small")(images()), model(images()))
