"""DeepMind's model, written in haiku from its published definition in experiments/haiku_functa.py,
with weights, files and names for the tests of functa_jax.deepmind."""

from functools import partial
from pathlib import Path

import dill
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from experiments import haiku_functa
from experiments.haiku_functa import LATENT, MAP, RATES, with_latent
from functa_jax.deepmind import load_weights
from groundfloor.errors import UserError

ROOT = Path(__file__).parents[3]
SIDE, STEPS = 6, 3
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
MODEL = {  # the names of DeepMind's config
    "type": "latent_modulated_siren",
    "w0": 20.0,
    "width": 8,
    "depth": 3,
    "latent_dim": 5,
    "modulate_scale": False,
    "modulate_shift": True,
    "layer_sizes": (),
    "latent_init_scale": 0.0,
    "use_meta_sgd": True,
    "l2_weight": 0.0,
    "noise_std": 0.0,
}


def haiku_model(model=MODEL, channels=3):
    return haiku_functa.haiku_model(model, channels)


def their_grid(side=SIDE):
    axis = np.linspace(0.5 / side, 1 - 0.5 / side, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def their_images(model, params, latents):
    """Colours (n, N, C) of latents (n, L)."""
    net = haiku_model(model)
    decode = jit(jax.vmap(lambda z: net.apply(with_latent(params, z), their_grid())))
    return decode(latents)


def table(width, depth, latents, channels, per_unit=1, rates=True):
    """{module: {leaf: shape}} as in the table of reference/functa.md, section 1.5."""
    root, shifts = "latent_modulated_siren", per_unit * (depth - 1) * width
    layers = {f"{root}/modulated_siren_layer/linear": {"w": (2, width), "b": (width,)}}
    for i in range(1, depth - 1):
        layers[f"{root}/modulated_siren_layer_{i}/linear"] = {"w": (width, width), "b": (width,)}
    layers[f"{root}/modulated_siren_layer_{depth - 1}/linear"] = {
        "w": (width, channels),
        "b": (channels,),
    }
    return {
        LATENT: {"latent_vector": (latents,)},
        **({RATES: {"meta_sgd_lrs": (latents,)}} if rates else {}),
        MAP: {"w": (latents, shifts), "b": (shifts,)},
        **layers,
    }


def shapes(params):
    return jax.tree.map(np.shape, params)


def settings_of(**changes):
    return {**MODEL, **changes}


def haiku_shapes(model=MODEL, channels=3, points=2):
    net = haiku_model(model, channels)
    return shapes(jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, points))))


def weights(model=MODEL, channels=3, seed=0, points=2):
    """Haiku parameters with nothing at zero but the latent, rates from -0.5 to 1.5."""
    random = np.random.default_rng(seed)
    params = {}
    for module, leaves in haiku_shapes(model, channels, points).items():
        fan_in = leaves.get("w", (1,))[0]
        bound = 1 / fan_in if fan_in == points else (6 / fan_in) ** 0.5 / model["w0"]
        draws = {
            "w": lambda shape, b=1.0 if module == MAP else bound: random.uniform(-b, b, shape),
            "b": lambda shape: random.normal(0, 0.03, shape),
            "meta_sgd_lrs": lambda shape: random.permutation(np.linspace(-0.5, 1.5, *shape)),
            "latent_vector": np.zeros,
        }
        params[module] = {leaf: jnp.float32(draws[leaf](shape)) for leaf, shape in leaves.items()}
    return params


def config_of(model=MODEL, channels=3, **sections):
    return {
        "dataset": {"name": "celeb_a", "num_channels": channels, "resolution": SIDE},
        "model": dict(model),
        "training": {"inner_steps": STEPS},
        "opt_inner": {"lr": 2**-6},
        **sections,
    }


def written(path, params, config, dump=dill.dumps):
    path.write_bytes(dump({"params": params, "config": config}))
    return path


def imported(path, model=MODEL, channels=3, seed=0):
    """(functa, haiku parameters) of one model, by way of a dill file."""
    params = weights(model, channels, seed)
    return load_weights(written(path, params, config_of(model, channels))), params


def images(count=4, channels=3, seed=1):
    shape = (count, SIDE, SIDE, channels)
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def pairs(depth, rates=True):
    """Our parameter names and theirs: (module, leaf)."""
    named = {"latent_map": MAP}
    for i in range(depth):
        number = f"_{i}" if i else ""
        named[f"siren/layers/{i}"] = f"latent_modulated_siren/modulated_siren_layer{number}/linear"
    found = {
        f"{ours}/{leaf}": (theirs, leaf_of_theirs)
        for ours, theirs in named.items()
        for leaf, leaf_of_theirs in (("kernel", "w"), ("bias", "b"))
    }
    return {**found, **({"inner_rate": (RATES, "meta_sgd_lrs")} if rates else {})}


VARIANTS = {
    "shift": settings_of(),
    "scale_shift": settings_of(modulate_scale=True),
    "constant_rate": settings_of(use_meta_sgd=False),
    "penalty": settings_of(l2_weight=0.25),
}
variants = pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS)


def as_config_dict(config):
    found = config_dict.ConfigDict(config)
    found.model.width = config_dict.FieldReference(found.model.width)
    found.model.also_width = found.model.get_ref("width")
    return found


def flat_map(params):
    return hk.data_structures.to_immutable_dict(params)


def refusal(function, path, *args):
    """The one line that `function` refuses the file with."""
    with pytest.raises(UserError) as caught:
        function(path, *args)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and message.isprintable()
    return message


def without(params, module):
    return {name: leaves for name, leaves in params.items() if name != module}
