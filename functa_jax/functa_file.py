"""What a functa.npz holds: arrays and one JSON string, no pickle; read with NumPy alone."""

import json
import math
from pathlib import Path

import numpy as np

from functa_jax.model.config import ModelConfig
from groundfloor import npz
from groundfloor.errors import UserError


def read(path, build):
    """build(about, arrays) of a run folder or a functa.npz.

    about: dict of config (ModelConfig), resolution (height, width), inner_steps, penalty, metadata,
    coords, fit_points, lbfgs_steps (as of a Functa);
    arrays: dict such as {"siren/layers/0/kernel": array}. Raises UserError, in one line, if there
    is none, if it is damaged, or if nothing can be built of it.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "functa.npz"
    if not path.exists():
        raise UserError(f"{path} does not exist: not a run of functa_jax, or not begun")
    with npz.reading(path, "a functa") as arrays:
        about = json.loads(str(arrays.pop("about")))
        about["config"] = _model_config(path, about["config"])
        sides = about["resolution"]
        about["resolution"] = None if sides is None else tuple(sides)
        about["coords"] = _coords(about, arrays.pop("coords", None))
        return build(about, arrays)


def _coords(about, coords):
    """The coordinates in a file; ValueError where they are not what its settings ask for."""
    config, sides = about["config"], about["resolution"]
    if config.modality == "images":
        if coords is not None or sides is None or len(sides) != config.inputs:
            raise ValueError("images have a height and a width, and no coordinates")
    elif coords is not None and (coords.ndim != 2 or coords.shape[1] != config.inputs):
        raise ValueError(f"coords have shape {coords.shape}, not (N, {config.inputs})")
    elif sides is not None and (coords is None or math.prod(sides) != len(coords)):
        raise ValueError(f"coords do not fit a lattice of {sides}")
    return coords


def _model_config(path, settings):
    """The ModelConfig of a file's settings; UserError for what earlier versions could do."""
    removed = {"start": settings.pop("encoded_pixels", None)}
    for name, choice in (("update", "matrix"), ("interpolation", "blend")):
        removed[name] = settings.get(name) == choice
    for name in filter(removed.get, removed):
        raise UserError(f"{path} needs an earlier version of functa_jax, for its --{name}")
    if settings.get("picture"):
        settings["picture"] = tuple(settings["picture"])
    return ModelConfig(**settings)


def sides_of(resolution, inputs=2):
    """(height, width), or as many sides as a point has coordinates, of one side or of all;
    UserError for anything else."""
    sides = np.atleast_1d(np.asarray(resolution, object))
    if sides.shape not in ((1,), (inputs,)):
        all_sides = "(height, width)" if inputs == 2 else f"all {inputs}"
        raise UserError(f"resolution {resolution}: give a side, or {all_sides}")
    return tuple(whole("resolution", side, 1) for side in np.broadcast_to(sides, inputs))


def whole(name, value, least):
    """A whole number that is at least `least`; UserError otherwise."""
    if not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name} {value}: must be a whole number, at least {least}")
    return int(value)
