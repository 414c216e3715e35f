"""Four CPU devices for every test, so that data parallelism is what all tests run with."""

import gc
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from hypothesis import settings

from groundfloor.data.decoded import cache_home


def kept_compilations():
    """The folder of this machine's compiled programs; old ones of other versions go."""
    about = [platform.machine(), sys.version, version("jax"), version("jaxlib")]
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        lines = cpu.read_text().splitlines()
        about += sorted({line for line in lines if line.startswith(("model name", "flags"))})
    try:
        digest = hashlib.sha256("\n".join(about).encode()).hexdigest()
        ours = cache_home() / "functa" / "compiled" / digest[:16]
        ours.mkdir(parents=True, exist_ok=True)
    except (OSError, TypeError):  # nowhere to keep it
        return tempfile.mkdtemp(prefix="functa-compiled-")
    for other in ours.parent.iterdir():  # of versions that nobody has used for a month
        if other != ours and other.stat().st_mtime < time.time() - 30 * 86400:
            shutil.rmtree(other, ignore_errors=True)
    return ours


# Unoptimised code: compiling takes most of the time. Flags of the caller stay, so that the suite
# can be run for another processor: XLA_FLAGS=--xla_cpu_max_isa=AVX2 make test.
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):  # once, however many processes inherit them
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"
# Where in Python an operation came from is of no use here, and takes a tenth of the time.
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
# Commands run as subprocesses from any folder.
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

# What was compiled is kept for the next session, by versions and processor (XLA's flags are in
# JAX's own keys). Workers and subprocesses inherit the folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    folder = kept_compilations()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# JAX and PyTorch make many objects that live long: collecting them often finds little.
gc.set_threshold(50_000, 20, 100)

# Examples that compile take as long as they take.
settings.register_profile("house", deadline=None, max_examples=50)
settings.load_profile("house")
