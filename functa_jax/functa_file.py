"""What a functa.npz holds: arrays and one JSON string, no pickle; read with NumPy alone."""

import json
from pathlib import Path

import numpy as np

from functa_jax.model.config import ModelConfig
from groundfloor.data.split import first_line
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
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            arrays = {key: file[key] for key in file.files if key != "about"}
        about["config"] = _model_config(path, about["config"])
        about["resolution"] = tuple(about["resolution"])
        return build(about, arrays)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: not a run of functa_jax, or not begun") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except KeyError as error:
        raise UserError(f"{path} is not a functa: {error.args[0]}") from None
    except Exception as error:  # reading a damaged file may raise nearly anything
        raise UserError(f"{path} is damaged or not a functa ({first_line(error)})") from None


def _model_config(path, settings):
    """The ModelConfig of a file's settings; UserError for what earlier versions could do."""
    removed = {"start": settings.pop("encoded_pixels", None)}
    for name, choice in (("update", "matrix"), ("interpolation", "blend")):
        removed[name] = settings.get(name) == choice
    for name in filter(removed.get, removed):
        raise UserError(f"{path} needs an earlier version of functa_jax, for its --{name}")
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
