"""Record the path: norms of groups of W and of Γ against time.

recorder = Recorder({"conv3.weight": model.conv3.weight}, "filter")
for epoch in range(80):
    ...
    recorder.record(epoch, optimizer)
recorder.save("path.npz")
"""

import numpy as np
import torch

from groundfloor import npz
from optim_torch.dessilbi import groups


class Recorder:
    """Group norms of a few tensors, one row each time `record` is called.

    parameters: dict of name -> tensor. penalty: how each is divided (groups.partition; not "none").
    chosen: dict of name -> indices of the groups to record; without a name, all of its groups
        (entries of a matrix are counted row by row).
    It works for any torch optimizer; Γ is recorded where there is one. `state_dict` and
    `load_state_dict` make it resumable.
    """

    def __init__(self, parameters, penalty="auto", chosen=None):
        self.parameters, self.chosen = parameters, chosen or {}
        self.groupings = {}
        for name, parameter in parameters.items():
            partition = groups.partition(penalty, [parameter])
            if not partition:
                raise ValueError(f"penalty {penalty!r} makes no groups of {name}")
            self.groupings[name] = partition[0][1]
        self.rows = []

    @torch.no_grad()
    def record(self, time, optimizer):
        """Append the norms at `time` (epochs, steps, or V's clock)."""
        row = {"time": float(time)}
        for name, parameter in self.parameters.items():
            grouping, state = self.groupings[name], optimizer.state.get(parameter, {})
            gamma = state.get("gamma", torch.zeros_like(parameter))
            for kind, tensor in (("w", parameter), ("gamma", gamma)):
                norms = grouping.norms([tensor]).flatten()
                if name in self.chosen:
                    norms = norms[torch.as_tensor(self.chosen[name], device=norms.device)]
                row[f"{kind}/{name}"] = norms.float().cpu()
        self.rows.append(row)

    def arrays(self):
        """time (T,), and w/NAME, gamma/NAME (T, G) float32: the norms of the groups."""
        if not self.rows:
            return {"time": np.zeros(0)}
        return {key: np.stack([np.asarray(row[key]) for row in self.rows]) for key in self.rows[0]}

    def save(self, path):
        """Write `arrays()` as .npz, whole or not at all."""
        npz.write(path, self.arrays(), compressed=True)

    def state_dict(self):
        """All rows: tensors and numbers, fit for torch.save and weights_only loading."""
        return {"rows": list(self.rows)}

    def load_state_dict(self, state):
        """Go on after the rows of `state`; those of other tensors are refused (ValueError)."""
        expected = {
            "time",
            *(f"{kind}/{name}" for kind in ("w", "gamma") for name in self.parameters),
        }
        lengths = {
            f"w/{name}": len(self.chosen.get(name, self.groupings[name].norms([p]).flatten()))
            for name, p in self.parameters.items()
        }
        first = state["rows"][0] if state["rows"] else None
        if first and (
            set(first) != expected or any(len(first[k]) != n for k, n in lengths.items())
        ):
            raise ValueError("the recorded path is of other tensors")
        self.rows = list(state["rows"])
