"""A loss at a model's weights, so that nothing of the model changes by looking."""

import contextlib

import torch
from torch.nn.parameter import UninitializedParameter


def trainable(model):
    """The parameters that need a gradient, by name."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(isinstance(p, UninitializedParameter) for p in trainable.values()):
        raise ValueError("the model is lazy and has no weights yet: show it a batch first")
    if not trainable:
        raise ValueError("there are no parameters to probe: none needs a gradient")
    return trainable


@contextlib.contextmanager
def as_found(model):
    """Inside, the model is in training mode and gradients can be taken, without autocast; after,
    modes, buffers and random states are as before."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    # Asking CUDA's state would start CUDA, after which a process cannot fork any more.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        device = next(model.parameters()).device.type
        with (
            torch.random.fork_rng(devices),
            torch.enable_grad(),
            torch.autocast(device, enabled=False),
        ):
            yield model.train()
    finally:
        for module, training in modes.items():
            module.training = training
        for name, buffer in model.named_buffers():  # some modules assign new ones
            buffer.detach().copy_(buffers[name])


def mean_loss(model, loss_fn, batch):
    """loss_fn(model(inputs), targets), a scalar tensor; ValueError if it is none, or if it does not
    depend on parameters."""
    inputs, targets = batch
    loss = loss_fn(model(inputs), targets)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = getattr(loss, "shape", type(loss).__name__)
        raise ValueError(f"loss_fn must give a scalar tensor, got {shape}")
    if not loss.requires_grad:
        raise ValueError(
            "the loss does not depend on the parameters (or torch.inference_mode is on)"
        )
    return loss
