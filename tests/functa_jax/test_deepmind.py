"""functa_jax.deepmind: DeepMind's model, written in haiku from its published definition in
experiments/haiku_functa.py, must be ours after import, and files from strangers must not run
anything."""

import importlib
import json
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

import dill
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import config_dict

from common.errors import UserError
from experiments import haiku_functa
from experiments.haiku_functa import LATENT, MAP, RATES, with_latent
from experiments.haiku_functa import fit as their_fit
from functa_jax import deepmind, inner_loop, safe_pickle, siren
from functa_jax.deepmind import load_modulations, load_weights, save_weights
from functa_jax.functa import Functa, load
from functa_jax.functaset import load_functaset

ROOT = Path(__file__).parents[2]
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


# ---- the published model, in haiku ----


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


# ---- the same names, shapes and function ----


@variants
def test_names_and_shapes_are_the_published_ones(model, tmp_path):
    per_unit, rates = 1 + model["modulate_scale"], model["use_meta_sgd"]
    expected = table(8, 3, 5, 3, per_unit, rates)
    assert haiku_shapes(model) == expected
    functa, _ = imported(tmp_path / "w", model)
    save_weights(functa, tmp_path / "again")
    assert shapes(pickle.loads((tmp_path / "again").read_bytes())["params"]) == expected


TOTALS = {64: 3_883_651, 128: 4_342_531, 256: 5_260_291, 512: 7_095_811, 1024: 10_766_851}


@pytest.mark.parametrize("latents", TOTALS)
def test_the_released_sizes_have_the_published_counts(latents):
    model = settings_of(width=512, depth=15, latent_dim=latents, w0=30.0)
    theirs = haiku_shapes(model)
    assert theirs == table(512, 15, latents, 3)
    sizes = [np.prod(shape) for leaves in theirs.values() for shape in leaves.values()]
    assert sum(sizes) == TOTALS[latents]
    ours = siren.flatten(
        jax.eval_shape(lambda: siren.init(siren.ModelConfig(3, 512, 15, latents), 0))
    )
    base = sum(leaf.size for name, leaf in ours.items() if name.startswith("siren/"))
    assert base == 3_417_603
    assert sum(leaf.size for leaf in ours.values()) + latents == TOTALS[latents]
    assert {name: theirs[m][leaf] for name, (m, leaf) in pairs(15).items()} == {
        name: leaf.shape for name, leaf in ours.items()
    }


@variants
def test_every_leaf_and_setting_is_taken_over(model, tmp_path):
    functa, params = imported(tmp_path / "w", model, channels=2)
    ours = siren.flatten(functa.params)
    named = pairs(3, model["use_meta_sgd"])
    assert ours.keys() == named.keys()
    for name, (module, leaf) in named.items():
        np.testing.assert_array_equal(ours[name], params[module][leaf], err_msg=name)
    assert functa.config == siren.ModelConfig(
        channels=2,
        width=8,
        depth=3,
        latent_dim=5,
        w0=20.0,
        modulation="scale_shift" if model["modulate_scale"] else "shift",
        inner_rate=None if model["use_meta_sgd"] else 2**-6,
    )
    assert (functa.resolution, functa.inner_steps) == ((SIDE, SIDE), STEPS)
    assert functa.penalty == 5 * model["l2_weight"]
    assert functa.metadata["data"] == "celeb_a"
    assert functa.metadata["deepmind_config"]["model"]["w0"] == 20.0


@pytest.mark.parametrize("name", ["shift", "scale_shift"])
def test_the_model_decodes_alike(name, tmp_path):
    model = {**VARIANTS[name], "depth": 5}
    functa, params = imported(tmp_path / "w", model)
    latents = np.float32(np.random.default_rng(2).normal(0, 0.3, (3, 5)))
    ours = functa.decode(latents).reshape(3, -1, 3)
    theirs = their_images(model, params, latents)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    assert np.ptp(ours) > 0.1


