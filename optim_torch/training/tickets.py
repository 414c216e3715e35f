"""Lottery tickets: a part of a network's weights, trained from the start or from an early epoch."""

import torch

from groundfloor import seeds
from groundfloor.errors import UserError
from groundfloor.pytorch import checkpoints, masking
from optim_torch.dessilbi import structure

MASKS = ("support", "random", "even", "magnitude")


def ticket_masks(config, model, device):
    """The masks of `config.ticket_masks` from the state that --ticket names, if they fit the model.

    support: of Γ. random: as many at random in every layer, whole filters where Γ selects these.
    even: the same share of every layer, at random (Su et al. 2020 and Frankle et al. 2021: what
    is left of a ticket when its weights and the sizes of its layers are gone). magnitude: the
    state's largest weights over all these layers, as many entries as the support has.
    """
    state = read_state(config.ticket, device)
    gammas = _gammas(state["optimizer"])
    names = [name for name, _ in model.named_parameters()]
    shapes = {name: p.shape for name, p in model.named_parameters()}
    fits = all(shapes.get(name) == gamma.shape for name, gamma in gammas.items())
    if not gammas or not fits or not gammas.keys() <= state["model"].keys():
        raise UserError(f"{config.ticket} holds no structure of this network ({', '.join(names)})")
    masks = {name: gamma != 0 for name, gamma in gammas.items()}
    generator = torch.Generator().manual_seed(seeds.fold(config.seed, "ticket"))
    if config.ticket_masks == "random":
        return structure.random_masks(masks, generator)
    if config.ticket_masks == "even":
        return even_masks(masks, generator)
    if config.ticket_masks == "magnitude":
        return masking.largest(state["model"], masks)
    return masks


def even_masks(masks, generator):
    """The same share of every tensor, single entries drawn at random: as many in all as `masks`
    keep, but for rounding."""
    share = sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    drawn = {}
    for name, mask in masks.items():
        places = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        drawn[name] = (places < round(share * mask.numel())).view_as(mask)
    return drawn


def rewind(config, model, device):
    """Give the model the weights and buffers of the state that --rewind names."""
    state = read_state(config.rewind, device)
    try:
        model.load_state_dict(state["model"])
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{config.rewind} holds no weights of this network") from None


def read_state(path, device):
    """A kept state of a training run; UserError if it is none."""
    state = checkpoints.read(path, device)
    try:
        _gammas(state["optimizer"])
        if isinstance(state["model"], dict):
            return state
    except (LookupError, TypeError, ValueError, AttributeError):  # another program's, of any form
        pass
    raise UserError(f"{path} holds no state of a training run")


def _gammas(state):
    """dict of parameter name -> Γ, from the state_dict of an optimizer."""
    return {
        name: state["state"][number]["gamma"]
        for group in state["param_groups"]
        for number, name in zip(group["params"], group["param_names"], strict=True)
        if "gamma" in state["state"].get(number, {})
    }
