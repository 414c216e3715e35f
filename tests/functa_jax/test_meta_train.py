"""The main job through its command line: every preset, whole but tiny, and users' mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest

import functa_jax
from functa_jax import meta_train
from functa_jax.evaluation import classification
from functa_jax.meta_train import PRESETS, Config
from functa_jax.modalities.loading import COMPUTED
from functa_jax.training import loop
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.data.datasets import Dataset
from groundfloor.data.split import Split
from groundfloor.errors import UserError
from groundfloor.runs import Run
from tests.refusals import refusal
from tests.tfds import pictures, rows_of, write_tfds

REAL = Path(__file__).parents[2].parent / "shared" / "data"
SMALL = [
    *("--images", "40", "--width", "8", "--depth", "3", "--latent-dim", "4", "--steps", "4"),
    *("--batch-size", "4", "--eval-every", "2", "--dispatch", "2", "--warmup", "0"),
]

TRAIN_IMAGES = 40
SLOW = pytest.mark.slow


def run(*args):
    return cli.run(meta_train.main, Config, PRESETS, [str(arg) for arg in args])


@pytest.fixture(autouse=True)
def few_classifiers(monkeypatch):
    """One constant of each kind: which is best is none of this file's concern."""
    grids = {"logistic regression": {"C": (1.0,)}, "SVM": {"C": (10.0,), "gamma": (0.3,)}}
    monkeypatch.setattr(classification, "GRIDS", grids)
    monkeypatch.setattr(classification, "FOLDS", 2)


def data_of(preset, tmp_path):
    """A folder with the preset's data set: the real one, or photographs' size with noise in it."""
    name = PRESETS[preset].dataset
    if name in ("mnist", "cifar10"):
        if not (REAL / "tfds" / name).is_dir():
            pytest.skip(f"{name} is not in ../shared/data/tfds")
        return REAL
    if preset == "celeba64":
        faces = pictures(120, side=128)
        write_tfds(tmp_path, "celeb_a_hq_custom", {"train": rows_of(faces)}, shape=(128, 128, 3))
    return tmp_path


def put_beside(folder):
    """Folders beside a run with a summary.json that is none of ours."""
    for number, content in enumerate(["[]", "{", "", '{"data": "digits"}', "3", None]):
        beside = folder / f"other{number}" / "summary.json"
        beside.parent.mkdir(parents=True)
        beside.mkdir() if content is None else beside.write_text(content)


@pytest.mark.parametrize(
    "preset",
    [
        preset if preset == "digits" else pytest.param(preset, marks=SLOW)
        for preset in PRESETS
        if PRESETS[preset].dataset not in COMPUTED
    ],
)
def test_every_preset_does_the_whole_job(preset, tmp_path, capsys):
    out = tmp_path / "run"
    put_beside(tmp_path)
    args = [preset, *SMALL, "--data-dir", data_of(preset, tmp_path / "data"), "--out", out]
    summary = run(*args)
    said = capsys.readouterr().out

    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["outer_steps"] == 4
    assert list(summary["test_psnr_after_steps"]) == ["0", "1", "2", "3", "10"]
    assert summary["test_psnr"] == summary["test_psnr_after_steps"]["3"]
    functa = functa_jax.load(out)
    possible = functa.config.numbers < TRAIN_IMAGES  # PCA has no more components than images
    assert (summary["pca_test_psnr"] is not None) == possible
    expected = {"latents", "pixels", *["PCA"] * possible}
    assert set(summary["accuracy"]) == (expected if preset != "celeba64" else set())

    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert len(rows[-1]["val_psnr"]) == 4

    # What the three printed lines load is what the network makes of the images.
    lines = said.split("three lines load it:\n\n")[1].splitlines()[:3]
    names = {}
    exec("\n".join(lines), names)
    functaset = names["functaset"]
    assert functaset.metadata["checkpoint"] == functa.hash == summary["checkpoint"]
    assert names["x"].shape == (len(names["y"]), *functa.config.latent_shape)
    assert functaset.mean.shape == functa.config.latent_shape
    decoded = functa.decode(functaset.test.latents)
    assert decoded.shape[1:] == (*functa.resolution, functa.config.channels)
    for figure in ("reconstructions.png", "learning_curves.png"):
        assert (out / "figures" / figure).stat().st_size > 1000
    for made in ("functa.npz", "functaset.npz", "summary.json"):
        assert str(out / made) in said

    assert run(*args) == summary
    assert "is complete; nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_two_latent_sizes_make_a_panel(tmp_path, capsys):
    run("digits", *SMALL, "--latent-dim", 3, "--out", tmp_path / "latent3")
    run("digits", *SMALL, "--latent-dim", 4, "--w0", 21, "--out", tmp_path / "other")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "summary.json").write_text("[")
    run("digits", *SMALL, "--latent-dim", 4, "--out", tmp_path / "latent4")
    for without in ("latent3", "other"):
        assert not (tmp_path / without / "figures" / "latent_sizes.png").exists()
    assert (tmp_path / "latent4" / "figures" / "latent_sizes.png").stat().st_size > 1000


