"""One data-parallel axis over every device of this process, or of all processes.

A CPU counts as one device per core: XLA runs elementwise work of one device on one thread, so
two half batches side by side use two cores where one whole batch would not.
"""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from common.runs import cores

AXIS = "data"
REPLICATED = PartitionSpec()


def one_cpu_device_per_core():
    """Ask for it before JAX starts; a no-op for GPUs, or when XLA_FLAGS already set the number."""
    if "device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())


def join_cluster(coordinator, processes, process):
    """Join several processes into one run. coordinator is "host:port", or "auto" to take all
    three from the cluster's environment (Slurm, Open MPI, Kubernetes; see jax.distributed)."""
    if coordinator == "auto":
        jax.distributed.initialize()
    else:
        jax.distributed.initialize(coordinator, processes, process)


def data_mesh(batch_size):
    """A mesh over the most devices that share `batch_size` equally (all, if several processes)."""
    devices = jax.devices()
    if jax.process_count() == 1:
        count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
        devices = devices[:count]
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


def wait_for_all():
    """Return once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("end")
