"""Training a ViT for a number of steps, with or without a method's hooks: the same for all."""

import math

import torch
from torch.nn import functional as F

from groundfloor.errors import UserError
from groundfloor.pytorch import batches, checkpoints
from groundfloor.pytorch.autocast import autocast
from groundfloor.pytorch.steps import training_steps

LOOK_EVERY = 10  # steps between looks at the loss: those of a ViT are slow


class Task:
    """Images on a device, and how batches are made of them.

    config: batch_size, augment, precision. train, val, test: `batches.Images`. pixels: uint8 to the
    model's input.
    """

    def __init__(self, config, data_set, pixels, device):
        self.config, self.pixels, self.device = config, pixels, device
        splits = (data_set.train, data_set.val, data_set.test)
        self.train, self.val, self.test = (batches.on_device(s, device) for s in splits)

    def batch(self, seed, step):
        """Inputs and labels of a training step: a function of (seed, step) alone."""
        size, augment = self.config.batch_size, self.config.augment
        pixels, labels = batches.batch(self.train, size, seed, step, augment)
        return self.pixels(pixels), labels

    def loss(self, model, batch, teacher=None, weight=0.0):
        """Mean cross-entropy; with a teacher, `weight` of it is distillation at temperature 2.

        Distillation (Hinton et al. 2015): 4 KL between the softened outputs.
        """
        inputs, labels = batch
        with autocast(self.device, self.config.precision):
            outputs = model(inputs)
            loss = F.cross_entropy(outputs, labels)
            if teacher is None or not weight:
                return loss
            with torch.no_grad():
                soft = F.log_softmax(teacher(inputs) / 2, dim=1)
            own = F.log_softmax(outputs / 2, dim=1)
            distance = F.kl_div(own, soft, reduction="batchmean", log_target=True)
            return (1 - weight) * loss + weight * 4 * distance

    @torch.no_grad()
    def evaluate(self, model, images, batch_size=100):
        """dict of top1, top5 (shares) and loss (mean cross-entropy) over a split.

        Raises ValueError if the split is empty, UserError if the loss is not finite: the largest of
        outputs that are NaN is the first, and its share would pass for an accuracy.
        """
        if not len(images):
            raise ValueError("a split without images has no accuracy")
        model.eval()
        sums = {"top1": 0.0, "top5": 0.0, "loss": 0.0}
        for pixels, labels in zip(
            images.pixels.split(batch_size), images.labels.split(batch_size), strict=True
        ):
            outputs = model(self.pixels(pixels)).float()
            ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
            sums["top1"] += float(ranked[:, 0].sum())
            sums["top5"] += float(ranked.any(1).sum())
            sums["loss"] += float(F.cross_entropy(outputs, labels, reduction="sum"))
        if not math.isfinite(sums["loss"]):
            raise UserError("the network's outputs are not finite; lower the learning rate")
        return {name: value / len(images) for name, value in sums.items()}


def optimizer_for(model, rate, decay):
    """AdamW; matrices decay, vectors (norms, biases) and embeddings do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() == 2], "weight_decay": decay},
            {"params": [p for p in parameters if p.dim() != 2], "weight_decay": 0.0},
        ],
        lr=rate,
    )


def rate_at(step, steps, peak, warmup=0.1):
    """Linear warm-up over a share of the steps, then a cosine to zero."""
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return peak * (step + 1) / ramp
    return peak * 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp)))


def total_rate(steps, whole, peak):
    """Sum of the learning rates of the first `steps` of `whole`: how far a constant pull would take
    a weight in them."""
    return sum(rate_at(step, whole, peak) for step in range(steps))


def run(
    task,
    model,
    optimizer,
    steps,
    *,
    seed,
    first=0,
    whole=None,
    after=None,
    loss=None,
    average=None,
    progress=None,
    keep=None,
):
    """`steps` training steps, those from `first` on of `whole` (none: these are the last ones).

    Batches and rates are those of a step's number in the whole: each group's own rate is its peak,
    followed by `rate_at`. loss: (model, batch) -> tensor, by default the task's. after: called with
    the step after each. average: a running mean of the weights (torch's AveragedModel) to update.
    keep: folder of checkpoints; the newest good one is where it begins. Raises UserError, naming
    the step, if the loss is not finite.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    loss = loss or task.loss
    whole = whole or first + steps
    begin = 0
    if keep is not None and (kept := checkpoints.newest(keep, task.device)):
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        if average is not None:
            average.load_state_dict(kept["average"])
        begin = kept["step"]

    def state():
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if average is not None:
            states["average"] = average.state_dict()
        return {**states, "step": step + 1}

    model.train()
    for step, look in training_steps(begin, steps, every=LOOK_EVERY, folder=keep, state=state):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = rate_at(first + step, whole, peak)
        value = loss(model, task.batch(seed, first + step))
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if average is not None:
            average.update_parameters(model)
        if after is not None:
            after(step)
        if progress is not None:
            progress.advance(1 if step > begin else begin + 1)
        if look and not torch.isfinite(value):
            raise UserError(f"the loss is not finite at step {step + 1}; lower the learning rate")
