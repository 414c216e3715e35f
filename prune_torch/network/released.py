"""Dense networks that come with the package, so that a sweep begins at once and everyone prunes the
same one: float16 safetensors with the settings that they were trained with."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from prune_torch import pack
from prune_torch.network import stored

FOLDER = Path(__file__).parent
KEY = "prune_torch.released"  # in a file's metadata: the settings, as JSON


def write(model, settings, path):
    """Write a model's weights, rounded to float16, with the settings (dict of strings)."""
    halves = {name: tensor.half() for name, tensor in model.state_dict().items()}
    stored.write(path, halves, {KEY: json.dumps(settings, sort_keys=True)})


def matching(settings):
    """The file that was trained with just these settings, or None."""
    for path in sorted(FOLDER.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get(KEY)
        if known == json.dumps(settings, sort_keys=True):
            return path
    return None


def state(path):
    """name -> tensor, float32; UserError if the file is damaged."""
    return {name: tensor.to(torch.float32) for name, tensor in pack.opened(path)[0].items()}
