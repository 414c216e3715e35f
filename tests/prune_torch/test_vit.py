"""Weights from files in three formats, whole commands from local weights, pixels."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from groundfloor import cli
from groundfloor.errors import UserError
from groundfloor.runs import read_json
from prune_torch import pack, sweep
from prune_torch.network import stored, vit

torch.set_num_threads(1)

SHAPE = {"img_size": 32, "patch_size": 16, "embed_dim": 12, "depth": 2, "num_heads": 3}
TINY = dataclasses.replace(sweep.PRESETS["digits"], model_args=SHAPE)


def saved_model(classes=7, **changes):
    torch.manual_seed(5)
    model = timm.create_model(TINY.model, num_classes=classes, **{**SHAPE, **changes})
    with torch.no_grad():
        for parameter in model.parameters():  # also those that begin at 0 or 1
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.eval()


def google(model):
    """The arrays of a file as Google publishes them (flax names and layouts)."""
    heads, width = model.blocks[0].attn.num_heads, model.embed_dim
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    found = {
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for number in range(len(model.blocks)):
        block, theirs = f"blocks.{number}.", f"Transformer/encoderblock_{number}/"
        for ours, norm in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            found[f"{theirs}{norm}/scale"] = state[f"{block}{ours}.weight"]
            found[f"{theirs}{norm}/bias"] = state[f"{block}{ours}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights = state[f"{block}attn.qkv.weight"].reshape(3, heads, -1, width)
        biases = state[f"{block}attn.qkv.bias"].reshape(3, heads, -1)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            found[f"{attention}{name}/kernel"] = weight.transpose(2, 0, 1)
            found[f"{attention}{name}/bias"] = bias
        out = state[f"{block}attn.proj.weight"].T.reshape(heads, -1, width)
        found[f"{attention}out/kernel"] = out
        found[f"{attention}out/bias"] = state[f"{block}attn.proj.bias"]
        for layer in (0, 1):
            dense = f"{theirs}MlpBlock_3/Dense_{layer}/"
            found[f"{dense}kernel"] = state[f"{block}mlp.fc{layer + 1}.weight"].T
            found[f"{dense}bias"] = state[f"{block}mlp.fc{layer + 1}.bias"]
    return found


def write(model, path):
    if path.suffix == ".npz":
        np.savez(path, **google(model))
    elif path.suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_weights_come_from_files(tmp_path, suffix):
    """All but a head of another size; the network then computes what the saved one did."""
    saved = saved_model()
    path = write(saved, tmp_path / f"weights{suffix}")
    model = vit.build(dataclasses.replace(TINY, weights=path), 10).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.forward_features(images), saved.forward_features(images))
    assert model.head.weight.shape == (10, 12)


def test_our_own_files_are_read_packed_or_not_and_damage_is_noticed(tmp_path):
    saved = saved_model()
    with torch.no_grad():
        saved.blocks[0].mlp.fc1.weight[8:] = 0
    packed, plain = tmp_path / "packed.safetensors", tmp_path / "plain.safetensors"
    pack.save(saved.state_dict(), packed)
    stored.write(plain, saved.state_dict())
    for path in (packed, plain):
        model = vit.build(dataclasses.replace(TINY, weights=path), 10)
        assert torch.equal(model.blocks[0].mlp.fc1.weight, saved.blocks[0].mlp.fc1.weight)
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            vit.build(dataclasses.replace(TINY, weights=path), 10)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_positions_of_other_image_sizes_are_resampled(tmp_path, suffix):
    """A constant stays a constant, of as many patches as the model has."""
    saved = saved_model(img_size=64)
    with torch.no_grad():
        saved.pos_embed.fill_(0.5)
    path = write(saved, tmp_path / f"weights{suffix}")
    model = vit.build(dataclasses.replace(TINY, weights=path), 10)
    assert model.pos_embed.shape == (1, 5, 12)
    torch.testing.assert_close(model.pos_embed.detach(), torch.full((1, 5, 12), 0.5))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embed_dim": 24}, r"24.* in the file, .*12.* in the model"),
        ({"depth": 3}, "blocks"),
        ({"mlp_ratio": 2}, r"24.* in the file, .*48.* in the model"),
    ],
)
def test_weights_of_another_shape_are_named_with_both_shapes(tmp_path, suffix, changes, said):
    path = write(saved_model(**changes), tmp_path / f"weights{suffix}")
    with pytest.raises(UserError, match=said) as caught:
        vit.build(dataclasses.replace(TINY, weights=path), 10)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_files_with_more_than_tensors_or_without_sense_are_refused(tmp_path):
    state = saved_model().state_dict()
    torch.save({"state_dict": state, "settings": SimpleNamespace(lr=1)}, tmp_path / "all.pth")
    state["norm.weight"][3] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    wanted = {"all.pth": "weights_only=True blocked", "nan.pth": "norm.weight is not finite"}
    for name, said in wanted.items():
        with pytest.raises(UserError, match=said):
            vit.build(dataclasses.replace(TINY, weights=tmp_path / name), 10)


@pytest.mark.parametrize(("classes", "came"), [(7, False), (10, True)])
def test_both_heads_of_a_distilled_model_come_or_stay(tmp_path, classes, came):
    name = "deit_tiny_distilled_patch16_224"
    saved = timm.create_model(name, num_classes=classes, **SHAPE)
    path = write(saved, tmp_path / "weights.pth")
    model = timm.create_model(name, num_classes=10, **SHAPE)
    assert vit.load(model, path) == came
    assert torch.equal(model.blocks[1].mlp.fc1.weight, saved.blocks[1].mlp.fc1.weight)
    if came:
        assert torch.equal(model.head_dist.weight, saved.head_dist.weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_head_that_nothing_would_train_is_refused(tmp_path, suffix):
    for classes in (10, 7):
        path = write(saved_model(classes), tmp_path / f"weights{suffix}")
        config = dataclasses.replace(TINY, weights=path, dense_steps=0)
        if classes == 10:
            assert torch.isfinite(vit.build(config, 10).head.weight).all()
        else:
            with pytest.raises(UserError, match="--dense-steps 0: a new head for 10 classes"):
                vit.build(config, 10)


@pytest.mark.slow
def test_the_in21k_command_works_from_a_local_file(tmp_path):
    """The whole preset, with Google's names in the file, on a network cut down to seconds."""
    path = write(saved_model(classes=21), tmp_path / "in21k.npz")
    preset = sweep.PRESETS["cifar10-in21k"]
    small = dataclasses.replace(
        preset, dataset="digits", model_args=SHAPE, images=32, precision="float32"
    )
    flags = (
        "--no-pretrained --model vit_tiny_patch16_224 --methods magnitude dessilbi --densities 0.8 "
        "--dense-steps 2 --steps 4 --batch-size 8 --device cpu"
    )
    words = [*flags.split(), "--weights", str(path), "--out", str(tmp_path / "run")]
    summary = cli.run(sweep.main, sweep.Config, {"in21k": small}, ["in21k", *words])
    assert summary["cells"] == 2
    rows = map(read_json, (tmp_path / "run" / "cells").glob("*.json"))
    assert all(row["exact"] for row in rows)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_any_number_of_channels_is_normalised(channels):
    model = timm.create_model(TINY.model, in_chans=channels, **SHAPE)
    pixels = torch.randint(0, 256, (2, channels, 32, 32), dtype=torch.uint8)
    wanted = pixels / 127.5 - 1  # timm's mean and deviation are 0.5
    torch.testing.assert_close(vit.Pixels(model, "cpu")(pixels), wanted)


def test_a_network_behind_a_resnet_takes_images():
    model = timm.create_model("vit_tiny_r_s16_p8_224", **{**SHAPE, "patch_size": 1})
    images = vit.Pixels(model, "cpu")(torch.zeros((2, 3, 8, 8), dtype=torch.uint8))
    assert images.shape == (2, 3, 32, 32) and model(images).shape == (2, 1000)


def test_pixels_are_resized_and_normalised_as_the_model_wants():
    model = timm.create_model(TINY.model, **{**SHAPE, "img_size": 16, "patch_size": 4})
    found = vit.Pixels(model, "cpu")(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    assert found.shape == (2, 3, 16, 16)
    torch.testing.assert_close(found, torch.ones_like(found))  # timm's mean and deviation are 0.5
    narrow = torch.zeros((2, 1, 8, 16), dtype=torch.uint8)  # of the right width
    assert vit.Pixels(model, "cpu")(narrow).shape == (2, 3, 16, 16)
