"""One file, many densities: a network whose weights come with their importance.

    python -m prune_torch.sweep --methods magnitude neurons --elastic
    model = prune_torch.load("runs/prune-digits/neurons-elastic.safetensors", density=0.3)

A method's masks at twenty levels are added up, a byte a weight: importance is the number of levels
that keep it. So `load` at these levels gives the masks of the method, if they are nested; in
between, and of equals, the largest weights. Where groups go, they go whole, the smallest of equals
first, and are cut out. Nothing is trained after that. (After SnapViT, arXiv 2510.17700, which keeps
importances of heads and neurons.)
"""

import json

import torch

from groundfloor.errors import UserError, reading
from groundfloor.pytorch import masking
from prune_torch import compact, density, pack
from prune_torch.methods import METHODS, base
from prune_torch.methods.structured import Structured, group_sums
from prune_torch.network import stored

KEY = "prune_torch.elastic"  # in a file's metadata: JSON of "prunable" and "structured"
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 21))


def unfit(name):
    """Why a method has no elastic file, in words, or None."""
    method = METHODS[name]
    if method.chooses or (method.share and not method.one_for_all):
        return "its search is for one density"
    return "it changes weights for one density" if method.rewrites else None


def of_method(method, kind):
    """Importances of the prunable parameters: dict of name -> uint8 tensor.

    method: on a copy of the dense network, after its search if it has one. kind: what may become
    zero. Levels that the method cannot reach are left out; UserError if there are none.
    """
    cell, sums = method.cell, {n: torch.zeros_like(p) for n, p in method.cell.parameters.items()}
    levels = 0
    for level in LEVELS:
        try:
            cell.count = density.budget(cell.model, level, kind)
        except ValueError:
            continue
        if method.refusal() is None:
            masks, levels = method.masks(cell.count), levels + 1
            for name, total in sums.items():
                total += masks.get(name, 1)
    if not levels:
        raise UserError("no level of an elastic file can be reached by this method")
    return {name: total.to(torch.uint8) for name, total in sums.items()}


def save(model, importances, path, *, prunable="blocks", structured=False):
    """Write a model as `compact.save` does, with importances (dict of name -> uint8 tensor).

    prunable: of density.PRUNABLE. structured: importances are of heads and neurons.
    """
    beside = {f"{name}.importance": tensor for name, tensor in importances.items()}
    facts = json.dumps({"prunable": prunable, "structured": structured})
    metadata = {**compact.description(model), KEY: facts}
    stored.write(path, {**model.state_dict(), **beside}, metadata)


def load(path, level, device="cpu"):
    """The network of an elastic file at a density: round(level * all) parameters are nonzero; if
    it is structured, as many heads and neurons as fit into that stay and the others are cut out,
    with their biases; in evaluation mode.

    Raises UserError, naming the file, for a density that it cannot have (above that of its network,
    too, which may be sparse already) and for files without importances.
    """
    tensors, metadata = pack.opened(path)
    with reading(path, "an elastic network"):
        if KEY not in metadata:
            raise ValueError("it has no importances: only files of --elastic have a density")
        model = compact.rebuilt(tensors, metadata, device)
        facts = json.loads(metadata[KEY])
        parameters = density.prunable(model, facts["prunable"])
        scores = {
            name: _score(tensors[f"{name}.importance"].to(device), parameter)
            for name, parameter in parameters.items()
        }
    try:
        count = density.budget(model, level, facts["prunable"])
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    most = sum(int(parameter.count_nonzero()) for parameter in parameters.values())
    if count > most and not facts["structured"]:
        raise UserError(f"{path}: density {level:g} asks for {count:,} weights, it has {most:,}")
    if not facts["structured"]:
        masking.apply(parameters, masking.top_masks(scores, count))
        return model
    most = max(int(tensors[f"{name}.importance"].max()) for name in parameters)
    needed = sum(one >= level for one in LEVELS[-most:])  # a group of the level above has as much
    masks = Whole(model, parameters, scores, count, needed).masks(count)
    masking.apply(dict(model.named_parameters()), masks)
    return compact.compact(model)


class Whole(Structured):
    """Heads and neurons by the scores of their weights, as in an elastic file."""

    def __init__(self, model, parameters, scores, count, needed):
        """scores: dict of name -> tensor as of `_score`; count: prunable weights that stay; needed:
        importance below which no group stays."""
        held = {name: parameter.detach() != 0 for name, parameter in parameters.items()}
        cell = base.Cell(
            task=None,
            model=model,
            parameters=parameters,
            count=count,
            steps=0,
            whole=0,
            rate=0.0,
            decay=0.0,
            seed=0,
            held=held,
        )
        super().__init__(cell)
        self.given, self.needed = scores, needed

    def chosen(self, scores, count):
        return super().chosen(scores, count) & (scores >= self.needed)

    def scores(self):
        found = []
        for block in self.blocks:
            names, params, grouping = block
            pairs = zip(names, params, strict=True)
            of_weights = [
                self.given[n].clamp(min=0) if n in self.given else torch.zeros_like(p).double()
                for n, p in pairs
            ]
            sizes = torch.tensor(self._sizes(block)).clamp(min=1)
            found.append(group_sums(of_weights, grouping) / sizes.to(of_weights[0]))
        return found


def _score(importance, parameter):
    """Importance first, then |w|, below 1; zeros come last."""
    size = parameter.detach().abs().double()
    return torch.where(size > 0, importance.double() + size / (1 + size), -1.0)
