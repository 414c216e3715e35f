"""A Vision Transformer with whole heads and neurons at zero, made physically smaller.

    small = compact(model)  # same outputs, fewer parameters
    save(small, "small.safetensors")
    small = load("small.safetensors")

Torch-Pruning, the library for this, leaves a head and a neuron in every block: we slice ourselves.
"""

import copy
import inspect
import json

import timm
import torch
from timm.layers import Attention, Mlp
from timm.models import get_model_args
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from groundfloor.errors import first_line, reading
from prune_torch import density, pack
from prune_torch.network import stored

KEY = "prune_torch.compact"  # in a file's metadata


class Constant(nn.Module):
    """A branch with nothing left: its output's bias (d,), or zero, at every token."""

    def __init__(self, bias):
        super().__init__()
        self.register_parameter("bias", bias)

    def forward(self, x, attn_mask=None, is_causal=False):
        return torch.zeros_like(x) if self.bias is None else self.bias.expand(x.shape)


CUT = {Attention: ("qkv", "proj"), Mlp: ("fc1", "fc2"), Constant: ()}  # a branch's linear layers


def dead_heads(model):
    """For each block a boolean tensor (heads,): those that contribute zero whatever the input.

    A head is dead if each of its channels has a zero column in proj, or a zero row and bias in v.
    Raises ValueError for what is not a timm ViT of plain blocks, as it is built: neither compiled
    nor wrapped, no layer exchanged, masked, parametrised or used twice.
    """
    return [_dead(block.attn) for block in _blocks(model)]


def dead_neurons(model):
    """For each block a boolean tensor (neurons,): zero column in fc2, or zero row and bias in fc1
    if the activation of 0 is 0. ValueError as above."""
    return [_dead(block.mlp) for block in _blocks(model)]


def _dead(branch):
    if isinstance(branch, Attention):
        dead = ~branch.proj.weight.any(0) | _silent(branch.qkv)[2 * branch.attn_dim :]
        return dead.view(branch.num_heads, branch.head_dim).all(1)
    if isinstance(branch, Mlp):
        dead = ~branch.fc2.weight.any(0)
        passes = branch.act(branch.fc2.weight.new_zeros(1)).any()
        return dead if passes else dead | _silent(branch.fc1)
    return torch.zeros(0, dtype=torch.bool)


def _silent(linear):
    """Outputs of a linear layer that are zero whatever its input."""
    zero = ~linear.weight.any(1)
    return zero if linear.bias is None else zero & (linear.bias == 0)


def _blocks(model):
    """The blocks of a timm ViT whose heads and neurons can be told apart; else ValueError."""
    if not isinstance(model, VisionTransformer):
        raise ValueError(f"{type(model).__name__} is not timm's VisionTransformer")
    density.refuse_masked(model)
    if type(model.blocks) is not nn.Sequential:
        raise ValueError(f"{type(model.blocks).__name__} is not timm's plain chain of blocks")
    for block in model.blocks:
        for branch in (block.attn, block.mlp) if type(block) is Block else (block,):
            inner = getattr(branch, "gate", None) or getattr(branch, "norm", nn.Identity())
            if type(branch) not in CUT or type(inner) is not nn.Identity:
                raise ValueError(f"{type(branch).__name__} is not of timm's plain kind of block")
            for layer in map(branch.get_submodule, CUT[type(branch)]):
                if type(layer) is not nn.Linear:
                    raise ValueError(f"{type(layer).__name__} is not a plain linear layer")
    owners = {}
    for name, parameter in model.blocks.named_parameters(remove_duplicate=False):
        first = owners.setdefault(id(parameter), name)
        if first != name:
            raise ValueError(f"blocks.{name} is blocks.{first}: cutting one would cut the other")
    return model.blocks


def compact(model):
    """A copy of a timm ViT without its dead heads and neurons; same outputs on any input.

    A branch with nothing left becomes a Constant, without norm, dropout and hooks. ValueError as
    above.
    """
    heads, neurons = dead_heads(model), dead_neurons(model)
    small = copy.deepcopy(model)
    for block, *dead in zip(small.blocks, heads, neurons, strict=True):
        _keep(block, *((~flags).nonzero().flatten() for flags in dead))
        block.train(block.training)  # new parts, too
    return small


