"""Accuracy of a network, dense and sparse."""

import contextlib

import torch
from torch.optim.swa_utils import update_bn

from groundfloor.errors import UserError
from groundfloor.pytorch import batches
from optim_torch.dessilbi import structure
from optim_torch.dessilbi.optimizer import DessiLBI


@torch.no_grad()
def accuracy(model, images, normalise, batch_size=1000):
    """Share of images that the network (in evaluation mode) gives their label.

    ValueError where there are no images, as no number is right then; UserError where outputs are
    not finite: the largest of NaNs is the first, and its share would pass for an accuracy.
    """
    if not len(images):
        raise ValueError("there are no images to evaluate on")
    model.eval()
    hits = 0
    for pixels, labels in zip(
        images.pixels.split(batch_size), images.labels.split(batch_size), strict=True
    ):
        outputs = model(normalise(pixels))
        if not outputs.isfinite().all():
            raise UserError("the network's outputs are not finite; lower the learning rate")
        hits += int((outputs.argmax(1) == labels).sum())
    return hits / len(images)


@contextlib.contextmanager
def recalibrated(model, images, normalise, augment, steps=50, batch_size=200):
    """Inside, BatchNorm's statistics are those of the weights as they are now, measured on train
    images; after, its own again, bit for bit. Nothing for networks without BatchNorm.

    augment: of `batches.batch`, as in training: without the black borders of its crops a ResNet-20
    loses three points. Random numbers drawn afterwards are what they would have been.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        if buffers:
            with torch.random.fork_rng():
                size = min(batch_size, len(images))
                count = min(steps, len(images) // size)
                drawn = (batches.batch(images, size, 0, step, augment)[0] for step in range(count))
                update_bn(map(normalise, drawn), model)
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def accuracies(model, optimizer, train_images, images, normalise, augment):
    """Accuracy of W, of W on supp Γ, and of Γ itself, each with its share of nonzero parameters.

    One protocol for all: BatchNorm's statistics are measured anew, on the same train images, for
    the weights that are evaluated, as `recalibrated` says. The running ones lag behind even those
    of W.
    """
    parameters = list(model.parameters())
    nonzero = sum(int(p.count_nonzero()) for p in parameters) / sum(p.numel() for p in parameters)
    with recalibrated(model, train_images, normalise, augment):
        results = {"w": {"accuracy": accuracy(model, images, normalise), "density": nonzero}}
    if isinstance(optimizer, DessiLBI):
        for name, weights in (
            ("w_on_support", structure.restricted(optimizer, structure.masks(optimizer))),
            ("gamma", structure.gammas(optimizer)),
        ):
            with (
                structure.swapped(optimizer, weights),
                recalibrated(model, train_images, normalise, augment),
            ):
                results[name] = {
                    "accuracy": accuracy(model, images, normalise),
                    "density": structure.density(optimizer),
                }
    return results
