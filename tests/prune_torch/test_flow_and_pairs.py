"""SynFlow: conservation of the flow and no collapse; 2:4: two of every four, the best ones."""

import copy
from itertools import pairwise

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from prune_torch import density
from prune_torch.methods import synflow
from prune_torch.methods.magnitude import Magnitude
from prune_torch.methods.synflow import SynFlow, flow, flow_scores
from prune_torch.methods.two_four import TwoFour
from tests.prune_torch import tiny
from tests.prune_torch.tiny import cell


@pytest.fixture(scope="module")
def bench():
    """With layer scale, which the flow must pass."""
    return tiny.bench(init_values=0.5)


def sizes_of(model):
    return {n: p.detach().abs().double() for n, p in model.named_parameters()}


def scores_of(model, share=1.0):
    """Of the prunable matrices, patch embedding and head too; a random share of them is there."""
    generator = torch.Generator().manual_seed(0)
    masks = {
        n: torch.rand(p.shape, generator=generator) < share
        for n, p in density.prunable(model, "matrices").items()
    }
    return flow_scores(model, sizes_of(model), masks)


def scaled(model, factors):
    """A copy with some parameters multiplied."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, factor in factors.items():
            model.get_parameter(name).mul_(factor)
    return model


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_flow_is_conserved_in_every_neuron_and_head(bench, share):
    found = scores_of(bench.model, share)
    for i, block in enumerate(bench.model.blocks):
        fc1, fc2 = (found[f"blocks.{i}.mlp.fc{j}.weight"] for j in (1, 2))
        torch.testing.assert_close(fc1.sum(1), fc2.sum(0))
        q, k, v = found[f"blocks.{i}.attn.qkv.weight"].sum(1).chunk(3)
        proj = found[f"blocks.{i}.attn.proj.weight"].sum(0)
        torch.testing.assert_close(v, proj)
        # Of q and k, entries match one another, and heads match those of v.
        torch.testing.assert_close(q, k)
        heads = [part.view(block.attn.num_heads, -1).sum(1) for part in (q, v)]
        torch.testing.assert_close(*heads)
        assert (heads[0] > 0).all()


def test_all_the_flow_comes_in_and_goes_out(bench):
    """Patch embedding and head are cuts through the network: what they carry is R."""
    found = scores_of(bench.model)
    total = flow(bench.model, sizes_of(bench.model))
    torch.testing.assert_close(found["patch_embed.proj.weight"].sum(), total)
    torch.testing.assert_close(found["head.weight"].sum(), total)


def slow_flow(model, sizes):
    """R without the divisions, softmax and all q and k left out: v alone goes on."""
    x = sizes["patch_embed.proj.weight"].sum((1, 2, 3))
    for i in range(len(model.blocks)):
        own = {n.split(".", 2)[2]: s for n, s in sizes.items() if n.startswith(f"blocks.{i}.")}
        v = own["attn.qkv.weight"][2 * len(x) :]
        x = x + own["ls1.gamma"] * (own["attn.proj.weight"] @ v @ (own["norm1.weight"] * x))
        mlp = own["mlp.fc2.weight"] @ own["mlp.fc1.weight"]
        x = x + own["ls2.gamma"] * (mlp @ (own["norm2.weight"] * x))
    return (sizes["head.weight"] @ (sizes["norm.weight"] * x)).sum()


def test_a_score_is_what_goes_with_the_weight(bench):
    """R is linear in every single weight, so that its share of R is lost without it."""
    found, sizes = scores_of(bench.model), sizes_of(bench.model)
    total, slow_total = flow(bench.model, sizes), slow_flow(bench.model, sizes)
    for name, score in found.items():
        last = (-1, *(0,) * (score.dim() - 1))  # of qkv it belongs to v
        cut = {**sizes, name: sizes[name].clone()}
        cut[name][last] = 0
        lost = 1 - slow_flow(bench.model, cut) / slow_total
        torch.testing.assert_close(score[last] / total, lost, rtol=1e-7, atol=1e-12)


def test_q_and_k_share_a_heads_flow_by_their_products(bench):
    found, sizes = scores_of(bench.model), sizes_of(bench.model)
    name = "blocks.0.attn.qkv.weight"
    y = sizes["patch_embed.proj.weight"].sum((1, 2, 3)) * sizes["blocks.0.norm1.weight"]
    q, k, _ = (sizes[name] @ y).view(3, 3, 4)
    flows = found[name].sum(1).view(3, 3, 4)
    share = q * k / (q * k).sum(1, keepdim=True)
    torch.testing.assert_close(flows[0], flows[2].sum(1, keepdim=True) * share)


def test_masks_do_not_see_scales_that_cancel(bench):
    """Powers of two, so that floating point does not either."""
    model = scaled(
        bench.model,
        {
            "blocks.0.mlp.fc1.weight": 2**-20,
            "blocks.0.mlp.fc2.weight": 2**20,
            "blocks.1.norm1.weight": 2**4,
            "blocks.1.ls1.gamma": 2**-4,
            "patch_embed.proj.weight": 2**7,
            "head.weight": 2**-9,
        },
    )
    with torch.no_grad():
        model.blocks[1].attn.qkv.weight[:12] *= 2**5  # q alone
    first, second = (SynFlow(cell(bench, model=m)).masks(300) for m in (bench.model, model))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_norms_after_the_embedding_and_of_queries_scale_as_their_weights_do():
    model = tiny.bench(pre_norm=True, qk_norm=True).model
    other, factors = copy.deepcopy(model), 2.0 ** torch.tensor([3, -5, 0, 7])
    with torch.no_grad():
        other.norm_pre.weight *= factors.repeat(3)
        other.patch_embed.proj.weight /= factors.repeat(3).view(-1, 1, 1, 1)
        for block in other.blocks:
            block.attn.q_norm.weight *= factors
            block.attn.qkv.weight[:12] /= factors.repeat(3)[:, None]
    torch.testing.assert_close(scores_of(other), scores_of(model))


def test_no_matrix_collapses(bench):
    model = scaled(
        bench.model, {"blocks.0.mlp.fc1.weight": 2**-20, "blocks.0.mlp.fc2.weight": 2**20}
    )
    prunable = cell(bench, model=model)
    count = sum(p.numel() for p in prunable.parameters.values()) // 10
    assert all(mask.any() for mask in SynFlow(prunable).masks(count).values())
    assert not Magnitude(prunable).masks(count)["blocks.0.mlp.fc1.weight"].any()


@pytest.mark.parametrize("share", [20, 50])
def test_the_network_is_never_cut_through(bench, share):
    """Beside a residual there may be nothing left: then it is all of an MLP, or of attention."""
    prunable = cell(bench, kind="matrices")
    count = sum(p.numel() for p in prunable.parameters.values()) // share
    found = SynFlow(prunable).masks(count)
    assert found["patch_embed.proj.weight"].any() and found["head.weight"].any()
    leftover = {n: s * found.get(n, 1) for n, s in sizes_of(bench.model).items()}
    assert flow(bench.model, leftover) > 0
    for i in range(2):
        assert (
            found[f"blocks.{i}.mlp.fc1.weight"].any() == found[f"blocks.{i}.mlp.fc2.weight"].any()
        )
        for part in found[f"blocks.{i}.attn.qkv.weight"].chunk(3):
            assert part.any() == found[f"blocks.{i}.attn.proj.weight"].any()


@pytest.mark.parametrize("kind", ["blocks", "matrices"])
def test_counts_are_exact_and_the_model_stays(bench, kind):
    method = SynFlow(cell(bench, kind=kind))
    before = copy.deepcopy(method.cell.model.state_dict())
    total = sum(p.numel() for p in method.cell.parameters.values())
    for count in (0, 7, total):
        assert sum(int(m.sum()) for m in method.masks(count).values()) == count
    assert all(torch.equal(v, before[n]) for n, v in method.cell.model.state_dict().items())
    assert all(p.grad is None for p in method.cell.model.parameters())


def test_rounds_fall_exponentially_and_nothing_returns(bench, monkeypatch):
    history = []

    def recorded(model, sizes, masks):
        history.append(torch.cat([m.flatten() for m in masks.values()]))
        return flow_scores(model, sizes, masks)

    monkeypatch.setattr(synflow, "flow_scores", recorded)
    SynFlow(cell(bench)).masks(100)
    counts = [int(mask.sum()) for mask in history]
    total = counts[0]
    assert total == history[0].numel()
    assert counts == [round(total * (100 / total) ** (i / 100)) for i in range(100)]
    assert all(bool((a >= b).all()) for a, b in pairwise(history))


@pytest.mark.parametrize("kind", ["blocks", "matrices"])
def test_the_best_two_of_every_four_stay(bench, kind):
    method = TwoFour(cell(bench, kind=kind))
    found = method.masks(0)
    squares = method.input_squares()
    assert found.keys() == method.cell.parameters.keys()
    for name, mask in found.items():
        scores = method.cell.parameters[name].detach().abs().flatten(1) * squares[name].sqrt()
        groups, kept = scores.view(-1, 4), mask.view(-1, 4)
        assert (kept.sum(1) == 2).all()
        assert (groups[kept].view(-1, 2).min(1)[0] >= groups[~kept].view(-1, 2).max(1)[0]).all()
    everything = sum(mask.numel() for mask in found.values())
    assert sum(int(mask.sum()) for mask in found.values()) == everything // 2


def test_of_equals_the_first_two_stay(bench):
    prunable = cell(bench)
    with torch.no_grad():
        for parameter in prunable.parameters.values():
            parameter.zero_()
    for mask in TwoFour(prunable).masks(0).values():
        assert torch.equal(
            mask.view(-1, 4), torch.tensor([True, True, False, False]).expand(mask.numel() // 4, 4)
        )


def test_groups_must_fit(bench):
    model = VisionTransformer(**{**tiny.SHAPE, "embed_dim": 6}, num_classes=10)
    assert TwoFour(cell(bench, model=model)).refusal() == (
        "2:4 needs a multiple of 4 inputs; blocks.0.attn.qkv.weight has 6"
    )
    assert TwoFour(cell(bench)).refusal() is None
