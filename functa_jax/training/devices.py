"""One data-parallel axis over every device of this process, or of all processes.

A CPU counts as one device per core: XLA runs elementwise work of one device on one thread, so
two half batches side by side use two cores where one whole batch would not.
"""

import os
import socket
import time

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from groundfloor.errors import UserError, first_line
from groundfloor.machine import cores

AXIS = "data"
REPLICATED = PartitionSpec()
LONGEST_MESSAGE = 2000  # bytes
PATIENCE = 300  # seconds, with a process 0 that does not answer


def one_cpu_device_per_core():
    """Start JAX for a command: on a CPU with a device per core, unless XLA_FLAGS already set the
    number; in float32, whatever JAX_ENABLE_X64 says. UserError if JAX cannot start."""
    if "device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    jax.config.update("jax_enable_x64", False)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise
        why = f" ({first_line(error)})" if str(error) else ""
        raise UserError(
            f"JAX cannot start {asked} here{why}: unset JAX_PLATFORMS, or for NVIDIA GPUs "
            "pip install 'jax[cuda13]'"
        ) from None
    _meet()


def _meet():
    """Of several processes the first exchange, before they load data: it opens their connections,
    for which one waits for another half a minute at most."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("start")


def join_cluster(coordinator, processes, process):
    """Join several processes into one run, before JAX starts. coordinator is "host:port", or "auto"
    to take all three from the cluster's environment (Slurm, Open MPI, Kubernetes; see
    jax.distributed)."""
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            if process:
                _await(coordinator)
            jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--coordinator {coordinator}: {first_line(error)}") from None


def _await(coordinator):
    """Until process 0 listens at "host:port"; UserError after PATIENCE seconds, where JAX would
    abort."""
    host, _, port = coordinator.rpartition(":")
    began, said = time.monotonic(), False
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() - began > PATIENCE:
                raise UserError(f"no process 0 at --coordinator {coordinator}: {error}") from None
        if not said:
            print(f"waiting for process 0 at {coordinator}", flush=True)
            said = True
        time.sleep(0.2)


def data_mesh(batch_size):
    """A mesh over the most devices that share `batch_size` equally (all, if several processes)."""
    devices = jax.devices()
    if jax.process_count() == 1:
        count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
        devices = devices[:count]
    elif batch_size % len(devices):
        raise UserError(f"--batch-size {batch_size} is no multiple of the {len(devices)} devices")
    return Mesh(np.array(devices), (AXIS,))


def put(tree, mesh, spec=REPLICATED):
    """Host arrays (equal on every process) as global arrays, replicated or sharded by `spec`."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, np.asarray(x).__getitem__),
        tree,
    )


def fetch(tree):
    """Replicated arrays as NumPy arrays on this process."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


def of_first(tree):
    """NumPy arrays of process 0, on all; those of other processes give the shapes."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def place_in_cluster():
    """(number of this process, number of processes)."""
    return jax.process_index(), jax.process_count()


def gathered(array):
    """The NumPy arrays of all processes, of one shape, as one (processes, ...)."""
    array = np.asarray(array)
    if jax.process_count() == 1:
        return array[None]
    # As bytes: JAX would make float32 of float64.
    mine = np.frombuffer(array.tobytes(), np.uint8)
    theirs = np.ascontiguousarray(multihost_utils.process_allgather(mine))
    return np.frombuffer(theirs.tobytes(), array.dtype).reshape(-1, *array.shape)


def everywhere(work):
    """work() of this process, once all have done theirs: an error on one ends all of them, on the
    others as a UserError that says it."""
    if jax.process_count() == 1:
        return work()
    result, fault, error = None, "", None
    try:
        result = work()
    except UserError as raised:
        fault = str(raised)
    except Exception as raised:  # which the others would wait for
        error = raised
        fault = f"process {jax.process_index()}: {type(raised).__name__}: {first_line(raised)}"
    padded = np.zeros(LONGEST_MESSAGE, np.uint8)
    text = fault.encode()[:LONGEST_MESSAGE]
    padded[: len(text)] = list(text)
    messages = multihost_utils.process_allgather(padded)
    if error is not None:
        raise error
    for message in messages:
        if message[0]:
            raise UserError(bytes(message[message > 0]).decode(errors="replace"))
    return result
