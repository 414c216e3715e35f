"""Widen layers of a network while it trains, without changing the function that it computes.

New filters get random incoming weights and send nothing on: their outgoing weights, new columns
of the next layer, are zero. The optimizer's state goes along. `grow_where_full` follows DessiLBI's
authors: a layer grows when most of its filters are in the support of Γ.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from optim_torch.dessilbi import groups, structure
from optim_torch.models import VGG, LeNet, ResNet

FILLS = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}  # of new channels


def _lenet(model):
    return [(name, []) for name in ("conv1", "conv2", "conv3", "fc1", "fc2")]


def _vgg(model):
    convolutions = [i for i, part in enumerate(model.features) if isinstance(part, nn.Conv2d)]
    links = [(f"features.{i}", [f"features.{i + 1}"]) for i in convolutions]
    return [*links, ("classifier", [])]


CHAINS = {LeNet: _lenet, VGG: _vgg}  # class of network -> its chain


def chain(model):
    """Layers, each feeding the next alone: list of (name, names of the norms after it).

    Layers are Conv2d (groups=1) or Linear, norms BatchNorm; all else must treat each channel by
    itself: activations, pooling, flattening. Raises ValueError for other networks.
    """
    for kind, layers in CHAINS.items():
        if isinstance(model, kind):
            return layers(model)
    if isinstance(model, ResNet):
        raise ValueError("a ResNet cannot grow layer by layer: its shortcuts tie the widths")
    raise ValueError(f"no chain is known for {type(model).__name__}; add it to grow.CHAINS")


def widths(model):
    """Filters or units of every layer but the last: what LeNet and VGG take as `widths`."""
    return [len(model.get_submodule(name).weight) for name, _ in chain(model)[:-1]]


@torch.no_grad()
def widen(model, layer, width, optimizer=None, *, generator=None):
    """Give `layer` (of the chain, not the last) `width` filters or units, in place.

    The output stays the same, in training mode too, up to rounding, as more channels let kernels
    sum in another order: by 3e-7 of the largest output in float32, 2e-15 in float64 (measured).
    New incoming weights: N(0, 2 / fan-in) (He et al. 2015), biases zero, from `generator` (CPU;
    none: torch's own). New channels of norms: weight 1, bias 0, mean 0, variance 1.
    optimizer: DessiLBI or one of torch.optim. State of old entries is kept, that of new ones is
        zero (`entry`: infinite). Adam's step count and V's clock go on, so that Adam's first step
        on a new weight can be 3.2 times its rate.
    Call it after a step: changed tensors become new parameters without gradient; what else holds
    the old ones (`masking.hold`, `path.Recorder`) must be remade.
    Raises ValueError, before anything is changed, for an impossible layer or width, an optimizer
    of another model, and one whose state cannot be carried over (LBFGS, Adafactor).
    """
    links = chain(model)
    names = [name for name, _ in links]
    if layer not in names[:-1]:
        raise ValueError(f"{layer!r} cannot grow, only {', '.join(names[:-1])}")
    position = names.index(layer)
    grown, following = model.get_submodule(layer), model.get_submodule(names[position + 1])
    old = len(grown.weight)
    if width < old:
        raise ValueError(f"{layer} has width {old} and cannot shrink to {width}")
    if width == old:
        return

    larger = {}  # (module, name of a tensor) -> what takes its place
    for part in (grown, *map(model.get_submodule, links[position][1])):
        for name, fill in FILLS.items():
            tensor = getattr(part, name, None)
            if tensor is not None:
                larger[part, name] = _padded(tensor, (width, *tensor.shape[1:]), fill)
    rows, columns, *kernel = following.weight.shape
    shape = (rows, columns // old * width, *kernel)  # flattened, a filter feeds several columns
    larger[following, "weight"] = _padded(following.weight, shape)
    moved = {getattr(part, name): new for (part, name), new in larger.items()}
    states = {} if optimizer is None else _carried(optimizer, moved)  # may refuse

    fresh = torch.empty(width - old, *grown.weight.shape[1:], dtype=grown.weight.dtype)
    nn.init.kaiming_normal_(fresh, nonlinearity="relu", generator=generator)
    larger[grown, "weight"][old:] = fresh
    for (part, name), new in larger.items():
        setattr(part, name, new)
        _count(part, width)
    if optimizer is not None:
        for group in optimizer.param_groups:
            group["params"][:] = [moved.get(parameter, parameter) for parameter in group["params"]]
        for parameter, new in moved.items():
            if optimizer.state.pop(parameter, None):
                optimizer.state[new] = states[parameter]
        # DessiLBI groups the new tensors, as after loading.
        optimizer.__setstate__({"state": optimizer.state, "param_groups": optimizer.param_groups})


def selected_share(optimizer, name):
    """Share of a layer's groups that are in the support of Γ: a number in [0, 1].

    name: "conv1" or "conv1.weight". Under an l1 penalty (the default for linear layers) a group is
    an entry. Raises ValueError where there is no Γ.
    """
    supports = structure.support(optimizer)
    for key in (name, f"{name}.weight"):
        if key in supports:
            return supports[key].double().mean().item()
    raise ValueError(f"the optimizer has no Γ of {name!r}, only of {', '.join(supports)}")


def grow_where_full(model, optimizer, *, tau, growth, at_least, generator=None):
    """Widen every layer with a share >= `tau` of its groups in the support of Γ.

    A layer of n gets max(n + at_least, ceil(growth n)) (the authors: 4 or 8, and 1.1). Shares are
    those from before any growth; layers without penalty stay.
    optimizer: DessiLBI over model.named_parameters(). Returns name -> (old, new) of what grew.
    """
    names = [name for name, _ in chain(model)[:-1]]
    if not 0 <= tau <= 1 or growth < 1 or at_least < 0:
        raise ValueError(f"need 0 <= tau <= 1 <= growth, at_least >= 0: {tau, growth, at_least}")
    supports = structure.support(optimizer)
    shares = {
        name: selected_share(optimizer, name) for name in names if f"{name}.weight" in supports
    }
    if not shares:
        raise ValueError("no Γ by the layers' names: give DessiLBI model.named_parameters()")
    grew = {}
    for name, old in zip(names, widths(model), strict=True):
        scaled = math.ceil(round(growth * old, 6))  # 1.1 * 50 is a little over 55
        new = max(old + at_least, scaled)
        if shares.get(name, -1) >= tau and new > old:
            widen(model, name, new, optimizer, generator=generator)
            grew[name] = (old, new)
    return grew


def _padded(tensor, shape, fill=0.0):
    """A larger tensor or parameter: `tensor` in its corner, `fill` in the rest."""
    ends = [(0, new - old) for old, new in zip(tensor.shape, shape, strict=True)]
    larger = F.pad(tensor.detach(), sum(reversed(ends), ()), value=fill)
    learned = isinstance(tensor, nn.Parameter)
    return nn.Parameter(larger, requires_grad=tensor.requires_grad) if learned else larger


def _count(part, width):
    """Let a module know its sizes."""
    if isinstance(part, nn.Conv2d):
        part.out_channels, part.in_channels = part.weight.shape[:2]
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    else:
        part.num_features = width


def _carried(optimizer, moved):
    """Enlarged state of the parameters that move: parameter -> state."""
    held = [(p, group) for group in optimizer.param_groups for p in group["params"] if p in moved]
    if not held or isinstance(optimizer, torch.optim.LBFGS):  # it has its own list
        raise ValueError(f"the {type(optimizer).__name__} optimizer does not hold these layers")
    states = {}
    for parameter, group in held:
        new, penalty = moved[parameter], group.get("penalty", "none")
        if not isinstance(penalty, str):
            raise ValueError("groups given by index or slices cannot be carried over")
        state = states[parameter] = dict(optimizer.state.get(parameter, {}))
        for key, value in state.items():
            if key == "entry":
                [(_, grouping)] = groups.partition(penalty, [new])
                state[key] = _padded(value, grouping.norms([new]).shape, math.inf)
            elif torch.is_tensor(value) and value.shape == parameter.shape:
                state[key] = _padded(value, new.shape)
            elif torch.is_tensor(value) and value.dim():
                raise ValueError(f"{key} of the optimizer's state cannot be carried over")
    return states
