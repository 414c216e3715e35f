"""Functa's files: what comes back, hashes, damage, foreign files."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import functa_jax
from functa_jax.functa import Functa
from functa_jax.model import siren
from functa_jax.model.config import HASHED, ModelConfig
from tests.functa_jax.functas import CONFIG, FUNCTA, LATENTS, PARAMS, fault

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
NAMES = list(siren.flatten(PARAMS))
every_parameter = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def file(tmp_path):
    FUNCTA.save(tmp_path / "functa.npz")
    return tmp_path / "functa.npz"


def rewrite(file, about=None, **arrays):
    """The same file with entries of `about`, or arrays, replaced (left out, if None)."""
    with np.load(file) as old:
        content = {key: old[key] for key in old.files} | arrays
    known = json.loads(str(content["about"])) | (about or {})
    content["about"] = json.dumps({key: value for key, value in known.items() if value is not None})
    np.savez(file, **{key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize("given_as", ["folder", "file"])
def test_a_file_gives_everything_back(given_as, file):
    loaded = functa_jax.load(file.parent if given_as == "folder" else file)
    for field in ("config", "resolution", "inner_steps", "penalty", "metadata", "hash"):
        assert getattr(loaded, field) == getattr(FUNCTA, field)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(PARAMS)
    for name, value in siren.flatten(PARAMS).items():
        found = siren.flatten(loaded.params)[name]
        assert found.dtype == np.float32 and found.tobytes() == value.tobytes()


def test_settings_other_than_the_defaults_are_kept(tmp_path):
    config = siren.ModelConfig(3, 4, 3, 2, w0=9.0, modulation="scale_shift", inner_rate=0.3)
    other = Functa(config, siren.init(config, 1), (5, 2), inner_steps=9, penalty=0.25)
    other.save(tmp_path / "named without a suffix")
    loaded = functa_jax.load(tmp_path / "named without a suffix")
    for field in ("config", "resolution", "inner_steps", "penalty", "metadata", "hash"):
        assert getattr(loaded, field) == getattr(other, field)


@every_parameter
def test_hash_tells_every_parameter_apart(name):
    flat = siren.flatten(PARAMS)
    changed = np.array(flat[name])
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))  # by one rounding error
    params = siren.unflatten({**flat, name: changed})
    assert replace(FUNCTA, params=params).hash != FUNCTA.hash
    assert replace(FUNCTA, params=siren.unflatten(flat)).hash == FUNCTA.hash


def test_hash_tells_configurations_apart():
    assert replace(FUNCTA, config=replace(CONFIG, w0=6.0)).hash != FUNCTA.hash


PUBLISHED = {  # hashes that results name: changed defaults and new settings leave them as they are
    "mnist": "63e0cca3241e8855",
    "digits-spatial": "3fbe757c0c132288",
    "cifar10-spatial-cpu": "c619ac6e34be209e",
    "cifar10_gauss_newton": "cdf56a3469f8b7d9",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_of_earlier_versions_load_with_the_same_hash(name):
    path = RESULTS / f"functa_{name}.npz"
    functa = functa_jax.load(path)
    assert functa.hash == PUBLISHED[name]
    with np.load(path) as file:
        written = json.loads(str(file["about"]))["config"]  # before later settings existed
    assert written.pop("encoded_pixels", None) is None  # of a start that was removed
    assert written.items() <= asdict(functa.config).items()


@pytest.mark.parametrize(
    ("setting", "value", "flag"),
    [
        ("encoded_pixels", 36, "--start"),
        ("update", "matrix", "--update"),
        ("interpolation", "blend", "--interpolation"),
    ],
)
def test_what_was_removed_is_refused_in_one_line(tmp_path, setting, value, flag):
    FUNCTA.save(tmp_path / "functa.npz")
    with np.load(tmp_path / "functa.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    about["config"][setting] = value
    np.savez(tmp_path / "functa.npz", **{**arrays, "about": json.dumps(about)})
    assert f"earlier version of functa_jax, for its {flag}" in fault(functa_jax.load, tmp_path)


def test_a_hash_counts_every_setting():
    assert sorted(HASHED) == sorted(field.name for field in fields(ModelConfig))


def test_a_missing_run_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "none.npz"):
        assert f"{path}" in fault(functa_jax.load, path)


@given(st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_found(tmp_path_factory, share):
    path = tmp_path_factory.getbasetemp() / "truncated.npz"
    FUNCTA.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert str(path) in fault(functa_jax.load, path)


@given(name=st.sampled_from(NAMES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_bit_flipped_in_a_parameter_is_found(tmp_path_factory, name, place, bit):
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    random = np.random.default_rng(0)  # so that the file holds the bytes of each array once
    params = {
        key: random.random(value.shape, np.float32) for key, value in siren.flatten(PARAMS).items()
    }
    replace(FUNCTA, params=siren.unflatten(params)).save(path)
    data, value = bytearray(path.read_bytes()), params[name].tobytes()
    data[data.index(value) + int(place * len(value))] ^= 1 << bit
    path.write_bytes(data)
    assert str(path) in fault(functa_jax.load, path)


@pytest.mark.parametrize("content", [b"", b"plain text\nin two lines", b"PK\x03\x04", b"\x80\x04."])
def test_a_foreign_file_is_refused(content, tmp_path):
    path = tmp_path / "functa.npz"
    path.write_bytes(content)
    assert str(path) in fault(functa_jax.load, path)


def test_a_bare_array_is_refused(tmp_path):
    with (tmp_path / "functa.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "not a functa" in fault(functa_jax.load, tmp_path)


def test_another_npz_is_not_a_functa(file):
    np.savez(file, latents=LATENTS)
    assert "not a functa" in fault(functa_jax.load, file)


class Trap:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("key", ["about", "inner_rate"])
def test_pickled_objects_are_never_loaded(key, file):
    trap = file.parent / "sprung"
    rewrite(file)  # which is readable
    with np.load(file) as old:
        content = {**old, key: np.array([Trap(trap)], object)}
    np.savez(file, **content)
    fault(functa_jax.load, file)
    assert not trap.exists()


@every_parameter
@pytest.mark.parametrize("change", ["shape", "type", "missing"])
def test_parameters_that_do_not_fit_are_refused(name, change, file):
    value = siren.flatten(PARAMS)[name]
    wrong = {"shape": value[..., :-1], "type": value.astype("f8"), "missing": None}
    rewrite(file, **{name: wrong[change]})
    assert str(file) in fault(functa_jax.load, file)


def test_a_parameter_too_many_is_refused(file):
    rewrite(file, extra=np.zeros(3, np.float32))
    assert str(file) in fault(functa_jax.load, file)


@pytest.mark.parametrize(
    "about",
    [
        *({key: None} for key in ("config", "resolution")),
        *({"config": config} for config in (3, {}, {"width": 8}, {"channels": "x"})),
        {"resolution": 4},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_description_that_makes_no_sense_is_refused(about, file):
    rewrite(file, about)
    assert str(file) in fault(functa_jax.load, file)


def test_a_file_that_cannot_be_read_is_not_called_damaged(file, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", denied)
    assert fault(functa_jax.load, file) == f"{file} cannot be read: Permission denied"
    assert "cannot be read: Permission denied" in fault(functa_jax.load_functaset, file)
