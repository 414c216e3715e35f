"""How far can the gradient be trusted? Loss and gradient along a line, on one batch.

The local measurements of Santurkar et al. 2018 ("How does batch normalization help optimization?",
arXiv 1805.11604, section 3.1 and figure 4): from the parameters w of one training step with the
gradient g, go along a direction d by several lengths t and look at loss and gradient at w + t d.

    loss landscape               loss(w + t d)
    gradient predictiveness      |∇(w + t d) - g|
    effective β-smoothness       |∇(w + t d) - g| / |t d|

The paper takes the largest ratio over the lengths as β. It is given here for each length: wherever
the gradients differ by about |g|, the ratio along g is 1 / t whatever the network, so that the
shortest length rules the maximum.
"""

import copy
import functools
import math
from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel

from groundfloor.pytorch import masking
from optim_torch.landscape.curvature import Hessian, batch_sharpness
from optim_torch.landscape.evaluating import as_found, mean_loss, trainable

DIRECTIONS = ("gradient", "optimizer", "random")


class NoDirection(ValueError):
    """Loss or gradient are not finite where the probe begins, or the gradient is zero."""


@dataclass(frozen=True)
class Point:
    """One point w + t d of a probe. Far out, any value but the length can be inf or nan."""

    length: float  # t, in units of a learning rate
    loss: float
    change: float  # |∇ there - g|
    distance: float  # |t d|, between the two points as they are stored
    beta: float  # change / distance; nan if the step is lost in rounding
    gradient: float  # |∇ there|
    cosine: float  # between ∇ there and g, in [-1, 1]


@dataclass(frozen=True)
class Probe:
    """What `probe` found, as plain numbers: loss and |g| at w, and a `Point` for each length.

    With curvature: g'Hg / |g|², the limit of β along the gradient at length 0, and the largest
    eigenvalue of H, the Hessian of the batch's loss.
    """

    loss: float
    gradient: float
    points: tuple[Point, ...]
    batch_sharpness: float | None = None
    largest_eigenvalue: float | None = None


def cost(lengths):
    """Forward-and-backward passes over the batch that a probe takes, whatever its direction."""
    return 1 + len(lengths)


