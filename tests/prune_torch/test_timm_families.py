"""timm's families of Vision Transformers, tiny: each is pruned and comes back, or is refused."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import prune_torch
from groundfloor.errors import UserError
from prune_torch import compact, costs, density
from prune_torch.methods import METHODS, synflow
from prune_torch.methods.base import Cell
from prune_torch.network import vit

SIZES = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}
PLAIN = "vit_tiny_patch16_224"
WORKING = {
    "class token": (PLAIN, {}),
    "mean of patches": (PLAIN, {"class_token": False, "global_pool": "avg"}),
    "register tokens": ("vit_small_patch14_reg4_dinov2", {}),
    "LayerScale": ("deit3_small_patch16_224", {}),
    "qkv without bias": (PLAIN, {"qkv_bias": False}),
    "normed q and k": (PLAIN, {"qk_norm": True}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "attention pooling": ("vit_base_patch16_siglip_224", {}),
    "behind a convolution": ("vit_tiny_r_s16_p8_224", {"img_size": 32, "patch_size": 2}),
}
REFUSED = {
    "vit_giant_patch14_dinov2": "GluMlp",  # SwiGLU
    "eva02_tiny_patch14_224": "Eva is not",
    "vit_relpos_small_patch16_224": "RelPos is not",
    "swin_tiny_patch4_window7_224": "swin",
}
CHOSEN = ("synflow", "relevance", "wanda-refit", "oats", "compensated")


def build(name, sizes):
    settings = {"from_sparse": None, "weights": None, "pretrained": False, "mean_pool": False}
    config = SimpleNamespace(model=name, model_args=sizes, dense_steps=1, seed=0, **settings)
    return vit.build(config, 5)


def cell_of(model):
    side = model.patch_embed.img_size[0]
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    task = SimpleNamespace(
        batch=lambda seed, step: (images, torch.arange(4)),
        loss=lambda network, batch: F.cross_entropy(network(batch[0]), batch[1]),
    )
    settings = {"steps": 1, "whole": 2, "rate": 1e-3, "decay": 0.0, "seed": 0}
    parameters = density.prunable(model)
    count = sum(p.numel() for p in parameters.values()) // 2
    return Cell(task, model, parameters, count, **settings)


@pytest.mark.parametrize("family", WORKING)
def test_methods_prune_a_family_and_its_file_comes_back(family, tmp_path, monkeypatch):
    monkeypatch.setattr(synflow, "ROUNDS", 3)
    name, changes = WORKING[family]
    dense = build(name, {**SIZES, **changes})
    zero = sum(int((p == 0).sum()) for p in dense.parameters())
    for method_name in CHOSEN:
        method = METHODS[method_name](cell_of(copy.deepcopy(dense)))
        cell = method.cell
        masks = method.masks(cell.count)
        with torch.no_grad():
            parameters = dict(cell.model.named_parameters())
            for key, mask in masks.items():
                parameters[key].mul_(mask)
        parts = method.settle()
        kept = density.count(cell.model, parts)["nonzero"]
        if not method.structured:
            gone = sum(p.numel() for p in cell.parameters.values()) - cell.count
            assert kept <= costs.parameters(cell.model) - gone
            assert kept >= costs.parameters(cell.model) - gone - zero
        images = cell.task.batch(0, 0)[0]
        small = compact.compact(cell.model.eval())
        torch.testing.assert_close(small(images), cell.model(images), atol=1e-4, rtol=1e-4)
    compact.save(small, tmp_path / "small.safetensors")
    again = prune_torch.load(tmp_path / "small.safetensors")
    assert torch.equal(again(images), small(images))
    for block in again.blocks:
        if hasattr(block.attn, "num_heads"):
            assert block.attn.num_heads * block.attn.head_dim == block.attn.proj.in_features


@pytest.mark.parametrize("name", REFUSED)
def test_other_families_are_refused_in_one_line(name):
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        build(name, {**SIZES, "embed_dim": 24})
    assert "\n" not in str(caught.value)


def test_fused_attention_or_not_makes_no_difference_to_masks():
    found = []
    for fused in (True, False):
        cell = cell_of(build(PLAIN, SIZES))
        for block in cell.model.blocks:
            block.attn.fused_attn = fused
        found.append(METHODS["wanda"](cell).masks(cell.count))
    same = [float((found[0][n] == found[1][n]).float().mean()) for n in found[0]]
    assert min(same) > 0.99  # a rounding may move a tie