@variants
def test_latents_and_psnr_are_equal_after_each_step(model, tmp_path):
    functa, params = imported(tmp_path / "w", model)
    rate = None if model["use_meta_sgd"] else 2**-6
    batch = images()

    fit = jit(jax.vmap(lambda image: their_fit(model, params, image, STEPS, their_grid(), rate)))
    path, errors = fit(batch.reshape(4, -1, 3))
    ours, our_errors = functa.course(batch)
    np.testing.assert_allclose(ours, path, rtol=1e-5, atol=1e-6)
    assert np.abs(ours).max() > 1e-3
    psnr, our_psnr = -10 * np.log10(errors), inner_loop.psnr(our_errors)
    np.testing.assert_allclose(our_psnr, psnr, rtol=0, atol=1e-5)


@variants
def test_second_order_outer_gradients_are_equal_in_every_leaf(model, tmp_path):
    functa, params = imported(tmp_path / "w", model)
    rate = None if model["use_meta_sgd"] else 2**-6
    steps = STEPS if model == VARIANTS["shift"] else 2  # compiles faster

    def our_loss(flat, coords, image):
        net = siren.with_params(functa.config, flat)
        latent, _ = inner_loop.fit(net, coords, image, steps, penalty=functa.penalty)
        return inner_loop.image_loss(net, coords, latent, image)[1]

    def their_loss(flat, coords, image):
        return their_fit(model, flat, image, steps, coords, rate)[1][-1]

    points = [their_grid(), images(1)[0].reshape(-1, 3)]
    with jax.enable_x64(True):

        def gradient(loss, flat, dtype):
            arrays = jax.tree.map(lambda x: np.asarray(x, dtype), (flat, *points))
            return jax.tree.map(np.asarray, jit(jax.grad(loss))(*arrays))

        theirs = gradient(their_loss, params, "float64")
        ours = {"float64": (gradient(our_loss, functa.params, "float64"), 1e-9)}
        if model == VARIANTS["shift"]:  # with our own sine
            ours["float32"] = gradient(our_loss, functa.params, "float32"), 2e-5
    for dtype, (found, tolerance) in ours.items():
        found = siren.flatten(found)
        for name, (module, leaf) in pairs(3, model["use_meta_sgd"]).items():
            expected = theirs[module][leaf]
            error = np.linalg.norm(found[name] - expected) / np.linalg.norm(expected)
            assert found[name].dtype == dtype and np.abs(expected).max() > 1e-9
            assert error < tolerance, name


def test_coordinates_are_theirs():
    for side in (1, 8):
        np.testing.assert_allclose(siren.coordinate_grid(side), their_grid(side), atol=1e-7)


def test_rates_are_raw(tmp_path):
    functa, params = imported(tmp_path / "w")
    rates = functa.params["inner_rate"]
    assert rates.min() == -0.5 and rates.max() == 1.5
    np.testing.assert_array_equal(rates, params[RATES]["meta_sgd_lrs"])


