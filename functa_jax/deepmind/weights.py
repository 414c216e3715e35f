"""DeepMind's files of weights and of modulations, read and written.

Their .npz files (github.com/google-deepmind/functa) are dill pickles, which run code when they
are loaded. Here a pickle is read as plain data, and nothing that it names is ever called.
"""

import hashlib
import json
import pickle
import re
from dataclasses import fields
from pathlib import Path

import numpy as np

from functa_jax.deepmind import safe_pickle
from functa_jax.functaset import Functaset, Latents
from functa_jax.model.config import RayConfig
from groundfloor.errors import UserError, reading
from groundfloor.runs import atomic

KINDS = {"images": "image", "scenes": "scene"}  # our modalities and theirs
RAYS = tuple(f.name for f in fields(RayConfig) if f.name != "ray_points")  # not in their files
ROOT = "latent_modulated_siren"
FILE = "a file of DeepMind's"
START = f"{ROOT}/~/latent_vector/latent_vector"  # where the inner loop starts, (L,)


def load_weights(path):
    """A Functa from DeepMind's weights: shapes from the arrays, the rest from the file's config.

    The rates of the inner loop come as they are, negative or above 1: DeepMind declares a clip
    range but never applies it. l2_weight * sum(z**2) becomes our penalty. If the inner loop
    starts at z0 other than zero, z0 A moves into the map's bias, which leaves images, errors and
    steps unchanged and makes latents z - z0; z0 is kept as metadata["latent_offset"].
    noise_std, noise on fitted latents, is not applied.

    A network of points in space is a scene, whose rays are rendered as DeepMind's are.

    Raises UserError for a damaged or unsafe file, a config that contradicts the arrays, and
    models that functa_jax lacks: scales without shifts, an MLP from latents to shifts.
    """
    with reading(path, FILE):
        return as_functa(*read(path))


def load_modulations(path, functa=None):
    """A Functaset from DeepMind's modulations (n, L): no val, labels -1, ids the rows of a split.

    Latents are as in the file. With `functa`, the weights they were fitted with, they are made
    ready for it (less its latent_offset) and its hash is noted. Raises UserError like
    load_weights.
    """
    with reading(path, FILE):
        return as_functaset(*read(path), functa)


def save_weights(functa, path):
    """Write a Functa as DeepMind's code reads it: one pickle of dicts and NumPy arrays.

    load_weights gives the parameters back bit for bit; metadata, fit_points and lbfgs_steps are
    lost. Raises UserError for what the format cannot express: images that are not square, grids of
    cells, rates of their own for each step, Gauss-Newton steps, rays other than those of their
    scenes.
    """
    from functa_jax.model import siren

    model = functa.config
    plain = not (model.grid or model.step_rates) and model.update == "rates"
    if model.modality not in KINDS or model.decoder != "siren" or not plain:
        raise UserError(
            "DeepMind's format has modulated SIRENs of images and scenes, one latent vector, one "
            "rate per number and gradient steps"
        )
    sides = functa.resolution or functa.metadata.get("picture", (128, 128))
    height, width = sides[-2:]  # of a scene's lattice: views, height, width
    if height != width:
        raise UserError(f"DeepMind's format has square images only, not {height} x {width}")
    for name in RAYS:
        value, only = getattr(model, name), getattr(siren.ModelConfig(1), name)
        if value != only:
            raise UserError(f"DeepMind's scenes have {name} {only} only, not {value}")
    named = {_theirs(name): value for name, value in siren.flatten(functa.params).items()}
    params = {}
    for name, value in {**named, START: np.zeros(model.latent_dim, np.float32)}.items():
        module, leaf = name.rsplit("/", 1)
        params.setdefault(module, {})[leaf] = np.array(value)
    config = {
        "dataset": {
            "name": functa.metadata.get("data"),
            "type": KINDS[model.modality],
            "num_channels": siren.decoder(model).sides(model)[1],
            "resolution": height,
        },
        "model": {
            "type": ROOT,
            "w0": model.w0,
            "width": model.width,
            "depth": model.depth,
            "modulate_scale": model.modulation == "scale_shift",
            "modulate_shift": True,
            "l2_weight": functa.penalty / model.latent_dim,
            "noise_std": 0.0,
            "latent_dim": model.latent_dim,
            "layer_sizes": (),
            "latent_init_scale": 0.0,
            "use_meta_sgd": model.inner_rate is None,
        },
        "opt_inner": {"lr": 1e-2 if model.inner_rate is None else model.inner_rate},
        "training": {"inner_steps": functa.inner_steps},
    }
    if model.modality == "scenes":
        config["dataset"]["num_points_per_ray"] = model.ray_points
    with atomic(path) as temporary:
        temporary.write_bytes(pickle.dumps({"params": params, "config": config}, protocol=4))


def _theirs(name):
    """DeepMind's name of one of our parameters: haiku's module, slash, leaf."""
    if name == "inner_rate":
        return f"{ROOT}/~/meta_sgd_lrs/meta_sgd_lrs"
    module, leaf = name.rsplit("/", 1)
    number = module.removeprefix("siren/layers/")
    layer = f"modulated_siren_layer_{number}".removesuffix("_0") + "/linear"
    map_ = "~/latent_to_modulation/~/mlp/~/linear_0"
    return f"{ROOT}/{map_ if module == 'latent_map' else layer}/{'w' if leaf == 'kernel' else 'b'}"


