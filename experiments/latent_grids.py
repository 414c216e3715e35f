"""Grids of cells that a ConvNet reads as pictures: latents, PCA of patches, patches."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.decomposition import PCA

from experiments.latent_classification import balanced
from groundfloor.pytorch import batches
from optim_torch.study import trials

DROPPED = 0.1  # share of the cells, in training
PIECE = 2048  # images encoded or decoded at a time
FOUR = 4  # pixels a side of a patch: of CIFAR-10 8x8 cells


@dataclass(frozen=True, eq=False)
class Grids(trials.Data):
    """Grids of cells (n, c, s, s), standardised, with those of the mirrored training images."""

    mirrored: torch.Tensor

    @classmethod
    def of(cls, parts, labels, classes):
        """parts: dict of train, mirrored, val, test (n, s, s, c); labels: dict of (n,)."""
        mean, std = (f(parts["train"], axis=(0, 1, 2), dtype=np.float64) for f in (np.mean, np.std))

        def tensor(name):
            scaled = np.float16((parts[name] - mean) / np.where(std > 0, std, 1))
            return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()

        splits = [
            batches.Images(tensor(name), torch.from_numpy(labels[name]))
            for name in ("train", "val", "test")
        ]
        return cls(*splits, torch.Tensor.float, classes, tensor("mirrored"))

    def batch(self, config, seed, step):
        """Cells of a training step: mirrored, shifted by up to one, dropped."""
        batches.seed_step(seed, step)
        count = len(self.train)
        size = min(config.batch_size, count)
        rows = batches.rows(count, size, seed, step)
        other = batches.alternating(count, size, seed, step, rows)
        cells = torch.where(
            other[:, None, None, None], self.mirrored[rows], self.train.pixels[rows]
        )
        cells = batches.crop_and_flip(cells, 1, torch.zeros(size, dtype=torch.bool))
        kept = torch.rand(size, 1, *cells.shape[2:]) >= DROPPED
        return cells * kept, self.train.labels[rows]

    def fewer(self, count, seed):
        """The same with `count` training images alone, as many of each class; a draw a seed."""
        random = np.random.default_rng((seed, count))
        rows = balanced(self.train.labels.numpy(), count // self.classes, random)
        train = batches.Images(self.train.pixels[rows], self.train.labels[rows])
        return replace(self, train=train, mirrored=self.mirrored[rows])


def grid_kinds(functa, data):
    """{kind: function of images (n, 32, 32, 3) uint8 -> cells (n, s, s, c)}."""

    def patches(images):
        n, height, width, channels = images.shape
        blocks = images.reshape(n, height // FOUR, FOUR, width // FOUR, FOUR, channels)
        blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n, height // FOUR, width // FOUR, -1) / np.float32(255)

    def latents(images):
        return functa.encode(images)[0]

    numbers = min(functa.config.latent_dim, FOUR * FOUR * 3)
    seen = patches(data.train.images[:PIECE]).reshape(-1, FOUR * FOUR * 3)
    pca = PCA(numbers, svd_solver="covariance_eigh").fit(seen)

    def components(images):
        cells = patches(images)
        rows = pca.transform(cells.reshape(-1, cells.shape[-1]))
        return rows.reshape(*cells.shape[:3], numbers)

    return {"latents": latents, "PCA of patches": components, "patches": patches}
