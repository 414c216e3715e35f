"""ISTA unrolled to a few layers whose numbers are learned: LISTA, LISTA-CP, LISTA-CPSS, ALISTA.

Layer k, with b = A x* + noise and η the soft threshold:
lista (Gregor, LeCun 2010)            x ← η(U b + V x; θ)
lista-cp (Chen et al. 2018)           x ← η(x + W'(b − A x); θ), U and V coupled by W
lista-cpss (the same)                 the same with support selection
alista (Liu et al. 2019)              x ← η(x + γ W'(b − A x); θ), W given by `analytic_weight`
U, V, W, γ and θ differ from layer to layer. Support selection, which alista has too, lets the
largest share p of the entries pass the threshold unshrunk. All start as ISTA, alista with γ = 1.
"""

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from optim_torch.robust.ista import analytic_weight

KINDS = ("lista", "lista-cp", "lista-cpss", "alista")


def soft(v, threshold):
    """Soft threshold of v."""
    return v - v.clamp(-threshold, threshold)


class Unrolled(nn.Module):
    """Layers of learned numbers, one after the other, from zero; state: what a layer hands on."""

    def start(self, b):
        """The state before the first layer."""
        return b.new_zeros(len(b), self.A.shape[1])

    def code(self, state):
        """x of a state."""
        return state

    def forward(self, b):
        """b (batch, m) to x (batch, n)."""
        state = self.start(b)
        for k in range(self.layers):
            state = self.layer(k, state, b)
        return self.code(state)

    @torch.no_grad()
    def codes(self, b):
        """x after 0, 1, ... layers (layers + 1, batch, n); a mask of ones (layers, batch)."""
        states = [self.start(b)]
        for k in range(self.layers):
            states.append(self.layer(k, states[-1], b))
        taken = torch.ones(self.layers, len(b), dtype=torch.bool)
        return torch.stack([self.code(state) for state in states]), taken


class UnrolledISTA(Unrolled):
    """Layers of one of KINDS; the state is x.

    penalty: λ of the ISTA that it starts as, and of the safeguard. support: shares of entries that
    pass unshrunk in a layer, more by that much in each layer, and at most; the field's are 1.2 %
    and 13 % at a density of 10 %.
    """

    def __init__(self, A, kind, layers=16, penalty=0.1, support=(0.012, 0.13)):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: must be one of {', '.join(KINDS)}")
        self.kind, self.layers, self.penalty = kind, layers, penalty
        self.support = support if kind in ("lista-cpss", "alista") else (0, 0)
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
        elif kind != "alista":
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
        if safeguard is None:
            return super().codes(b)
        x = self.start(b)
        limit = (x - self.ista_step(x, b)).norm(dim=1)
        codes, taken = [x], []
        for k in range(self.layers):
            learned = self.layer(k, x, b)
            good = (learned - self.ista_step(learned, b)).norm(dim=1) <= safeguard * limit
            limit = torch.where(good, safeguard * limit, limit)
            x = torch.where(good[:, None], learned, self.ista_step(x, b))
            codes.append(x)
            taken.append(good)
        return torch.stack(codes), torch.stack(taken)


def train(model, sample, *, pool=6400, batch=128, steps=200, joint=300, rate=1e-3):
    """Minimise E‖x̂ − x*‖²: layer by layer, then all together at a third of `rate`.

    Each layer begins with the numbers of the one before it and is trained alone, `steps` batches of
    a new pool of codes that have gone through the layers below once (Chen et al. 2018 train all
    layers below again with each new one, for longer). joint: steps of all, on new codes. Rates
    fall to a twentieth along a cosine. sample(count): new (x*, b). Returns the model.
    """
    for k in range(model.layers):
        own = _numbers_of(model, k)
        if k > 0:
            with torch.no_grad():
                for number, before in zip(own, _numbers_of(model, k - 1), strict=True):
                    number.copy_(before)
        truth, b = sample(pool)
        with torch.no_grad():
            below = model.start(b)
            for j in range(k):
                below = model.layer(j, below, b)
        for step in _steps(own, steps, rate):
            rows = torch.randint(pool, (batch,))
            step(model.code(model.layer(k, below[rows], b[rows])), truth[rows])
    for step in _steps([*model.parameters()], joint, rate / 3):
        truth, b = sample(batch)
        step(model(b), truth)
    return model


def _numbers_of(model, k):
    return [number for name, number in model.named_parameters() if name.endswith(f".{k}")]


def _steps(numbers, count, rate):
    """Yield, `count` times, a function of (estimate, truth) that takes a step of Adam."""
    optimizer = torch.optim.Adam(numbers, lr=rate)
    schedule = CosineAnnealingLR(optimizer, max(count, 1), eta_min=rate / 20)

    def step(estimate, truth):
        optimizer.zero_grad(set_to_none=True)
        ((estimate - truth) ** 2).sum(dim=1).mean().backward()
        optimizer.step()
        schedule.step()

    for _ in range(count):
        yield step
