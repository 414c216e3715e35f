"""Functions of one's own in a .npz file (modalities/files.py has its form), and values' scale."""

import hashlib
import sys
from dataclasses import replace

import numpy as np

from functa_jax.images.signals import HIGHEST, LOWEST
from groundfloor import npz
from groundfloor.data.arrays import classes, refuse_two_kinds
from groundfloor.data.functions import Functions
from groundfloor.data.split import PARTS, SPLIT_SEED
from groundfloor.errors import UserError

FAR = 10.0  # coordinates, where the first layer turns too fast


def read(path):
    """("functions", {part: (Functions, keys)}, lattice or None, scale or None) of a file."""
    with npz.reading(path, "a file of functions") as arrays:
        refuse_two_kinds(path, arrays, "values")
        prefixes = {part: f"{part}_" for part in PARTS if f"{part}_values" in arrays}
        if "values" in arrays:
            prefixes = {"train": ""}
        if "train" not in prefixes:
            raise UserError(
                f"{path} holds {', '.join(arrays) or 'nothing'}; values and coords are needed"
            )
        found = {part: _checked(path, arrays, prefix) for part, prefix in prefixes.items()}
        for name in ("labels", "mask"):
            have = [part for part, columns in found.items() if columns[name] is not None]
            if have and len(have) < len(found):
                raise UserError(f"{path} has {name} of {', '.join(have)} alone; give all or none")
        scale = scale_of(path, found["train"]["values"], found["train"]["mask"])
        _check_alike(path, found, scale)
        parts, first = {}, 0
        for part, columns in found.items():
            ids_from = 0 if part == "test" else first
            parts[part] = functions_of(path, columns, scale, ids_from)
            first += len(columns["values"])
    shapes = {(s.values.shape[1:], s.coords.shape[-1], s.shared) for s, _ in parts.values()}
    if len(shapes) > 1:
        raise UserError(f"{path}: its splits differ in points, dimensions or channels")
    train = parts["train"][0]
    if any(s.shared and not np.array_equal(s.coords, train.coords) for s, _ in parts.values()):
        raise UserError(
            f"{path}: its splits have other points each; give coords of every function, "
            "(n, points, d)"
        )
    return "functions", parts, _lattice(train.coords) if train.shared else None, scale


def _check_alike(path, found, scale):
    """UserError where splits would not be scaled alike: bytes or bool in some alone, or values far
    from [0, 1] where train has none."""
    types = sorted({str(columns["values"].dtype) for columns in found.values()})
    if len(types) > 1 and {"uint8", "bool"} & set(types):
        raise UserError(f"{path}: values are {' and '.join(types)}; give one type")
    if scale is not None or types[0] in ("uint8", "bool"):
        return
    for part, columns in found.items():
        low, high = float(columns["values"].min()), float(columns["values"].max())
        if not LOWEST <= low <= high <= HIGHEST:
            raise UserError(
                f"{path}: {part}_values go from {low:g} to {high:g}, those of train stay within "
                f"{LOWEST:g} to {HIGHEST:g}; bring all to [0, 1]"
            )


