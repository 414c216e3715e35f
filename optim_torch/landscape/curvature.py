"""How curved is the loss? Hessian-vector products, the largest eigenvalue, batch sharpness.

Gradient descent with rate η cannot stay where the largest eigenvalue λ of the loss's Hessian H is
above 2 / η; full-batch training drives λ up to that edge and then hovers there (Cohen et al. 2021,
arXiv 2103.00065). For small batches it is the batch sharpness g'Hg / |g|², H and g of one batch,
that comes to 2 / η (Andreyev and Beneventano 2024, arXiv 2412.20553): the limit of the effective
β-smoothness of `probe` at length 0. For Adam the edge is that of P^-1/2 H P^-1/2, with its
preconditioner P, at (2 + 2 β1) / ((1 - β1) η) (Cohen et al. 2022, arXiv 2207.14484).
"""

import math

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch.nn.attention import SDPBackend, sdpa_kernel

from optim_torch.landscape.evaluating import as_found, mean_loss, trainable


class Hessian:
    """The Hessian of the mean loss over some batches, by the parameters that need a gradient.

    model, loss_fn, batches: as `probe` takes them, a list of batches; each counts by its number of
    inputs, and BatchNorm sees each by itself. The model is in training mode inside, and is left as
    it was: weights, .grad, buffers, modes and random state. size: how many parameters there are.
    """

    def __init__(self, model, loss_fn, batches):
        self.model, self.loss_fn, self.batches = model, loss_fn, list(batches)
        self.parameters = list(trainable(model).values())
        self.size = sum(p.numel() for p in self.parameters)
        counts = [len(inputs) for inputs, _ in self.batches]
        self.shares = [count / sum(counts) for count in counts]

    def product(self, vector):
        """H v: a list of tensors like the parameters, for such a list."""
        total = [torch.zeros_like(p) for p in self.parameters]
        for share, batch in zip(self.shares, self.batches, strict=True):
            # Of fused attention no second derivative is known.
            with as_found(self.model), sdpa_kernel(SDPBackend.MATH):
                loss = mean_loss(self.model, self.loss_fn, batch)
                gradients = torch.autograd.grad(
                    loss, self.parameters, create_graph=True, materialize_grads=True
                )
                pairs = zip(gradients, vector, strict=True)
                along = sum((g.to_dense() * v).sum() for g, v in pairs)
                if along.requires_grad:  # a linear loss has no curvature
                    products = torch.autograd.grad(along, self.parameters, materialize_grads=True)
                    torch._foreach_add_(total, products, alpha=share)
        return total

    def largest(self, *, tolerance=1e-2, scale=None, seed=0):
        """The largest eigenvalue, or that of S H S for S the diagonal matrix of `scale`.

        By ARPACK's restarted Lanczos method; tolerance: relative. scale: list of tensors like the
        parameters. seed: of the vector it starts with. nan where numbers are not finite.
        """
        if self.size == 1:
            ones = [torch.ones_like(p) for p in self.parameters]
            ones = ones if scale is None else scale
            image = self.product(ones)
            return float(sum((a * b).sum() for a, b in zip(ones, image, strict=True)))
        kind = torch.promote_types(torch.float32, self.parameters[0].dtype)
        dtype = np.float64 if kind == torch.float64 else np.float32

        def product(flat):
            vector = self._unflat(flat)
            if scale is not None:
                vector = torch._foreach_mul(vector, scale)
            image = self.product(vector)
            if scale is not None:
                image = torch._foreach_mul(image, scale)
            whole = torch.cat([part.flatten() for part in image]).cpu().to(kind).numpy()
            if not np.isfinite(whole).all():
                raise FloatingPointError
            return whole

        start = np.random.default_rng(seed).normal(size=self.size).astype(dtype)
        operator = LinearOperator((self.size, self.size), product, dtype=dtype)
        try:
            values = eigsh(
                operator, 1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False
            )
        except FloatingPointError:
            return math.nan
        except ArpackNoConvergence as error:
            values = error.eigenvalues if len(error.eigenvalues) else [math.nan]
        except ArpackError:
            if product(start).any():
                raise
            return 0.0  # there is no curvature
        return float(values[0])

    def _unflat(self, flat):
        flat = torch.from_numpy(np.ascontiguousarray(flat)).to(self.parameters[0])
        parts = flat.split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]


def batch_sharpness(model, loss_fn, batch):
    """g'Hg / |g|² of one batch, the curvature along its gradient; nan where the gradient is 0."""
    hessian = Hessian(model, loss_fn, [batch])
    with as_found(model):
        loss = mean_loss(model, loss_fn, batch)
        gradient = torch.autograd.grad(loss, hessian.parameters, materialize_grads=True)
    gradient = [part.to_dense() for part in gradient]
    square = sum((part.double() ** 2).sum() for part in gradient).item()
    image = hessian.product(gradient)
    along = sum((a.double() * b.double()).sum() for a, b in zip(gradient, image, strict=True))
    return along.item() / square if square else math.nan


def adam_scale(optimizer, parameters):
    """P^-1/2 of an Adam optimizer that has taken a step: one tensor for each of `parameters`.

    P = (1 - β1^t) (sqrt(v / (1 - β2^t)) + ε), as in Cohen et al. 2022, equation 2.
    """
    scales = {}
    for group in optimizer.param_groups:
        beta1, beta2 = group["betas"]
        for p in group["params"]:
            if state := optimizer.state.get(p):
                step = float(state["step"])
                root = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt() + group["eps"]
                scales[p] = ((1 - beta1**step) * root).rsqrt()
    return [scales[p] for p in parameters]


def edge(optimizer):
    """What the largest eigenvalue (of P^-1/2 H P^-1/2 for Adam) cannot lastingly exceed.

    2 / η for SGD without momentum, (2 + 2 β1) / ((1 - β1) η) for Adam.
    """
    group = optimizer.param_groups[0]
    if "betas" in group:
        beta = group["betas"][0]
        return (2 + 2 * beta) / ((1 - beta) * group["lr"])
    beta = group.get("momentum", 0.0)
    if group.get("nesterov"):
        return (2 + 2 * beta) / ((1 + 2 * beta) * group["lr"])
    return (2 + 2 * beta) / group["lr"]
