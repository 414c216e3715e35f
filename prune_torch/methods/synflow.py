"""SynFlow (Tanaka et al. 2020): keep what carries most of the flow through a linear network."""

import torch

from groundfloor.pytorch import masking
from prune_torch.methods.base import Method

ROUNDS = 100
TINY = torch.finfo(torch.float64).tiny  # where nothing flows, 0 / TINY is 0


class SynFlow(Method):
    """|θ ∂R/∂θ| in rounds, without data; R is the sum of the outputs of a linearised network.

    At low densities an MLP or an attention may go, all of it, as its residual goes on; the network
    is not cut through. A round costs less than a pass with one image: none is counted.
    """

    def masks(self, count):
        sizes = {n: p.detach().abs().double() for n, p in self.cell.model.named_parameters()}
        now = {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}
        total = sum(mask.numel() for mask in now.values())
        for number in range(1, ROUNDS + 1):
            scores = flow_scores(self.cell.model, sizes, now)
            scores = {n: torch.where(now[n], score, -1.0) for n, score in scores.items()}
            left = round(total * (count / total) ** (number / ROUNDS))
            now = masking.top_masks(scores, left)
        return now


def flow_scores(model, sizes, masks):
    """θ ∂R/∂θ of the masked ones: dict of name -> tensor; sizes: |θ| of all the parameters."""
    leaves = {n: (sizes[n] * mask).requires_grad_() for n, mask in masks.items()}
    gradients = torch.autograd.grad(flow(model, {**sizes, **leaves}), list(leaves.values()))
    pairs = zip(leaves.items(), gradients, strict=True)
    return {name: (leaf * gradient).detach() for (name, leaf), gradient in pairs}


def flow(model, sizes):
    """R of a timm VisionTransformer that sees ones, up to a factor that is the same for all scores.

    All tokens are equal, so that one vector x (width,) stands for them. Norms only scale by |γ|;
    GELU is the identity; there are no biases.
    """

    def scale(name):
        return sizes.get(name, 1.0)

    x = scale("norm_pre.weight") * sizes["patch_embed.proj.weight"].flatten(1).sum(1)
    for i, block in enumerate(model.blocks):
        at = f"blocks.{i}"
        y = scale(f"{at}.norm1.weight") * x
        q, k, v = sizes[f"{at}.attn.qkv.weight"].chunk(3)
        # Softmax over equal tokens hands on v; the factor, 1, gives q and k v's flow. It ends
        # there: handed on to x three times over, it would favour the first blocks beyond measure.
        queries, keys = ((m @ y.detach()).view(block.attn.num_heads, -1) for m in (q, k))
        queries = scale(f"{at}.attn.q_norm.weight") * queries
        keys = scale(f"{at}.attn.k_norm.weight") * keys
        match = (queries * keys).sum(1, True)
        heads = (v @ y).view(len(match), -1) * (match / match.detach().clamp(min=TINY))
        x = x + scale(f"{at}.ls1.gamma") * (sizes[f"{at}.attn.proj.weight"] @ heads.flatten())
        hidden = sizes[f"{at}.mlp.fc1.weight"] @ (scale(f"{at}.norm2.weight") * x)
        x = x + scale(f"{at}.ls2.gamma") * (sizes[f"{at}.mlp.fc2.weight"] @ hidden)
        x = x / x.detach().mean().clamp(min=TINY)  # keeps deep networks finite
    x = scale("norm.weight") * scale("fc_norm.weight") * x
    return (sizes["head.weight"] @ x).sum()