MISTAKES = {
    "unknown preset": (["digit"], "did you mean digits"),
    "unknown flag": (["--latentdim", "3"], "--latent-dim"),
    "no number": (["--steps", "many"], "many"),
    "no steps": (["--steps", "0"], "--steps 0: must be in [1, 2147483647]"),
    "negative noise": (["--noise", "-1"], "--noise -1.0: must be at least 0"),
    "one layer": (["--depth", "1"], "--depth 1"),
    "average": (["--ema", "1"], "--ema 1.0: must be in [0, 1)"),
    "range": (["--rate-range", "1", "0"], "is empty"),
    "half a cluster": (["--coordinator", "localhost:1"], "needs --processes and --process"),
    "no such set": (["--dataset", "faces"], "unknown data set 'faces'"),
    "not there": (["--dataset", "kmnist"], "kmnist not found: looked for"),
    "too many points": (["--inner-points", "65"], "digits images have only 64 pixels"),
    "too large a batch": (["--batch-size", "9999"], "digits has only 1,293 train images"),
    "odd resolution": (["--resolution", "5"], "resolution 5 is impossible"),
    "collapse": (["--collapse", "nan"], "--collapse nan: must be a finite number"),
    "endless rates": (["--rate-range", "0", "inf"], "--rate-range inf: must be a finite number"),
    "no processes": (["--processes", "0"], "--processes 0: must be in [1,"),
    "a process alone": (["--process", "5"], "--process 5: needs --coordinator"),
    "auto": (["--coordinator", "auto", "--processes", "2"], "--processes 2: needs --coordinator"),
    "a process too many": (
        ["--coordinator", "localhost:1", "--processes", "2", "--process", "2"],
        "--process 2: --processes is 2",
    ),
    "a choice of each process": (
        ["--coordinator", "a:1", "--processes", "2", "--process", "0", "--precision", "auto"],
        "--precision auto: several processes take float32 or bfloat16",
    ),
    "no port": (["--coordinator", "localhost"], "must be HOST:PORT"),
    "long seed": (["--seed", "12345678901234567890"], "--seed 12345678901234567890: must be in"),
    "negative seed": (["--seed", "-1"], "--seed -1: must be in [0,"),
    "a folder as name": (["--name", "../../x"], "--name ../../x: must be a plain name"),
    "one image": (["--images", "1", "--batch-size", "1"], "--images 1: must be in [2,"),
    "few images": (["--images", "3"], "--batch-size 64: digits has only 3 train images"),
    "no such weights": (["--init", "none.npz"], "none.npz does not exist"),
    "outer points": (["--outer-points", "65"], "digits images have only 64 pixels"),
    "photographs": (["--dataset", "photos"], "photos has 2 train, 0 validation and 0 test images"),
}


