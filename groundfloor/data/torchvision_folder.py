"""MNIST, CIFAR and their kin in the folders that torchvision makes, or downloads."""

import hashlib
import math
from pathlib import Path

import numpy as np

from groundfloor.data.split import Split, damaged
from groundfloor.errors import UserError, first_line

TORCHVISION = {  # name: class, folder inside data_dir, training images (all have 10,000 for test)
    "mnist": ("MNIST", "MNIST/raw", 60_000),
    "fashion_mnist": ("FashionMNIST", "FashionMNIST/raw", 60_000),
    "kmnist": ("KMNIST", "KMNIST/raw", 60_000),
    "cifar10": ("CIFAR10", "cifar-10-batches-py", 50_000),
    "cifar100": ("CIFAR100", "cifar-100-python", 50_000),
}


def read(name, data_dir, folder, download):
    """({"train": Split, "test": Split}, num_classes) of a set that lies in `folder` of data_dir."""
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name][0])
    splits = []
    try:
        for train in (True, False):
            source = kind(data_dir, train=train, download=download)
            images, labels = np.asarray(source.data), np.asarray(source.targets, np.int64)
            images = images.reshape(*images.shape[:3], -1)
            splits.append(Split(images, labels, np.arange(len(images), dtype=np.int64)))
    except Exception as error:  # torchvision raises many kinds of error for the same damage
        path = _first_bad_file(kind, folder)
        if path and path.is_file():
            damaged(path, "truncated or damaged")
        if download:
            raise UserError(
                f"download of {name} into {data_dir} failed ({first_line(error)}): try again, "
                f"or copy the files into {folder}"
            ) from None
        damaged(path or folder, "missing" if path else first_line(error))
    return dict(zip(("train", "test"), splits, strict=True)), len(source.classes)


def _first_bad_file(kind, folder):
    """The first file of a torchvision folder that is missing or damaged."""
    if hasattr(kind, "resources"):  # the MNIST family: idx files, whose head tells their size
        for name, _ in kind.resources:
            path = folder / Path(name).stem
            data = path.read_bytes() if path.is_file() else b""
            start = 4 + 4 * data[3] if len(data) > 16 else 0
            if not start or len(data) - start != math.prod(np.frombuffer(data[4:start], ">u4")):
                return path
        return None
    meta = [(kind.meta["filename"], kind.meta["md5"])]
    for name, md5 in kind.train_list + kind.test_list + meta:
        path = folder / name
        if not path.is_file() or hashlib.md5(path.read_bytes()).hexdigest() != md5:
            return path
    return None
