"""SparseGPT (Frantar and Alistarh 2023): one-shot pruning by second order, layer by layer."""

import torch

from groundfloor.pytorch import masking
from prune_torch import density
from prune_torch.methods.base import Method

BLOCK = 128  # columns whose mask is chosen at once
DAMPING = 0.01  # of the Hessian's mean diagonal


class SparseGPT(Method):
    """The same density in every matrix; weights that stay make up for those that went.

    Matrices are treated in the order of the network, each with the inputs that the pruned ones
    before it give. A patch embedding is the matrix that acts on flattened patches.
    """

    rewrites = True

    @torch.no_grad()
    def masks(self, count):
        """Masks as in `Method.masks`; the weights that stay are changed in place."""
        parameters, masks = self.cell.parameters, {}
        counts = self.layer_counts(count)
        for name, parameter in parameters.items():
            weight = parameter.flatten(1).double()
            held = self.cell.held.get(name)
            held = None if held is None else held.flatten(1)
            mask = prune(weight, self._gram(name), counts[name], held)
            parameter.copy_(weight.view_as(parameter))
            masks[name] = mask.view_as(parameter)
        return masks

    def _gram(self, name):
        """X^T X (columns, columns), float64, of a matrix's inputs X on some training batches."""
        total = 0.0

        def add(_, rows):
            nonlocal total
            total = total + (rows.mT @ rows).double()

        self.watch_inputs([name], add)
        return total


def inverse_factor(gram):
    """Upper triangular U (columns, columns) with U^T U the inverse of the damped Hessian.

    Damping alone makes room for inputs that are always zero: of weights of one size theirs have
    the least scores, and nothing is moved between them and the others.
    """
    damping = float(DAMPING * gram.diagonal().mean()) or 1.0
    hessian = gram + damping * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True)


def prune(weight, gram, count, held=None):
    """Prune weight (rows, columns) in place by gram (columns, columns), both float64; the mask,
    within `held`, bool, if that is given.

    Every block of columns keeps its share of `count`, by what its removal costs with the columns
    to the left as they are and those to the right free: w^2 / U_jj^2.
    """
    upper = inverse_factor(gram)
    held = torch.ones_like(weight, dtype=torch.bool) if held is None else held
    sizes = {i: int(part.sum()) for i, part in enumerate(held.split(BLOCK, 1))}
    counts = density.shared_out(sizes, dict.fromkeys(sizes, 1.0), count)
    masks = []
    for i, block in enumerate(weight.split(BLOCK, 1)):
        here, right = slice(i * BLOCK, (i + 1) * BLOCK), slice((i + 1) * BLOCK, None)
        own = upper[here, here]
        scores = (block / own.diagonal()).square().where(held[:, here], -torch.inf)
        mask = masking.top_masks({i: scores}, counts[i])[i]
        errors = torch.zeros_like(block)
        for j in range(block.shape[1]):
            errors[:, j] = torch.where(mask[:, j], 0.0, block[:, j] / own[j, j])
            block[:, j:] -= torch.outer(errors[:, j], own[j, j:])
        block[~mask] = 0.0  # exactly, where rounding left something
        weight[:, right] -= errors @ upper[here, right]
        masks.append(mask)
    return torch.cat(masks, 1)
