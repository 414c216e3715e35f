"""Token merging (Bolya et al. 2023): a trained Vision Transformer on fewer and fewer tokens.

    fast = merged(model, 8)  # each block joins the 8 most similar pairs of patches

It changes the compute, never the parameters: its curve is drawn against GFLOP, and it has no place
on the axis of density.
"""

import copy
from collections import OrderedDict

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from torch.nn import functional as F

from prune_torch import costs, density


class Merging(nn.Sequential):
    """The blocks of a ViT, each merging `r` tokens between attention and MLP.

    The first `prefix` tokens (class, registers) take no part in it. Length, indices and names of
    parameters are those of the blocks; these cannot be called one by one.
    """

    def __init__(self, blocks, prefix, r):
        super().__init__(OrderedDict(blocks.named_children()))
        self.prefix, self.r = prefix, r
        for block in self:
            block.register_forward_pre_hook(_refuse_alone)

    def __getitem__(self, index):
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return Merging(
            nn.Sequential(OrderedDict(self.named_children()))[index], self.prefix, self.r
        )

    def forward(self, x):
        """(batch, n, d) -> the same shape: each token has the value of the one it ended in.

        So the model's own pooling, whatever its kind, is over the original patches: a plain mean
        of these is the mean of the merged tokens weighted by their sizes.
        """
        exact = torch.promote_types(x.dtype, torch.float32)  # half precision counts to 256
        size = x.new_ones(x.shape[:2], dtype=exact)
        place = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        for block in self:
            attended, keys = _attend(block.attn, block.norm1(x), size)
            x = x + block.drop_path1(block.ls1(attended))
            count = _clip(x.shape[1] - self.prefix, self.r)
            if count:
                part = match(keys, self.prefix, count)
                x, size = merge(x, size, part, count)
                place = part.gather(1, place)
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return x.gather(1, place[..., None].expand(-1, -1, x.shape[-1]))


def _refuse_alone(*_):
    """Before a block's own forward, which would merge nothing and say nothing."""
    raise ValueError(
        "merged blocks do not run one by one: no inner features, masks or checkpointing of "
        "activations; take them from the model before merging"
    )


def _attend(attn, x, size):
    """Attention in which a token of size s counts as s tokens; and its keys, (batch, n, d / heads),
    averaged over heads."""
    keys = []
    with attn.k_norm.register_forward_hook(lambda module, inputs, output: keys.append(output)):
        x = attn(x, attn_mask=size.log().to(x.dtype)[:, None, None])
    return x, keys[0].mean(1)


def match(keys, prefix, count):
    """Bipartite soft matching: for each token, (batch, n), the index of the one it becomes part of
    among the n - count that are left, which stay in order.

    keys: (batch, n, any). Patches 0, 2, 4, ... each point to the most similar (cosine) of patches
    1, 3, 5, ...; the `count` most similar pairs are merged.
    """
    patches = F.normalize(keys[:, prefix:], dim=-1)
    best, partner = (patches[:, ::2] @ patches[:, 1::2].mT).max(-1)
    gone = best.topk(count).indices
    itself = torch.arange(keys.shape[1], device=keys.device).expand(keys.shape[:2])
    into = itself.scatter(1, prefix + 2 * gone, prefix + 2 * partner.gather(1, gone) + 1)
    return ((into == itself).cumsum(1) - 1).gather(1, into)


def merge(x, size, part, count):
    """Means weighted by size: tokens (batch, n - count, d) and sizes (batch, n - count).

    x: (batch, n, d). size: (batch, n), in original tokens. part: of `match`.
    """
    left = x.shape[1] - count
    total = size.new_zeros(len(x), left).scatter_add(1, part, size)
    weighted = x * size[..., None]
    summed = weighted.new_zeros(len(x), left, x.shape[-1])
    summed = summed.scatter_add(1, part[..., None].expand_as(x), weighted)
    return (summed / total[..., None]).to(x.dtype), total


def _clip(patches, r):
    """Of `r`, as many as can go: only every second patch may."""
    return min(r, patches // 2)


def _check(model, r):
    if (
        not isinstance(model, VisionTransformer)
        or type(model.blocks) is not nn.Sequential
        or not all(type(block) is Block and type(block.attn) is Attention for block in model.blocks)
    ):
        raise ValueError(f"{type(model).__name__} is not a timm ViT of plain blocks")
    density.refuse_masked(model)
    if r < 0:
        raise ValueError(f"r is {r}; a block merges 0 tokens or more")


def merged(model, r):
    """A copy of a timm ViT, sharing its parameters, in which each block merges `r` tokens.

    At most half of the patches go in one block. Not for training: a choice of pairs has no
    gradient. Raises ValueError for what is not a timm ViT of plain blocks, or masked or
    parametrised, and for r < 0.
    """
    _check(model, r)
    fast = copy.deepcopy(model, {id(p): p for p in model.parameters()})
    fast.set_grad_checkpointing(False)
    fast.blocks = Merging(fast.blocks, fast.num_prefix_tokens, r)
    return fast


def tokens_left(model, r):
    """Number of tokens, the class token's among them, after each block. ValueError as above."""
    _check(model, r)
    patches, left = model.patch_embed.num_patches, []
    for _ in model.blocks:
        patches -= _clip(patches, r)
        left.append(model.num_prefix_tokens + patches)
    return left


def curve(task, model, rates):
    """For each r of `rates` a dict: r, tokens (after the last block), top1, top5 and loss on the
    task's test images, gigaflops (of one image, matching included; two per multiply-add).

    task: a `finetune.Task`. ValueError as above.
    """
    rows = []
    for r in rates:
        fast = merged(model, r)
        scores = task.evaluate(fast, task.test)
        cost = {"tokens": tokens_left(model, r)[-1], "gigaflops": costs.flops(fast) / 1e9}
        rows.append({"r": r, **cost, **scores})
    return rows
