"""Checkpoints that survive kills and damage (common/kept.py): arrays by name, no pickle.

Only process 0 touches the disk; what it read is sent to the others.
"""

import io
import zipfile

import jax
import numpy as np

from common import kept
from common.errors import UserError
from common.split import first_line
from functa_jax import devices

SUFFIX = ".npz"


class Checkpoints:
    """The newest few training states of a run: trees of arrays with a "step".

    folder: where they lie, or None to hold the last one in memory (as processes other than the
    first do, which are sent what the first one has).
    """

    def __init__(self, folder, keep=3):
        self.folder, self.keep, self.last = folder, keep, None

    def save(self, state):
        """Keep a state, a tree of NumPy arrays; whole or not at all."""
        if self.folder is None:
            self.last = jax.tree.map(np.copy, state)  # what is given may lie in JAX's memory
            return
        buffer = io.BytesIO()
        np.savez(buffer, **_by_name(state))
        kept.save(self.folder, int(state["step"]), buffer.getvalue(), SUFFIX, self.keep)

    def restore(self, like, say=print):
        """The newest good state, or None where there is none; `say` hears of each damaged one.

        Nothing is deleted. UserError, on all processes, if a checkpoint cannot be read, or if it
        is whole but has other arrays than `like`.
        """
        found = devices.everywhere(lambda: self._newest(like, say))
        if not devices.of_first(np.int32(found is not None)):
            return None
        return devices.of_first(like if found is None else found)

    def _newest(self, like, say):
        if self.folder is None:
            return self.last and dict(self.last)
        found = kept.newest(self.folder, SUFFIX, say)
        if found is None:
            return None
        path, content = found
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file)
        except MemoryError as error:
            raise kept.unreadable(path, error) from None
        except (ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is no checkpoint ({first_line(error)})") from None
        _refuse_other_arrays(path, arrays, _by_name(like))
        kept.remember(self.folder, int(arrays["step"]))
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[n] for n in _by_name(like)])


def _by_name(state):
    """{"params/siren/layers/0/bias": array, ...}, in the order of the tree's leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _refuse_other_arrays(path, found, asked):
    for name in sorted(found.keys() | asked.keys()):
        kinds = [
            f"{tree[name].dtype}{list(tree[name].shape)}" if name in tree else "missing"
            for tree in (found, asked)
        ]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{path} was written by another version: {name} is {kinds[0]} there, {kinds[1]} "
                "here; choose another --name or --out"
            )
