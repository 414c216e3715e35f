"""tokens: merging is averaging in place, counted once for each original token."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.testing import assert_close

from prune_torch import costs
from prune_torch.network import tokens
from prune_torch.protocol.finetune import Task

DEPTH, HEADS, DIM, PATCHES, CLASSES = 2, 3, 12, 16, 6
VARIANTS = {
    "class": {},
    "average": {"class_token": False, "global_pool": "avg"},
    "average of patches": {"global_pool": "avg"},
    "average of all": {"global_pool": "avg", "pool_include_prefix": True, "fc_norm": False},
    "registers": {"reg_tokens": 3, "init_values": 0.5, "qk_norm": True},
    "largest": {"class_token": False, "global_pool": "avgmax"},
    "attention": {"class_token": False, "global_pool": "map"},
    "scaled": {"scale_attn_norm": True, "scale_mlp_norm": True, "qkv_bias": False},
}


def vit(dtype=torch.float64, **changes):
    """A tiny ViT with no zero anywhere, in evaluation mode."""
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
    model = VisionTransformer(**{**sizes, "in_chans": 1, "num_classes": CLASSES, **changes})
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=random)
    return model.to(dtype).eval()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def image(patches):
    """(n, 16, 4, 4) -> (n, 1, 16, 16), row by row."""
    return patches.reshape(-1, 4, 4, 4, 4).transpose(2, 3).reshape(-1, 1, 16, 16)


def slow_pairs(keys, prefix, count):
    """[(token that goes, token it goes into), ...] by loops over lists of numbers; keys: (n, d)."""
    edges = []
    for a in range(prefix, len(keys), 2):
        found = [
            (float(F.cosine_similarity(keys[a], keys[b], dim=0)), a, b)
            for b in range(prefix + 1, len(keys), 2)
        ]
        edges += [max(found)] if found else []
    return [(a, b) for _, a, b in sorted(edges, reverse=True)[:count]]


# ---- matching and merging ----

CASES = st.tuples(
    st.integers(1, 3),  # batch
    st.integers(2, 13),  # patches
    st.integers(0, 3),  # prefix
    st.floats(0, 1),  # share to merge
    st.integers(2, 5),  # width
    st.integers(0, 9999),  # seed
)


def matched(case):
    batch, patches, prefix, share, width, seed = case
    count = round(share * (patches // 2))
    keys, x = draw(batch, prefix + patches, width, seed=seed), draw(batch, prefix + patches, 3)
    size = torch.randint(1, 9, x.shape[:2], generator=torch.Generator().manual_seed(seed)).double()
    part = tokens.match(keys, prefix, count)
    return keys, prefix, count, x, size, part, *tokens.merge(x, size, part, count)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_equals_loops_over_tokens(case):
    keys, prefix, count, x, size, part, less, total = matched(case)
    for row in range(len(x)):
        groups = {token: [token] for token in range(x.shape[1])}
        for goes, into in slow_pairs(keys[row], prefix, count):
            groups[into] += groups.pop(goes)
        assert len(groups) == less.shape[1] == total.shape[1] == x.shape[1] - count
        for index, members in enumerate(groups.values()):
            assert sorted(members) == (part[row] == index).nonzero().flatten().tolist()
            weight = sum(size[row, m] for m in members)
            mean = sum(size[row, m] * x[row, m] for m in members) / weight
            assert_close(less[row, index], mean, rtol=1e-12, atol=1e-12)
            assert total[row, index] == weight


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_sizes_and_the_weighted_mean_are_conserved(case):
    _, prefix, _, x, size, part, less, total = matched(case)
    assert torch.equal(total.sum(1), size.sum(1))
    assert_close((less * total[..., None]).sum(1), (x * size[..., None]).sum(1))
    assert torch.equal(total[:, :prefix], size[:, :prefix])
    assert_close(less[:, :prefix], x[:, :prefix], rtol=1e-15, atol=1e-15)
    assert not (part[:, prefix:] < prefix).any()  # nothing merges into the class token either


def test_the_scale_of_keys_does_not_matter():
    keys, scales = draw(2, 9, 4), draw(2, 9, 1, seed=1).exp()
    assert torch.equal(tokens.match(keys, 1, 3), tokens.match(keys * scales, 1, 3))


def test_several_may_go_into_one():
    east, north, nearly = [1.0, 0.0], [0.0, 1.0], [0.5, 1.0]
    keys = torch.tensor([[east, east, east, north, east, north, nearly]])
    part = tokens.match(keys, 0, 3)
    assert part.tolist() == [[0, 0, 0, 1, 0, 2, 3]]
    less, total = tokens.merge(torch.arange(7.0)[None, :, None], torch.ones(1, 7), part, 3)
    assert less.flatten().tolist() == [1.75, 3, 5, 6]
    assert total.tolist() == [[4, 1, 1, 1]]


# ---- the model ----


def in_place(model, pixels, r):
    """The slow reference: one image, all original tokens kept, those merged set to their mean.

    Attention and averages need no sizes then.
    """
    x = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
    prefix = model.num_prefix_tokens
    groups = [[token] for token in range(x.shape[1])]
    for block in model.blocks:
        attn, inner = block.attn, block.norm1(x)
        _, keys, _ = attn.qkv(inner)[0].view(-1, 3, HEADS, attn.head_dim).unbind(1)
        keys = attn.k_norm(keys).mean(1)[[members[0] for members in groups]]
        x = x + block.ls1(attn(inner))
        pairs = slow_pairs(keys, prefix, min(r, (len(groups) - prefix) // 2))
        for goes, into in pairs:
            groups[into] = groups[into] + groups[goes]
        gone = {goes for goes, _ in pairs}
        groups = [members for index, members in enumerate(groups) if index not in gone]
        for members in groups:
            x[:, members] = x[:, members].mean(1, keepdim=True)
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return model.forward_head(model.norm(x)), len(groups)


@pytest.mark.parametrize("r", [1, 3, 6, 99])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_equals_averaging_in_place(variant, r):
    model, pixels = vit(**VARIANTS[variant]), draw(2, 1, 16, 16)
    found = tokens.merged(model, r)(pixels)
    slow = [in_place(model, one[None], r) for one in pixels]
    assert_close(found, torch.cat([outputs for outputs, _ in slow]), rtol=1e-9, atol=1e-9)
    assert {left for _, left in slow} == {tokens.tokens_left(model, r)[-1]}
    assert (found - model(pixels)).abs().max() > 1e-6


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_nothing_merged_is_the_model_itself(variant, fused):
    model, pixels = vit(torch.float32, **VARIANTS[variant]), draw(3, 1, 16, 16).float()
    for block in model.blocks:
        block.attn.fused_attn = fused
    assert_close(tokens.merged(model, 0)(pixels), model(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_identical_patches_merge_without_a_trace(variant):
    model = vit(**VARIANTS[variant])
    model.pos_embed[:, -PATCHES:] = 0
    pixels = image(draw(3, 1, 4, 4).expand(-1, PATCHES, -1, -1))
    for r in (1, 5, 99):
        assert_close(tokens.merged(model, r)(pixels), model(pixels), rtol=1e-10, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 9999), st.sampled_from([*VARIANTS]), st.booleans())
@torch.no_grad()
def test_twins_merge_without_a_trace(r, seed, variant, fused):
    """Eight different patches, each twice: two blocks find r of the pairs each, none other."""
    model = vit(**VARIANTS[variant])
    model.pos_embed[:, -PATCHES:] = 0
    for block in model.blocks:
        block.attn.fused_attn = fused
    pixels = image(draw(2, PATCHES // 2, 4, 4, seed=seed).repeat_interleave(2, dim=1))
    assert_close(tokens.merged(model, r)(pixels), model(pixels), rtol=1e-9, atol=1e-9)
    if r:  # only equals may merge so: it is not that merging does nothing
        other = draw(2, 1, 16, 16, seed=seed)
        assert not torch.allclose(tokens.merged(model, r)(other), model(other), atol=1e-9)


@torch.no_grad()
def test_an_image_does_not_see_its_neighbours():
    fast, pixels = tokens.merged(vit(), 3), draw(3, 1, 16, 16)
    assert_close(fast(pixels), torch.cat([fast(one[None]) for one in pixels]))


def test_the_copy_shares_parameters_and_leaves_the_model_alone():
    model = vit()
    before, text = copy.deepcopy(model.state_dict()), str(model)
    fast = tokens.merged(model, 4)
    assert {id(p) for p in fast.parameters()} == {id(p) for p in model.parameters()}
    assert costs.parameters(fast) == costs.parameters(model)
    fast.train()
    assert not model.training
    assert str(model) == text
    assert all(torch.equal(model.state_dict()[name], old) for name, old in before.items())


def test_names_length_and_indices_are_those_of_the_blocks():
    model = vit()
    fast = tokens.merged(model, 4)
    assert list(fast.state_dict()) == list(model.state_dict())
    other = vit(init_values=None)
    other.load_state_dict(fast.state_dict())
    fast.load_state_dict(other.state_dict())
    assert len(fast.blocks) == DEPTH
    assert fast.blocks[1].mlp.fc1.weight is model.blocks[1].mlp.fc1.weight
    assert fast.blocks[-1] is [*fast.blocks][-1]


@torch.no_grad()
def test_a_part_of_the_blocks_merges_as_well():
    fast, x = tokens.merged(vit(depth=3), 3), draw(2, PATCHES + 1, DIM)
    part = tokens.Merging(nn.Sequential(*[*fast.blocks][:2]), 1, 3)
    assert torch.equal(fast.blocks[:2](x), part(x))


@torch.no_grad()
def test_copies_and_pickles_compute_the_same():
    fast, pixels = tokens.merged(vit(), 3), draw(2, 1, 16, 16)
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(again(pixels), fast(pixels))


@pytest.mark.parametrize(
    "use",
    [
        lambda fast, x: fast.forward_intermediates(x),
        lambda fast, x: fast.get_intermediate_layers(x, 1),
        lambda fast, x: fast(x, attn_mask=torch.ones(17, 17, dtype=torch.bool)),
        lambda fast, x: fast.blocks[0](draw(1, 17, DIM)),
    ],
)
def test_inner_features_are_refused_not_unmerged(use):
    model, pixels = vit(), draw(1, 1, 16, 16)
    with pytest.raises(ValueError, match="merged blocks do not run one by one"):
        use(tokens.merged(model, 3), pixels)
    use(model, pixels)  # which stays as it was


@torch.no_grad()
def test_sizes_are_exact_in_half_precision():
    """1,024 equal patches end in one token in the end: bfloat16 itself cannot count them."""
    x = torch.ones(1, 1024, 2, dtype=torch.bfloat16)
    size = torch.ones(1, 1024)
    while x.shape[1] > 1:
        count = x.shape[1] // 2
        x, size = tokens.merge(x, size, tokens.match(x, 0, count), count)
    assert size.tolist() == [[1024]] and x.dtype == torch.bfloat16 and (x == 1).all()
    fast = tokens.merged(vit(torch.bfloat16), 4)
    assert fast(draw(1, 1, 16, 16).bfloat16()).dtype == torch.bfloat16


# ---- numbers ----


def test_counts_of_tokens_and_their_limits():
    model = vit(reg_tokens=2, depth=6)
    assert tokens.tokens_left(model, 0) == [19] * 6
    assert tokens.tokens_left(model, 3) == [16, 13, 10, 7, 5, 4]  # patches: 13, 10, 7, 4, 2, 1
    assert tokens.tokens_left(model, 99) == [11, 7, 5, 4, 4, 4]
    bare = vit(class_token=False, global_pool="avg", img_size=12)
    assert tokens.tokens_left(bare, 99) == [5, 3]


@pytest.mark.parametrize("r", [0, 1, 3, 99])
@torch.no_grad()
def test_blocks_really_see_fewer_tokens(r):
    seen, model = [], vit(depth=6)
    fast = tokens.merged(model, r)
    for block in fast.blocks:
        block.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    fast(draw(1, 1, 16, 16))
    assert seen == tokens.tokens_left(model, r)


@pytest.mark.parametrize("fused", [True, False])
def test_flops_have_a_closed_form_and_fall(fused):
    model = vit()
    for block in model.blocks:
        block.attn.fused_attn = fused
    counts = []
    for r in (0, 1, 3, PATCHES // 2):
        work, before = PATCHES * 16 * DIM + DIM * CLASSES, PATCHES + 1
        for after in tokens.tokens_left(model, r):
            work += 4 * before * DIM**2 + 2 * before**2 * DIM + 8 * after * DIM**2
            if r:  # matching: every second patch with all the others, by one head's width
                work += (before // 2) * ((before - 1) // 2) * (DIM // HEADS)
            before = after
        counts.append(costs.flops(tokens.merged(model, r)))
        assert counts[-1] == 2 * work
    assert counts[0] == costs.flops(model)
    assert counts == sorted(counts, reverse=True)
    assert len({*counts}) == len(counts)


@pytest.mark.parametrize("r, published", [(0, 4.6), (16, 2.3)])
def test_flops_of_a_published_model(r, published):
    """DeiT-S, in G multiply-adds (Bolya et al. 2023)."""
    with torch.device("meta"):
        model = timm.create_model("deit_small_patch16_224")
    found = costs.flops(tokens.merged(model, r)) / 2e9
    assert found == pytest.approx(published, abs=0.051)


def test_the_curve_is_the_task_s_own_measure():
    model = vit(torch.float32)
    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(7, 16, 16, 1), dtype=np.uint8)
    split = SimpleNamespace(images=pixels, labels=np.arange(7) % CLASSES)
    data = SimpleNamespace(train=split, val=split, test=split)
    task = Task(SimpleNamespace(), data, lambda pixels: pixels / 255, torch.device("cpu"))
    rows = tokens.curve(task, model, [0, 2, 8])
    assert [row["r"] for row in rows] == [0, 2, 8]
    assert [row["tokens"] for row in rows] == [17, 13, 5]
    gigaflops = [row["gigaflops"] for row in rows]
    assert gigaflops[0] == costs.flops(model) / 1e9
    assert gigaflops == sorted(gigaflops, reverse=True)
    for row in rows:
        fast = tokens.merged(model, row["r"])
        assert row == {**row, **task.evaluate(fast, task.test)}
        assert row.keys() == {"r", "tokens", "gigaflops", "top1", "top5", "loss"}
    assert rows[0]["loss"] == pytest.approx(task.evaluate(model, task.test)["loss"], abs=1e-5)


# ---- refusals ----

STRANGERS = {
    "Linear": lambda: nn.Linear(3, 3),
    "ResNet": lambda: timm.create_model("resnet18"),
    "another block": lambda: vit(block_fn=ResPostBlock),
    "another attention": lambda: vit(attn_layer="diff", num_heads=2),
    "merging already": lambda: tokens.merged(vit(), 1),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_other_models_are_refused_in_one_line(name):
    model = STRANGERS[name]()
    for function in (tokens.merged, tokens.tokens_left):
        with pytest.raises(ValueError, match=f"^{type(model).__name__} is not") as refused:
            function(model, 1)
        assert "\n" not in str(refused.value)


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match="r is -1"):
        tokens.merged(vit(), -1)


def test_masked_layers_are_refused_by_name():
    model = vit()
    prune.l1_unstructured(model.blocks[0].mlp.fc1, "weight", amount=0.5)
    with pytest.raises(ValueError, match=r"^blocks\.0\.mlp\.fc1 is masked"):
        tokens.merged(model, 1)
