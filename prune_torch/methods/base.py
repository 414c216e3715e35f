"""What a pruning method is: a few hooks around the training loop that all methods share.

A cell of the sweep gives every method the same dense network and the same number of steps, with the
same learning rate in each. The method may use a share of them to search, with hooks; then its masks
are final, and the rest of the steps trains what is left. Most methods override `masks` and one more
hook.
"""

from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

from groundfloor import seeds
from groundfloor.pytorch import masking
from prune_torch import density
from prune_torch.protocol import finetune

BATCHES = 8  # of training images, where a method looks at data beside the steps
ARRIVED = 0.8  # of the search: then a schedule is at the level, so that it ends trained


@dataclass
class Cell:
    """One cell of the sweep, as a method sees it.

    task: batches and loss. model: the network, dense at first. parameters: dict of the prunable
    ones. count: of them to keep. steps: of the search. whole: steps of search and recovery, under
    one warm-up and cosine. rate, decay: of AdamW. seed: of batches and draws. held: masks of what
    may be nonzero (dict of name -> bool tensor) if the network came sparse, else empty.
    """

    task: finetune.Task
    model: torch.nn.Module
    parameters: dict
    count: int
    steps: int
    whole: int
    rate: float
    decay: float
    seed: int
    held: dict = field(default_factory=dict)

    def generator(self):
        """A CPU generator of this cell's draws, a stream apart from that of its batches."""
        return torch.Generator().manual_seed(seeds.fold(self.seed, "draws"))


class Method:
    """Keeps `count` weights by its own rule. Class attributes say what it costs and gives.

    share: of the steps, for the search. debias: a penalty has shrunk all weights in the search, so
    those that stay go back to the dense network's values. one_for_all: one search serves all
    densities. chooses: it has a density of its own, whatever `count`. structured: it removes whole
    heads, neurons or blocks. rewrites: its masks belong to weights that it has changed itself.
    inexact: why a level may not be met to the last weight, as the table says it.
    """

    share = 0.0
    debias = False
    one_for_all = False
    chooses = False
    structured = False
    rewrites = False
    inexact = "weights that stay are zero"

    def __init__(self, cell):
        self.cell = cell
        self.passes = 0  # forward and backward passes besides the training steps

    def optimizer(self):
        """The optimizer of the search."""
        return finetune.optimizer_for(self.cell.model, self.cell.rate, self.cell.decay)

    def start(self, optimizer):
        """Before the search."""

    def loss(self, model, batch):
        """What the search minimises."""
        return self.cell.task.loss(model, batch)

    def after_step(self, step):
        """After each step of the search, from 0."""

    def finish(self):
        """After the search: the model must be an ordinary one again."""

    def masks(self, count):
        """Masks of the prunable parameters, `count` True in all: dict of name -> bool tensor."""
        raise NotImplementedError

    def top_masks(self, scores, count):
        """`masking.top_masks` among the weights that may be nonzero."""
        held = self.cell.held
        scores = {n: s.where(held[n], -torch.inf) if held else s for n, s in scores.items()}
        return masking.top_masks(scores, count)

    def allowed(self, masks):
        """Masks without what was zero before, also of tensors that have none themselves."""
        held = self.cell.held
        within = {name: mask & held[name] if name in held else mask for name, mask in masks.items()}
        return {**held, **within}

    def sizes(self):
        """How many weights of each prunable tensor may be nonzero: dict of name -> number."""
        held = self.cell.held
        return {
            n: int(held[n].sum()) if held else p.numel() for n, p in self.cell.parameters.items()
        }

    def wanted(self, step):
        """How many prunable weights a schedule leaves after a step: a cubic down to the level."""
        first = sum(self.sizes().values())
        return cubic(step, ARRIVED * self.cell.steps, first, self.cell.count)

    def layer_densities(self, count):
        """Densities of the prunable tensors, up to a common factor: dict of name -> number."""
        return dict.fromkeys(self.cell.parameters, 1.0)

    def layer_counts(self, count):
        """`count` weights in these proportions: dict of name -> number."""
        return density.shared_out(self.sizes(), self.layer_densities(count), count)

    def refusal(self):
        """Why this cell cannot be, in words, before anything is trained; None if it can."""
        return

    def search_result(self):
        """Tensors of the search that `masks` needs, if one search serves all densities."""
        raise NotImplementedError

    def resume(self, result):
        """Go on as after the search that gave `result`."""
        raise NotImplementedError

    def settle(self):
        """After the recovery: the model must be an ordinary one again.

        Returns the tensors that stand for a weight in count and file: dict of name -> `Parts`.
        """
        return {}

    def gradients(self):
        """Mean gradient of the prunable parameters over some training batches; counted."""
        model, task = self.cell.model, self.cell.task
        model.zero_grad()
        for number in range(BATCHES):
            (task.loss(model, task.batch(self.cell.seed, number)) / BATCHES).backward()
        self.passes += BATCHES
        gradients = {name: p.grad.clone() for name, p in self.cell.parameters.items()}
        model.zero_grad()
        return gradients

    @torch.no_grad()
    def watch_inputs(self, names, see):
        """Call see(name, rows) with what these matrices multiply, as `input_rows` has it.

        Over some training batches, which are counted.
        """
        model, task, hooks = self.cell.model.eval(), self.cell.task, []
        for name in names:

            def hook(layer, inputs, name=name):  # what a hook returns would take the inputs' place
                see(name, input_rows(layer, inputs[0]))

            layer, _ = owner(model, name)
            hooks.append(layer.register_forward_pre_hook(hook))
        try:
            for number in range(BATCHES):
                model(task.batch(self.cell.seed, number)[0])
        finally:
            for hook in hooks:
                hook.remove()
        self.passes += BATCHES

    def input_squares(self):
        """Sums of squares of the inputs of every prunable matrix: dict of name -> (columns,)."""
        parameters = self.cell.parameters
        sums = {n: torch.zeros(p[0].numel(), device=p.device) for n, p in parameters.items()}
        self.watch_inputs(parameters, lambda name, rows: sums[name].add_(rows.square().sum(0)))
        return sums


def owner(model, name):
    """The layer that has the parameter of this name in a model, and its name there."""
    layer, _, tensor = name.rpartition(".")
    return model.get_submodule(layer), tensor


def cubic(step, steps, first, last):
    """From `first` to `last` as Zhu and Gupta (2017): fast at the beginning, slow at the end."""
    left = 1 - min(1.0, (step + 1) / steps)
    return last + (first - last) * left**3


def magnitudes(parameters):
    """|w| of every prunable parameter."""
    return {name: p.detach().abs() for name, p in parameters.items()}


def smallest(parameters, count):
    """The `count`-th smallest |w| of all prunable parameters."""
    scores = torch.cat([m.flatten() for m in magnitudes(parameters).values()])
    return float(scores.kthvalue(max(1, count)).values)


def shrink(masks, parameters, count):
    """Of the weights in `masks` the `count` largest stay; masks and weights change in place."""
    scores = magnitudes(parameters)
    scores = {n: torch.where(masks[n], score, -1.0) for n, score in scores.items()}
    for name, mask in masking.top_masks(scores, count).items():
        masks[name].copy_(mask)
    masking.apply(parameters, masks)


def input_rows(layer, inputs):
    """What a layer's matrix multiplies, float32 (N, columns); a convolution's are its patches."""
    if isinstance(layer, torch.nn.Conv2d):
        sizes = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        inputs = F.unfold(inputs, *sizes).mT
    return inputs.float().flatten(0, -2)
