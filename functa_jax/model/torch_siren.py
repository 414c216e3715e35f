"""The decoder of a functa as a PyTorch module: latents become images without JAX.

    from functa_jax import torch_decoder
    decoder = torch_decoder("runs/meta_train-digits")       # or a functa.npz, or a Functa
    images = decoder(latents)                               # (n, C, h, w), float32

It computes what Functa.decode computes, is differentiable in latents and weights, and can be traced
and exported to ONNX: all coordinates are buffers, and no shape depends on values.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from functa_jax.functa_file import read, sides_of
from functa_jax.model.torch_refined_pca import TorchRefinedPca
from groundfloor.errors import UserError


class TorchDecoder(nn.Module):
    """A modulated SIREN with fixed pixel coordinates (functa_jax/model/siren.py has the equations).

    config: ModelConfig; arrays: dict of name -> array, as in functa.npz;
    resolution: (height, width) of the images that it makes.
    """

    def __init__(self, config, arrays, resolution):
        super().__init__()
        self.resolution = tuple(resolution)
        self.latent_shape = config.latent_shape
        self.channels = config.channels
        self.width = config.width
        self.w0 = config.w0
        self.grid = config.grid
        self.map_size = config.map_size
        self.scaled = config.modulation == "scale_shift"
        self.layers = nn.ModuleList(
            _linear(arrays, f"siren/layers/{number}") for number in range(config.depth)
        )
        self.latent_map = _linear(arrays, "latent_map")
        coords = _pixel_centres(self.resolution)
        if self.grid is not None:
            within = coords * self.grid
            cell = np.clip(np.floor(within), 0, self.grid - 1)
            if config.coordinates == "local":
                coords = within - cell
            self._add_weights(within, cell, config.interpolation)
        self.register_buffer("coords", torch.tensor(coords, dtype=torch.float32))

    def _add_weights(self, within, cell, interpolation):
        """What each pixel takes from the cells: the index of its own, or weights of all."""
        if interpolation == "nearest":
            index = cell[:, 0] * self.grid + cell[:, 1]
            self.register_buffer("cell", torch.tensor(index, dtype=torch.int64))
            self.weights = None
            return
        place = np.clip(within - 0.5, 0, self.grid - 1)
        hats = np.maximum(0, 1 - np.abs(place[:, :, None] - np.arange(self.grid)))
        weights = (hats[:, 0, :, None] * hats[:, 1, None, :]).reshape(len(within), -1)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))

    def forward(self, latents):
        """Latents (n, L) or (n, s, s, L) -> images (n, C, h, w), about [0, 1], not clipped."""
        if latents.shape[1:] != self.latent_shape:  # a larger grid would be cut without a word
            wanted = ", ".join(map(str, self.latent_shape))
            raise UserError(f"latents have shape {tuple(latents.shape)}, not (n, {wanted})")
        modulations = self._modulations(latents)
        hidden = self.coords
        for number, layer in enumerate(self.layers[:-1]):
            units = self._of_pixels(modulations[:, :, number])
            linear = layer(hidden)
            if self.scaled:
                linear = linear * (1 + units[..., : self.width])
            hidden = torch.sin(self.w0 * (linear + units[..., -self.width :]))
        colours = self.layers[-1](hidden) + 0.5
        images = colours.reshape(-1, self.resolution[0], self.resolution[1], self.channels)
        return images.permute(0, 3, 1, 2)

    def _modulations(self, latents):
        """(n, cells, layers, units): scales, if there are any, before shifts."""
        if self.grid is None:
            around = latents[:, None]
        else:
            margin = self.map_size // 2
            padded = functional.pad(latents, (0, 0, margin, margin, margin, margin))
            shifted = [
                padded[:, row : row + self.grid, column : column + self.grid]
                for row in range(self.map_size)
                for column in range(self.map_size)
            ]
            around = torch.cat(shifted, dim=-1).flatten(1, 2)
        modulations = self.latent_map(around)
        return modulations.unflatten(-1, (len(self.layers) - 1, -1))

    def _of_pixels(self, units):
        """Units of cells (n, cells, W) -> of pixels (n, pixels, W), or of all pixels (n, 1, W)."""
        if self.grid is None:
            return units
        if self.weights is None:
            return units[:, self.cell]
        return torch.einsum("pc,ncw->npw", self.weights, units)


DECODERS = {"siren": TorchDecoder, "refined_pca": TorchRefinedPca}


def torch_decoder(run, resolution=None):
    """The decoder of a run folder, a functa.npz or a Functa as a PyTorch module.

    resolution: a side or (height, width); none: that of the training images. Raises UserError, in
    one line, where there is no functa.
    """

    def decoder_of(about, arrays):
        if about["config"].modality != "images":
            raise UserError(
                f"the PyTorch decoder makes images; this functa is of {about['config'].modality}"
            )
        sides = about["resolution"] if resolution is None else sides_of(resolution)
        return DECODERS[about["config"].decoder](about["config"], arrays, sides)

    return decoder_of(*run.contents()) if hasattr(run, "contents") else read(run, decoder_of)


def _linear(arrays, name):
    kernel, bias = arrays[f"{name}/kernel"], arrays[f"{name}/bias"]
    layer = nn.utils.skip_init(nn.Linear, kernel.shape[0], kernel.shape[1])
    layer.load_state_dict(
        {
            "weight": torch.tensor(np.asarray(kernel).T.copy()),
            "bias": torch.tensor(np.asarray(bias)),
        }
    )
    return layer


def _pixel_centres(resolution):
    """(row, column) of pixel centres in [0, 1]^2, (h * w, 2)."""
    sides = [(np.arange(side) + 0.5) / side for side in resolution]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
