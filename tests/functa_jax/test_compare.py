"""compare: what each run's own files say, the settings that differ, and nothing of other images."""

import csv
import json

import pytest

from functa_jax import compare
from groundfloor import cli
from tests.refusals import refusal


def write_run(folder, psnr=30.0, fingerprint="f", **settings):
    folder.mkdir()
    summary = {
        "data": "digits",
        "data_fingerprint": fingerprint,
        "numbers": 32,
        "test_psnr": psnr,
        "pca_test_psnr": 26.5,
        "train_seconds": 60.0,
        "accuracy": {"latents": {"test": 0.975}},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(json.dumps({"latent_dim": 32, "width": 64, **settings}))
    rows = [{"step": 100 * n, "val_psnr": [10.0, psnr - 3 + n]} for n in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def called(*words):
    return cli.run(compare.main, compare.Config, None, list(words))


def test_a_row_a_run_and_a_column_a_difference(tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", 31.25, width=128)]
    rows = called(*runs, "--out", str(tmp_path / "out"))
    assert [row["PSNR (dB)"] for row in rows] == [30.0, 31.25]
    assert [row["width"] for row in rows] == ["64", "128"]
    assert "latent_dim" not in rows[0]
    assert rows[0]["latents %"] == 97.5 and rows[0]["pixels %"] is None
    with (tmp_path / "out" / "compare.csv").open() as file:
        written = [*csv.DictReader(file)]
    assert [float(row["PSNR (dB)"]) for row in written] == [30.0, 31.25]
    assert [row["width"] for row in written] == ["64", "128"]
    assert (tmp_path / "out" / "compare.png").stat().st_size > 1000
    assert "31.25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "summary.json").unlink(), "has no summary.json"),
        (lambda run: (run / "summary.json").write_text("[]"), "it holds no results"),
        (lambda run: (run / "summary.json").write_text('{"test_psnr": 30}'), "it holds no results"),
        (lambda run: (run / "config.json").write_text("{"), "is damaged"),
    ],
)
def test_what_is_no_finished_run_is_refused(spoil, said, tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b")]
    spoil(tmp_path / "b")
    assert said in refusal(capsys, lambda: called(*runs))


DAMAGE = {
    "text for a number": ("summary.json", '"test_psnr": 30.0', '"test_psnr": "30"'),
    "a number for accuracies": ("summary.json", '{"latents": {"test": 0.975}}', "0.975"),
    "no accuracy on test": ("summary.json", '{"test": 0.975}', '{"val": 0.975}'),
    "a list of fingerprints": ("summary.json", '"f"', '["f"]'),
    "one PSNR for many": ("metrics.jsonl", "[10.0, 28.0]", "28.0"),
    "no step": ("metrics.jsonl", '"step": 100', '"stop": 100'),
}


@pytest.mark.parametrize("name, good, bad", DAMAGE.values(), ids=DAMAGE)
def test_what_was_changed_by_hand_is_one_line(name, good, bad, tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b")]
    text = (tmp_path / "b" / name).read_text()
    assert good in text
    (tmp_path / "b" / name).write_text(text.replace(good, bad))
    said = refusal(capsys, lambda: called(*runs, "--out", str(tmp_path / "out")))
    assert f"{tmp_path / 'b'} is damaged" in said or "cannot be compared" in said


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b")]
    (tmp_path / "file").write_text("")
    assert "cannot write" in refusal(capsys, lambda: called(*runs, "--out", f"{tmp_path}/file"))


def test_names_are_no_formulas(tmp_path):
    runs = [write_run(tmp_path / "a$\\x$"), write_run(tmp_path / "b")]
    assert len(called(*runs, "--out", str(tmp_path / "out"))) == 2


def test_other_parts_of_the_images_are_refused(tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", images=60)]
    assert "cannot be compared" in refusal(capsys, lambda: called(*runs))


def test_other_images_and_one_run_are_refused(tmp_path, capsys):
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", fingerprint="g")]
    assert "cannot be compared" in refusal(capsys, lambda: called(*runs))
    assert "at least two" in refusal(capsys, lambda: called(runs[0]))
