"""ISTA unrolled to a few layers whose numbers are learned: LISTA, LISTA-CPSS, ALISTA.

Layer k, with b = A x* + noise and η the soft threshold:
lista (Gregor, LeCun 2010)            x ← η(U b + V x; θ)
lista-cpss (Chen et al. 2018)         x ← η(x + W'(b − A x); θ), U and V coupled by W
alista (Liu et al. 2019)              x ← η(x + γ W'(b − A x); θ), W given by `analytic_weight`
U, V, W, γ and θ differ from layer to layer. The last two let the largest share p of the entries
pass the threshold unshrunk (support selection). All start as ISTA, ALISTA with γ = 1.
"""

import numpy as np
import torch
from torch import nn

from optim_torch.robust.ista import analytic_weight

KINDS = ("lista", "lista-cpss", "alista")


def soft(v, threshold):
    """Soft threshold of v."""
    return v - v.clamp(-threshold, threshold)


class UnrolledISTA(nn.Module):
    """Layers of one of KINDS; forward: b (batch, m) to x (batch, n).

    penalty: λ of the ISTA that it starts as, and of the safeguard. support: shares of entries that
    pass unshrunk in a layer, more by that much in each layer, and at most; the field's are 1.2 %
    and 13 % at a density of 10 %.
    """

    def __init__(self, A, kind, layers=16, penalty=0.1, support=(0.012, 0.13)):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: must be one of {', '.join(KINDS)}")
        self.kind, self.layers, self.penalty, self.support = kind, layers, penalty, support
        A = np.asarray(A, float)
        self.curvature = np.linalg.norm(A, 2) ** 2
        self.register_buffer("A", torch.tensor(A, dtype=torch.float32))

        def copies(values):
            values = torch.tensor(np.asarray(values), dtype=torch.float32)
            return nn.ParameterList([values.clone() for _ in range(layers)])

        self.thresholds = copies(penalty / self.curvature)
        if kind == "lista":
            self.inputs = copies(A / self.curvature)
            self.states = copies(np.eye(A.shape[1]) - A.T @ A / self.curvature)
        elif kind == "lista-cpss":
            self.weights = copies(A / self.curvature)
        else:
            self.thresholds = copies(penalty)
            self.steps = copies(1.0)
            weight = torch.tensor(analytic_weight(A), dtype=torch.float32)
            self.register_buffer("weight", weight)

    def layer(self, k, x, b):
        """x after layer k."""
        threshold = self.thresholds[k].clamp(min=0)
        if self.kind == "lista":
            return soft(b @ self.inputs[k] + x @ self.states[k].T, threshold)
        residual = b - x @ self.A.T
        if self.kind == "alista":
            v = x + self.steps[k] * (residual @ self.weight)
        else:
            v = x + residual @ self.weights[k]
        each, most = self.support
        count = round(min(each * (k + 1), most) * v.shape[1])
        shrunk = soft(v, threshold)
        if count == 0:
            return shrunk
        size = v.detach().abs()
        least = size.topk(count, dim=1).values[:, -1:]
        return torch.where((size >= least) & (size > threshold), v, shrunk)

    def start(self, b):
        """x before the first layer."""
        return b.new_zeros(len(b), self.A.shape[1])

    def forward(self, b):
        x = self.start(b)
        for k in range(self.layers):
            x = self.layer(k, x, b)
        return x

    def ista_step(self, x, b):
        """T(x), one step of ISTA on the lasso with `penalty`."""
        return soft(x + (b - x @ self.A.T) @ self.A / self.curvature, self.penalty / self.curvature)

    @torch.no_grad()
    def codes(self, b, safeguard=None):
        """x after 0, 1, ... layers (layers + 1, batch, n), and which took the learned step (layers,
        batch); the others took a step of ISTA.

        safeguard: α in [0, 1), or None for none. A sample takes a learned step only if its
        ‖x − T(x)‖ is then at most α times a limit, which α multiplies each time; the limit begins
        with that of x = 0, and steps of ISTA never raise it. So all converge to the lasso's
        solution in the end; 0 is ISTA. Heaton, Chen, Wang, Yin 2023, "Safeguarded learned convex
        optimization" (geometric sequence).
        """
        x = self.start(b)
        limit = (x - self.ista_step(x, b)).norm(dim=1)
        codes, taken = [x], []
        for k in range(self.layers):
            learned, good = self.layer(k, x, b), torch.ones(len(b), dtype=torch.bool)
            if safeguard is not None:
                good = (learned - self.ista_step(learned, b)).norm(dim=1) <= safeguard * limit
                limit = torch.where(good, safeguard * limit, limit)
                learned = torch.where(good[:, None], learned, self.ista_step(x, b))
            x = learned
            codes.append(x)
            taken.append(good)
        return torch.stack(codes), torch.stack(taken)


def train(model, sample, steps=60, joint=300, rate=1e-3):
    """Minimise E‖x̂ − x*‖²: each layer alone, in order, then all together at a tenth of `rate`.

    sample(): a new batch (x*, b). steps: of each layer; joint: of all. Returns the model.
    """
    for k in range(model.layers):
        own = [p for name, p in model.named_parameters() if name.endswith(f".{k}")]
        optimizer = torch.optim.Adam(own, lr=rate)
        for _ in range(steps):
            truth, b = sample()
            with torch.no_grad():
                x = model.start(b)
                for j in range(k):
                    x = model.layer(j, x, b)
            _step(optimizer, model.layer(k, x, b), truth)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate / 10)
    for _ in range(joint):
        truth, b = sample()
        _step(optimizer, model(b), truth)
    return model


def _step(optimizer, estimate, truth):
    optimizer.zero_grad(set_to_none=True)
    ((estimate - truth) ** 2).sum(dim=1).mean().backward()
    optimizer.step()
