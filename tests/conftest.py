"""Four CPU devices for every test, so that data parallelism is what all tests run with."""

import os
from pathlib import Path

from hypothesis import settings

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
# Commands run as subprocesses from any folder.
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

# Examples that compile take as long as they take.
settings.register_profile("house", deadline=None, max_examples=50)
settings.load_profile("house")