def test_a_start_other_than_zero_is_folded_into_the_map(tmp_path):
    params, start = weights(), np.float32(np.random.default_rng(3).normal(0, 0.1, 5))
    moved = with_latent(params, jnp.array(start))
    functa = load_weights(written(tmp_path / "w", moved, config_of()))
    assert functa.metadata["latent_offset"] == start.tolist()
    batch = images()
    latents, errors = functa.course(batch)
    fit = jit(jax.vmap(lambda image: their_fit(MODEL, moved, image, STEPS, their_grid())))
    path, their_errors = fit(batch.reshape(4, -1, 3))
    np.testing.assert_allclose(latents + start, path, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(errors, their_errors, rtol=2e-5)
    config = config_of(settings_of(l2_weight=0.1))
    with pytest.raises(UserError, match="penalty"):
        load_weights(written(tmp_path / "p", moved, config))


def test_published_modulations_are_made_ready_for_their_weights(tmp_path):
    start = np.float32([0.1, -0.2, 0.0, 0.3, 0.05])
    moved = with_latent(weights(), jnp.array(start))
    functa = load_weights(written(tmp_path / "w", moved, config_of()))
    latents = np.float32(np.random.default_rng(4).normal(0, 0.3, (3, 5)))
    rows = {"modulation": latents, "psnr": np.float32([20, 21, 22])}
    path = tmp_path / "m"
    path.write_bytes(dill.dumps({"train": rows, "test": rows}))
    functaset = load_modulations(path, functa)
    assert functaset.metadata["checkpoint"] == functa.hash
    ours = functa.decode(functaset.test.latents).reshape(3, -1, 3)
    theirs = their_images(MODEL, moved, latents)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(load_modulations(path).test.latents, latents)


# ---- files in all their shapes ----


def as_config_dict(config):
    found = config_dict.ConfigDict(config)
    found.model.width = config_dict.FieldReference(found.model.width)
    found.model.also_width = found.model.get_ref("width")
    return found


def flat_map(params):
    return hk.data_structures.to_immutable_dict(params)


CONTAINERS = {
    "plain": (dict, dict),
    "numpy": (lambda params: jax.tree.map(np.asarray, params), dict),
    "config_dict": (dict, as_config_dict),
    "frozen": (dict, config_dict.FrozenConfigDict),
    "haiku_mapping": (flat_map, dict),
    "ordered": (OrderedDict, dict),
    "fortran": (lambda params: jax.tree.map(lambda x: np.asfortranarray(x), params), dict),
    "big_endian_double": (lambda p: jax.tree.map(lambda x: np.asarray(x).astype(">f8"), p), dict),
    "numpy_scalars": (
        dict,
        lambda config: {**config, "training": {"inner_steps": np.int64(3), "rate": np.float32(1)}},
    ),
}


@pytest.mark.parametrize("dumps", [dill.dumps, pickle.dumps], ids=["dill", "pickle"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_and_protocols(container, dumps, tmp_path):
    wrap, wrap_config = CONTAINERS[container]
    if dumps is pickle.dumps and container == "config_dict":
        wrap_config = config_dict.ConfigDict  # references need dill
    expected = siren.flatten(imported(tmp_path / "plain")[0].params)
    for protocol in (2, 5):
        path = written(
            tmp_path / f"p{protocol}",
            wrap(weights()),
            wrap_config(config_of()),
            lambda x, protocol=protocol: dumps(x, protocol=protocol),
        )
        functa = load_weights(path)
        for name, value in siren.flatten(functa.params).items():
            np.testing.assert_array_equal(value, expected[name])
            assert value.dtype == np.float32
        assert functa.config.w0 == 20 and functa.inner_steps == 3
        json.dumps(functa.metadata)


def test_a_config_may_lack_everything(tmp_path):
    for contents in ({"params": weights()}, {"params": weights(), "config": {}}):
        (tmp_path / "w").write_bytes(dill.dumps(contents))
        functa = load_weights(tmp_path / "w")
        assert functa.config == siren.ModelConfig(3, 8, 3, 5, w0=30.0)
        assert (functa.resolution, functa.inner_steps, functa.penalty) == ((64, 64), 3, 0)
    constant = weights(settings_of(use_meta_sgd=False))
    (tmp_path / "w").write_bytes(dill.dumps({"params": constant}))
    assert load_weights(tmp_path / "w").config.inner_rate == 1e-2
    both = weights(settings_of(modulate_scale=True))
    (tmp_path / "w").write_bytes(dill.dumps({"params": both}))
    assert load_weights(tmp_path / "w").config.modulation == "scale_shift"


def test_device_arrays_and_module_names_of_2022(tmp_path, monkeypatch):
    old = types.ModuleType("jax._src.device_array")

    def reconstruct_device_array(fun, args, state, aval_state):
        raise AssertionError("must not be called")

    reconstruct_device_array.__module__ = old.__name__
    reconstruct_device_array.__qualname__ = "reconstruct_device_array"
    old.reconstruct_device_array = reconstruct_device_array
    monkeypatch.setitem(sys.modules, old.__name__, old)

    class DeviceArray:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            aval = {"weak_type": False, "named_shape": {}}
            return reconstruct_device_array, (*self.value.__reduce__(), aval)

    params = jax.tree.map(lambda x: DeviceArray(np.asarray(x)), weights())
    data = pickle.dumps({"params": params, "config": config_of()}, protocol=2)
    assert b"numpy._core" in data
    (tmp_path / "w").write_bytes(data.replace(b"numpy._core", b"numpy.core"))
    monkeypatch.delitem(sys.modules, old.__name__)
    functa = load_weights(tmp_path / "w")
    assert functa.hash == imported(tmp_path / "now")[0].hash


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["<f4", ">f4", "f2", "<f8", "i8", ">i4", "u1", "?", "u2"]),
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    order=st.sampled_from("CF"),
    protocol=st.integers(2, 5),
    dumps=st.sampled_from([dill.dumps, pickle.dumps]),
    seed=st.integers(0, 9),
)
def test_any_array_of_numbers_survives(
    tmp_path_factory, dtype, shape, order, protocol, dumps, seed
):
    array = np.random.default_rng(seed).integers(0, 99, shape).astype(dtype, order=order)
    assume(array.size or protocol > 2)
    contents = {"train": array, "number": array.reshape(-1)[:1].copy(), "deep": [{"a": (array,)}]}
    path = tmp_path_factory.mktemp("a") / "a"
    path.write_bytes(dumps(contents, protocol=protocol))
    found, source = deepmind._read(path)
    assert found["train"].dtype == array.dtype and len(source["sha256"]) == 64
    np.testing.assert_array_equal(found["train"], array)
    np.testing.assert_array_equal(found["deep"][0]["a"][0], array)


# ---- the way back ----


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 4),
    width=st.integers(1, 6),
    depth=st.sampled_from([2, 3, 12]),
    latents=st.integers(1, 5),
    w0=st.floats(0.1, 100),
    modulation=st.sampled_from(["shift", "scale_shift"]),
    rate=st.one_of(st.none(), st.floats(1e-4, 10)),
    side=st.integers(1, 99),
    steps=st.integers(0, 9),
    penalty=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_saved_weights_come_back_bit_for_bit(
    tmp_path_factory,
    channels,
    width,
    depth,
    latents,
    w0,
    modulation,
    rate,
    side,
    steps,
    penalty,
    seed,
):
    config = siren.ModelConfig(channels, width, depth, latents, w0, modulation, rate)
    like = siren.flatten(jax.eval_shape(lambda: siren.init(config, 0)))
    random = np.random.default_rng(seed)
    flat = {name: np.float32(random.normal(size=leaf.shape)) for name, leaf in like.items()}
    functa = Functa(config, siren.unflatten(flat), (side, side), steps, penalty, {"data": "mnist"})
    path = tmp_path_factory.mktemp("save") / "deep" / "weights.npz"
    save_weights(functa, path)
    again = load_weights(path)
    assert again.config == config and again.hash == functa.hash
    assert (again.resolution, again.inner_steps) == ((side, side), steps)
    assert again.penalty == pytest.approx(penalty, rel=1e-15)
    assert again.metadata["data"] == "mnist"
    for name, value in siren.flatten(again.params).items():
        assert value.tobytes() == flat[name].tobytes()
    save_weights(again, path.with_name("twice"))
    plain = pickle.loads(path.read_bytes())
    assert shapes(plain["params"]) == table(
        width, depth, latents, channels, 1 + (modulation == "scale_shift"), rate is None
    )
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_the_published_code_runs_what_we_save(tmp_path):
    functa, _ = imported(tmp_path / "theirs", seed=7)
    save_weights(functa, tmp_path / "w")
    saved = dill.loads((tmp_path / "w").read_bytes())
    assert type(saved["config"]["model"]) is dict
    latents = np.float32(np.random.default_rng(2).normal(0, 0.3, (3, 5)))
    theirs = their_images(saved["config"]["model"], saved["params"], latents)
    ours = functa.decode(latents).reshape(3, -1, 3)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    wide = replace(functa, resolution=(4, 6))
    with pytest.raises(UserError, match="square"):
        save_weights(wide, tmp_path / "wide")
    assert not (tmp_path / "wide").exists()


