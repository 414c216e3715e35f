"""compact: the small model is the large one with its zeros, in fewer numbers."""

import copy
import json

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from prune_torch import compact, costs
from prune_torch.network import tokens
from tests.prune_torch.no_zeros import (
    ALL,
    DEPTH,
    DIM,
    HEADS,
    HIDDEN,
    NONE,
    SIZES,
    VARIANTS,
    images,
    kill,
    vit,
)


def flags(width):
    row = st.one_of(st.just(ALL * width), st.lists(st.booleans(), min_size=width, max_size=width))
    return st.lists(row, min_size=DEPTH, max_size=DEPTH)


# ---- the outputs ----


@settings(max_examples=15)
@given(flags(HEADS), flags(HIDDEN), st.sampled_from(["in", "out"]), st.sampled_from([*VARIANTS]))
def test_the_small_model_computes_the_same(heads, neurons, side, variant):
    model = kill(vit(**VARIANTS[variant]), heads, neurons, side)
    before = copy.deepcopy(model.state_dict())
    small = compact.compact(model)
    found = compact.dead_neurons(model)
    if variant == "not zero at zero" and side == "in":  # such neurons are constant, but not zero
        neurons = [NONE * HIDDEN] * DEPTH
    assert [row.tolist() for row in compact.dead_heads(model)] == heads
    assert [row.tolist() for row in found] == neurons
    for block, no_heads, no_neurons in zip(small.blocks, heads, neurons, strict=True):
        assert getattr(block.attn, "num_heads", 0) == no_heads.count(False)
        if not all(no_neurons):
            assert block.mlp.fc1.out_features == no_neurons.count(False)
    with torch.no_grad():
        wanted = model(images())
        torch.testing.assert_close(small(images()), wanted, rtol=1e-10, atol=1e-10)
        single = compact.compact(model.float())(images(torch.float32))
    torch.testing.assert_close(single, wanted.float(), rtol=1e-5, atol=1e-5)
    model.double()
    assert all(torch.equal(model.state_dict()[name], old) for name, old in before.items())


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("heads, neurons", [(ALL, NONE), (NONE, ALL), (ALL, ALL)])
def test_whole_branches_become_their_bias(heads, neurons, fused):
    model = kill(vit(), [heads * HEADS] * DEPTH, [neurons * HIDDEN] * DEPTH)
    for block in model.blocks:
        block.attn.fused_attn = fused
    small = compact.compact(model)
    for block, old in zip(small.blocks, model.blocks, strict=True):
        assert isinstance(block.attn, compact.Constant) == all(heads)
        assert isinstance(block.mlp, compact.Constant) == all(neurons)
        if all(heads):
            assert torch.equal(block.attn.bias, old.attn.proj.bias)
    with torch.no_grad():
        wanted = model(images())
        torch.testing.assert_close(small(images()), wanted, rtol=1e-12, atol=1e-12)
        if all(heads) and all(neurons):  # nothing is left between the tokens and the last norm
            tokens = model._pos_embed(model.patch_embed(images()))
            tokens = tokens + sum(b.attn.proj.bias + b.mlp.fc2.bias for b in model.blocks)
            by_hand = model.forward_head(model.norm(tokens))
            torch.testing.assert_close(by_hand, wanted, rtol=1e-12, atol=1e-12)


