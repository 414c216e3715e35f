"""Networks and optimizers for tests of DessiLBI as a torch.optim.Optimizer."""

import torch
from torch import nn
from torch.nn import functional as F

from optim_torch import DessiLBI

torch.set_num_threads(1)


ADAM, SGD = torch.optim.Adam, torch.optim.SGD
SETTINGS = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.01},
    "plain": {},
    "adam": {"base": ADAM},
    "coupled": {"base": torch.optim.AdamW, "coupling": "coupled", "threshold": 0.2},
    "adaptive": {"gamma_adaptive": True, "momentum": 0.9, "lr_gamma": 0.05},
    "filter": {"penalty": "filter", "scale_by_size": True, "threshold": 0.2},
    "indices": {"threshold": 0.2, "kappa": 2.0},
    "steered": {"target_density": 0.5, "threshold": 0.2},
}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


def build(model, name, **more):
    options = {"lr": 0.05, "nu": 2.0, "lr_gamma": 0.3, **SETTINGS[name], **more}
    if name != "indices":
        return DessiLBI(model.named_parameters(), **options)
    conv, linear = model[0].weight, model[4].weight
    halves = torch.arange(conv.numel() + linear.numel()).chunk(7)
    rest = [p for p in model.parameters() if p is not conv and p is not linear]
    return DessiLBI(
        [
            {"params": [conv, linear], "penalty": list(halves)},
            {"params": rest, "penalty": "none", "lr": 0.01},
        ],
        **options,
    )


def gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(8, 1, 6, 6, generator=generator)
    labels = torch.randint(5, (8,), generator=generator)
    model.zero_grad()
    F.cross_entropy(model(inputs.to(model[0].weight.dtype)), labels).backward()


def run(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        gradients(model, step)
        optimizer.step()


def everything(model, optimizer):
    """All tensors of a model and of the optimizer's state, in order."""
    states = [optimizer.state[p] for p in model.parameters()]
    values = [state[key] for state in states for key in sorted(state)]
    return [*model.state_dict().values(), *(v for v in values if isinstance(v, torch.Tensor))]


def assert_same(a, b):
    first, second = everything(*a), everything(*b)
    assert len(first) == len(second)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
