"""What a user of the sweep gets wrong, in one line before any work."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from groundfloor import checks
from prune_torch import sweep
from prune_torch.methods import METHODS
from prune_torch.protocol import fitting, workers
from tests.prune_torch.sweeps import prepared, run
from tests.refusals import refusal

DATA = ("--dataset", "small", "--methods", "magnitude", "--densities")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"labels": False}, "small has no labels"),
        ({"channels": 3}, "small has 3 channels, the model takes 1 (--in-chans 3)"),
        ({"classes": 1}, "small has 1 class in train, at least 2 are needed"),
    ],
)
def test_data_that_the_model_cannot_take_are_refused_first(tmp_path, capsys, kind, said):
    prepared(tmp_path, **kind)
    words = ("--data-dir", tmp_path, *DATA, 0.5)
    assert said in refusal(capsys, lambda: run(tmp_path / "run", *words))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "size, said",
    [((8, 8), ""), ((32, 24), "the network takes 8x8 pixels: images of 32x24 are resized\n")],
)
def test_images_of_another_size_than_the_networks_are_said(size, said, capsys):
    data_set = SimpleNamespace(train=SimpleNamespace(images=np.zeros((1, *size, 3), np.uint8)))
    task = SimpleNamespace(pixels=SimpleNamespace(side=8))
    fitting.say_resized(SimpleNamespace(data_set=data_set, task=task))
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"ray": "auto", "jobs": 2, "device": "cpu"}, ["--jobs", "--device"]),
        ({"weights": Path("w"), "pretrained": True}, ["--pretrained"]),
        ({"weights": Path("w"), "dense_steps": 0, "dense_rate": 0.1}, ["--dense-rate"]),
        ({"methods": ("unpruned",), "densities": (0.3,)}, ["--densities"]),
        (
            {"from_sparse": Path("n"), "mean_pool": True, "recipe": "mixed"},
            ["--mean-pool", "--recipe"],
        ),
    ],
)
def test_flags_without_effect_are_said(capsys, changes, said):
    fitting.say_idle(sweep.Config(**changes), sweep.Config())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" has no effect with ")[0] for line in lines] == said


def test_what_a_preset_says_is_not_said_to_have_no_effect(capsys):
    preset = sweep.PRESETS["cifar10-small"]
    fitting.say_idle(dataclasses.replace(preset, from_sparse=Path("n"), model="vit_base"), preset)
    assert capsys.readouterr().out == "--model has no effect with --from-sparse\n"


def test_all_methods_go_by_one_word():
    assert sweep.Config(methods=("all",)).methods == tuple(METHODS)
    assert set(sweep.REPRESENTATIVE) < set(METHODS)


def test_every_number_of_the_settings_has_its_bounds():
    hints = get_type_hints(sweep.Config, include_extras=True)
    for item in dataclasses.fields(sweep.Config):
        if re.search(r"\b(int|float)\b", str(hints[item.name])):
            assert checks.constraints(hints[item.name]), item.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--methods magnitud", "--methods magnitud: there are random,"),
        ("--densities 0", "--densities 0.0: must be in (0, 1]"),
        ("--densities 0.5 1.5", "--densities 1.5: must be in (0, 1]"),
        ("--densities nan", "--densities nan: must be a finite number"),
        ("--densities 0.001", "not reachable"),
        ("--model vit_nonsense", "vit_nonsense"),
        ("--model resnet18", "resnet18"),
        ("--methods", "--methods"),
        ("--methods heads --densities 0.4", "nothing to run: heads 0.4"),
        ("--merge -1", "--merge -1: must be"),
        ("--merge 0 3", "--merge 3: of 4 patches a block can merge 2 at most"),
        ("--rate -1", "--rate -1.0: must be above 0"),
        ("--rate nan", "--rate nan: must be a finite number"),
        ("--dense-rate inf", "--dense-rate inf: must be a finite number"),
        ("--steps 1", "--steps 1: must be in [2"),
        ("--batch-size 100000", "--batch-size 100000: digits has only 64 train images"),
        ("--images 3", "--batch-size 16: digits has only 3 train images"),
        ("--val-fraction 0", "--val-fraction 0.0: must be in (0, 1)"),
        ("--img-size 7", "--img-size 7 is no multiple of --patch-size 4"),
        ("--patch-size 3", "--img-size 8 is no multiple of --patch-size 3"),
        ("--patch-size 0", "--patch-size 0: must be at least 1"),
        ("--embed-dim 13", "vit_tiny_patch16_224"),
        ("--seeds 0 -1", "--seeds -1: must be in"),
        ("--seeds 99999999999999", "--seeds 99999999999999: must be in"),
        ("--seed 12345678901234567890", "--seed 12345678901234567890: must be in"),
        ("--name ../x", "--name ../x: must be a plain name"),
        ("--dense-steps 0", "--dense-steps 0: needs --weights or --pretrained"),
        ("--dataset photos", "photos has no labels"),
        ("--device nonsense", "--device nonsense"),
        ("--images 0", "--images 0: must be"),
        ("--weights nowhere.pth", "nowhere.pth does not exist"),
        ("--distil 2", "--distil 2.0: must be in [0, 1]"),
        ("--jobs 0", "--jobs 0: must be"),
        ("--dataset nonsense", "nonsense"),
    ],
)
def test_mistakes_get_one_line_before_any_training(tmp_path, capsys, words, said):
    line = refusal(capsys, lambda: run(tmp_path / "run", *words.split()))
    assert said in line
    assert not (tmp_path / "run").exists()


def test_missing_weights_are_said_before_the_data_are_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(workers, "make_bench", None)
    line = refusal(capsys, lambda: run(tmp_path / "run", "--weights", "nowhere.pth"))
    assert "nowhere.pth does not exist" in line


def test_weights_that_do_not_fit_are_refused(tmp_path, capsys):
    save_file({"something": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.pth").write_bytes(b"no checkpoint")
    for name in ("other.safetensors", "damaged.pth"):
        words = ("--weights", tmp_path / name)
        assert name in refusal(capsys, lambda words=words: run(tmp_path / "run", *words))
