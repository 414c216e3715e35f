"""What the experiments with DessiLBI share: settings, and runs of optim_torch.train."""

import shlex
from dataclasses import dataclass

from experiments import runner
from groundfloor.pytorch import masking
from optim_torch.training import evaluate

SGD = ["--optimizer", "sgd"]


@dataclass(frozen=True, kw_only=True)
class DessilbiConfig(runner.SweepConfig):
    """Which runs of optim_torch.train."""

    preset: str
    """Preset of optim_torch.train."""


def train(config, out, words):
    """Summaries of runs in out/KIND-seedSEED, which are made where they are missing.

    words: {(kind, seed): flags of the run, a list}; the experiment's --flags come after them.
    Returns {(kind, seed): summary}.
    """
    commands = {}
    for (kind, seed), own in words.items():
        command = ["optim_torch.train", config.preset, *own, *shlex.split(config.flags)]
        commands[out / f"{kind}-seed{seed}"] = [*command, "--seed", seed]
    summaries = runner.all_finished(commands, config)
    return dict(zip(words, summaries.values(), strict=True))


def masked_accuracy(model, masks, train_images, test, normalise, augment):
    """Test accuracy of a network where `masks` are True, nothing retrained. Statistics of BatchNorm
    are measured again, as for the supports in `evaluate.accuracies`."""
    named = dict(model.named_parameters())
    left = {name: named[name].detach() * mask for name, mask in masks.items()}
    measured = evaluate.recalibrated(model, train_images, normalise, augment)
    with masking.exchanged(named, left), measured:
        return evaluate.accuracy(model, test, normalise)