def probe(
    model,
    loss_fn,
    batch,
    *,
    lengths,
    direction="gradient",
    optimizer=None,
    generator=None,
    curvature=False,
):
    """Loss and gradient of `model` on one batch, where it is and along a line: a `Probe`.

    model, batch: (inputs, targets) as `loss_fn(model(inputs), targets)` takes them, on the model's
        device; it gives the loss, a scalar tensor. `loss_fn` may read the model's parameters
        (weight decay).
    lengths: t > 0, learning rates; the paper: 0.5 to 4 times the training rate.
    direction: "gradient": d = -g, the paper's.
        "optimizer": d = the step that `optimizer` (of torch.optim, without a closure) would take
        next with g, divided by its rate, that of its first group: t is that rate again, other
        groups keep their rate's ratio to it, and t = the rate is the very next step of training.
        "random": uniform on the sphere of radius |g|, from `generator` (a CPU one gives the same
        direction on every device), by default from torch's random state.
    curvature: also the batch sharpness and the largest eigenvalue of the batch's Hessian
        (`curvature.Hessian`), for 10 to 60 times the price of a pass.
    g and d are over all parameters that require a gradient; the others stay.

    All points see the same batch and the same chance: every evaluation begins with the random
    state and the buffers found, so that dropout draws the masks of the next training step each
    time and differences come from the parameters alone. The whole model is in training mode
    (BatchNorm takes the batch's statistics, also if found in eval mode) and autocast is off.
    Parameters, buffers, .grad, modes, the optimizer and random states (a given generator excepted)
    are afterwards what they were, to the bit, also if something raises.

    Arithmetic is in the model's dtype, norms add up in float64. On GPUs TF32 convolutions, torch's
    default, round at 1e-3: turn them off (torch.backends.cudnn.allow_tf32) for short lengths.
    At most five copies of the parameters are held, and a copy of the optimizer in float64 while
    its step is taken. Of a DistributedDataParallel model the module is probed, without a word to
    the other processes: loss and g are those of this process's batch (but SyncBatchNorm waits for
    all processes, so let all probe).

    Raises ValueError, with nothing changed, for impossible lengths, directions, parameters,
    batches, losses and optimizers; its kind `NoDirection` if loss or gradient at w are not finite
    or the gradient is zero.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    try:
        lengths = [float(length) for length in lengths]
        good = lengths and all(0 < length < math.inf for length in lengths)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"lengths must be one or more positive finite numbers, got {lengths}")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError("batch must be a pair of inputs and targets")
    chosen = trainable(model)
    if direction == "optimizer":
        _refuse_unfit(optimizer, chosen)
    evaluate = functools.partial(_evaluate, model, loss_fn, batch, chosen)

    loss, here = evaluate()
    norm = _norm(here)
    for name, value in (("loss", loss), ("gradient", norm)):
        if not math.isfinite(value):
            raise NoDirection(f"the {name} is not finite here ({value}): there is nothing to probe")
    if norm == 0:
        raise NoDirection("the gradient is zero: there is no direction to probe")
    if direction == "gradient":
        line = [-g for g in here]
    elif direction == "optimizer":
        line = _next_step(optimizer, chosen, here)
    else:
        line = _on_sphere(norm, chosen, generator)
    points = (_point(evaluate, chosen, here, line, length) for length in lengths)
    points = tuple(points)
    if not curvature:
        return Probe(loss, norm, points)
    largest = Hessian(model, loss_fn, [batch]).largest()
    return Probe(loss, norm, points, batch_sharpness(model, loss_fn, batch), largest)


def _point(evaluate, parameters, here, line, length):
    ways = zip(parameters.items(), line, strict=True)
    moved = {name: p.detach() + length * d for (name, p), d in ways}
    distance = _norm(moved[name] - p.detach() for name, p in parameters.items())
    with masking.exchanged(parameters, moved):
        loss, there = evaluate()
    change = _norm(a - b for a, b in zip(there, here, strict=True))
    return Point(
        length,
        loss,
        change,
        distance,
        beta=_ratio(change, distance),
        gradient=_norm(there),
        cosine=_ratio(_dot(there, here), _norm(there) * _norm(here)),
    )


def _refuse_unfit(optimizer, chosen):
    if optimizer is None:
        raise ValueError('direction "optimizer" needs an optimizer')
    if isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam):
        kind = type(optimizer).__name__
        raise ValueError(f"{kind} cannot step with one dense gradient: there is no line to probe")
    held = set(_held(optimizer))
    missing = [name for name, parameter in chosen.items() if parameter not in held]
    if missing:
        raise ValueError(f"the optimizer does not hold the parameter {missing[0]!r}")
    if optimizer.param_groups[0]["lr"] == 0:
        raise ValueError("the optimizer's learning rate is 0: it takes no step to probe along")


def _held(optimizer):
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _evaluate(model, loss_fn, batch, parameters):
    """Loss (a float) and its gradients by `parameters`; .grad is not used."""
    tensors = list(parameters.values())
    with as_found(model):
        loss = mean_loss(model, loss_fn, batch)
        # The model may not use them all: zeros, not None. An embedding's may be sparse.
        gradients = torch.autograd.grad(loss, tensors, materialize_grads=True)
        return loss.item(), tuple(gradient.to_dense() for gradient in gradients)


def _next_step(optimizer, parameters, gradients):
    """The step that the optimizer would take now / its rate: one tensor for each parameter.

    A copy takes it, in float64: in float32 a short step is lost in the rounding of w + step. Hooks
    of the optimizer are left aside, as torch does not copy them.
    """
    copied = copy.deepcopy(optimizer)
    twins = dict(zip(_held(optimizer), _held(copied), strict=True))
    for twin in twins.values():
        twin.data = twin.data.double()
    copied.load_state_dict(copied.state_dict())  # casts the state to the parameters' dtype
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        twins[parameter].grad = gradient.double()
    copied.step()
    rate = float(optimizer.param_groups[0]["lr"])
    return [((twins[p].detach() - p.detach()) / rate).to(p.dtype) for p in parameters.values()]


def _on_sphere(radius, parameters, generator):
    """A random direction of norm `radius`: one tensor for each parameter."""
    if generator is None:  # a stream of its own, since dropout draws from the state as it is
        with torch.random.fork_rng(()):
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    draw = {"generator": generator, "device": generator.device}
    noise = [torch.randn(p.shape, dtype=p.dtype, **draw).to(p.device) for p in parameters.values()]
    scale = radius / _norm(noise)
    return [scale * part for part in noise]


def _norm(tensors):
    """Euclidean norm of all entries together, added up in float64."""
    norms = [torch.linalg.vector_norm(tensor, dtype=torch.float64) for tensor in tensors]
    return torch.stack(norms).norm().item()


def _dot(first, second):
    pairs = zip(first, second, strict=True)
    return torch.stack([(a.double() * b.double()).sum() for a, b in pairs]).sum().item()


def _ratio(above, below):
    return above / below if below else math.nan