# ---- modulations ----


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(0, 4), latents=st.integers(1, 5), seed=st.integers(0, 9))
def test_modulations(tmp_path_factory, n, m, latents, seed):
    random = np.random.default_rng(seed)
    rows = {
        split: {
            "modulation": np.float32(random.normal(1, 2, (count, latents))),
            "psnr": np.float32(random.normal(25, 2, count)),
        }
        for split, count in (("train", n), ("test", m))
    }
    folder = tmp_path_factory.mktemp("m")
    (folder / "m.npz").write_bytes(dill.dumps(rows))
    functaset = load_modulations(folder / "m.npz")
    functaset.save(folder / "functaset.npz")
    again = load_functaset(folder)
    for found in (functaset, again):
        assert len(found.val) == 0 and found.val.latents.shape == (0, latents)
        for split in ("train", "test"):
            part = getattr(found, split)
            np.testing.assert_array_equal(part.latents, rows[split]["modulation"])
            np.testing.assert_array_equal(part.psnr, rows[split]["psnr"])
            np.testing.assert_array_equal(part.labels, np.full(len(part), -1))
            np.testing.assert_array_equal(part.ids, np.arange(len(part)))
            types_ = [column.dtype for column in vars(part).values()]
            assert types_ == [np.float32, np.int64, np.int64, np.float32]
        train = np.float64(rows["train"]["modulation"])
        np.testing.assert_allclose(found.mean, train.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.std, train.std(0), rtol=1e-6)
        assert found.metadata["source"] == "m.npz" and len(found.metadata["sha256"]) == 64


