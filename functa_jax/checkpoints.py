"""Checkpoints that survive kills and damage: orbax, with a digest of every array.

Only process 0 touches the disk; what it read is sent to the others.
"""

import hashlib
import logging

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The newest few training states of a run, in `folder`: dicts of arrays with a "step"."""

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

    def save(self, state):
        """Write a state, NumPy arrays; whole or not at all."""
        if self.manager is None:
            return
        step = int(state["step"])
        if step in self.manager.all_steps():
            self.manager.delete(step)
        self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                digest=ocp.args.JsonSave(_digest(state)),
            ),
        )

    def restore(self, like, say=print):
        """The newest good state, shaped as `like`, or None; `say` hears of each damaged one."""
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
        return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(found or like))

    def _read(self, step, like):
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        restored = self.manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(template), digest=ocp.args.JsonRestore()
            ),
        )
        if _digest(restored["state"]) != restored["digest"]:
            raise ValueError("its arrays do not match their digest")
        return restored["state"]


def _digest(state):
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _short(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]
