"""Controls: random masks, random densities of layers, no masks, and a random network."""

import torch

from groundfloor.pytorch import masking
from prune_torch import density
from prune_torch.methods.base import BATCHES, Method, magnitudes

CANDIDATES = 16
FLOOR = 0.05  # the smallest density of a layer that is drawn, before all are brought to the level


class Random(Method):
    """Every set of weights is equally likely."""

    def masks(self, count):
        generator = self.cell.generator()
        scores = {
            name: torch.rand(p.shape, generator=generator, dtype=torch.float64).to(p.device)
            for name, p in self.cell.parameters.items()
        }
        return self.top_masks(scores, count)


class RandomSearch(Method):
    """Random densities of layers, the best of some draws (after Rezaei et al. 2024, arXiv
    2403.08265: a baseline for every rule that chooses densities).

    Each layer keeps its largest weights. The best has the lowest loss on eight training batches.
    """

    @torch.no_grad()
    def masks(self, count):
        parameters, generator = self.cell.parameters, self.cell.generator()
        scores, sizes = magnitudes(parameters), self.sizes()
        best, lowest = None, torch.inf
        for _ in range(CANDIDATES):
            drawn = torch.rand(len(sizes), generator=generator, dtype=torch.float64)
            wanted = dict(zip(sizes, (FLOOR ** (1 - drawn)).tolist(), strict=True))
            masks = density.layer_masks(scores, density.shared_out(sizes, wanted, count))
            pruned = {name: p * masks[name] for name, p in parameters.items()}
            with masking.exchanged(parameters, pruned):
                loss = self.training_loss()
            if loss < lowest:
                best, lowest = masks, loss
        return best

    @torch.no_grad()
    def training_loss(self):
        """Mean loss over some training batches; counted as passes."""
        model, task = self.cell.model.eval(), self.cell.task
        self.passes += BATCHES
        return sum(
            float(task.loss(model, task.batch(self.cell.seed, number))) for number in range(BATCHES)
        )


class Unpruned(Method):
    """All weights stay: what the steps of a cell make of the dense network."""

    chooses = True
    inexact = "weights that are zero by themselves"

    def masks(self, count):
        return {n: torch.ones_like(p, dtype=bool) for n, p in self.cell.parameters.items()}


class NormsOnly(Random):
    """Norms and biases alone are trained, of a random network with random masks (Frankle, Schwab
    and Morcos 2021): what is left if the weights hold nothing."""

    rewrites = True

    def masks(self, count):
        model = self.cell.model
        torch.manual_seed(int(torch.randint(2**31, (), generator=self.cell.generator())))
        model.init_weights()  # timm's own, of everything
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.dim() == 1)
        return super().masks(count)
