"""Tiny ViTs with no zero anywhere, and zeros put where heads and neurons die of them."""

import timm
import torch
from torch import nn

DEPTH, HEADS, DIM, HIDDEN = 2, 3, 12, 24
ALL, NONE = [True], [False]
SIZES = {
    "img_size": 16,
    "patch_size": 8,
    "embed_dim": DIM,
    "depth": DEPTH,
    "num_heads": HEADS,
    "mlp_ratio": HIDDEN / DIM,
    "num_classes": 5,
}
VARIANTS = {
    "plain": {},
    "mean": {"class_token": False, "global_pool": "avg"},
    "scaled": {"init_values": 0.5, "qk_norm": True, "reg_tokens": 2},
    "bare": {"qkv_bias": False, "proj_bias": False, "act_layer": "relu"},
    "not zero at zero": {"act_layer": "sigmoid", "drop_path_rate": 0.2},
}


def vit(dtype=torch.float64, seed=0, **changes):
    """A tiny ViT with no zero anywhere, in evaluation mode."""
    model = timm.create_model("vit_tiny_patch16_224", **{**SIZES, **changes})
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=random)
    return model.to(dtype).eval()


def images(dtype=torch.float64, count=4, size=16):
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=random).to(dtype)


@torch.no_grad()
def kill(model, heads, neurons, side="out"):
    """Zero what the heads (blocks x heads) and neurons (blocks x hidden) read, or what is read of
    them, in place."""
    for block, no_heads, no_neurons in zip(model.blocks, heads, neurons, strict=True):
        attn, mlp = block.attn, block.mlp
        no_heads = torch.tensor(no_heads).repeat_interleave(attn.head_dim)
        no_neurons = torch.tensor(no_neurons)
        if side == "out":
            attn.proj.weight[:, no_heads] = 0
            mlp.fc2.weight[:, no_neurons] = 0
            continue
        queries_and_keys = torch.zeros(2 * attn.attn_dim, dtype=torch.bool)
        for linear, gone in (
            (attn.qkv, torch.cat([queries_and_keys, no_heads])),
            (mlp.fc1, no_neurons),
        ):
            linear.weight[gone] = 0
            if linear.bias is not None:
                linear.bias[gone] = 0
    return model
