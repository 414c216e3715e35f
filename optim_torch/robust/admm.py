"""ADMM for the lasso, and unrolled: layers that learn three numbers each.

With b = A x* + noise and η the soft threshold, of the splitting x = z with the scaled dual u:
x ← (A'A + ρI)⁻¹(A'b + ρ(z − u)), then v ← αx + (1 − α)z + u, z ← η(v; θ), u ← v − z.
θ = λ/ρ and α = 1 is ADMM of ½‖b − Ax‖² + λ‖x‖₁ (Boyd, Parikh, Chu, Peleato, Eckstein 2011, section
6.4; α relaxes it, 3.4.3). Layers with their own ρ, α and θ: Yang, Sun, Li, Xu 2016, "ADMM-Net".
"""

import numpy as np
import torch
from torch import nn

from optim_torch.robust.lista import Unrolled, soft


class UnrolledADMM(Unrolled):
    """Starts as ADMM of the lasso with `penalty` and ρ = 1; the state is z and u, (batch, 2n)."""

    def __init__(self, A, layers=16, penalty=0.1):
        super().__init__()
        self.layers = layers
        left, values, right = np.linalg.svd(np.asarray(A, float), full_matrices=False)
        for name, array in (("A", A), ("left", left), ("values", values), ("right", right)):
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32))

        def copies(value):
            return nn.ParameterList([torch.tensor(value) for _ in range(layers)])

        self.log_couplings = copies(0.0)
        self.relaxations = copies(1.0)
        self.thresholds = copies(float(penalty))

    def start(self, b):
        return b.new_zeros(len(b), 2 * self.A.shape[1])

    def code(self, state):
        return state.chunk(2, dim=1)[0]

    def layer(self, k, state, b):
        """z and u after layer k; the inverse by the singular values of A."""
        z, u = state.chunk(2, dim=1)
        coupling = self.log_couplings[k].exp()
        q = z - u
        p = q @ self.right.T
        solved = (self.values * (b @ self.left) + coupling * p) / (self.values**2 + coupling)
        x = q + (solved - p) @ self.right
        v = self.relaxations[k] * x + (1 - self.relaxations[k]) * z + u
        z = soft(v, self.thresholds[k].clamp(min=0))
        return torch.cat([z, v - z], dim=1)
