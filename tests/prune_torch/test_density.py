"""Exact counts: masks, budgets, and shares of layers."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch.nn.utils import parametrizations, prune

from groundfloor.pytorch import masking
from prune_torch import density

torch.set_num_threads(1)


def tiny_vit():
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=12, depth=2, num_heads=3
    )


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1, allow_subnormal=False),
)
def test_shares_add_up_and_fit(sizes, seed, share):
    """Exactly `count` in all, none above its size, and within one of the exact proportion."""
    names = [str(i) for i in range(len(sizes))]
    sizes = dict(zip(names, sizes, strict=True))
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.rand(len(names), generator=generator) + 0.1
    weights = dict(zip(names, wanted.tolist(), strict=True))
    count = round(share * sum(sizes.values()))
    counts = density.shared_out(sizes, weights, count)
    assert sum(counts.values()) == count
    assert all(0 <= counts[name] <= sizes[name] for name in names)
    free = [name for name in names if counts[name] < sizes[name] - 1]
    ratios = [Fraction(counts[name]) / Fraction(weights[name] * sizes[name]) for name in free]
    for ratio, name in zip(ratios, free, strict=True):
        slack = max(1 / (weights[n] * sizes[n]) for n in free)
        assert abs(float(ratio - ratios[0])) <= 2 * slack, name


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["blocks", "matrices"])
def test_a_budget_meets_the_density_exactly(level, kind):
    model = tiny_vit()
    for p in model.parameters():  # no natural zeros
        torch.nn.init.uniform_(p, 1, 2)
    parameters = density.prunable(model, kind)
    scores = {n: p.detach() for n, p in parameters.items()}
    masking.apply(parameters, masking.top_masks(scores, density.budget(model, level, kind)))
    found = density.count(model)
    assert found["nonzero"] == round(level * found["total"])
    assert found["density_all"] == found["nonzero"] / sum(p.numel() for p in model.parameters())
    blocks = density.prunable(model).values()  # of whatever kind the others are
    kept = sum(int((p != 0).sum()) for p in blocks)
    assert found["density_blocks"] == kept / sum(p.numel() for p in blocks)


def test_impossible_densities_are_refused():
    model = tiny_vit()
    for level in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="must lie in"):
            density.budget(model, level)
    with pytest.raises(ValueError, match="not reachable"):
        density.budget(model, 0.01)
    with pytest.raises(ValueError, match="Vision Transformer"):
        density.prunable(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    "mask",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
        lambda layer: parametrizations.orthogonal(layer, "weight"),
        torch.nn.utils.weight_norm,
        torch.nn.utils.spectral_norm,
    ],
)
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_weights_that_are_made_from_others_are_refused_not_miscounted(mask):
    model = tiny_vit()
    mask(model.blocks[1].mlp.fc1)
    for use in (density.count, density.prunable, lambda model: density.budget(model, 0.5)):
        with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.fc1 is masked or parametrised"):
            use(model)


def test_a_mask_made_permanent_is_counted():
    model = tiny_vit()
    layer, before = model.blocks[1].mlp.fc1, density.count(model)["nonzero"]
    prune.l1_unstructured(layer, "weight", amount=100)
    prune.remove(layer, "weight")
    assert density.count(model)["nonzero"] == before - 100


def test_the_matrices_of_vit_tiny_are_96_percent():
    """5,308,416 of 5,526,346 parameters with ten classes at 224 pixels (counted by hand)."""
    with torch.device("meta"):
        model = VisionTransformer(num_classes=10, embed_dim=192, depth=12, num_heads=3)
    assert sum(p.numel() for p in model.parameters()) == 5_526_346
    assert sum(p.numel() for p in density.prunable(model).values()) == 5_308_416
    assert density.budget(model, 0.1) == 552_635 - (5_526_346 - 5_308_416)


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.SGD])
def test_held_weights_stay_zero(base):
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 5)
    options = {"momentum": 0.9} if base is torch.optim.SGD else {}
    optimizer = base(layer.parameters(), lr=0.1, weight_decay=0.1, **options)
    layer(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    masks = {"weight": torch.rand(5, 6) < 0.5}
    handle = masking.hold(optimizer, {"weight": layer.weight}, masks)
    for _ in range(3):
        optimizer.step()
        assert (layer.weight[~masks["weight"]] == 0).all()
    handle.remove()
    optimizer.step()
    assert (layer.weight[~masks["weight"]] != 0).any()


def test_nothing_is_shared_out_where_there_is_nothing():
    assert density.shared_out({"a": 0, "b": 0}, {"a": 1.0, "b": 2.0}, 0) == {"a": 0, "b": 0}
