"""Look inside a trained network: filters, preferred images, the loss around it, mistakes.

All pictures are of one network. Confusion and mistakes are of the test images.
"""

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.nn import functional as F

from groundfloor import npz, seeds
from groundfloor.pytorch.autocast import autocast
from optim_torch.study import figures as pictures
from optim_torch.study.averaging import answering
from optim_torch.study.surface import surface

NAMES = {
    "cifar10": ["airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
}
COLUMNS = 10  # images a row in the picture of what units want
ASCENT_STEPS, ASCENT_RATE = 256, 0.05
SMOOTHNESS = 2.0  # weight of the total variation, the mean over pixels
SURFACE_IMAGES = 1000


def look(folder, model, data, config):
    """Draw all pictures into `folder`; returns the numbers of the surface (JSON-able)."""
    names = NAMES.get(config.dataset, tuple(map(str, range(data.classes))))
    model.eval()
    pictures.filters(folder / "filters.png", first_filters(model))
    pictures.wanted(folder / "maximisation.png", wanted(model, data, names))
    steps, loss = surface(
        model,
        data.inputs(data.train.pixels[:SURFACE_IMAGES]),
        data.train.labels[:SURFACE_IMAGES],
        points=config.surface,
    )
    npz.write(folder.parent / "surface.npz", {"steps": steps, "loss": loss}, compressed=True)
    pictures.surface(folder / "surface.png", steps, loss)
    with autocast(data.test.pixels.device, config.precision):
        probability = probabilities(answering(config, model), data, data.test)
    labels = data.test.labels.cpu().numpy()
    counts = confusion_matrix(labels, probability.argmax(1), labels=range(data.classes))
    pictures.confusion(folder / "confusion.png", counts, names)
    error = calibration_error(probability, labels)
    right = probability.argmax(1) == labels
    pictures.calibration(folder / "calibration.png", probability.max(1), right, error)
    wrong = mistakes(probability, labels, 24)
    shown = data.test.pixels[torch.from_numpy(wrong).to(data.test.pixels.device)]
    pictures.mistakes(
        folder / "mistakes.png",
        shown.permute(0, 2, 3, 1).cpu().numpy(),
        probability[wrong],
        labels[wrong],
        names,
    )
    middle = config.surface // 2
    return {
        "surface_loss": {
            "centre": float(loss[middle, middle]),
            "lowest": float(np.nanmin(loss)),
            "at_half_radius": float(np.nanmean(_ring(steps, loss))),
        },
        "confusion": counts.tolist(),
        "calibration_error": error,
    }


def passes(config, data):
    """What `look` costs, in training passes (forward and backward) of one image."""
    ascent = ASCENT_STEPS * (data.classes + 2 * COLUMNS)
    forwards = config.surface**2 * min(SURFACE_IMAGES, len(data.train)) + len(data.test)
    return ascent + forwards / 3


def _ring(steps, loss):
    """Losses of the points nearest to half the radius."""
    distance = np.hypot(*np.meshgrid(steps, steps))
    return loss[np.abs(distance - 0.5) <= (steps[1] - steps[0]) / 2]


def first_filters(model):
    """Weights of the first convolution, (filters, channels, height, width)."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return first.weight.detach().cpu().numpy()


@torch.no_grad()
def probabilities(model, data, images):
    """Of each class for each image, (n, classes)."""
    parts = [F.softmax(model(data.inputs(part)).float(), 1) for part in images.pixels.split(250)]
    return torch.cat(parts).cpu().numpy()


def calibration_error(probability, labels):
    """The expected calibration error, of 1 (Guo et al. 2017): how far the share that is right lies
    from the mean probability of the guess, in bins of equal width, weighted by images.

    probability (n, classes), labels (n,).
    """
    confidence, right = probability.max(1), probability.argmax(1) == labels
    bins = np.minimum((confidence * pictures.BINS).astype(int), pictures.BINS - 1)
    gaps = np.bincount(bins, right - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(labels))


def mistakes(probability, labels, count):
    """The images that the network gets wrong with the most confidence: at most `count` rows.

    probability (n, classes), labels (n,) -> rows, the most confident first.
    """
    predicted = probability.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    order = np.argsort(-probability[wrong, predicted[wrong]], kind="stable")
    return wrong[order][:count]


def wanted(model, data, names):
    """What classes and channels answer to most: [(title, images (k, h, w, c) in [0, 1], labels)].

    Channels are of a middle convolution and of the last, before the activation, if any stands
    outside residual blocks.
    """
    title = "classes: the images that raise each class's logit most"
    groups = [(title, maximise(model, data, range(data.classes)), names)]
    places = [i for i, part in enumerate(model.features) if isinstance(part, nn.Sequential)]
    for number in dict.fromkeys((len(places) // 2, len(places) - 1)) if places else ():
        part = model.features[places[number]]
        until = nn.Sequential(*model.features[: places[number]], *part[:-1])
        channels = range(min(COLUMNS, part[0].out_channels))
        title = f"channels of convolution {number + 1} (outside residual blocks)"
        labels = [f"channel {channel}" for channel in channels]
        groups.append((title, maximise(until, data, channels), labels))
    return groups


def maximise(model, data, units):
    """Images that raise one unit each: gradient ascent on the pixels (Erhan et al. 2009).

    model: inputs -> (n, units), or (n, units, height, width), whose middle position is raised.
    units: indices. Pixels are sigmoids of what Adam climbs in, from faint noise around grey. The
    total variation holds the image back, and so do shifts by up to a sixteenth of its side. A unit
    counts in standard deviations over training images, so that all are held back alike.
    Returns (k, h, w, c) in [0, 1].
    """
    height, _, channels = data.shape
    device, units = data.train.pixels.device, torch.as_tensor(list(units))
    generator = torch.Generator().manual_seed(seeds.fold(0, "ascent"))
    start = 0.1 * torch.randn((len(units), channels, *data.shape[:2]), generator=generator)
    hidden = start.to(device).requires_grad_()
    optimizer = torch.optim.Adam([hidden], ASCENT_RATE)
    rows, units = torch.arange(len(units), device=device), units.to(device)
    reach = height // 16
    with torch.no_grad():
        usual = _middle(model(data.inputs(data.train.pixels[:250])))[:, units]
        scale = usual.std(0).clamp_min(1e-6)
    for _ in range(ASCENT_STEPS):
        image = hidden.sigmoid()
        down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        inputs = (image.roll((down, right), (2, 3)) - data.normalise.mean) / data.normalise.std
        raised = _middle(model(inputs))[rows, units] / scale
        variation = sum(image.diff(dim=axis).abs().mean((1, 2, 3)) for axis in (2, 3))
        optimizer.zero_grad()
        (SMOOTHNESS * variation - raised).sum().backward()
        optimizer.step()
    return hidden.detach().sigmoid().permute(0, 2, 3, 1).cpu().numpy()


def _middle(answer):
    """(n, units) -> itself, (n, units, height, width) -> the middle position (n, units)."""
    if answer.dim() == 2:
        return answer
    return answer[:, :, answer.shape[2] // 2, answer.shape[3] // 2]
