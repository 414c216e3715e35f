"""The base optimizer of a DessiLBI optimizer: made, and shown only what it can work with."""

import contextlib
import inspect

import torch

OWN_STATE = ("v", "gamma", "entry", "v_exp_avg", "v_exp_avg_sq", "v_step")


def make(kind, param_groups, options):
    """A torch optimizer of the class `kind`; ValueError if it cannot be the base of DessiLBI."""
    try:
        inspect.signature(kind).bind(param_groups, **options)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None
    base = kind([dict(group) for group in param_groups], **options)
    if isinstance(base, torch.optim.LBFGS):
        raise ValueError("LBFGS calls the closure many times a step and cannot be the base")
    return base


def make_dense(base, param_groups, gradients):
    """Turn sparse gradients into dense ones, the old ones kept in `gradients` by parameter.

    W moves at every entry by the coupling, and most bases take no sparse gradients.
    """
    if not isinstance(base, torch.optim.SparseAdam):
        for parameter in (p for group in param_groups for p in group["params"]):
            if parameter.grad is not None and parameter.grad.is_sparse:
                gradients[parameter] = parameter.grad
                parameter.grad = parameter.grad.to_dense()


@contextlib.contextmanager
def without_own(state):
    """Inside, V, Γ and their like are not in the state: the base works on it.

    Many optimizers set up a parameter only if its state is empty.
    """
    own = [
        (entry, {key: entry.pop(key) for key in OWN_STATE if key in entry})
        for entry in state.values()
    ]
    try:
        yield
    finally:
        for entry, values in own:
            entry.update(values)
