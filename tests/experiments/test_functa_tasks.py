"""experiments.functa_tasks asks for what the main job and the tasks know."""

import shlex

import pytest

from experiments import functa_tasks
from functa_jax import meta_train
from functa_jax.tasks.__main__ import module_of
from groundfloor import cli


@pytest.mark.parametrize("name", functa_tasks.PRESETS)
def test_presets_ask_for_what_there_is(name):
    config = functa_tasks.PRESETS[name]
    preset = meta_train.PRESETS[config.preset]
    assert cli.parse(meta_train.Config, preset, shlex.split(config.flags)) is not None
    for command in config.tasks:
        task, *flags = shlex.split(command)
        settings = module_of(task).Config
        default = cli.parse(settings, None, ["--run", "RUN"])
        assert cli.parse(settings, None, ["--run", "RUN", *flags]) != default
