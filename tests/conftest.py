"""Four CPU devices for every test, so that data parallelism is what all tests run with."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings

# Unoptimised code: compiling takes most of the time. Flags of the caller stay, so that the suite
# can be run for another processor: XLA_FLAGS=--xla_cpu_max_isa=AVX2 make test.
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):  # once, however many processes inherit them
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"
# Commands run as subprocesses from any folder.
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

# Workers and subprocesses of one session share what they compiled.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="functa-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Examples that compile take as long as they take.
settings.register_profile("house", deadline=None, max_examples=50)
settings.load_profile("house")