@pytest.mark.parametrize(
    "rows",
    [
        {"modulation": np.zeros((3, 2)), "psnr": np.zeros(2)},
        {"modulation": np.zeros(3), "psnr": np.zeros(3)},
        {"modulation": np.zeros((3, 2))},
        [1, 2],
    ],
)
def test_impossible_modulations_are_refused(rows, tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(dill.dumps({"train": rows, "test": rows}))
    assert "m.npz" in refusal(load_modulations, path)


def test_modulations_must_fit_the_weights(tmp_path):
    functa, _ = imported(tmp_path / "w")
    rows = {"modulation": np.zeros((3, 4)), "psnr": np.zeros(3)}
    (tmp_path / "m").write_bytes(dill.dumps({"train": rows, "test": rows}))
    assert "do not fit" in refusal(load_modulations, tmp_path / "m", functa)


# ---- what is refused ----


def refusal(function, path, *args):
    """The one line that `function` refuses the file with."""
    with pytest.raises(UserError) as caught:
        function(path, *args)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and message.isprintable()
    return message


def without(params, module):
    return {name: leaves for name, leaves in params.items() if name != module}


MLP = settings_of(layer_sizes=(7,))
UNSUPPORTED = {
    "depth 5": (weights, settings_of(depth=5)),
    "width 9": (weights, settings_of(width=9)),
    "latent_dim 6": (weights, settings_of(latent_dim=6)),
    "channels 1": (weights, MODEL, {"dataset": {"num_channels": 1}}),
    "(16,), not (32,)": (weights, settings_of(modulate_scale=True)),
    "(32,), not (16,)": (lambda: weights(settings_of(modulate_scale=True)), MODEL),
    "scales only": (weights, settings_of(modulate_scale=True, modulate_shift=False)),
    "MLP": (lambda: weights(MLP), MLP),
    "linear_1": (lambda: {**weights(), f"{MAP[:-1]}1": weights()[MAP]}, MODEL),
    "it has no 'latent_modulated_siren/~/latent_vector": (
        lambda: without(weights(), LATENT),
        MODEL,
    ),
    "it has no 'latent_modulated_siren/~/latent_to_modulation": (
        lambda: without(weights(), MAP),
        MODEL,
    ),
    "scene": (
        lambda: weights(points=3),
        MODEL,
    ),
    "could not convert": (weights, settings_of(w0="fast")),
}


@pytest.mark.parametrize("phrase", UNSUPPORTED)
def test_models_that_functa_jax_lacks_are_refused(phrase, tmp_path):
    make, model, *sections = UNSUPPORTED[phrase]
    path = written(tmp_path / "w.npz", make(), config_of(model, **dict(*sections)))
    assert phrase in refusal(load_weights, path)


def test_missing_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "w.npz"
    assert "does not exist" in refusal(load_weights, path)
    assert str(tmp_path) in refusal(load_weights, tmp_path)
    np.savez(path, a=np.zeros(3))
    assert "NumPy's own format" in refusal(load_weights, path)
    for contents in (b"", b"\0", b"PNG", b"\x89PNG\r\n\x1a\n", b"hello\nworld\n", b"{}"):
        path.write_bytes(contents)
        refusal(load_weights, path)
    for contents in ({}, [], None, 3, {"params": 3}, {"params": {"a": 3}}, {"params": {}}):
        path.write_bytes(pickle.dumps(contents))
        refusal(load_weights, path)
    whole = written(path, weights(), config_of()).read_bytes()
    for length in np.random.default_rng(0).integers(0, len(whole), 200):
        path.write_bytes(whole[:length])
        refusal(load_weights, path)
        refusal(load_modulations, path)


@pytest.fixture(scope="module")
def small_file():
    params = weights(settings_of(width=1, depth=2, latent_dim=1), channels=1)
    return dill.dumps({"params": params, "config": as_config_dict(config_of())})


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_flipped_bytes_give_a_functa_or_one_line(small_file, tmp_path_factory, data):
    changed = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 3))):
        # not "r" (LONG_BINPUT), whose index may ask for all memory
        value = data.draw(st.integers(0, 255).filter(lambda byte: byte != ord("r")))
        changed[data.draw(st.integers(0, len(changed) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(changed)
    try:
        load_weights(path)
    except UserError as error:
        assert "\n" not in str(error) and "flipped" in str(error)


class Calls:
    """Pickles as a call of function(*args)."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Setter:
    """Pickles by name, with a __setstate__ that would leave a file."""

    def __setstate__(self, state):
        Path("ran").touch()


def setter_pickle():
    return f"\x80\x02c{__name__}\nSetter\n)\x81}}b.".encode("latin1")


ATTACKS = {
    "posix.system": lambda: pickle.dumps({"params": Calls(os.system, "touch ran")}),
    "builtins.eval": lambda: dill.dumps(
        {"params": weights(), "config": {"model": {"w0": Calls(eval, "open('ran', 'w')")}}}
    ),
    "builtins.exec": lambda: pickle.dumps(
        {"params": np.array([Calls(exec, "open('ran', 'w')")], object)}
    ),
    "type 'O8'": lambda: pickle.dumps({"params": np.array([None, {}], object)}),
    "type 'V4'": lambda: pickle.dumps({"params": np.zeros(2, [("a", "f4")])}),
    "type 'U1'": lambda: pickle.dumps({"params": np.array(["a"])}),
    "type 'M8'": lambda: pickle.dumps({"params": np.zeros(1, "M8[s]")}),
    "dill._dill._create_": lambda: dill.dumps({"params": lambda: Path("ran").touch()}),
    "Setter": setter_pickle,
    "builtins.getattr": lambda: b"\x80\x02cbuiltins\ngetattr\nN\x85R.",
    "importlib.import_module": lambda: pickle.dumps(Calls(importlib.import_module, "antigravity")),
    "subprocess.Popen": lambda: pickle.dumps([Calls(subprocess.Popen, ["touch", "ran"])]),
    "numpy.load": lambda: b"\x80\x02cnumpy\nload\nU\x03ran\x85R.",
    "os.system": lambda: b"(S'touch ran'\nios\nsystem\n.",
    "numpy.ndarray.__class__": lambda: b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "numpy.ctypeslib": lambda: b"\x80\x02cnumpy.ctypeslib.os\nsystem\n.",
    "line\\nbreak": lambda: b"\x80\x04\x8c\x0aline\nbreak\x8c\x01x\x93.",
    "persistent": lambda: b"Pran\n.",
    "extension": lambda: b"\x80\x02\x82\x01.",
    "dill._dill._import_module": lambda: dill.dumps({"params": os}),
    "multiply": lambda: pickle.dumps({"params": Calls(np.multiply, 2, 3)}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_files_run_nothing(name, tmp_path, monkeypatch):
    (tmp_path / "w.npz").write_bytes(ATTACKS[name]())
    monkeypatch.chdir(tmp_path)
    for function in (load_weights, load_modulations):
        assert name in refusal(function, Path("w.npz"))
    assert list(tmp_path.iterdir()) == [tmp_path / "w.npz"]


INERT = {
    # BUILD on the class itself, with attributes to set; on an instance; calls of what is inert
    "state of a class": b"\x80\x02ccollections\nOrderedDict\nNU\x08__init__K\x01}s\x86b.",
    "slots of a class": b"\x80\x02cnumpy\ndtype\nN}U\x07meaningK\x01s\x86b.",
    "dict of a class": b"\x80\x02cnumpy\ndtype\n}U\x07meaningK\x01sb.",
    "a type as a function": b"\x80\x02cdill._dill\n_load_type\nU\x08CodeType\x85RK\x01\x85R.",
    "a type as a class": b"\x80\x02cdill._dill\n_load_type\nU\x06object\x85R)\x81.",
    "items of a class": b"\x80\x02cnumpy\nndarray\nK\x01K\x02s.",
    "append": b"\x80\x02cnumpy\nndarray\n)\x81K\x01a.",
    "a loop": b"\x80\x02}q\x00U\x06paramsh\x00s.",
    "its own state": b"\x80\x02ccollections\nOrderedDict\n)Rq\x00h\x00b.",
}


@pytest.mark.parametrize("name", INERT)
def test_states_and_loops_change_nothing(name, tmp_path):
    before = dict(safe_pickle.MEANING), dict(vars(safe_pickle._Asked))
    (tmp_path / "w.npz").write_bytes(INERT[name])
    refusal(load_weights, tmp_path / "w.npz")
    assert (dict(safe_pickle.MEANING), dict(vars(safe_pickle._Asked))) == before
    imported(tmp_path / "good")


def test_a_name_is_inert_even_where_it_is_allowed(tmp_path):
    contents = {"params": weights(), "config": {"note": {"type": int, "code": types.CodeType}}}
    (tmp_path / "w").write_bytes(dill.dumps(contents))
    note = load_weights(tmp_path / "w").metadata["deepmind_config"]["note"]
    assert note == {"type": "int", "code": "CodeType"}


# ---- the command ----


def command(*args, cwd):
    return subprocess.run(
        [sys.executable, "-m", "functa_jax.deepmind", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )


def test_command_line(tmp_path):
    functa, params = imported(tmp_path / "weights.npz")
    done = command("weights.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"{count:,} parameters" in done.stdout and "rates -0.5 to 1.5, 2 outside" in done.stdout
    line = done.stdout.splitlines()[-1].removeprefix("load it: functa_jax.")
    assert line == 'load("runs/weights/functa.npz")'
    assert load(tmp_path / "runs" / "weights").hash == functa.hash

    missing = command("absent.npz", "--out", "there", cwd=tmp_path)
    assert missing.returncode == 2 and not missing.stdout
    assert missing.stderr == "error: absent.npz does not exist\n"
    assert not (tmp_path / "there").exists()


def run(*args):
    deepmind.cli.run(deepmind.main, deepmind.Config, args=args)


def test_command_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    imported(Path("a.npz"))
    run("a.npz", "--out", "run")
    before = Path("run/functa.npz").read_bytes()
    run("a.npz", "--out", "run")
    assert Path("run/functa.npz").read_bytes() == before
    imported(Path("b.npz"), seed=1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run("b.npz", "--out", "run")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "run/functa.npz exists" in error
    assert Path("run/functa.npz").read_bytes() == before
    Path("file").touch()
    with pytest.raises(SystemExit):
        run("a.npz", "--out", "file/below")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot write" in error


def test_command_on_modulations(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    functa, _ = imported(Path("w.npz"))
    functa.save("run/functa.npz")
    rows = {"modulation": np.ones((3, 5), np.float32), "psnr": np.float32([20, 21, 22])}
    Path("m.npz").write_bytes(dill.dumps({"train": rows, "test": rows}))
    run("m.npz", "--weights", "run")
    out = capsys.readouterr().out
    assert "train latents (3, 5) of 21.00 dB" in out
    assert 'functa_jax.load_functaset("runs/m/functaset.npz")' in out
    functaset = load_functaset("runs/m")
    assert functaset.metadata["checkpoint"] == functa.hash
    np.testing.assert_array_equal(functaset.train.latents, rows["modulation"])


def test_modulations_need_no_jax(tmp_path):
    rows = {"modulation": np.ones((3, 5), np.float32), "psnr": np.zeros(3, np.float32)}
    (tmp_path / "m.npz").write_bytes(dill.dumps({"train": rows, "test": rows}))
    code = (
        "import sys; from functa_jax.deepmind import load_modulations; "
        "load_modulations('m.npz'); assert not {'jax', 'dill'} & sys.modules.keys()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
