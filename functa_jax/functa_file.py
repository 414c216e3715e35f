"""What a functa.npz holds: arrays and one JSON string, no pickle; read with NumPy alone."""

import json
from pathlib import Path

import numpy as np

from functa_jax.model.config import ModelConfig
from groundfloor import npz
from groundfloor.errors import UserError


def read(path, build):
    """build(about, arrays) of a run folder or a functa.npz.

    about: dict of config (ModelConfig), resolution (height, width), inner_steps, penalty, metadata;
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
        about["resolution"] = tuple(about["resolution"])
        return build(about, arrays)


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


def sides_of(resolution):
    """(height, width) of a side or of both; UserError for anything else."""
    sides = np.atleast_1d(np.asarray(resolution, object))
    if sides.shape not in ((1,), (2,)):
        raise UserError(f"resolution {resolution}: give a side, or (height, width)")
    return tuple(whole("resolution", side, 1) for side in np.broadcast_to(sides, 2))


def whole(name, value, least):
    """A whole number that is at least `least`; UserError otherwise."""
    if not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name} {value}: must be a whole number, at least {least}")
    return int(value)
