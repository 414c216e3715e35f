"""OWL (Yin et al., ICML 2024, arXiv 2310.05175): blocks with more outliers keep more weights."""

import torch

from prune_torch.methods.sparsegpt import SparseGPT
from prune_torch.methods.wanda import Wanda

OUTLIER = 5.0  # times the mean of a matrix's scores
REACH = 0.08  # by which a block's density is at most away from the mean
LEAST = 0.01  # a block's density, before all are brought to the level


class OutlierWeighed:
    """Before a layerwise method: densities by the share of outliers instead of one for all.

    A weight's score is Wanda's |w_ij| * ||x_j||, an outlier a score of more than OUTLIER times the
    mean of its matrix. Shares of blocks are stretched to a range of 2 REACH about their mean.
    """

    def layer_densities(self, count):
        shares = outlier_shares(self.cell.parameters, self.input_squares())
        return densities(shares, count / sum(self.sizes().values()))


def outlier_shares(parameters, squares):
    """dict of name -> share of outliers, the same for all matrices of a block.

    squares: dict of name -> (columns,), sums of squares of a matrix's inputs.
    """
    found, sizes = {}, {}
    for name, parameter in parameters.items():
        scores = parameter.detach().abs().flatten(1) * squares[name].sqrt()
        block = _block(name)
        found[block] = found.get(block, 0) + int((scores > OUTLIER * scores.mean()).sum())
        sizes[block] = sizes.get(block, 0) + scores.numel()
    return {name: found[_block(name)] / sizes[_block(name)] for name in parameters}


def densities(shares, level):
    """dict of name -> density: `level` and the share's distance from the mean, stretched."""
    values = torch.tensor(list(shares.values()), dtype=torch.float64)
    width = float(values.max() - values.min())
    stretched = 2 * REACH * (values - values.mean()) / width if width else values - values.mean()
    return dict(zip(shares, (level + stretched).clamp_min(LEAST * level).tolist(), strict=True))


def _block(name):
    """blocks.3.mlp.fc1.weight -> blocks.3; patch embedding and head are their own."""
    return ".".join(name.split(".")[:2])


class WandaOWL(OutlierWeighed, Wanda):
    """Wanda at the densities of OWL."""


class SparseGPTOWL(OutlierWeighed, SparseGPT):
    """SparseGPT at the densities of OWL."""
