"""Networks, optimizers and recorders from the settings of `optim_torch.train`."""

import torch
from torch.optim import lr_scheduler

from groundfloor import seeds
from groundfloor.errors import UserError
from optim_torch.dessilbi.optimizer import DessiLBI
from optim_torch.dessilbi.path import Recorder
from optim_torch.models import MODELS

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "radam": torch.optim.RAdam,
    "nadam": torch.optim.NAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
SCHEDULES = {
    "constant": lambda optimizer, config: lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
    "step": lambda optimizer, config: lr_scheduler.StepLR(
        optimizer, config.drop_every, config.drop_factor
    ),
    "cosine": lambda optimizer, config: lr_scheduler.CosineAnnealingLR(optimizer, config.epochs),
}
RECORDED_ENTRIES = 256  # of a matrix, at most


def build_model(config, data_set, widths=None):
    """The network of these settings with the initial weights of its seed."""
    torch.manual_seed(seeds.fold(config.seed, "weights"))
    shape = data_set.train.images.shape[1:]
    widths = widths or config.widths
    try:
        return MODELS[config.model](shape, data_set.num_classes, widths and tuple(widths))
    except (ValueError, TypeError) as error:
        raise UserError(f"{config.model}: {error}") from None


def build_optimizer(config, model):
    """DessiLBI or a plain optimizer over the named parameters of a network."""
    name = config.base if config.optimizer == "dessilbi" else config.optimizer
    options = {"weight_decay": config.weight_decay}
    if name in ("sgd", "rmsprop"):
        options["momentum"] = config.momentum
    named = list(model.named_parameters())
    penalised = penalised_names(config, model)
    try:
        if config.optimizer != "dessilbi":
            return OPTIMIZERS[name](named, lr=config.lr, **options)
        param_groups = [
            {"params": [(n, p) for n, p in named if n in penalised], "penalty": config.penalty},
            {"params": [(n, p) for n, p in named if n not in penalised], "penalty": "none"},
        ]
        return DessiLBI(
            [group for group in param_groups if group["params"]],
            config.lr,
            kappa=config.kappa,
            nu=config.nu,
            lr_gamma=config.lr_gamma,
            base=OPTIMIZERS[name],
            coupling=config.coupling,
            threshold=config.threshold,
            scale_by_size=config.scale_by_size,
            gamma_adaptive=config.gamma_adaptive,
            target_density=getattr(config, "target_density", None),  # none in older runs
            **options,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def penalised_names(config, model):
    """The weights that Γ belongs to: those of `config.layers`, or all with two axes or more."""
    weights = [name for name, p in model.named_parameters() if p.dim() > 1]
    layers = {name.removesuffix(".weight"): name for name in weights}
    unknown = [layer for layer in config.layers if layer not in layers]
    if unknown:
        raise UserError(f"{config.model} has no layer {unknown[0]!r}; it has {', '.join(layers)}")
    return [layers[layer] for layer in config.layers or layers]


def build_recorder(config, model):
    """Norms of all filters, and of some entries of each matrix, in the penalised layers."""
    if config.grow_tau is not None:  # their number changes
        return Recorder({})
    named = dict(model.named_parameters())
    recorded = {name: named[name] for name in penalised_names(config, model)}
    generator = torch.Generator().manual_seed(seeds.fold(0, "recorded"))  # of all seeds
    chosen = {
        name: torch.randperm(p.numel(), generator=generator)[:RECORDED_ENTRIES].sort().values
        for name, p in recorded.items()
        if config.penalty == "l1" or (config.penalty == "auto" and p.dim() == 2)
    }
    return Recorder(recorded, config.penalty, chosen)
