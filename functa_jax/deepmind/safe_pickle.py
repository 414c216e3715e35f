"""Reads pickles from strangers as plain data: nothing that a pickle names is imported or called.

A pickle is a program whose instructions import names and call them. Here every name becomes an
inert record of what was asked for. The records of the few names in MEANING, which stand for
arrays, numbers, dicts and text, are then turned into those; any other name is refused.
"""

import io
import pickle
import re

import numpy as np


def loads(data):
    """What the bytes of a pickle hold: dicts with text keys, lists, tuples, numbers, text, arrays.

    Arrays, also JAX's and dill's, are NumPy arrays; a ConfigDict is a dict. Raises ValueError
    that names what else was asked for; damaged pickles raise nearly anything.
    """
    return _plain(_Unpickler(io.BytesIO(data)).load())


class _Asked:
    """What a pickle asks for, by name: kept with its arguments and state, and never run."""

    def __new__(cls, *args):
        asked = super().__new__(cls)
        asked.args, asked.state, asked.items = args, None, {}
        return asked

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.items[key] = value


class _Unpickler(pickle.Unpickler):
    """Gives a pickle an inert class for each name in MEANING, and refuses every other name."""

    def find_class(self, module, name):
        full = f"{module}.{name}".replace("numpy.core.", "numpy._core.")
        if full not in MEANING:
            raise ValueError(f"it asks for {full!a}, and only arrays, numbers and text are read")
        # A new class each time: what a hostile pickle does to it ends with that pickle.
        return type(name, (_Asked,), {"meaning": staticmethod(MEANING[full])})


def _plain(value):
    """What was unpickled, with the array, dict or value that each _Asked stands for."""
    if isinstance(value, _Asked):
        return value.meaning(_plain(value.args), _plain(value.state), _plain(value.items))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, bool | int | float | str | bytes | bytearray | None):
        return value
    raise ValueError(f"it holds a {type(value).__name__}")


def _dtype(args, state, _):
    if not re.fullmatch("b1|[iu][1248]|f[248]", args[0]):
        raise ValueError(f"it holds an array of type {args[0]!a}, not of numbers")
    return np.dtype(args[0]).newbyteorder(state[1] if state else "=")


def _array(args, state, _):  # dill's and JAX's wrappers have the state among their arguments
    _, shape, dtype, fortran, data = state or args[2]
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _fields(args, state, _):
    return state["_fields"]


ML = "ml_collections.config_dict.config_dict"
# What the names in a pickle stand for: functions (arguments, state, items) of plain values.
MEANING = {
    "_codecs.encode": lambda args, *_: args[0].encode("latin1"),  # bytes, up to protocol 2
    "collections.OrderedDict": lambda args, state, items: items,
    "numpy.ndarray": lambda *_: None,
    "numpy.dtype": _dtype,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy._core.numeric._frombuffer": lambda args, *_: np.frombuffer(*args[:2]).reshape(
        args[2], order=args[3]
    ),
    "numpy._core.multiarray.scalar": lambda args, *_: np.frombuffer(args[1], args[0])[0].item(),
    "dill._dill._create_array": _array,
    "dill._dill._load_type": lambda args, *_: args[0],
    "jax._src.array._reconstruct_array": _array,
    "jax._src.device_array.reconstruct_device_array": _array,
    "haiku._src.data_structures.FlatMapping": lambda args, *_: args[0],
    f"{ML}.ConfigDict": _fields,
    f"{ML}.FrozenConfigDict": _fields,
    f"{ML}.FieldReference": lambda _, state, __: state["_value"],
}
