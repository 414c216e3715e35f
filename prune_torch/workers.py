"""Where the cells of a sweep run: here, in processes beside each other, or on machines of Ray."""

import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from common import datasets
from common.errors import UserError
from common.runs import atomic, cores
from prune_torch.cells import Bench, run_cell


def device_of(config, number=0):
    """The device of a worker: config.device, or GPU `number` modulo their number, or the CPU."""
    if config.device:
        return torch.device(config.device)
    gpus = torch.cuda.device_count()
    return torch.device("cuda", number % gpus) if gpus else torch.device("cpu")


def make_bench(config, number=0):
    """The data and the untrained network on a worker's device."""
    data_set = datasets.load(
        config.dataset,
        config.data_dir,
        download=config.download,
        images=config.images,
        val_fraction=config.val_fraction,
    )
    return Bench(config, data_set, device_of(config, number))


def rows(config, bench, run, keys):
    """(key, row) of each cell, as they are finished.

    bench: as for one worker, its dense network in the run folder. Networks are written to the run
    folder's cells/.
    """
    folder = run.path("cells")
    if config.ray is not None:
        yield from _by_ray(config, run.folder, folder, keys)
    elif config.jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, run_cell(bench, folder, key)
    else:
        yield from _by_processes(config, run.folder, folder, keys)


def _by_processes(config, run_folder, folder, keys):
    jobs = min(config.jobs, len(keys))
    context = get_context("spawn")
    counter = context.Value("i", 0)
    threads = max(1, cores() // config.jobs)
    arguments = (config, run_folder, threads, counter)
    with ProcessPoolExecutor(jobs, context, _start, arguments) as pool:
        try:
            futures = {pool.submit(_run, folder, key): key for key in keys}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # also Ctrl-C: nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(config, run_folder, threads, counter):
    global _bench
    torch.set_num_threads(threads)
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    _bench = make_bench(config, number)
    _bench.dense(run_folder)


def _run(folder, key):
    return run_cell(_bench, folder, key)


class Remote:
    """A worker on some machine of a Ray cluster: it gets files as bytes and gives files as bytes,
    so that the machines need no common folder but the data set."""

    def __init__(self, config, dense):
        """dense: dict of name -> bytes, the files of the dense network."""
        self.folder = Path(tempfile.mkdtemp(prefix="prune-"))
        for name, contents in dense.items():
            (self.folder / name).write_bytes(contents)
        self.bench = make_bench(config)  # Ray shows each worker its own GPU alone
        self.bench.dense(self.folder)

    def run(self, key):
        """(key, row, bytes of the network's file)."""
        row = run_cell(self.bench, self.folder, key)
        path = self.folder / row["checkpoint"]
        contents = path.read_bytes()
        path.unlink()
        return key, row, contents

    def close(self):
        """Remove the worker's files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _by_ray(config, run_folder, folder, keys):
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
        jobs = min(len(keys), places if config.jobs == 1 else config.jobs)
        dense = ray.put({path.name: path.read_bytes() for path in run_folder.glob("dense-*")})
        worker = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Remote)
        workers = [worker.remote(config, dense) for _ in range(jobs)]
        for key, row, contents in ActorPool(workers).map_unordered(
            lambda actor, key: actor.run.remote(key), keys
        ):
            with atomic(folder / row["checkpoint"]) as temporary:
                temporary.write_bytes(contents)
            yield key, row
        ray.get([actor.close.remote() for actor in workers])
    finally:
        ray.shutdown()
