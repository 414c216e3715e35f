"""Where the cells of a sweep run: here, in processes beside each other, or on machines of Ray."""

import os
import shutil
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch

from common import batches, datasets
from common.errors import UserError
from common.runs import atomic, cores
from prune_torch.cells import Bench, run_cell
from prune_torch.methods import METHODS


def make_bench(config, number=0, bare=False):
    """The data and the untrained network on the device of worker `number`. bare: of `Bench`."""
    gpus = torch.cuda.device_count()
    device = config.device or (f"cuda:{number % gpus}" if gpus else None)
    data_set = datasets.load(
        config.dataset,
        config.data_dir,
        download=config.download,
        images=config.images,
        val_fraction=config.val_fraction,
    )
    return Bench(config, data_set, batches.choose_device(device), bare)


def rows(config, bench, run, keys):
    """(key, row) of each cell, as they are finished; a UserError in place of the row of one that
    could not be made.

    bench: as for one worker, its dense network in the run folder. Networks are written to the run
    folder's cells/.
    """
    folder = run.path("cells")
    # One search for all densities: its first cell makes it, the others come when it is there.
    leaders = {(k.method, k.seed): k for k in reversed(keys) if METHODS[k.method].one_for_all}
    followers = [k for k in keys if leaders.get((k.method, k.seed), k) != k]
    parts = [[k for k in keys if k not in followers], followers]
    if config.ray is not None:
        yield from _by_ray(config, run.folder, folder, parts)
    elif config.jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, attempt(bench, folder, key)
    else:
        yield from _by_processes(config, run.folder, folder, parts)


def attempt(bench, folder, key):
    """The row of a cell, or the UserError that ended it."""
    try:
        return run_cell(bench, folder, key)
    except UserError as error:
        return error


def _by_processes(config, run_folder, folder, parts):
    context = get_context("spawn")
    counter = context.Value("i", 0)
    arguments = (config, run_folder, max(1, cores() // config.jobs), counter)
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


def _start(config, run_folder, threads, counter):
    global _bench
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    _bench = make_bench(config, number, bare=True)
    _bench.dense(run_folder)


def _end_with_parent():
    """A killed sweep leaves no workers behind."""
    parent_process().join()
    os._exit(1)


def _run(folder, key):
    return attempt(_bench, folder, key)


class Remote:
    """A worker on some machine of a Ray cluster: it gets files as bytes and gives files as bytes,
    so that the machines need no common folder but the data set."""

    def __init__(self, config, files):
        """files: dict of name -> bytes, those of the dense network."""
        self.folder = Path(tempfile.mkdtemp(prefix="prune-"))
        self._write(files)
        self.bench = make_bench(config, bare=True)  # Ray shows each worker its own GPU alone
        self.bench.dense(self.folder)

    def _write(self, files):
        for name, contents in files.items():
            (self.folder / name).write_bytes(contents)

    def run(self, key, files):
        """(key, row or UserError, files): the network, and the search that it began with.

        files: searches of earlier cells.
        """
        self._write(files)
        row = attempt(self.bench, self.folder, key)
        paths = [self.folder / f"{key.stem}.safetensors", self.folder / key.search]
        found = {path.name: path.read_bytes() for path in paths if path.exists()}
        for path in paths:
            path.unlink(missing_ok=True)
        return key, row, found

    def close(self):
        """Remove the worker's files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _by_ray(config, run_folder, folder, parts):
    try:
        import ray
        from ray.util import ActorPool
    except ImportError:
        raise UserError("--ray needs Ray: pip install ray") from None
    here = config.ray == "local"
    try:
        ray.init(
            address=None if here else config.ray,
            include_dashboard=False if here else None,
            runtime_env=None if here else {"working_dir": str(Path(__file__).parents[1])},
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {config.ray}: {str(error).splitlines()[0]}") from None
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        places = gpus or int(ray.cluster_resources().get("CPU", 1))
        jobs = min(places, sum(map(len, parts)))
        dense = ray.put({path.name: path.read_bytes() for path in run_folder.glob("dense-*")})
        worker = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Remote)
        workers = [worker.remote(config, dense) for _ in range(jobs)]
        for keys in parts:
            names = {key.search for key in keys if (folder / key.search).exists()}
            searches = ray.put({name: (folder / name).read_bytes() for name in names})
            for key, row, files in ActorPool(workers).map_unordered(
                lambda actor, key, files=searches: actor.run.remote(key, files), keys
            ):
                for name, contents in files.items():
                    with atomic(folder / name) as temporary:
                        temporary.write_bytes(contents)
                yield key, row
        ray.get([actor.close.remote() for actor in workers])
    finally:
        ray.shutdown()
