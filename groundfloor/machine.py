"""What something ran on: cores, processor, versions, commit."""

import contextlib
import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path

from groundfloor import __version__

PRODUCT_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # of x86, wider and wider


def cores():
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine():
    """This machine in words: "AMD EPYC, avx2, 2 cores"."""
    return f"{_processor()}, {cores()} cores"


def _processor():
    """The processor's name and, on Linux, its widest unit for products."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    about = dict(re.findall(r"^(model name|flags)\s*:\s*(.*\S)", told, re.MULTILINE))
    if "model name" not in about:
        return platform.processor() or platform.machine()
    units = [unit for unit in PRODUCT_UNITS if unit in about.get("flags", "").split()]
    return ", ".join([about["model name"], *units[-1:]])


def environment():
    """Commit, versions, machine and time: what a result needs to be traced.

    Uncommitted changes are those of code: an experiment may have written its pictures by now.
    """
    root = Path(__file__).parent.parent
    packages = ["numpy", "scikit-learn", "jax", "jaxlib", "flax", "optax", "torch", "timm"]
    versions = {"python": platform.python_version(), "functa-studies": __version__}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "commit": _git(root, "rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(_git(root, "diff", "HEAD", "--name-only", "--", "*.py")),
        "versions": versions,
        "machine": machine(),
        "finished": now(),
    }


def now():
    """The time as text: "2026-11-28T20:06:51Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _git(root, *words):
    if not (root / ".git").exists():  # installed, perhaps inside a repository of the user's
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["git", "-C", root, *words], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    return None
