"""What all cells of a sweep share: the images and the network that all of them begin with."""

import copy
import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial

from safetensors.torch import load_file

from groundfloor import precision
from groundfloor.errors import UserError
from groundfloor.pytorch.autocast import step_seconds
from groundfloor.runs import Progress, atomic, content_hash, counted, read_dict, write_json
from prune_torch import compact, density
from prune_torch.network import released, vit
from prune_torch.protocol import finetune, recipe

DENSE_SETTINGS = (  # what decides the dense network
    "model",
    "model_args",
    "mean_pool",
    "weights",
    "pretrained",
    "dataset",
    "images",
    "val_fraction",
    "batch_size",
    "augment",
    "precision",
    "dense_steps",
    "dense_rate",
    "recipe",
    "decay",
    "seed",
)


class Bench:
    """What all cells of a sweep share in one process: task, dense network, teacher.

    made_from: name of the dense network's file, which tells what it was made from.
    """

    def __init__(self, config, data_set, device, dense=None):
        """dense: file of a dense network that was trained before; none builds one from config."""
        self.config, self.device, self.data_set = config, device, data_set
        self.classes = data_set.num_classes
        if dense:
            self.model = compact.load(dense, device)
        else:
            self.model = vit.build(config, self.classes).to(device)
        self.model.set_grad_checkpointing(config.checkpointing)
        pixels = vit.Pixels(self.model, device)
        self.task = finetune.Task(config, data_set, pixels, device)
        self.made_from = dense.stem if dense else "untrained"

    @property
    def held(self):
        """What may be nonzero: dict of name -> mask if the network came sparse, else empty."""
        if self.config.from_sparse is None:
            return {}
        parameters = density.prunable(self.model, self.config.prunable)
        return {name: parameter.detach() != 0 for name, parameter in parameters.items()}

    def choose_precision(self, path):
        """Replace the config's auto by what it means on this device; returns the config. path: a
        file that keeps the choice."""
        task, model = self.task, copy.deepcopy(self.model).train()
        measured = partial(step_seconds, model, *task.batch(0, 0))
        name = precision.chosen(self.config.precision, path, measured)
        self.config = task.config = replace(self.config, precision=name)
        return self.config

    def dense(self, folder):
        """Train the dense network, or read it: `folder` keeps it under the hash of its settings.

        Returns its file and a dict: its settings, and its top1, top5 and loss on "val" and "test".
        UserError if one of the two is damaged.
        """
        settings = self.settings()
        for name in ("weights", "from_sparse"):
            if getattr(self.config, name) is not None:
                settings[name] = content_hash(getattr(self.config, name))
        released_file = None if self.config.retrain else released.matching(settings)
        if released_file:
            settings["released"] = content_hash(released_file)
        path = same_network(folder, settings) or folder / f"dense-{digest(settings)}.safetensors"
        if not path.exists():
            if released_file:
                self.model.load_state_dict(released.state(released_file))
            elif self.config.from_sparse is None:
                self.train(path.with_suffix(""))
            self._write(path, settings)
        facts = read_dict(path.with_suffix(".json"), "dense network", "val", "test")
        if facts.get("content") not in (None, content_hash(path)):
            raise UserError(f"{path} is damaged; move it away to have it trained again")
        self.model.load_state_dict(load_file(path, device=str(self.device)))
        self.made_from = path.stem
        return path, facts

    def settings(self):
        """What decides the dense network, but for files: dict of strings."""
        settings = {key: str(getattr(self.config, key)) for key in DENSE_SETTINGS}
        return {**settings, "data_fingerprint": self.data_set.fingerprint}

    def train(self, kept):
        """Train the dense network by its recipe; `kept` is the folder of its checkpoints."""
        config, loss, average = self.config, None, None
        if config.dense_steps:
            print(f"first the dense network: {counted(config.dense_steps, 'step')}", flush=True)
        if config.recipe == "mixed":
            optimizer = recipe.optimizer_for(self.model, config.dense_rate)
            loss = partial(recipe.mixed_loss, self.task)
            average = recipe.average(self.model, config.dense_steps)
        else:
            optimizer = finetune.optimizer_for(self.model, config.dense_rate, config.decay)
        with Progress(config.dense_steps, "step") as progress:
            finetune.run(
                self.task,
                self.model,
                optimizer,
                config.dense_steps,
                seed=config.seed,
                loss=loss,
                average=average,
                progress=progress,
                keep=kept,
            )
        if average is not None:
            self.model.load_state_dict(average.module.state_dict())

    def _write(self, path, settings):
        facts = {
            **settings,
            "val": self.task.evaluate(self.model, self.task.val),
            "test": self.task.evaluate(self.model, self.task.test),
        }
        with atomic(path) as temporary:  # last: it says that all is there
            compact.save(self.model, temporary)
            facts["content"] = content_hash(temporary)
            write_json(path.with_suffix(".json"), facts)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def same_network(folder, settings):
    """The dense network in a run's folder that these settings made of these images, wherever the
    images lay then; None if there is none."""
    wanted = {key: value for key, value in settings.items() if key != "dataset"}
    for path in sorted(folder.glob("dense-*.json")):
        network, facts = path.with_suffix(".safetensors"), read_dict(path, "dense network")
        if network.exists() and all(facts.get(key) == wanted[key] for key in wanted):
            return network
    return None


def digest(settings):
    """12 hexadecimal digits that name these settings (JSON-able)."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
