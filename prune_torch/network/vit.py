"""Vision Transformers from timm: small ones built here, large ones with their trained weights."""

import re
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import clean_state_dict, load_checkpoint, load_state_dict
from timm.models.vision_transformer import checkpoint_filter_fn
from torch.nn import functional as F

from groundfloor import seeds
from groundfloor.errors import UserError, first_line
from prune_torch import compact, pack
from prune_torch.network import stored


def build(config, classes):
    """The timm model of these settings, with a new head for `classes`; or that of `from_sparse`.

    config: from_sparse (file of a pruned network, or None), model (timm's name), model_args (dict),
    mean_pool, weights (file or None), pretrained (bool), dense_steps, seed. Weights of another
    number of classes lose their head. Raises UserError in one line for unknown models, weights that
    do not fit, and a new head that nothing would train.
    """
    if config.from_sparse is not None:
        model = compact.load(config.from_sparse)
        if any(isinstance(module, compact.Constant) for module in model.modules()):
            raise UserError(
                f"{config.from_sparse} has lost a whole attention or MLP: --from-sparse needs a "
                "part of each"
            )
        return model
    torch.manual_seed(seeds.fold(config.seed, "weights"))
    arguments = {"num_classes": classes, **config.model_args}
    if config.mean_pool:
        arguments.update(class_token=False, global_pool="avg")
    hub = config.pretrained and config.weights is None
    try:
        model = timm.create_model(config.model, pretrained=hub, **arguments)
    except Exception as error:  # timm, the hub and the network raise many kinds
        raise UserError(f"{config.model}: {first_line(error)}") from None
    try:
        compact.description(model)  # goes into every file of the sweep
    except ValueError as error:
        raise UserError(f"{config.model}: {error}") from None
    if config.weights is not None:
        whole = load(model, config.weights)
    else:
        whole = hub and timm.get_pretrained_cfg(config.model).num_classes == classes
    if not whole and not config.dense_steps:
        raise UserError(f"--dense-steps 0: a new head for {classes} classes needs training")
    return model


def load(model, path):
    """Weights from a file: .safetensors, .pth (plain tensors), or Google's .npz, as timm reads it.

    A head of another size is left as it is, positions of another image size are resampled. Returns
    whether the head came, too. Raises UserError naming the file, the first name that does not fit
    and both shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        if path.suffix == ".npz":
            return _load_google(model, path)
        if path.suffix == ".safetensors":
            state = clean_state_dict(pack.opened(path)[0])  # ours are checked, and may be packed
        else:
            state = load_state_dict(str(path), weights_only=True)
        state = checkpoint_filter_fn(state, model)  # positions of another image size, and the like
    except UserError:
        raise
    except Exception as error:  # damaged files raise many kinds
        raise UserError(
            f"{path} does not fit {type(model).__name__}: {first_line(error)}"
        ) from None
    own, heads = model.state_dict(), _heads(model)
    for head in heads:
        name = f"{head}.weight"
        if name in state and len(state[name]) != len(own[name]):
            state = {k: v for k, v in state.items() if not k.startswith(f"{head}.")}
    fresh = {name for name in own if name.startswith(tuple(f"{head}." for head in heads))}
    fault = stored.misfit(state, own, optional=fresh)
    if fault:
        raise UserError(f"{path} does not fit the model: {fault}")
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path} cannot be used: {name} is not finite")
    model.load_state_dict(state, strict=False)
    return fresh <= state.keys()


def _heads(model):
    """Names of the layers that give the classes; a distilled model has two."""
    named = {layer: name for name, layer in model.named_modules()}
    layers = model.get_classifier()
    return [named[layer] for layer in (layers if isinstance(layers, tuple) else (layers,))]


def _load_google(model, path):
    with np.load(path, allow_pickle=False) as file:
        shapes = {name: file[name].shape for name in file.files}
    first = next((name for name in shapes if name.endswith("embedding/kernel")), None)
    if first is None:
        raise UserError(f"{path} does not fit the model: it has no embedding/kernel")
    prefix = first.removesuffix("embedding/kernel")
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    width = "patch_embed.proj.weight"
    _compare(path, first, shapes[first][-1:], width, own[width][:1])
    blocks = [name for name in shapes if re.search(r"encoderblock_\d+/.*Dense_0/bias$", name)]
    if blocks and len(blocks) != len(model.blocks):
        raise UserError(
            f"{path} does not fit the model: {len(blocks)} blocks in the file, "
            f"{len(model.blocks)} in the model"
        )
    for name in blocks:
        number = re.search(r"encoderblock_(\d+)/", name)[1]
        bias = f"blocks.{number}.mlp.fc1.bias"
        _compare(path, name, shapes[name], bias, own[bias])
    load_checkpoint(model, str(path))
    return shapes.get(f"{prefix}head/bias") == (model.num_classes,)


def _compare(path, name, shape, own_name, own_shape):
    """UserError unless a tensor of a file has the model's shape."""
    if tuple(shape) != tuple(own_shape):
        called = "" if name == own_name else f"{own_name} "
        raise UserError(
            f"{path} does not fit the model: {name} is {tuple(shape)} in the file, "
            f"{called}{tuple(own_shape)} in the model"
        )


class Pixels:
    """uint8 images of a data set -> what the model was trained to see, on the device.

    Resizes to the model's side (bicubic, antialiased) and uses the model's own mean and deviation,
    those of three colours over again for more channels.
    """

    def __init__(self, model, device):
        self.side = model.patch_embed.img_size[0]
        self.channels = model.in_chans  # before patch_embed.proj there may be a ResNet
        trained_on = timm.data.resolve_model_data_config(model)
        self.mean, self.std = (
            torch.tensor(np.resize(trained_on[name], (1, self.channels, 1, 1))).to(device).float()
            for name in ("mean", "std")
        )

    def __call__(self, pixels):
        """uint8 (n, c, h, w) -> float32 (n, channels, side, side)."""
        images = pixels.float() / 255
        if images.shape[-2:] != (self.side, self.side):
            size = (self.side, self.side)
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        if images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        return (images - self.mean) / self.std