@pytest.mark.parametrize("args, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_before_any_work(args, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUNCTA_DATA", str(tmp_path / "nothing"))
    assert message in refusal(capsys, lambda: run(*args))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--cg-iterations", "2"], "--cg-iterations has no effect without --update gauss_newton"),
        (["--inner-rate", "0.1", "--rate-start", "1"], "--rate-start has no effect"),
        (["--inner-rate", "0.1", "--rate-range", "0", "2"], "--rate-range has no effect"),
    ],
)
def test_a_flag_without_effect_is_said(flags, said, tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise UserError("far enough")

    monkeypatch.setattr(loop, "train", stop)
    with pytest.raises(SystemExit):
        run("digits", *SMALL, *flags, "--out", tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no effect" in line]
    assert said in line


@pytest.mark.parametrize("shape", [(40, 8, 8, 2), (40, 8, 8, 7), (40, 0, 8, 1), (1, 8, 8, 1)])
def test_data_that_cannot_be_learned_are_refused_first(shape, tmp_path, capsys, monkeypatch):
    images = np.zeros(shape, np.uint8)
    part = Split(images, np.zeros(len(images), np.int64), np.arange(len(images)))
    odd = Dataset("odd", part, part, part, 1, "00")
    monkeypatch.setattr(datasets, "load", lambda *_, **__: odd)
    assert "odd" in refusal(capsys, lambda: run(*SMALL, "--out", tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_another_setting_in_the_same_folder_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "config.json").write_text(json.dumps({"width": 64}))
    assert "width 64 -> 8" in refusal(capsys, lambda: run("digits", *SMALL, "--out", out))


def test_a_run_from_before_a_setting_existed_goes_on(tmp_path):
    out = tmp_path / "run"
    data = datasets.load("digits", images=40)
    Run.of("meta_train", "digits", config_of(out), data, not_identity=meta_train.NOT_IDENTITY)
    settings = json.loads((out / "config.json").read_text())
    for later in ("map_size", "cg_iterations", "optimizer"):
        del settings[later]
    (out / "config.json").write_text(json.dumps(settings))
    Run.of("meta_train", "digits", config_of(out), data, not_identity=meta_train.NOT_IDENTITY)
    other = config_of(out, "--optimizer", "muon")
    with pytest.raises(UserError, match="optimizer adam -> muon"):
        Run.of("meta_train", "digits", other, data, not_identity=meta_train.NOT_IDENTITY)


def config_of(out, *flags):
    return cli.parse(Config, PRESETS["digits"], [*SMALL, *flags, "--out", str(out)])


def test_celeba64_is_the_published_setting():
    config = PRESETS["celeba64"]
    published = {
        "resolution": 64,
        "width": 512,
        "depth": 15,
        "inner_steps": 3,
        "inner_rate": None,
        "outer_rate": 3e-6,
        "steps": 500_000,
        "batch_size": 16,
        "w0": 30.0,
        "first_order": False,
        "clip_norm": None,
    }
    assert {name: getattr(config, name) for name in published} == published


def test_presets_are_valid_and_named_by_their_data():
    for name, config in PRESETS.items():
        assert config == Config(**vars(config)), name
    assert np.all([PRESETS[name].dataset == name for name in ("digits", "mnist", "cifar10")])


# ---- data that have little to tell ----


@pytest.mark.slow
def test_two_images_and_a_single_class_do_the_whole_job(tmp_path, capsys):
    faces = pictures(60, channels=1)
    ends = {"train": rows_of(faces, [0] * 60), "test": rows_of(faces[:9], [0] * 9)}
    write_tfds(tmp_path / "data", "oneclass", ends, num_classes=1, shape=(8, 8, 1))
    one_class = [*SMALL, "--dataset", "oneclass", "--data-dir", tmp_path / "data"]
    two_images = [*SMALL, "--images", "2", "--batch-size", "1"]  # of two classes
    for name, args in (("class", one_class), ("images", two_images)):
        out = tmp_path / name
        run("digits", *args, "--out", out)
        summary = json.loads((out / "summary.json").read_text())
        assert summary["accuracy"] == {} and np.isfinite(summary["test_psnr"])
        assert "no two classes with two images each" in capsys.readouterr().out


def test_equal_images_do_the_whole_job(tmp_path, capsys):
    equal = np.repeat(pictures(1, channels=1), 60, axis=0)
    labels = [k % 2 for k in range(60)]
    ends = {"train": rows_of(equal, labels), "test": rows_of(equal[:10], labels[:10])}
    write_tfds(tmp_path / "data", "equal", ends, num_classes=2, shape=(8, 8, 1))
    run(
        "digits",
        *SMALL,
        "--dataset",
        "equal",
        "--data-dir",
        tmp_path / "data",
        "--out",
        tmp_path / "run",
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["accuracy"]["pixels"]["test"] == 0.5  # one answer for all, of two classes
    assert all(np.isfinite(result["cv_log_loss"]) for result in summary["accuracy"].values())
