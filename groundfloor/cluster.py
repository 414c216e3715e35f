"""A Ray cluster, whose machines run what one machine would run longer at."""

from contextlib import contextmanager
from pathlib import Path

from groundfloor.errors import UserError, first_line

CODE = Path(__file__).parents[1]  # what its machines get of ours


@contextmanager
def connected(address):
    """The module `ray`, connected to a cluster until the context ends.

    address: "host:port", "auto" for the cluster that this machine belongs to, or "local" for this
    machine alone. UserError if Ray or the cluster is not there.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray needs Ray: pip install ray") from None
    here = address == "local"
    try:
        ray.init(
            address=None if here else address,
            include_dashboard=False if here else None,
            runtime_env=None if here else {"working_dir": str(CODE)},
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {address}: {first_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def places(ray):
    """(GPUs, places) of the connected cluster: a place is a GPU, or without any a core."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    return gpus, gpus or int(resources.get("CPU", 1))
