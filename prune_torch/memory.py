"""How much memory a network takes while it answers, in a process of its own.

    peak("small.safetensors", batch=64)  # bytes

Only Linux tells it.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import timm
import torch

from prune_torch import compact

# What the libraries keep for themselves is taken before: a small network of the same layers.
SMALL = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 3}


def peak(path, batch):
    """Bytes of resident memory that a fresh process comes to take, at most, while it loads a
    network's file and answers `batch` random images at once, in eager PyTorch on the CPU, beyond
    what it had with all libraries at work; None where the system does not tell."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak, path, batch, torch.get_num_threads()).result()


def _peak(path, batch, threads):
    torch.set_num_threads(threads)
    _answer(timm.create_model("vit_tiny_patch16_224", **SMALL), 1)
    return taken(lambda: _answer(compact.load(path).float(), batch))


@torch.inference_mode()
def _answer(model, batch):
    model.eval()(torch.randn(batch, model.in_chans, *model.patch_embed.img_size))


def taken(call):
    """Bytes of resident memory that this process comes to take, at most, in call(), beyond what it
    has before; None where the system does not tell.

    Not getrusage's maximum: that of a process begins with what the one that started it had.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    except OSError:
        return None
    before = _resident("VmRSS")
    call()
    after = _resident("VmHWM")
    return None if before is None or after is None else max(0, after - before)


def _resident(name):
    """A line of /proc/self/status in bytes, or None."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(found[0]) if found else None
