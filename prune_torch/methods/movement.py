"""Movement pruning (Sanh et al. 2020): learn which weights to keep while they are trained."""

import torch
from torch.nn.utils import parametrize

from prune_torch.methods.base import Method, owner

SCORE_RATE = 1e-2


class Masked(torch.nn.Module):
    """A weight times its mask; the score gets the gradient of the mask (straight-through)."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.nn.Parameter(scores)
        self.register_buffer("mask", torch.ones_like(scores))

    def forward(self, weight):
        return weight * (self.mask + self.scores - self.scores.detach())


class Scored(Method):
    """Base of the methods that train a score for every weight."""

    share = 0.7

    def initial_scores(self, name, parameter):
        return torch.zeros_like(parameter)

    def optimizer(self):
        self.maskings = {}
        for name, parameter in self.cell.parameters.items():
            masked = Masked(self.initial_scores(name, parameter.detach()))
            parametrize.register_parametrization(*owner(self.cell.model, name), masked)
            self.maskings[name] = masked
        optimizer = self.weights_optimizer()
        scores = [masked.scores for masked in self.maskings.values()]
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if not any(p is s for s in scores)]
        # No decay: masks then depend on the scores' differences alone (sparsity.md, section 8).
        optimizer.add_param_group({"params": scores, "lr": SCORE_RATE, "weight_decay": 0.0})
        return optimizer

    def weights_optimizer(self):
        return super().optimizer()

    def scores(self):
        return {name: masked.scores.detach() for name, masked in self.maskings.items()}

    def finish(self):
        self.final = self.scores()
        for name in self.maskings:
            layer, tensor = owner(self.cell.model, name)
            parametrize.remove_parametrizations(layer, tensor, leave_parametrized=False)
        self.cell.parameters = {
            name: self.cell.model.get_parameter(name) for name in self.cell.parameters
        }

    def masks(self, count):
        return self.top_masks(self.final, count)


class MovementHard(Scored):
    """The largest scores stay; their number falls by a cubic."""

    def after_step(self, step):
        scores = self.scores()
        for name, mask in self.top_masks(scores, round(self.wanted(step))).items():
            self.maskings[name].mask.copy_(mask)


class MovementSoft(Scored):
    """Scores above a threshold stay; a penalty on their sigmoids pushes them down.

    The threshold follows the number that the cubic wants, as fast as scores can move. Masks see
    the difference of scores and threshold alone, so this is the penalty with a way back.
    """

    strength = 1e-3  # of the penalty

    def start(self, optimizer):
        self.cut = -SCORE_RATE

    def loss(self, model, batch):
        sizes = sum(masked.scores.numel() for masked in self.maskings.values())
        kept = sum(torch.sigmoid(masked.scores).sum() for masked in self.maskings.values())
        return super().loss(model, batch) + self.strength * kept / sizes

    def after_step(self, step):
        scores = self.scores()
        masks = self.allowed({name: score > self.cut for name, score in scores.items()})
        kept = sum(int(mask.sum()) for mask in masks.values())
        self.cut += SCORE_RATE if kept > self.wanted(step) else -SCORE_RATE
        for name, score in scores.items():
            self.maskings[name].mask.copy_(score > self.cut)


class Supermask(Scored):
    """Edge-popup (Ramanujan et al. 2020): the weights are frozen, the scores alone are trained."""

    def initial_scores(self, name, parameter):
        return parameter.abs()

    def weights_optimizer(self):
        for parameter in self.cell.model.parameters():
            parameter.requires_grad_(False)
        for masked in self.maskings.values():
            masked.scores.requires_grad_(True)
        empty = torch.nn.Parameter(torch.zeros(()))
        return torch.optim.AdamW([empty], lr=self.cell.rate)

    def after_step(self, step):
        for name, mask in self.top_masks(self.scores(), self.cell.count).items():
            self.maskings[name].mask.copy_(mask)

    def finish(self):
        for parameter in self.cell.model.parameters():
            parameter.requires_grad_(True)
        super().finish()
