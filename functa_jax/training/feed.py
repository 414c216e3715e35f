"""Where the images of each outer step come from: the device itself, or files read as it works.

Both feeds give what `outer_loop.make_train` asks for, and the same images for the same step: which
ones is a function of (seed, step) alone, so that a feed can begin at any step.
"""

from functools import lru_cache

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from functa_jax.model import siren
from functa_jax.training import devices
from functa_jax.training.devices import AXIS
from groundfloor import seeds

AHEAD = 512  # images that are read before they are asked for
THREADS = 16
DEVICE_SHARE = 0.25  # of a device's memory, beyond which images are not kept there
BY_IMAGE = PartitionSpec(None, AXIS)


@lru_cache(2)
def order_of_epoch(seed, epoch, images):
    """The images of an epoch in the order in which they are seen: all of them once."""
    return np.random.default_rng(seeds.fold(seed, "order", epoch)).permutation(images)


def rows_of_step(seed, step, images, batch_size):
    """Which training images step `step` sees (batch_size,): a function of seed and step alone."""
    epoch, place = divmod(step, images // batch_size)
    return order_of_epoch(seed, epoch, images)[place * batch_size : (place + 1) * batch_size]


def is_streamed(split, resident):
    """Whether a split's images are read as they are needed: those that are not in memory, and with
    "no" or (auto) more than DEVICE_SHARE of a device's memory, all others, too."""
    values = split.values
    if not isinstance(values, np.ndarray) or resident == "no":
        return True
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return resident == "auto" and limit is not None and values.nbytes > DEVICE_SHARE * limit


class Resident:
    """All samples on every device; a step's rows are taken there."""

    def __init__(self, config, samples, labels, mesh):
        """samples: training.samples.Samples; labels (n,) int, or None."""
        self.config, self.mesh, self.count = config, mesh, len(samples)
        self.whole = (
            devices.put(samples.values, mesh),
            None if labels is None else devices.put(np.int32(labels), mesh),
        )

    def steps(self, step, until):
        """(values, labels, rows (S, B)) for the steps from `step` until `until`."""
        config = self.config
        rows = [
            rows_of_step(config.seed, s, self.count, config.batch_size) for s in range(step, until)
        ]
        return *self.whole, devices.put(np.array(rows, np.int32), self.mesh, BY_IMAGE)


class Streamed:
    """Images in memory or in files, read ahead of the steps and sent to the devices a few at a
    time; every process reads those of its own devices.

    By grain (its threads read and decode; with `workers` so many processes do).
    """

    def __init__(self, model, config, split, mesh):
        """model: ModelConfig; split: a groundfloor Split, whose images may be Records."""
        self.model, self.config, self.split, self.mesh = model, config, split, mesh
        self.step, self.batches = None, None

    def steps(self, step, until):
        """(values (S, B, N, C), labels (S, B) or None, None), sharded by their place in the batch,
        for the steps from `step` until `until`."""
        if step != self.step:
            self.batches = iter(self._from(step))
        self.step = until
        images, labels = zip(*(next(self.batches) for _ in range(step, until)), strict=True)
        values = np.stack([siren.arrange(self.model, part) for part in images])
        labels = np.int32(np.stack(labels)) if self.config.class_loss else None
        return self._put(values), labels if labels is None else self._put(labels), None

    def _from(self, step):
        import grain
        from absl import flags

        config = self.config
        process, processes = devices.place_in_cluster()
        share = config.batch_size // processes
        read = Reader(self.split, config.seed, config.batch_size, share, process)
        images = grain.MapDataset.range(step * share, config.steps * share).map(read)
        stream = images.to_iter_dataset(grain.ReadOptions(THREADS, AHEAD)).batch(share)
        if config.workers:
            if not flags.FLAGS.is_parsed():  # grain asks them; our commands have none of them
                flags.FLAGS.mark_as_parsed()
            stream = stream.mp_prefetch(grain.MultiprocessingOptions(config.workers))
        return stream

    def _put(self, array):
        sharding = NamedSharding(self.mesh, BY_IMAGE)
        return jax.make_array_from_process_local_data(sharding, array)


class Reader:
    """The image and the label number i of all that this process will see.

    Without JAX, for worker processes.
    """

    def __init__(self, split, seed, batch_size, share, process):
        """share: images of a batch that are this process's."""
        self.split, self.seed, self.batch_size = split, seed, batch_size
        self.share, self.process = share, process

    def __call__(self, number):
        step, place = divmod(int(number), self.share)
        rows = rows_of_step(self.seed, step, len(self.split), self.batch_size)
        row = rows[self.process * self.share + place]
        return self.split.images[row], self.split.labels[row]
