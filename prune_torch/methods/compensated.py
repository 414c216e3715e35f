"""Heads and neurons that go are made up for in closed form, so that no training is needed.

What a block's last matrix W takes in is x, the outputs of its heads or neurons. Groups of x that go
are predicted from those that stay: what is linear in them moves into W, the rest of the means into
its bias. Means and covariances come from training images, eight batches.
"""

import torch

from prune_torch.methods.base import owner
from prune_torch.methods.structured import Structured

RIDGE = 1e-3  # of the covariance's mean diagonal


class OneShot(Structured):
    """Structured pruning by the mean and covariance of what each block's last matrix takes in."""

    rewrites = True

    def __init__(self, cell):
        super().__init__(cell)
        self.moments = None

    def scores(self):
        """One score a group, by weight: what going costs the block's output."""
        return [
            self.costs(self._scaled(names[-1]), self._moments(names[-1])[1], grouping.count)
            / self._weights((names, params, grouping))
            for names, params, grouping in self.blocks
        ]

    def _scaled(self, name):
        """A block's last matrix with what LayerScale multiplies its output by, float64."""
        _, number, branch, *_ = name.split(".")
        block = self.cell.model.blocks[int(number)]
        scale = getattr(block.ls1 if branch == "attn" else block.ls2, "gamma", None)
        weight = self.cell.model.get_parameter(name).detach().double()
        return weight if scale is None else weight * scale.detach().double()[:, None]

    def costs(self, weight, covariance, count):
        """(groups,) of W (rows, columns) and the covariance of its inputs, float64; the columns of
        a group lie together."""
        raise NotImplementedError

    def prediction(self, covariance, kept):
        """A (going, staying): inputs that go are A times those that stay, means apart."""
        raise NotImplementedError

    @torch.no_grad()
    def masks(self, count):
        """Masks as in `Method.masks`; the last matrices and their biases are changed in place."""
        masks = super().masks(count)
        for names, params, _ in self.blocks:
            weight, kept = params[-1], masks[names[-1]][0]
            mean, covariance = self._moments(names[-1])
            going = weight[:, ~kept].double()
            prediction = self.prediction(covariance, kept)
            weight[:, kept] += (going @ prediction).to(weight)
            layer, _ = owner(self.cell.model, names[-1])
            if layer.bias is not None:
                layer.bias += (going @ (mean[~kept] - prediction @ mean[kept])).to(weight)
        return masks

    def _moments(self, name):
        """Mean (columns,) and covariance (columns, columns) of a matrix's inputs, float64."""
        if self.moments is None:
            sums = {}

            def add(matrix, rows):
                rows = rows.double()
                seen = sums.setdefault(matrix, [0, 0.0, 0.0])
                seen[0] += len(rows)
                seen[1] = seen[1] + rows.sum(0)
                seen[2] = seen[2] + rows.mT @ rows

            self.watch_inputs([names[-1] for names, _, _ in self.blocks], add)
            self.moments = {}
            for matrix, (rows, total, gram) in sums.items():
                mean = total / rows
                self.moments[matrix] = (mean, gram / rows - torch.outer(mean, mean))
        return self.moments[name]


class Variance(OneShot):
    """Variance-based pruning (VBP, ICCV 2025, arXiv 2507.12988): the
    neurons of MLPs that vary least go, and their means move into the bias."""

    heads = False

    def costs(self, weight, covariance, count):
        return covariance.diagonal()

    def prediction(self, covariance, kept):
        return covariance.new_zeros(int((~kept).sum()), int(kept.sum()))


class Compensated(OneShot):
    """Heads and neurons, those that stay made up by ridge regression (CORP 2026, arXiv 2602.05243).

    A group's cost is what its going adds to the squared error of the block's output, all that stay
    making up for all that went: the cheapest goes first, and then the costs of the others are taken
    anew, since of two copies only one can go for nothing. That is the surgeon's elimination
    (Hassibi and Stork 1993) with the inverse of the damped covariance.
    """

    def costs(self, weight, covariance, count):
        inverse, weight = torch.linalg.inv(damped(covariance)), weight.clone()
        size = len(covariance) // count
        costs, highest = weight.new_full((count,), torch.inf), 0.0
        for _ in range(count):
            own = inverse.unflatten(0, (count, size)).unflatten(2, (count, size))
            own = own.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
            groups = weight.unflatten(1, (count, size)).permute(1, 2, 0)
            now = (groups * torch.linalg.solve(own, groups)).sum((1, 2))
            cheapest = int(now.masked_fill(costs.isfinite(), torch.inf).argmin())
            costs[cheapest] = highest = max(highest, float(now[cheapest]))
            columns = slice(cheapest * size, (cheapest + 1) * size)
            factor = torch.linalg.solve(inverse[columns, columns], inverse[columns])
            weight -= weight[:, columns] @ factor
            inverse -= inverse[:, columns] @ factor
            inverse[columns], inverse[:, columns] = 0.0, 0.0
            inverse[columns, columns] = torch.eye(size).to(inverse)
        return costs

    def prediction(self, covariance, kept):
        whole = damped(covariance)
        return torch.linalg.solve(whole[kept][:, kept], covariance[kept][:, ~kept]).mT


def damped(covariance):
    """With a small multiple of the identity, of any covariance: inputs may be always zero."""
    ridge = float(RIDGE * covariance.diagonal().mean()) or 1.0
    return covariance + ridge * torch.eye(len(covariance)).to(covariance)
