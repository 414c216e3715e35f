"""Where the cells of a sweep run: here, in processes beside each other, or on machines of Ray."""

import os
import shutil
import signal
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch

from groundfloor import cluster
from groundfloor.errors import UserError
from groundfloor.machine import cores
from groundfloor.pytorch import batches
from groundfloor.runs import atomic
from prune_torch.methods import METHODS
from prune_torch.protocol.bench import Bench
from prune_torch.protocol.cells import run_cell


def make_bench(config, number=0, dense=None):
    """The data and the network on the device of worker `number`. dense: of `Bench`."""
    gpus = torch.cuda.device_count()
    device = config.device or (f"cuda:{number % gpus}" if gpus else None)
    data_set = config.load(images=config.images, val_fraction=config.val_fraction)
    return Bench(config, data_set, batches.choose_device(device), dense)


def rows(config, bench, dense, run, keys):
    """(key, row) of each cell, as they are finished; a UserError in place of the row of one that
    could not be made.

    bench: as for one worker, with its dense network, whose file is `dense`. Networks are written to
    the run folder's cells/.
    """
    folder = run.path("cells")
    # One search for all densities: its first cell makes it, the others come when it is there.
    leaders = {(k.method, k.seed): k for k in reversed(keys) if METHODS[k.method].one_for_all}
    followers = [k for k in keys if leaders.get((k.method, k.seed), k) != k]
    parts = [[k for k in keys if k not in followers], followers]
    if config.ray is not None:
        yield from _by_ray(config, bench, dense, folder, parts)
    elif config.jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, attempt(bench, folder, key)
    else:
        yield from _by_processes(config, dense, folder, parts)


def attempt(bench, folder, key):
    """The row of a cell, or the UserError that ended it."""
    try:
        return run_cell(bench, folder, key)
    except UserError as error:
        return error


def _by_processes(config, dense, folder, parts):
    context = get_context("spawn")
    counter = context.Value("i", 0)
    arguments = (config, dense, max(1, cores() // config.jobs), counter)
    with ProcessPoolExecutor(config.jobs, context, _start, arguments) as pool:
        try:
            for keys in parts:
                futures = {pool.submit(_run, folder, key): key for key in keys}
                for future in as_completed(futures):
                    yield futures[future], future.result()
        except BrokenProcessPool:
            raise UserError("a worker was killed, perhaps for memory: try fewer --jobs") from None
        except BaseException:  # also Ctrl-C: nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(config, dense, threads, counter):
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    _bench = make_bench(config, number, dense)


def _end_with_parent():
    """A killed sweep leaves no workers behind."""
    parent_process().join()
    os._exit(1)


def _run(folder, key):
    return attempt(_bench, folder, key)


class Remote:
    """A worker on some machine of a Ray cluster: it gets files as bytes and gives files as bytes,
    so that the machines need no common folder but the data set."""

    def __init__(self, config, name, contents):
        """Name and bytes of the dense network's file."""
        self.folder = Path(tempfile.mkdtemp(prefix="prune-"))
        _write(self.folder, {name: contents})
        # Ray shows each worker its own GPU alone.
        self.bench = make_bench(config, dense=self.folder / name)

    def run(self, key, files):
        """(key, row or UserError, files): the network, and the search that it began with.

        files: searches of earlier cells.
        """
        _write(self.folder, files)
        row = attempt(self.bench, self.folder, key)
        written = _read(self.folder, [f"{key.stem}.safetensors", f"{key.search(self.bench)}/*.pt"])
        for name in written:
            (self.folder / name).unlink()
        return key, row, written

    def close(self):
        """Remove the worker's files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(folder, patterns):
    """dict of name in `folder` -> bytes."""
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _write(folder, files):
    for name, contents in files.items():
        with atomic(folder / name) as temporary:
            temporary.write_bytes(contents)


def _by_ray(config, bench, dense, folder, parts):
    with cluster.connected(config.ray) as ray:
        from ray.util import ActorPool

        gpus, places = cluster.places(ray)
        jobs = min(places, sum(map(len, parts)))
        contents = ray.put(dense.read_bytes())
        worker = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Remote)
        workers = [worker.remote(config, dense.name, contents) for _ in range(jobs)]
        for keys in parts:
            searches = ray.put(_read(folder, {f"{key.search(bench)}/*.pt" for key in keys}))
            for key, row, files in ActorPool(workers).map_unordered(
                lambda actor, key, files=searches: actor.run.remote(key, files), keys
            ):
                _write(folder, files)
                yield key, row
        ray.get([actor.close.remote() for actor in workers])
