"""How the dense network of small images is trained well: mixed images, Muon, averaged weights.

Every other batch is cut together (CutMix, Yun et al. 2019) or mixed (mixup, Zhang et al. 2018),
labels are smoothed, the blocks' matrices are moved by Muon (Jordan et al. 2024) and decay more, and
what is kept is a running mean of the weights. The cells know none of this: what they compare is
pruning.
"""

import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms.v2 import CutMix, MixUp

from groundfloor.pytorch.autocast import autocast

DECAY = 0.05  # of matrices
MOMENTUM = 0.95  # of Muon
OTHERS = 0.2  # rate of AdamW beside Muon's
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
    with autocast(task.device, task.config.precision):
        return F.cross_entropy(model(inputs), labels, label_smoothing=SMOOTHING)


class Muon(torch.optim.AdamW):
    """Muon for the groups with `turned`, AdamW for all others.

    A turned matrix moves along its averaged gradient with all singular values brought near one, by
    0.2 sqrt(longer side) times the rate, which is as long as a step of AdamW (Liu et al. 2025).
    torch.optim.Muon does this in bfloat16: on a CPU that only emulates it, a step of a small ViT
    takes half as long again.
    """

    @torch.no_grad()
    def step(self):
        """One step; the gradients of turned matrices are used up."""
        for group in self.param_groups:
            for matrix in group["params"] if group["turned"] else ():
                state = self.state[matrix]
                if not state:  # of whose keys AdamW asks for the first when it is loaded
                    state |= {"step": torch.tensor(0.0), "mean": torch.zeros_like(matrix)}
                mean = state["mean"]
                mean.lerp_(matrix.grad, 1 - MOMENTUM)
                change = orthogonal(matrix.grad.lerp(mean, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(change, alpha=0.2 * max(matrix.shape) ** 0.5 * group["lr"])
                matrix.grad = None
        super().step()


def orthogonal(matrix):
    """A matrix with the same singular vectors and all singular values near one, but for the least:
    five steps of the quintic Newton-Schulz iteration of Jordan et al. 2024."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.775 * gram + 2.0315 * gram @ gram) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


def optimizer_for(model, rate):
    """Muon for the matrices of the blocks at a rate, AdamW for all else; matrices decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    inside = set(model.blocks.parameters())
    of_blocks = [p for p in trained if p in inside and p.dim() == 2]
    matrices = [p for p in trained if p not in inside and p.dim() == 2]
    vectors = [p for p in trained if p.dim() != 2]
    return Muon(
        [
            {"params": of_blocks, "lr": rate, "weight_decay": DECAY, "turned": True},
            {"params": matrices, "weight_decay": DECAY, "turned": False},
            {"params": vectors, "weight_decay": 0.0, "turned": False},
        ],
        lr=OTHERS * rate,
    )


def average(model, steps):
    """A running mean of a model's weights, for a training of so many steps."""
    decay = 0.5 ** (HALF_LIVES / max(steps, HALF_LIVES))
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
