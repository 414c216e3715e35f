"""The readme's example runs as it stands, and its commands exist."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from functa_jax import meta_train
from functa_jax.evaluation import classification
from groundfloor import cli

README = (Path(__file__).parent.parent / "readme.txt").read_text()


def block(heading):
    """The first indented block below a heading."""
    section = README.split(f"\n{heading}\n", 1)[1]
    return re.search(r"(?:^    .*\n)+", section, re.MULTILINE).group()


@pytest.fixture
def printed(capsys):
    """Runs lines of the readme; returns {name: number} of what they print."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small that more only wait for each other

    def run(code):
        capsys.readouterr()
        exec(code, {})
        return {k: float(v) for k, v in re.findall(r"(.+): (0\.\d+)", capsys.readouterr().out)}

    yield run
    torch.set_num_threads(threads)


def test_ten_lines_load_latents_in_scikit_learn_and_pytorch(tmp_path, monkeypatch, printed):
    monkeypatch.chdir(tmp_path)
    # The classifiers of the main job itself are none of this test's concern.
    one = {"logistic regression": {"C": (1.0,)}, "SVM": {"C": (10.0,), "gamma": (0.3,)}}
    monkeypatch.setattr(classification, "GRIDS", one)
    monkeypatch.setattr(classification, "FOLDS", 2)
    small = shlex.split("--width 16 --depth 3 --latent-dim 16 --steps 100 --batch-size 16")
    small += ["--classifier-rows", "100"]
    cli.run(meta_train.main, meta_train.Config, meta_train.PRESETS, ["digits", *small])
    code = "\n".join(line[4:] for line in block("Latents in scikit-learn and PyTorch").splitlines())
    accuracies = printed(code)
    assert accuracies.keys() == {"scikit-learn", "PyTorch"}
    assert min(accuracies.values()) > 0.8


def test_dessilbi_in_a_loop_of_ones_own(printed):
    code = "\n".join(
        line[4:] for line in README.split("own loop:\n\n")[1].split("\n\n")[0].splitlines()
    )
    numbers = printed(code)
    assert 0.3 < numbers["density"] < 0.8
    assert numbers["accuracy on the support"] > 0.8


def test_modules_named_as_commands_exist():
    names = set(re.findall(r"python -m ([\w.]+)", README))
    assert {
        "functa_jax.meta_train",
        "functa_jax.export",
        "functa_jax.deepmind",
        "optim_torch.train",
    } <= names
    root = Path(__file__).parent.parent
    for name in names:
        path = root / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
