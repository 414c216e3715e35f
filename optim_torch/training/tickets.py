"""Lottery tickets: the weights on the support of Γ of another run, trained from the start."""

import torch

from groundfloor import seeds
from groundfloor.errors import UserError
from groundfloor.pytorch import checkpoints
from optim_torch.dessilbi import structure


def ticket_masks(config, model, device):
    """The masks that --ticket holds, or random ones of the same shape, if they fit the model."""
    state = checkpoints.read(config.ticket, device)
    try:
        gammas = _gammas(state["optimizer"])
    except (LookupError, TypeError, ValueError, AttributeError):  # another program's, of any form
        raise UserError(f"{config.ticket} holds no state of a training run") from None
    names = [name for name, _ in model.named_parameters()]
    shapes = {name: p.shape for name, p in model.named_parameters()}
    if not gammas or any(shapes.get(name) != gamma.shape for name, gamma in gammas.items()):
        raise UserError(f"{config.ticket} holds no structure of this network ({', '.join(names)})")
    masks = {name: gamma != 0 for name, gamma in gammas.items()}
    if config.ticket_masks == "random":
        generator = torch.Generator().manual_seed(seeds.fold(config.seed, "ticket"))
        return structure.random_masks(masks, generator)
    return masks


def _gammas(state):
    """dict of parameter name -> Γ, from the state_dict of an optimizer."""
    return {
        name: state["state"][number]["gamma"]
        for group in state["param_groups"]
        for number, name in zip(group["params"], group["param_names"], strict=True)
        if "gamma" in state["state"].get(number, {})
    }
