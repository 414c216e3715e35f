"""PCA's picture and the convolutions that refine it as a PyTorch module (see refined_pca.py)."""

import numpy as np
import torch
from torch import nn

from groundfloor.errors import UserError


class TorchRefinedPca(nn.Module):
    """What RefinedPca computes, in PyTorch alone.

    config: ModelConfig; arrays: dict of name -> array, as in functa.npz;
    resolution: (height, width) of the images that it makes.
    """

    def __init__(self, config, arrays, resolution):
        super().__init__()
        self.resolution = tuple(resolution)
        self.latent_shape = config.latent_shape
        self.w0 = config.w0
        self.shape = (config.channels, *config.picture)
        self.layers = nn.ModuleList(
            _convolution(arrays, f"layers/{number}") for number in range(config.depth)
        )
        scale = (arrays["mean"].size / config.latent_dim) ** 0.5
        for name, value in (
            ("mean", self._colours_first(arrays["mean"][None])),
            ("components", self._colours_first(arrays["components"]).flatten(1)),
            ("scales", torch.tensor(scale / arrays["deviations"])),
        ):
            self.register_buffer(name, value)
        rows, columns = map(_hat_weights, resolution, config.picture)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def _colours_first(self, rows):
        """Pictures as rows (n, h*w*C) -> (n, C, h, w)."""
        channels, height, width = self.shape
        return torch.tensor(rows).reshape(-1, height, width, channels).movedim(-1, 1)

    def forward(self, latents):
        """Latents (n, L) -> images (n, C, h, w), about [0, 1], not clipped."""
        if latents.shape[1:] != self.latent_shape:
            raise UserError(
                f"latents have shape {tuple(latents.shape)}, not (n, {self.latent_shape[0]})"
            )
        linear = (latents @ self.components).unflatten(1, self.shape)
        hidden = ((latents * self.scales) @ self.components).unflatten(1, self.shape)
        for layer in self.layers[:-1]:
            hidden = torch.sin(self.w0 * layer(hidden))
        picture = linear + self.mean + self.layers[-1](hidden)
        if self.resolution == self.shape[1:]:
            return picture
        return self.rows @ picture @ self.columns.T


def _convolution(arrays, name):
    kernel, bias = arrays[f"{name}/kernel"], arrays[f"{name}/bias"]
    kernel = kernel.reshape(3, 3, -1, kernel.shape[1]).transpose(3, 2, 0, 1)
    layer = nn.utils.skip_init(nn.Conv2d, kernel.shape[1], kernel.shape[0], 3, padding=1)
    layer.load_state_dict({"weight": torch.tensor(kernel.copy()), "bias": torch.tensor(bias)})
    return layer


def _hat_weights(fine, coarse):
    """Weights (fine, coarse) of linear interpolation between the centres of pixels."""
    place = np.clip((np.arange(fine) + 0.5) / fine * coarse - 0.5, 0, coarse - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(coarse)))
    return torch.tensor(weights, dtype=torch.float32)