def as_functa(contents, source):
    import jax

    from functa_jax.functa import Functa
    from functa_jax.model import siren

    params = contents["params"]
    arrays = {f"{name}/{leaf}": params[name][leaf] for name in params for leaf in params[name]}
    config = contents.get("config", {})
    model, data = config.get("model", {}), config.get("dataset", {})
    if model.get("layer_sizes"):
        raise ValueError("its latent map is an MLP (layer_sizes), not one linear map")
    if model.get("modulate_scale") and not model.get("modulate_shift", True):
        raise ValueError("its latents modulate scales only, not shifts")
    start = np.array(arrays.pop(START), np.float64)
    depth = sum(bool(re.search(r"/modulated_siren_layer[^/]*/linear/w$", key)) for key in arrays)
    first, last, latent_map = (
        arrays[_theirs(f"{module}/kernel")]
        for module in ("siren/layers/0", f"siren/layers/{depth - 1}", "latent_map")
    )
    (points, width), (latent_dim, units) = first.shape, latent_map.shape
    if points not in (2, 3):
        raise ValueError(f"it maps {points}-D points, of neither images nor scenes")
    scaled = model.get("modulate_scale", units == 2 * (depth - 1) * width)
    learned = _theirs("inner_rate") in arrays
    ours = siren.ModelConfig(
        channels=3 if points == 3 else last.shape[-1],
        ray_points=int(data.get("num_points_per_ray", 32)),
        inputs=6 if points == 3 else 2,
        modality="scenes" if points == 3 else "images",
        width=width,
        depth=depth,
        latent_dim=latent_dim,
        w0=float(model.get("w0", 30.0)),
        modulation="scale_shift" if scaled else "shift",
        inner_rate=None if learned else float(config.get("opt_inner", {}).get("lr", 1e-2)),
    )
    for name, said in {**model, "channels": data.get("num_channels", last.shape[-1])}.items():
        found = last.shape[-1] if name == "channels" else vars(ours).get(name, said)
        if found != said:
            raise ValueError(f"its config says {name} {said}, its arrays {found}")
    flat = {}
    for name, like in siren.flatten(jax.eval_shape(lambda: siren.init(ours, 0))).items():
        flat[name] = np.array(arrays.pop(_theirs(name)), np.float32, order="C")
        if flat[name].shape != like.shape:
            raise ValueError(f"{_theirs(name)} is {flat[name].shape}, not {like.shape}")
    if arrays:
        raise ValueError(f"it has a parameter too many, {min(arrays)!a}")
    penalty = float(model.get("l2_weight", 0.0)) * latent_dim
    plain = json.loads(json.dumps(config, default=str))
    metadata = {**source, "data": data.get("name"), "deepmind_config": plain}
    if start.any():
        if penalty:
            raise ValueError("its penalty is on z, while its inner loop starts at z0, not zero")
        shift = start @ flat["latent_map/kernel"].astype(np.float64)
        flat["latent_map/bias"] = np.float32(flat["latent_map/bias"] + shift)
        metadata["latent_offset"] = start.tolist()
    resolution = tuple(int(side) for side in np.broadcast_to(data.get("resolution", 64), 2))
    if points == 3:  # of each scene, rays of its own
        metadata["picture"], resolution = resolution, None
    steps = int(config.get("training", {}).get("inner_steps", 3))
    return Functa(ours, siren.unflatten(flat), resolution, steps, penalty, metadata)


def as_functaset(contents, source, functa):
    offset = 0.0
    if functa is not None:
        offset = functa.metadata.get("latent_offset", 0.0)
        source = {**source, "model": vars(functa.config), "checkpoint": functa.hash}

    def split(rows):
        latents, psnr = np.array(rows["modulation"], np.float64), np.float32(rows["psnr"])
        n, size = latents.shape
        if psnr.shape != (n,) or (functa is not None and functa.config.latent_shape != (size,)):
            raise ValueError(f"{latents.shape} latents do not fit the PSNRs, or the weights")
        latents = np.float32(latents - offset)
        return Latents(latents, np.full(n, -1, np.int64), np.arange(n), psnr)

    train, test = split(contents["train"]), split(contents["test"])
    none = Latents(*(column[:0] for column in vars(train).values()))
    mean, std = (getattr(train.latents, name)(0, dtype=np.float64) for name in ("mean", "std"))
    return Functaset(train, none, test, np.float32(mean), np.float32(std), source)


# ---- a pickle as plain data ----


def read(path):
    """(contents, where from): a dict of dicts, lists, numbers, strings and arrays."""
    data = Path(path).read_bytes()
    if data.startswith((b"PK", b"\x93NUMPY")):
        raise ValueError("it is NumPy's own format, not a pickle as DeepMind's files are")
    contents = safe_pickle.loads(data)
    if not isinstance(contents, dict) or not {"params", "train"} & contents.keys():
        raise ValueError("it holds neither weights (params) nor modulations (train)")
    return contents, {"source": Path(path).name, "sha256": hashlib.sha256(data).hexdigest()}
