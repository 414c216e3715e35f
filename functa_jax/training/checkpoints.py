"""Checkpoints that survive kills and damage: orbax's folders, kept as groundfloor/kept.py does.

Only process 0 touches the disk; what it read is sent to the others.
"""

import contextlib
import logging
import os
import re

import jax
import numpy as np
import orbax.checkpoint as ocp

from functa_jax.training import devices
from groundfloor import kept
from groundfloor.errors import UserError, first_line, unreadable

KEPT = 3
logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax also logs what it raises


class Checkpoints:
    """The newest few training states of a run: trees of arrays with a "step".

    folder: where they lie, or None to hold them in memory. Processes other than the first hold the
    last one, and are sent what the first one has.
    """

    def __init__(self, folder):
        self.folder, self.held = folder, []

    def save(self, state):
        """Keep a state, a tree of NumPy arrays; whole or not at all."""
        if self.folder is None:
            earlier = [other for other in self.held if other["step"] < state["step"]]
            copied = jax.tree.map(np.copy, state)  # what is given may lie in JAX's memory
            keep = KEPT if jax.process_count() == 1 else 1
            self.held = [*earlier, copied][-keep:]
            return
        arrays = jax.tree.map(np.asarray, state)  # orbax forgets the type of scalars

        def write(folder):
            with _system_errors(), _orbax() as orbax:
                orbax.save(folder.absolute(), arrays, force=True)

        kept.save(self.folder, int(state["step"]), write, "", KEPT)

    def restore(self, like, say=print):
        """The newest good state, or None where there is none; `say` hears of each damaged one.

        Nothing is deleted. UserError, on all processes, if a checkpoint cannot be read, or if it
        is whole but has other arrays than `like`.
        """
        state = devices.everywhere(lambda: self._newest(like, say))
        if not devices.of_first(np.int32(state is not None)):
            return None
        return devices.of_first(like if state is None else state)

    def forget(self, step):
        """Drop the states of `step` and later for good, if there is an earlier one."""
        if self.folder is None:
            self.held = [state for state in self.held if state["step"] < step] or self.held
        else:
            kept.forget(self.folder, "", step)

    def _newest(self, like, say):
        if self.folder is None:
            return dict(self.held[-1]) if self.held else None
        newest = kept.newest(self.folder, "", say)
        if newest is None:
            return None
        path, _ = newest
        try:
            with _system_errors(), _orbax() as orbax:
                arrays = _by_name(orbax.restore(path.absolute()))
        except (OSError, MemoryError) as error:
            raise unreadable(path, error) from None
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is no checkpoint ({first_line(error)})") from None
        _refuse_other_arrays(path, arrays, _by_name(like))
        kept.remember(self.folder, int(arrays["step"]))
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[n] for n in _by_name(like)])


def _orbax():
    """A checkpointer of this process alone, which waits for no other.

    A folder for each array: in orbax's common one a path with [ or ] is not found again.
    """
    alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _system_errors():
    """tensorstore's ValueErrors that a full disk or a failing one caused, as OSErrors."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


def _by_name(state):
    """{"params/siren/layers/0/bias": array, ...}, in the order of the tree's leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _refuse_other_arrays(path, held, asked):
    for name in sorted(held.keys() | asked.keys()):
        kinds = [
            f"{tree[name].dtype}{list(tree[name].shape)}" if name in tree else "missing"
            for tree in (held, asked)
        ]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{path} was written by another version: {name} is {kinds[0]} there, {kinds[1]} "
                "here; choose another --name or --out"
            )
