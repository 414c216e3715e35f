"""Tiny runs of digits with untrained functas, shared by the tests of all tasks."""

from dataclasses import replace

import numpy as np
import pytest

from functa_jax.evaluation import reconstruction
from functa_jax.functa import Functa
from functa_jax.model import siren
from functa_jax.training import exporter
from functa_jax.training.exporter import Augmentation
from groundfloor.data import datasets
from groundfloor.runs import write_json

IMAGES = 60  # of each split
MODEL = siren.ModelConfig(1, width=8, depth=3, latent_dim=6, w0=5.0, rate_start=1.0)


def write_run(folder, model, copies=0, dataset="digits"):
    """A run folder with functa, functaset and the PCA of its images."""
    functa = Functa(model, siren.init(model, 0), (8, 8), metadata={"data": dataset})
    functa.save(folder / "functa.npz")
    write_json(folder / "config.json", {"dataset": dataset, "resolution": None, "images": IMAGES})
    data = datasets.load(dataset, images=IMAGES)
    exporter.export(functa, data, folder / "functaset.npz", Augmentation(copies, pad=1))
    reconstruction.whole_pca(data.train.images, folder)
    return folder


@pytest.fixture(scope="session")
def vectors(tmp_path_factory):
    """A run whose latents are vectors of six numbers."""
    return write_run(tmp_path_factory.mktemp("vectors"), MODEL)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory):
    """As `vectors`, of the same images without labels."""
    folder, data = tmp_path_factory.mktemp("unlabelled"), datasets.load("digits", images=IMAGES)
    images = {f"{part}_images": getattr(data, part).images for part in ("train", "val", "test")}
    np.savez(folder / "images.npz", **images)
    return write_run(folder, MODEL, dataset=str(folder / "images.npz"))


@pytest.fixture(scope="session")
def grids(tmp_path_factory):
    """A run whose latents are grids of 2 x 2 cells of six numbers, with a copy of each image."""
    return write_run(tmp_path_factory.mktemp("grids"), replace(MODEL, grid=2), copies=1)
