"""How the dense network of small images is trained well: mixed images and averaged weights.

Every other batch is cut together (CutMix, Yun et al. 2019) or mixed (mixup, Zhang et al. 2018),
labels are smoothed, matrices decay more, and what is kept is a running mean of the weights. The
cells know none of this: what they compare is pruning.
"""

import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms.v2 import CutMix, MixUp

from groundfloor.pytorch import precision

DECAY = 0.05  # of matrices
SMOOTHING = 0.1
MIXED = 0.5  # of the batches
HALF_LIVES = 100  # of the mean, in a training: the last hundredth counts half


def mixed_loss(task, model, batch):
    """Mean cross-entropy of a batch, perhaps mixed; it draws from PyTorch's random state, which a
    batch has set (`batches.seed_step`), so that a resumed training is the same."""
    inputs, labels = batch
    share, kind = torch.rand(2).tolist()
    if share < MIXED:
        mix = (CutMix if kind < 0.5 else MixUp)(num_classes=model.num_classes)
        inputs, labels = mix(inputs, labels)
    with precision.autocast(task.device, task.config.precision):
        return F.cross_entropy(model(inputs), labels, label_smoothing=SMOOTHING)


def average(model, steps):
    """A running mean of a model's weights, for a training of so many steps."""
    decay = 0.5 ** (HALF_LIVES / max(steps, HALF_LIVES))
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
