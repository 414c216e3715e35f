"""Checkpoints that survive kills and damage: orbax, with a digest of every array.

Only process 0 touches the disk; what it read is sent to the others.
"""

import hashlib
import logging

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from functa_jax.devices import fetch

logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The newest few training states of a run, in `folder`.

    A state is a tree of arrays with a scalar "step"; with it goes a dict of plain numbers.
    """

    def __init__(self, folder, keep=3):
        self.manager = None
        if jax.process_index() == 0:
            alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
            self.manager = ocp.CheckpointManager(
                folder.absolute(),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep,
                    create=False,
                    enable_async_checkpointing=False,
                    multiprocessing_options=alone,
                ),
            )

    def save(self, state, numbers):
        """Write a state (replicated arrays) and a dict of numbers; whole or not at all."""
        if self.manager is None:
            return
        state = fetch(state)
        self.manager.save(
            int(state["step"]),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                extra=ocp.args.JsonSave({"digest": _digest(state), "numbers": numbers}),
            ),
        )

    def restore(self, like, say=print):
        """The newest good (state, numbers), or None; `say` is told of each damaged one, skipped."""
        found = None
        if self.manager is not None:
            for step in sorted(self.manager.all_steps(read=True), reverse=True):
                try:
                    found = self._read(step, like)
                    break
                except Exception as error:  # orbax and tensorstore raise many kinds for damage
                    say(f"checkpoint {step} is damaged and was skipped ({_short(error)})")
                    self.manager.delete(step)
        if jax.process_count() == 1:
            return found
        any_found = multihost_utils.broadcast_one_to_all(np.int32(found is not None))
        if not any_found:
            return None
        state = multihost_utils.broadcast_one_to_all(found[0] if found else like)
        return jax.tree.map(np.asarray, state), found[1] if found else {}

    def _read(self, step, like):
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        restored = self.manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(template), extra=ocp.args.JsonRestore()
            ),
        )
        state, extra = restored["state"], restored["extra"]
        if _digest(state) != extra["digest"]:
            raise ValueError("its arrays do not match their digest")
        return state, extra["numbers"]


def _digest(state):
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _short(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]
