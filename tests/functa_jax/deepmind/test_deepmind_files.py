"""deepmind: weights and modulations in all their shapes, saving, refusals."""

import json
import pickle
import sys
import types
from collections import OrderedDict

import dill
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import config_dict

from experiments.haiku_functa import LATENT, MAP
from functa_jax.deepmind import load_modulations, load_weights, save_weights
from functa_jax.deepmind.weights import read
from functa_jax.functa import Functa
from functa_jax.functaset import load_functaset
from functa_jax.model import siren
from tests.functa_jax.deepmind.deepmind_model import (
    MODEL,
    as_config_dict,
    config_of,
    flat_map,
    imported,
    refusal,
    settings_of,
    shapes,
    table,
    weights,
    without,
    written,
)

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
    found, source = read(path)
    assert found["train"].dtype == array.dtype and len(source["sha256"]) == 64
    np.testing.assert_array_equal(found["train"], array)
    np.testing.assert_array_equal(found["deep"][0]["a"][0], array)


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
    "it lacks latent_modulated_siren/~/latent_vector": (
        lambda: without(weights(), LATENT),
        MODEL,
    ),
    "it lacks latent_modulated_siren/~/latent_to_modulation": (
        lambda: without(weights(), MAP),
        MODEL,
    ),
    "4-D points": (lambda: weights(points=4), MODEL),
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
