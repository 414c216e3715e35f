"""safe_pickle: files from strangers do not run anything."""

import importlib
import os
import pickle
import subprocess
import types
from pathlib import Path

import dill
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax.deepmind import load_modulations, load_weights, safe_pickle
from groundfloor.errors import UserError
from tests.functa_jax.deepmind.deepmind_model import (
    as_config_dict,
    config_of,
    imported,
    refusal,
    settings_of,
    weights,
)


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
