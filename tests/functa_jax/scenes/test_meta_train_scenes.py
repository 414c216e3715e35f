"""The main job on a folder of scenes, each with cameras of its own, from training to the table."""

import json

import numpy as np
import pytest
from PIL import Image

import functa_jax
from functa_jax import meta_train
from functa_jax.meta_train import PRESETS, Config
from functa_jax.modalities import loading
from functa_jax.scenes import novel
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from tests.functa_jax.scenes.test_srn import SIDE, write_object

SMALL = [
    *("--width", "4", "--depth", "2", "--latent-dim", "3", "--ray-points", "3", "--steps", "4"),
    *("--inner-points", "8", "--outer-points", "8", "--fit-points", "16", "--batch-size", "4"),
    *("--eval-every", "2", "--dispatch", "2", "--warmup", "0"),
]


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    path = tmp_path_factory.mktemp("cars")
    for number in range(10):
        part = ("train", "train", "train", "val", "test")[number % 5]
        write_object(path / f"cars_{part}" / f"object{number}", number, views=6)
    return path


@pytest.mark.slow
def test_a_folder_of_scenes_does_the_whole_job(cars, tmp_path, capsys):
    out = tmp_path / "run"
    args = ["scenes", "--dataset", str(cars), "--resolution", "8", *SMALL, "--ball", "0.4"]
    args += ["--out", str(out)]  # a camera is nearer than the preset's ball
    summary = cli.run(meta_train.main, Config, PRESETS, args)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["modality"] == "scenes" and summary["rivals"] == {}
    assert list(summary["novel_views"]) == ["1", "2", "4"]
    assert "novel views from 4 given    functa" in capsys.readouterr().out
    functa, data = functa_jax.load(out), exporter.data_of(functa_jax.load(out), out)
    assert data.lattice == (6, SIDE, SIDE)
    assert functa.coords is None and functa.config.ball == 0.4
    again = novel.compare(functa, data, counts=(1,))
    assert again[1] == pytest.approx(summary["novel_views"]["1"])
    found = functa_jax.load_functaset(out).test.latents
    latents, _ = functa.encode(data.test.values, coords=data.test.coords)
    np.testing.assert_allclose(found, latents, atol=1e-6)
    for name in ("novel_views.png", "turntable.gif"):
        with Image.open(out / "figures" / name) as image:
            assert image.width > 100


def test_settings_of_rays_without_effect_are_said(capsys):
    config = Config(ray_points=4)
    meta_train._say_what_has_no_effect(config, datasets.load("digits", images=2))
    assert capsys.readouterr().out == (
        "--ray-points has no effect on digits, which are no scenes\n"
    )


def test_two_views_leave_none_that_is_novel(tmp_path, capsys):
    for number, part in enumerate(("train", "train", "val", "test")):
        write_object(tmp_path / f"cars_{part}" / f"object{number}", number, views=2)
    with pytest.raises(SystemExit) as stop:
        args = ["scenes", "--dataset", str(tmp_path), *SMALL, "--out", str(tmp_path / "run")]
        cli.run(meta_train.main, Config, PRESETS, args)
    assert stop.value.code == 2
    assert "has 2 views of an object; at least 3 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "phrase"),
    [
        (["--near", "2"], "--far 1.8: --near is 2"),
        (["--ray-points", "1"], "--ray-points 1"),
        (["--ball", "0"], "--ball 0"),
        (["--max-density", "-1"], "--max-density"),
    ],
)
def test_impossible_rays_are_one_line(flags, phrase, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(meta_train.main, Config, PRESETS, ["scenes", *flags])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert phrase in line


def test_names_and_folders_of_scenes_are_told_from_images(cars, tmp_path):
    assert loading.is_of_functions("scenes") and loading.is_of_functions(str(cars))
    assert loading.is_of_functions(str(cars / "cars_train"))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / "a.png")
    assert not loading.is_of_functions(str(tmp_path))
    for name in ("a\0b", "x" * 5000, "~nobody-at-all/cars", "digits"):
        assert not loading.is_of_scenes(name)