def test_a_head_may_die_by_its_channels():
    """Half of its channels are never read, the other half never speak."""
    model = vit()
    attn = model.blocks[0].attn
    first = 2 * attn.attn_dim
    with torch.no_grad():
        attn.proj.weight[:, :2] = 0
        attn.qkv.weight[first + 2 : first + 4] = 0
        attn.qkv.bias[first + 2 : first + 3] = 0
        assert not compact.dead_heads(model)[0].any()  # one bias still speaks
        attn.qkv.bias[first + 3] = 0
        assert compact.dead_heads(model)[0].tolist() == [True, False, False]
        small = compact.compact(model)
        torch.testing.assert_close(small(images()), model(images()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_dead_gives_identical_bits(variant):
    model = vit(torch.float32, **VARIANTS[variant])
    small = compact.compact(model)
    with torch.no_grad():
        assert torch.equal(small(images(torch.float32)), model(images(torch.float32)))
    assert str(small) == str(model)


def test_the_small_model_trains_and_shrinks_again():
    model = kill(vit(), [[True, False, False], ALL * 3], [[True] + NONE * 23, ALL * HIDDEN])
    model.blocks[0].mlp.fc1.bias.requires_grad_(False)
    small = compact.compact(model)
    small(images()).sum().backward()
    model(images()).sum().backward()
    assert small.blocks[0].mlp.fc1.bias.grad is None
    for constant, linear in (
        (small.blocks[1].attn, model.blocks[1].attn.proj),
        (small.blocks[1].mlp, model.blocks[1].mlp.fc2),
    ):
        torch.testing.assert_close(constant.bias.grad, linear.bias.grad)
    rows = small.blocks[0].attn.qkv.weight.grad
    wanted = model.blocks[0].attn.qkv.weight.grad.view(3, HEADS, -1, DIM)[:, 1:].reshape(-1, DIM)
    torch.testing.assert_close(rows, wanted)
    with torch.no_grad():
        small.blocks[0].attn.proj.weight[:, :4] = 0
    smaller = compact.compact(small)
    assert smaller.blocks[0].attn.num_heads == 1
    with torch.no_grad():
        torch.testing.assert_close(smaller(images()), small(images()), rtol=1e-10, atol=1e-10)


# ---- numbers ----


@settings(max_examples=8)
@given(flags(HEADS), flags(HIDDEN))
def test_parameters_and_flops_have_closed_forms(heads, neurons):
    model = kill(vit(), heads, neurons)
    small = compact.compact(model)
    size, tokens, patches = DIM // HEADS, 5, 4
    removed = 0
    work = patches * 3 * 8 * 8 * DIM + DIM * SIZES["num_classes"]
    for no_heads, no_neurons in zip(heads, neurons, strict=True):
        removed += sum(no_heads) * (3 * size * (DIM + 1) + size * DIM)
        removed += sum(no_neurons) * (2 * DIM + 1)
        removed += 2 * DIM * (all(no_heads) + all(no_neurons))  # their norms
        channels, hidden = no_heads.count(False) * size, no_neurons.count(False)
        work += tokens * DIM * (4 * channels + 2 * hidden) + 2 * tokens**2 * channels
    assert costs.parameters(small) == costs.parameters(model) - removed
    assert costs.flops(small) == 2 * work


def test_flops_of_a_published_model():
    """ViT-S/16 at 224 pixels: 22.05 M parameters, and 4.6 G multiply-adds (DeiT, table 5)."""
    with torch.device("meta"):
        model = timm.create_model("vit_small_patch16_224")
    n, d = 197, 384
    blocks = 12 * (n * d * 3 * d + 2 * n * n * d + n * d * d + 8 * n * d * d)
    assert costs.flops(model) == 2 * (196 * 768 * d + blocks + d * 1000)
    assert costs.flops(model) / 2e9 == pytest.approx(4.6, abs=0.05)
    assert costs.parameters(model) == 22_050_664
    assert model.training  # left as it was


def test_flops_at_other_sizes_and_without_fused_attention():
    model = vit(dynamic_img_size=True)
    own = costs.flops(model)
    assert next(model.parameters()).device.type == "cpu"
    assert own == costs.flops(model, 16) == costs.flops(model, (16, 16))
    assert costs.flops(model, (16, 32)) == 2 * (
        8 * 192 * DIM + DEPTH * (9 * DIM * (4 * DIM + 2 * HIDDEN) + 2 * 81 * DIM) + 5 * DIM
    )
    for block in model.blocks:
        block.attn.fused_attn = False
    assert costs.flops(model) == own


def test_flops_with_tables_of_positions():
    """Looking positions up, by whole numbers, costs no products."""
    shape = {"img_size": 32, "depth": 1, "num_classes": 5}
    plain, relative = (
        timm.create_model(name, **shape)
        for name in ("vit_base_patch16_224", "beit_base_patch16_224")
    )
    assert costs.flops(relative) == costs.flops(plain)


class Slow(nn.Module):
    """Writes its name into a list."""

    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls = name, calls

    def forward(self, x):
        assert not self.training
        self.calls.append(self.name)
        return x


def test_latency_is_measured_in_turns():
    calls = []
    models = {name: Slow(name, calls) for name in ("dense", "small")}
    found = costs.latency(models, images(), rounds=3)
    order = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert order == ["dense", "small", "dense", "small"]  # each turn begins where the last ended
    assert calls.count("dense") == calls.count("small") >= 3
    assert found["dense"]["ratio"] == 1
    assert found["dense"]["ms"] > 0
    json.dumps(found)


# ---- refusals ----


class Adapted(nn.Linear):
    """A layer that computes more than its weight says."""


def exchanged():
    model = vit()
    model.blocks[1].mlp.fc2 = Adapted(HIDDEN, DIM)
    return model


def with_one_compiled_block():
    model = vit()
    model.blocks[1] = torch.compile(model.blocks[1])
    return model


STRANGERS = {
    "OptimizedModule": lambda: torch.compile(vit()),
    "OptimizedModule is not of": with_one_compiled_block,
    "Merging": lambda: tokens.merged(vit(), 2),
    "Adapted": exchanged,
    "GluMlp": lambda: vit(mlp_layer=timm.layers.GluMlp),
    "ParallelScalingBlock": lambda: vit(
        block_fn=timm.models.vision_transformer.ParallelScalingBlock
    ),
    "Eva": lambda: timm.create_model("eva02_tiny_patch14_224", depth=1),
    "ResNet": lambda: timm.create_model("resnet18"),
    "Linear": lambda: nn.Linear(3, 3),
    "ResPostBlock": lambda: vit(block_fn=timm.models.vision_transformer.ResPostBlock),
    "SwiGLU": lambda: vit(mlp_layer=timm.layers.SwiGLU),
    "DiffAttention": lambda: vit(attn_layer="diff", num_heads=2),
    "Attention": lambda: vit(scale_attn_norm=True),
    "Mlp": lambda: vit(scale_mlp_norm=True),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_other_models_are_refused_in_one_line(name, tmp_path):
    model = STRANGERS[name]()
    for function in (
        compact.dead_heads,
        compact.dead_neurons,
        compact.compact,
        lambda model: compact.save(model, tmp_path / "model.safetensors"),
    ):
        with pytest.raises(ValueError, match=f"^{name} ") as refused:
            function(model)
        assert "\n" not in str(refused.value)


def shared_layers():
    model = vit()
    model.blocks[1].mlp = model.blocks[0].mlp
    return model


def shared_weights():
    model = vit()
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight
    return model


@pytest.mark.parametrize("make", [shared_layers, shared_weights])
def test_blocks_that_share_are_refused_by_name(make):
    with pytest.raises(ValueError, match=r"^blocks\.1\.mlp\.fc1\.weight is blocks\.0"):
        compact.compact(make())


@pytest.mark.parametrize("use", [compact.compact, compact.description, compact.dead_heads])
def test_masked_layers_are_refused_by_name(use):
    model = vit()
    prune.l1_unstructured(model.blocks[0].mlp.fc1, "weight", amount=0.5)
    with pytest.raises(ValueError, match=r"^blocks\.0\.mlp\.fc1 is masked or parametrised"):
        use(model)
    prune.remove(model.blocks[0].mlp.fc1, "weight")
    use(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_training_mode_stay(dtype):
    model = kill(vit(torch.float32).to(dtype), [ALL * HEADS, NONE * HEADS], [ALL * HIDDEN] * 2)
    small = compact.compact(model)
    with torch.no_grad():
        wanted = model(images(dtype)).float()
        scale = float(wanted.abs().max()) * torch.finfo(dtype).eps
        torch.testing.assert_close(small(images(dtype)).float(), wanted, rtol=0, atol=64 * scale)
    assert {p.dtype for p in small.parameters()} == {dtype}
    for training in (True, False):
        model.train(training)
        assert {m.training for m in compact.compact(model).modules()} == {training}
