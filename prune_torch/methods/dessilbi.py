"""DessiLBI (Fu et al. 2020): one path of Γ gives the masks of all densities."""

import torch

from groundfloor.pytorch import masking
from optim_torch import DessiLBI
from optim_torch.dessilbi import structure
from prune_torch.methods.base import Method, smallest
from prune_torch.protocol import finetune

STARTED = 0.05  # of the weights begin in Γ
SPEED = 0.5  # of V: Γ takes half of what W is ahead in a step; from 2 on it would swing
FORGOTTEN = 0.5  # of an unselected weight's logarithm goes by the end of the search


class DessiLBIPath(Method):
    """AdamW moves W; Γ starts at the largest weights and takes in the others by its own clock.

    The rank of a weight is its time of entry, then |V|. The threshold is such that the weights
    above the smallest twentieth would enter by the end; ν such that the pull to Γ takes half a unit
    from the logarithm of weights outside.
    """

    share = 0.5
    one_for_all = True

    def optimizer(self):
        cell = self.cell
        entries = sum(p.numel() for p in cell.parameters.values())
        held = sum(self.sizes().values())
        lowest = smallest(cell.parameters, entries - held + held // 20)
        nu = finetune.total_rate(cell.steps, cell.whole, cell.rate) / FORGOTTEN
        rest = [(n, p) for n, p in cell.model.named_parameters() if n not in cell.parameters]
        decaying = [(n, p) for n, p in rest if p.dim() == 2]  # as of all other methods
        others = [(n, p) for n, p in rest if p.dim() != 2]
        optimizer = DessiLBI(
            [
                {
                    "params": list(cell.parameters.items()),
                    "penalty": "l1",
                    "weight_decay": cell.decay,
                },
                {"params": decaying, "penalty": "none", "weight_decay": cell.decay},
                {"params": others, "penalty": "none", "weight_decay": 0.0},
            ],
            cell.rate,
            base=torch.optim.AdamW,
            nu=nu,
            lr_gamma=SPEED * nu,
            threshold=SPEED * lowest * cell.steps,
        )
        optimizer.warm_start(STARTED * held / entries)
        return optimizer

    def start(self, optimizer):
        self.path = optimizer

    def finish(self):
        """Ranks as scores, so that masks of any density can be made later from a file."""
        order, _ = structure.ranking(self.path)
        scores = -order.argsort().double()
        parameters = self.cell.parameters
        parts = scores.split([p.numel() for p in parameters.values()])
        pairs = zip(parameters.items(), parts, strict=True)
        self.scores = {name: part.view_as(p) for (name, p), part in pairs}

    def search_result(self):
        return self.scores

    def resume(self, result):
        self.scores = result

    def masks(self, count):
        return masking.top_masks(self.scores, count)
