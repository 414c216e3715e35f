"""Training on images that are read from their files, beside the same on images in memory.

A part of experiments.bench, for which CIFAR-10 has to be there as TFDS keeps it. Each turn begins
with dispatches that are not counted: in them the images are used up that the stream had read ahead
while the other worked.
"""

import statistics
import time
from dataclasses import replace
from operator import truediv

from functa_jax import meta_train
from groundfloor.data.records import Records
from groundfloor.errors import UserError

CIFAR10 = {"dataset": "cifar10", "steps": 1_000_000}  # as many as are needed
NETWORKS = {
    "cifar10-spatial-cpu": replace(meta_train.PRESETS["cifar10-spatial-cpu"], **CIFAR10),
    "digits' network": replace(meta_train.PRESETS["digits"], **CIFAR10),  # the quickest step
}


def rows(config):
    """One row a network: images a second of both, and their ratio, by rounds."""
    from functa_jax.training import devices

    devices.one_cpu_device_per_core()
    return (row(name, settings, config) for name, settings in NETWORKS.items())


def row(name, settings, config):
    """The row of a network with the settings of meta_train; config: of experiments.bench."""
    import jax

    from functa_jax.training import feed

    images = settings.dispatch * settings.batch_size
    times = {training(replace(settings, resident=r)): [] for r in ("no", "yes")}
    for turn in times:
        turn()  # compiles
    for _ in range(config.rounds):
        for turn, measured in times.items():
            for _ in range(0, feed.AHEAD, images):
                turn()
            measured.append(average_seconds(turn, config.seconds))
    streamed, resident = (images / statistics.median(measured) for measured in times.values())
    streamed_times, resident_times = times.values()
    return {
        "network": name,
        "streamed_images_per_s": round(streamed, 1),
        "resident_images_per_s": round(resident, 1),
        "ratio": round(statistics.median(map(truediv, resident_times, streamed_times)), 3),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}",
    }


def average_seconds(turn, at_least):
    """Seconds of a turn(), the mean of as many as begin within `at_least` seconds; of one if 0."""
    turns, began = 0, time.perf_counter()
    while not turns or time.perf_counter() - began < at_least:
        turn()
        turns += 1
    return (time.perf_counter() - began) / turns


def training(settings):
    """turn(): the next dispatch of outer steps."""
    import jax

    from functa_jax.modalities import loading
    from functa_jax.training import devices, loop, outer_loop

    data = loading.load(settings, None, settings.resident)
    if settings.resident == "no" and not isinstance(data.train.images, Records):
        raise UserError(f"{settings.dataset} is not there as TFDS keeps it (tfds build)")
    model = loop.model_config(settings, data)
    mesh = devices.data_mesh(settings.batch_size)
    steps = loop.OuterSteps(settings, data, model, mesh)
    start = outer_loop.init_state(model, settings, data.num_classes)
    state = devices.put(jax.device_get(start), mesh)
    done = 0

    def turn():
        nonlocal state, done
        state, metrics = steps(state, done, done + settings.dispatch)
        done += settings.dispatch
        devices.fetch(metrics)

    return turn
