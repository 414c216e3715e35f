"""Data sets by name or path: images, or functions of any modality."""

import contextlib
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from functa_jax.modalities.modality import refuse_outside
from functa_jax.scenes import srn, views
from groundfloor.data import datasets, folder
from groundfloor.errors import UserError

# Files of functa_jax.modalities.
COMPUTED = ("voxels", "stacks", "sphere", "sound", "video")
SUFFIXES = (".nii", ".nii.gz", ".wav", ".npy")  # of functions in a folder


def load(config, images=None, resident="yes"):
    """The Dataset or the FunctionSet that a DataConfig names, at most `images` of each split.

    resident: of `datasets.load`, for images.
    """
    if not is_of_functions(config.dataset):
        return config.load(images=images, resident=resident)
    scenes = is_of_scenes(config.dataset)
    for name in (*(() if scenes else ("resolution",)), "download", "skip_damaged"):
        if getattr(config, name):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} is for images; {config.dataset} are other functions")
    return functions(config.dataset, config.data_dir, images, config.resolution)


def recognised(data, known, loaded):
    """A Dataset by the fingerprint `known` to a run, if it has the images of that run read in the
    other way, in memory or from their files; else as it is.

    loaded: function of `resident` that loads it.
    """
    if known in (None, data.fingerprint):
        return data
    other = "no" if isinstance(data.train.images, np.ndarray) else "auto"
    with contextlib.suppress(UserError):
        if loaded(other).fingerprint == known:
            return replace(data, fingerprint=known)
    return data


def functions(name, data_dir=None, images=None, side=None):
    """The FunctionSet of a name in COMPUTED, or of one's own files.

    side: of the views of scenes, in pixels; None for their usual one.
    """
    if is_of_scenes(name):
        options = {} if side is None else {"side": side}
        if name == "scenes":
            return views.load(data_dir, images, **options)
        return srn.load(name, images, **options)
    if name in COMPUTED:
        return import_module(f"functa_jax.modalities.{name}").load(data_dir, images)
    from functa_jax.modalities import files

    return files.load(name, images)


def is_of_scenes(name):
    """Whether a data set's name or path is one of scenes."""
    return name == "scenes" or srn.is_folder(name)


def is_of_functions(name):
    """Whether a data set's name or path is one of functions other than images.

    A name of images stays one, whatever lies in the working folder. A file that cannot be looked
    into is left to the reader of images, who says so.
    """
    if name in datasets.EMBEDDED or name in datasets.TORCHVISION:
        return False
    if name in COMPUTED or is_of_scenes(name):
        return True
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            names = [file.name.lower() for file in folder.files(path)]
            kinds = (SUFFIXES, folder.SUFFIXES)
            functions, images = (sum(name.endswith(kind) for name in names) for kind in kinds)
            return functions > images
        if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return {"values.npy", "train_values.npy"} & set(archive.namelist()) != set()
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile):
        return False


def refuse_other_kind(functa, run, data):
    """UserError where a run's functa and a data set are not of one kind."""
    name = data.name
    if isinstance(data, datasets.Dataset) != functa.of_images:
        kind = "images" if functa.of_images else "other functions"
        raise UserError(f"{run} was made for {kind}, which {name} has none of")
    if functa.of_images:
        shape = data.train.images.shape[1:]
        made_for = (*functa.resolution, functa.config.channels)
        if shape != made_for:
            raise UserError(f"images of {name} are {shape}; {run} was made for {made_for}")
        return
    kinds = [
        (data.train.coords.shape[-1], data.train.values.shape[-1]),
        (functa.config.inputs, functa.config.channels),
    ]
    if kinds[0] != kinds[1]:
        given, made_for = (f"from {inputs} to {channels} numbers" for inputs, channels in kinds)
        raise UserError(f"functions of {name} are {given}; {run} was made for those {made_for}")
    for split in (data.train, data.val, data.test):
        refuse_outside(functa.config.modality, split.coords, f"points of {name}", functa.coords)
