"""Parameter groups for selecting whole heads and neurons of a timm Vision Transformer."""

from torch import nn


def vit_groups(model, *, heads=True, neurons=True):
    """Parameter groups of a timm ViT: coupled tensors of each block, and all the rest unpenalised.

    heads: rows of q, k and v (weights and biases) of one head with its columns of the projection.
    neurons: row of fc1, its bias, and column of fc2.

        optimizer = DessiLBI(vit_groups(model), lr=1e-3, base=torch.optim.AdamW, lr_gamma=0.1)

    Raises ValueError for a model without timm's blocks, for gated MLPs, and for attention without a
    joint qkv matrix.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    coupled_groups = []
    blocks = list(getattr(model, "blocks", ()))
    if not blocks or not all(hasattr(b, "attn") and hasattr(b, "mlp") for b in blocks):
        raise ValueError(
            f"no transformer blocks of one attention and one MLP each in {type(model).__name__}; "
            "is it a timm ViT, without parallel blocks?"
        )
    if not (heads or neurons):
        raise ValueError("give heads=True or neurons=True")
    for block in blocks:
        if heads:
            coupled_groups.append(_heads(block.attn))
        if neurons:
            coupled_groups.append(_neurons(block.mlp))
    param_groups = [
        {
            "params": [(names[parameter], parameter) for parameter, _ in pairs],
            "penalty": {"slices": [view for _, view in pairs]},
        }
        for pairs in coupled_groups
    ]
    coupled = {parameter for pairs in coupled_groups for parameter, _ in pairs}
    rest = [(name, parameter) for parameter, name in names.items() if parameter not in coupled]
    return [*param_groups, {"params": rest, "penalty": "none"}]


def _heads(attention):
    if not isinstance(getattr(attention, "qkv", None), nn.Linear):
        raise ValueError("attention without a joint qkv matrix is not supported; give heads=False")
    count = attention.num_heads
    inner = attention.proj.in_features
    size = inner // count
    pairs = [(attention.qkv.weight, ((3, count, size, attention.qkv.in_features), 1))]
    if attention.qkv.bias is not None:
        pairs.append((attention.qkv.bias, ((3, count, size), 1)))
    for name in ("q_bias", "v_bias"):  # BEiT's, apart from qkv
        if getattr(attention, name, None) is not None:
            pairs.append((getattr(attention, name), ((count, size), 0)))
    pairs.append((attention.proj.weight, ((attention.proj.out_features, count, size), 1)))
    return pairs


def _neurons(mlp):
    layers = [getattr(mlp, name, None) for name in ("fc1", "fc2")]
    plain = all(isinstance(layer, nn.Linear) for layer in layers)
    hidden = layers[1].in_features if plain else None
    if not plain or mlp.fc1.out_features != hidden:
        raise ValueError("MLPs with gates are not supported; give neurons=False")
    pairs = [(mlp.fc1.weight, ((hidden, mlp.fc1.in_features), 0))]
    if mlp.fc1.bias is not None:
        pairs.append((mlp.fc1.bias, ((hidden,), 0)))
    pairs.append((mlp.fc2.weight, ((mlp.fc2.out_features, hidden), 1)))
    return pairs
