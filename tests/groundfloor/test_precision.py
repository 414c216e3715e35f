"""What auto decides: by the seconds of real steps, once a run."""

import json

import pytest
import torch

from groundfloor import precision
from groundfloor.errors import UserError
from groundfloor.pytorch import autocast

CPU = torch.device("cpu")


BATCH = torch.ones(64, 2), torch.zeros(64, dtype=torch.long)


def with_seconds(monkeypatch, seconds):
    """Let `step_seconds` measure seconds(count, precision); returns what it measured."""
    asked = []

    def measured(model, inputs, labels, name):
        assert len(inputs) == len(labels)
        asked.append((len(inputs), name))
        return seconds(len(inputs), name)

    monkeypatch.setattr(autocast, "_seconds", measured)
    return asked


def chosen(precision_asked, model, path):
    return precision.chosen(precision_asked, path, lambda: autocast.step_seconds(model, *BATCH))


@pytest.mark.parametrize(
    ("bfloat16", "choice"), [(1 / 1.16, "bfloat16"), (1 / 1.14, "float32"), (2.0, "float32")]
)
def test_auto_takes_bfloat16_only_where_it_gains_enough(monkeypatch, tmp_path, bfloat16, choice):
    asked = with_seconds(monkeypatch, lambda _, name: 1.0 if name == "float32" else bfloat16)
    path = tmp_path / "precision.json"
    assert chosen("auto", pytest.fail, path) == choice
    assert [count for count, _ in asked] == [autocast.FEW] * 2 + [64] * 2
    kept = json.loads(path.read_text())
    assert kept == {"precision": choice, "seconds": {"float32": 1.0, "bfloat16": bfloat16}}
    assert precision.timed(path) == kept["seconds"]


def test_emulated_bfloat16_is_never_timed_on_a_whole_batch(monkeypatch, tmp_path):
    asked = with_seconds(monkeypatch, lambda _, name: 1.0 if name == "float32" else 100.0)
    assert chosen("auto", pytest.fail, tmp_path / "p.json") == "float32"
    assert {count for count, _ in asked} == {autocast.FEW}


def test_a_resumed_run_keeps_its_choice_on_any_machine(monkeypatch, tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"precision": "bfloat16"}')
    assert chosen("auto", pytest.fail, path) == "bfloat16"
    for damaged in ("[]", '{"precision": "float16"}', '{"precision": ["bfloat16"]}'):
        path.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            chosen("auto", pytest.fail, path)


def test_a_named_precision_is_taken_as_it_is_and_leaves_no_file(tmp_path):
    for name in ("float32", "bfloat16"):
        assert chosen(name, pytest.fail, tmp_path / "p.json") == name
        assert precision.timed(tmp_path / "p.json") is None
    assert not list(tmp_path.iterdir())


def test_a_real_measurement_ends_with_one_of_the_two(tmp_path):
    path = tmp_path / "p.json"
    choice = chosen("auto", torch.nn.Linear(2, 2), path)
    seconds = json.loads(path.read_text())["seconds"]
    faster = seconds["float32"] > precision.GAIN * seconds["bfloat16"]
    assert choice == ("bfloat16" if faster else "float32")


def test_autocast_computes_in_the_named_precision():
    a = torch.ones(2, 2)
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", a.dtype), ("auto", a.dtype)):
        with autocast.autocast(CPU, name):
            assert (a @ a).dtype is dtype