def _keep(block, heads, neurons):
    """Cut a block down to the heads and neurons with these indices."""
    attn, mlp = block.attn, block.mlp
    if isinstance(attn, Attention) and len(heads):
        rows = torch.arange(3 * attn.attn_dim, device=heads.device)
        rows = rows.view(3, attn.num_heads, attn.head_dim)[:, heads].flatten(1)
        _slice(attn.qkv, 0, rows.flatten())
        _slice(attn.proj, 1, rows[0])
        attn.num_heads, attn.attn_dim = len(heads), len(rows[0])
    elif isinstance(attn, Attention):
        block.norm1, block.attn = nn.Identity(), Constant(attn.proj.bias)
    if isinstance(mlp, Mlp) and len(neurons):
        _slice(mlp.fc1, 0, neurons)
        _slice(mlp.fc2, 1, neurons)
    elif isinstance(mlp, Mlp):
        block.norm2, block.mlp = nn.Identity(), Constant(mlp.fc2.bias)


def _slice(linear, dim, index):
    """Keep these outputs (dim 0) or inputs (dim 1) of a linear layer."""
    for name in ("weight", "bias")[: 2 - dim]:
        old = getattr(linear, name)
        if old is not None:
            kept = old.detach().index_select(dim, index)
            setattr(linear, name, nn.Parameter(kept, old.requires_grad))
    linear.out_features, linear.in_features = linear.weight.shape


def description(model):
    """What `load` needs to build the network of a state_dict, as metadata of its file: timm's name
    and arguments, numbers of heads and neurons in each block.

    Raises ValueError for models not from timm.create_model and for layers exchanged since.
    """
    described = {"heads": [*map(len, dead_heads(model))]}
    described["neurons"] = [*map(len, dead_neurons(model))]
    try:
        origin = model.pretrained_cfg
        described["model"] = f"{origin['architecture']}.{origin.get('tag') or ''}".rstrip(".")
        described["arguments"] = {**model._model_args, **get_model_args(model)}
        text = json.dumps(described)
        if str(_rebuild(json.loads(text), model.state_dict())) != str(model):
            raise ValueError("layers were exchanged")
    except Exception as error:  # timm raises many kinds
        raise ValueError(f"timm.create_model cannot make it again: {first_line(error)}") from None
    return {KEY: text}


def save(model, path):
    """Write a compact or dense model as safetensors, with its description and a digest.

    ValueError as `description`.
    """
    stored.write(path, model.state_dict(), description(model))


def load(path, device="cpu"):
    """The model in a file of `save`, or of a sweep's, packed or not; in evaluation mode. Of a file
    of --elastic, whose importances say what to prune, it is the one before.

    Raises UserError that names the file.
    """
    state, metadata = pack.opened(path)
    with reading(path, "a network of this package"):
        return rebuilt(state, metadata, device)


def rebuilt(state, metadata, device="cpu"):
    """The model of a file's tensors, but importances, and metadata, in evaluation mode; ValueError
    if it is none."""
    if KEY not in metadata:
        raise ValueError("it does not say which network its weights are of")
    # Copies: in a file tensors begin anywhere, and sums may then round differently.
    copies = {
        name: x.to(device, copy=True)
        for name, x in state.items()
        if not name.endswith(".importance")
    }
    return _rebuild(json.loads(metadata[KEY]), copies).eval()


def _rebuild(described, state):
    """The described model with these tensors; what makes timm read other files is refused."""
    name, arguments = described["model"], described["arguments"]
    accepted = inspect.signature(VisionTransformer).parameters
    if not timm.is_model(name) or arguments.keys() - accepted.keys():
        raise ValueError(f"{name} is no ViT of timm, or its arguments are not")
    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
        counts = described["heads"], described["neurons"]
        for block, *left in zip(_blocks(model), *counts, strict=True):
            _keep(block, *map(torch.arange, left))
    fault = stored.misfit(state, model.state_dict())
    if fault:
        raise ValueError(f"it does not fit its description: {fault}")
    model.load_state_dict(state, assign=True)
    return model
