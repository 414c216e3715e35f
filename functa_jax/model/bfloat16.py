"""Matrix products of bfloat16 operands, summed in float32, that can be differentiated at will.

Units that multiply numbers of 8 significant bits (in GPUs, AMX, avx512_bf16) need both operands in
bfloat16. With casts around `lax.dot_general` a derivative would be the product of a float32 and a
bfloat16 operand, which XLA computes in float32. So this product is a primitive of its own, linear
in each operand, and its transposes, of which all derivatives are made, are such products, too.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def dot_general(lhs, rhs, dimension_numbers, **_):
    """`lax.dot_general` of float32 operands that are rounded to bfloat16; float32.

    Other arguments of `lax.dot_general`, which layers of Flax pass, have no effect. TypeError for
    operands that are not float32.
    """
    if not lhs.dtype == rhs.dtype == jnp.float32:
        raise TypeError(f"operands are {lhs.dtype} and {rhs.dtype}, not float32")
    pairs = tuple(tuple(tuple(map(int, axes)) for axes in pair) for pair in dimension_numbers)
    return _product.bind(lhs, rhs, dimension_numbers=pairs)


def _rounded_product(lhs, rhs, *, dimension_numbers):
    lhs, rhs = lhs.astype(jnp.bfloat16), rhs.astype(jnp.bfloat16)
    return lax.dot_general(lhs, rhs, dimension_numbers, preferred_element_type=jnp.float32)


def _shape(lhs, rhs, *, dimension_numbers):
    product = partial(_rounded_product, dimension_numbers=dimension_numbers)
    return ShapedArray(jax.eval_shape(product, lhs, rhs).shape, jnp.float32)


def _kept(dimensions, contracted, batch):
    """The axes of an operand that are in the product, after those of the batch."""
    return [axis for axis in range(dimensions) if axis not in (*contracted, *batch)]


def _transposed(cotangent, operand, other, contracted, batch, other_first):
    """The cotangent of an operand, (batch, what it keeps, what the other keeps) or with the last
    two in the other order, as a product with the other.

    contracted, batch: pairs of axes, of the operand and of the other.
    """
    kept = _kept(operand.aval.ndim, contracted[0], batch[0])
    kept_of_other = _kept(other.ndim, contracted[1], batch[1])
    first = len(batch[0]) + (0 if other_first else len(kept))
    summed = range(first, first + len(kept_of_other))
    pairs = (summed, kept_of_other), (range(len(batch[0])), batch[1])
    # The axes that were contracted are in the product in the order of the other operand's.
    order = sorted(range(len(contracted[1])), key=contracted[1].__getitem__)
    back = [contracted[0][place] for place in order]
    # Which factor is first: where there is no batch nothing has to be transposed then.
    if back and kept and back[0] < kept[0]:
        found = dot_general(other, cotangent, [pair[::-1] for pair in pairs])
        axes = [*batch[0], *back, *kept]
    else:
        found = dot_general(cotangent, other, pairs)
        axes = [*batch[0], *kept, *back]
    return lax.transpose(found, sorted(range(len(axes)), key=axes.__getitem__))


def _transposed_lhs(cotangent, lhs, rhs, *, dimension_numbers):
    return _transposed(cotangent, lhs, rhs, *dimension_numbers, other_first=False)


def _transposed_rhs(cotangent, lhs, rhs, *, dimension_numbers):
    contracted, batch = (pair[::-1] for pair in dimension_numbers)
    return _transposed(cotangent, rhs, lhs, contracted, batch, other_first=True)


def _mapped(operands, axes, *, dimension_numbers):
    """`jax.vmap` of a product: an axis of one operand is one more that is kept, of both one more of
    the batch."""
    contracted, batch = map(list, dimension_numbers)
    for place, axis in enumerate(axes):
        if axis is not None:
            moved = partial(_moved, axis=axis)
            contracted[place] = tuple(map(moved, contracted[place]))
            batch[place] = tuple(map(moved, batch[place]))
    if None not in axes:
        batch = [(axis, *known) for axis, known in zip(axes, batch, strict=True)]
        return dot_general(*operands, (contracted, batch)), 0
    found = dot_general(*operands, (contracted, batch))
    sizes = (operand.ndim for operand in operands)
    kept = list(map(_kept, sizes, contracted, batch))
    if axes[1] is None:
        return found, len(batch[0]) + kept[0].index(axes[0])
    return found, len(batch[0]) + len(kept[0]) + kept[1].index(axes[1])


def _moved(known, axis):
    """Where an axis of an operand is that got a new one at `axis`."""
    return known + (known >= axis)


_product = Primitive("bfloat16_dot_general")
_product.def_impl(jax.jit(_rounded_product, static_argnames="dimension_numbers"))
_product.def_abstract_eval(_shape)
ad.defbilinear(_product, _transposed_lhs, _transposed_rhs)
batching.primitive_batchers[_product] = _mapped
mlir.register_lowering(_product, mlir.lower_fun(_rounded_product, multiple_results=False))
