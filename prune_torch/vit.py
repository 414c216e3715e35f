"""Vision Transformers from timm: small ones built here, large ones with their trained weights."""

from pathlib import Path

import timm
import torch
from timm.models import load_checkpoint, load_state_dict
from timm.models.vision_transformer import checkpoint_filter_fn
from torch.nn import functional as F

from common import seeds
from common.errors import UserError
from common.split import first_line
from prune_torch import compact


def build(config, classes):
    """The timm model of these settings, with a new head for `classes`.

    config: model (timm's name), model_args (dict), weights (file or None), pretrained (bool),
    seed. Weights of another number of classes lose their head. Raises UserError in one line for
    unknown models and weights that do not fit.
    """
    torch.manual_seed(seeds.fold(config.seed, "weights"))
    arguments = {"num_classes": classes, **config.model_args}
    try:
        hub = config.pretrained and config.weights is None
        model = timm.create_model(config.model, pretrained=hub, **arguments)
    except Exception as error:  # timm, the hub and the network raise many kinds
        raise UserError(f"{config.model}: {first_line(error)}") from None
    try:
        compact.dead_heads(model)
    except ValueError as error:
        raise UserError(f"{config.model}: {error}") from None
    if config.weights is not None:
        load(model, config.weights)
    return model


def load(model, path):
    """Weights from a file: .safetensors, .pth (plain tensors), or Google's .npz, as timm reads it.

    A head of another size is left as it is, positions of another image size are resampled. Raises
    UserError naming the file if they do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        if path.suffix == ".npz":
            load_checkpoint(model, str(path))
            return
        state = load_state_dict(str(path), weights_only=True)
        state = checkpoint_filter_fn(state, model)  # positions of another image size, and the like
        head = model.get_classifier()
        name = next(n for n, module in model.named_modules() if module is head)
        if state.get(f"{name}.weight", head.weight).shape != head.weight.shape:
            state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
        missing, unexpected = model.load_state_dict(state, strict=False)
    except Exception as error:  # damaged files raise many kinds
        raise UserError(
            f"{path} does not fit {type(model).__name__}: {first_line(error)}"
        ) from None
    missing = [key for key in missing if not key.startswith(f"{name}.")]
    if missing or unexpected:
        raise UserError(f"{path} does not fit the model: {(missing + unexpected)[0]}")


class Pixels:
    """uint8 images of a data set -> what the model was trained to see, on the device.

    Resizes to the model's side (bicubic, antialiased) and uses the model's own mean and deviation.
    """

    def __init__(self, model, device):
        found = timm.data.resolve_model_data_config(model)
        self.side = model.patch_embed.img_size[0]
        self.channels = model.patch_embed.proj.in_channels
        self.mean = torch.tensor(found["mean"][: self.channels], device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(found["std"][: self.channels], device=device).view(1, -1, 1, 1)

    def __call__(self, pixels):
        """uint8 (n, c, h, w) -> float32 (n, channels, side, side)."""
        images = pixels.float() / 255
        if images.shape[-1] != self.side:
            size = (self.side, self.side)
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        if images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        return (images - self.mean) / self.std
