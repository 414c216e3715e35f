"""Images resident on the device: normalisation, batches and augmentation without workers."""

import functools
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from groundfloor import seeds
from groundfloor.errors import UserError, first_line


@dataclass(frozen=True, eq=False)
class Images:
    """One split on a device: pixels uint8 (n, c, h, w), labels int64 (n,)."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self):
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """(pixel / 255 - mean) / std, by channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __call__(self, pixels):
        """uint8 (n, c, h, w) -> float32 of the same shape."""
        return (pixels.float() / 255 - self.mean) / self.std


def choose_device(name):
    """The torch device of that name, or the best there is; UserError if it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # "meta" holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {first_line(error)}") from None
    return device


def on_device(split, device):
    """A `groundfloor.data.datasets` split as `Images` on a device."""
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
    return Images(pixels.to(device), torch.from_numpy(split.labels).to(device))


def normalisation(images, standardise):
    """Of these training images if `standardise`, else pixels stay in [0, 1].

    A channel that is the same everywhere is only centred.
    """
    channels, device = images.pixels.shape[1], images.pixels.device
    if not standardise:
        shape = (1, channels, 1, 1)
        return Normalisation(torch.zeros(shape, device=device), torch.ones(shape, device=device))
    pixels = images.pixels[:10_000]
    std, mean = torch.std_mean(pixels.float() / 255, dim=(0, 2, 3), keepdim=True)
    least, most = (end(pixels, dim=(0, 2, 3), keepdim=True) for end in (torch.amin, torch.amax))
    return Normalisation(mean, torch.where(least == most, 1.0, std))


@functools.lru_cache(maxsize=4)
def order(count, seed, epoch, device="cpu"):
    """The order of `count` images in an epoch: a function of (seed, epoch) alone.

    It is made once for all steps of the epoch: do not write into it.
    """
    generator = torch.Generator().manual_seed(seeds.fold(seed, "order", epoch))
    return torch.randperm(count, generator=generator).to(device)


def rows(count, size, seed, step, device="cpu"):
    """Which of `count` images are the batch of a step, (size,): a function of (seed, step) alone.

    Epochs are full batches; the images left over wait for another order.
    """
    size = min(size, count)
    epoch, within = divmod(step, count // size)
    return order(count, seed, epoch, device)[within * size : (within + 1) * size]


def batch(images, size, seed, step, augment=False):
    """Pixels and labels of a training step: a function of (seed, step) alone.

    augment: False, True (`crop_and_flip`), or "alternating": shifts by up to 2 pixels with
    reflected borders, each image mirrored in every other epoch (Jordan 2024).
    Sets PyTorch's random state (`seed_step`), from which augmentation and dropout draw.
    """
    seed_step(seed, step)
    device = images.labels.device
    chosen = rows(len(images), size, seed, step, device)
    pixels = images.pixels[chosen]
    if augment == "alternating":
        mirrored = alternating(len(images), size, seed, step, chosen)
        pixels = crop_and_flip(pixels, 2, mirrored, reflect=True)
    elif augment:
        pixels = crop_and_flip(pixels)
    return pixels, images.labels[chosen]


def alternating(count, size, seed, step, chosen):
    """Which of the rows `chosen` of `count` images are mirrored in a step of `size` images, bool
    like them: half in even epochs, the others in odd ones."""
    odd = step // (count // min(size, count)) % 2
    return coins(count, seed, chosen.device)[chosen] ^ bool(odd)


@functools.lru_cache(maxsize=4)
def coins(count, seed, device="cpu"):
    """Which of `count` images are mirrored in even epochs, bool (count,): a function of the seed.

    It is made once: do not write into it.
    """
    generator = torch.Generator().manual_seed(seeds.fold(seed, "mirrored"))
    return (torch.rand(count, generator=generator) < 0.5).to(device)


def seed_step(seed, step):
    """Set PyTorch's random state, from which augmentation and dropout of a step draw: a function
    of (seed, step) alone, so that a resumed run is the same run."""
    torch.manual_seed(seeds.fold(seed, "step", step))


def crop_and_flip(pixels, padding=4, mirrored=None, reflect=False):
    """Each image shifted by up to `padding` pixels (zeros move in), and mirrored half the time.

    pixels (n, c, h, w) -> the same shape; drawn from the device's random state. mirrored: which
    are, bool (n,); none draws. reflect: what moves in is the image, reflected at its border.
    """
    n, c, h, w = pixels.shape
    if reflect:
        padded = F.pad(pixels.float(), (padding,) * 4, mode="reflect").to(pixels.dtype)
    else:
        padded = F.pad(pixels, (padding,) * 4)
    draw = {"device": pixels.device}
    top = torch.randint(0, 2 * padding + 1, (n, 1), **draw)
    left = torch.randint(0, 2 * padding + 1, (n, 1), **draw)
    rows = top + torch.arange(h, **draw)
    columns = left + torch.arange(w, **draw)
    mirrored = torch.rand(n, **draw) < 0.5 if mirrored is None else mirrored
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    image = torch.arange(n, **draw)
    return padded[
        image[:, None, None, None],
        torch.arange(c, **draw)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