def _checked(path, arrays, prefix):
    """{values (n, N, c), coords, labels, mask} of one split, the last two perhaps None."""
    name = f"{path}: {prefix}values"
    values = arrays[f"{prefix}values"]
    values = values[..., None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape:
        raise UserError(f"{name} has the shape {values.shape}; (n, points, channels) is needed")
    n, points, _ = values.shape
    coords = arrays[f"{prefix}coords"] if f"{prefix}coords" in arrays else arrays["coords"]
    if coords.ndim not in (2, 3) or coords.shape[:-1] not in ((points,), (n, points)):
        raise UserError(
            f"{path}: {prefix}coords has the shape {coords.shape}; ({points}, d) or "
            f"({n}, {points}, d) is needed beside values {values.shape}"
        )
    if not 1 <= coords.shape[-1] <= 6:
        raise UserError(f"{path}: {prefix}coords has {coords.shape[-1]} dimensions; 1 to 6 can be")
    mask = arrays.get(f"{prefix}mask")
    if mask is not None:
        if mask.shape != (n, points) or mask.dtype != bool:
            raise UserError(
                f"{path}: {prefix}mask is {mask.dtype} {mask.shape}; bool ({n}, {points}) is needed"
            )
        if not mask.any(1).all():
            raise UserError(f"{path}: {prefix}mask leaves function {mask.any(1).argmin()} no point")
    for column, array in (("values", values), ("coords", coords)):
        if array.dtype != bool and not np.issubdtype(array.dtype, np.number):
            raise UserError(f"{path}: {prefix}{column} is {array.dtype}; numbers are needed")
        if np.iscomplexobj(array):
            raise UserError(f"{path}: {prefix}{column} is complex; give parts as channels")
    values = values if mask is None else np.where(mask[..., None], values, values.dtype.type(0))
    if mask is not None and coords.ndim == 3:
        coords = np.where(mask[..., None], coords, coords.dtype.type(0))
    for column, array in (("values", values), ("coords", coords)):
        if not np.isfinite(array).all():
            raise UserError(
                f"{path}: {prefix}{column} is not finite everywhere; a mask can leave points out"
            )
    labels = arrays.get(f"{prefix}labels")
    if labels is not None:
        labels = classes(f"{path}: {prefix}labels", labels, n, "functions")
    return {"values": values, "coords": coords, "labels": labels, "mask": mask}


def functions_of(path, columns, scale, first):
    """(Functions with ids from `first` on, digests of their contents); path: for errors."""
    values = scaled(columns["values"], scale)
    with np.errstate(over="ignore"):  # which is said
        coords = columns["coords"].astype(np.float32)
    if not np.isfinite(coords).all():
        raise UserError(f"{path}: coords are beyond what 32-bit floats can hold")
    _refuse_coarse(path, columns["coords"], coords)
    n, labels, mask = len(values), columns["labels"], columns["mask"]
    # As they are stored: a scale follows all values, and a new extreme would draw all splits anew.
    stored = columns["values"]
    own = [stored, *([coords] if coords.ndim == 3 else []), *([] if mask is None else [mask])]
    keys = [_digest([array[row] for array in own]) for row in range(n)]
    ids = first + np.arange(n, dtype=np.int64)
    if labels is None:
        return Functions(values, coords, np.full(n, -1, np.int64), ids, mask), keys
    order = np.random.default_rng(SPLIT_SEED).permutation(n)  # the first ones are of all classes
    functions = Functions(values, coords, labels, ids, mask).take(order)
    return functions, [keys[row] for row in order]


def _refuse_coarse(path, given, coords):
    """UserError where points of the first function that differ are one as float32; says so where
    coords lie far from the size of one, at which SIRENs learn."""
    first = (array if array.ndim == 2 else array[0] for array in (given, coords))
    before, after = (len(np.unique(points, axis=0)) for points in first)
    if after < before:
        raise UserError(
            f"{path}: {before:,} points become {after:,} as 32-bit floats; bring coords to [-1, 1]"
        )
    low, high = float(coords.min()), float(coords.max())
    if max(-low, high) > FAR or high - low < 1 / FAR:
        print(
            f"{path}: coords go from {low:g} to {high:g}; networks learn best on [-1, 1]",
            file=sys.stderr,
        )


def _digest(arrays):
    return hashlib.sha256(b"".join(map(np.ndarray.tobytes, arrays))).digest()


def scale_of(what, values, mask=None):
    """(offset, factor) that bring the values of train to [0, 1]; None where they stay."""
    if values.dtype == np.uint8 and 0 < values.max(initial=0) <= 1:  # a segmentation, as a rule
        print(f"{what}: bytes of 0 and 1 become 0 and 1", file=sys.stderr)
        return 0.0, 1.0
    if values.dtype in (np.uint8, bool):
        return None
    counted_values = values if mask is None else values[mask]
    low, high = float(counted_values.min()), float(counted_values.max())
    if np.issubdtype(values.dtype, np.floating) and LOWEST <= low <= high <= HIGHEST:
        return None
    if not low < high or not np.isfinite(high - low):
        raise UserError(f"{what}: values go from {low:g} to {high:g}: nothing to learn")
    print(f"{what}: values from {low:g} to {high:g} become 0 to 1", file=sys.stderr)
    return low, 1 / (high - low)


def scaled(values, scale):
    """uint8, or float32."""
    if values.dtype == bool:
        return 255 * values.astype(np.uint8)
    if values.dtype == np.uint8 and scale is None:
        return values
    if scale is None:
        return values.astype(np.float32)
    return ((values.astype(np.float64) - scale[0]) * scale[1]).astype(np.float32)


def rescaled(data, scale):
    """A FunctionSet by another scale; `scale` and that of the data may be None."""
    if scale == data.scale:
        return data
    offset, factor = data.scale or (0.0, 1.0)
    splits = {}
    for part in PARTS:
        split = getattr(data, part)
        given = split.values.astype(np.float64) / factor + offset
        splits[part] = replace(split, values=scaled(given, scale))
    return replace(data, **splits, scale=scale)


def _lattice(coords):
    """Sides of the regular lattice whose points coords (N, d) are, in C order; None if of none."""
    axes = [np.unique(column) for column in coords.T]
    sides = tuple(map(len, axes))
    if np.prod(sides, dtype=float) != len(coords):
        return None
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(coords.shape)
    return sides if np.array_equal(points, coords) else None
