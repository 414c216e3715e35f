"""The sweep: its table, resuming cell by cell, cells side by side, weights from files, mistakes."""

import csv
import dataclasses

import pytest
import timm
import torch
from safetensors.torch import save_file

from common import cli, plots
from common.runs import read_json
from prune_torch import sweep, vit
from tests.refusals import refusal

torch.set_num_threads(1)

TINY = dataclasses.replace(
    sweep.PRESETS["digits"],
    images=64,
    batch_size=16,
    dense_steps=5,
    steps=10,
    jobs=1,
    model_args={
        **{"img_size": 8, "patch_size": 4, "in_chans": 1},
        **{"embed_dim": 12, "depth": 2, "num_heads": 3},
    },
)


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)


def run(folder, *words):
    words = ["tiny", *map(str, words), "--device", "cpu", "--out", str(folder)]
    return cli.run(sweep.main, sweep.Config, {"tiny": TINY}, words)


def table(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_rows_meet_their_densities_and_the_table_holds_them(tmp_path):
    words = ("--methods", "magnitude", "random", "neurons", "--densities", 0.4, 0.8)
    rows = run(tmp_path, *words)
    assert [(r["method"], float(r["density"])) for r in table(tmp_path)] == [
        (method, level) for method in ("magnitude", "random", "neurons") for level in (0.4, 0.8)
    ]
    for row in rows:
        assert row["exact"] == (row["nonzero"] == round(row["density"] * row["total"]))
        assert row["exact"] == (row["method"] != "neurons")
    for name in ("accuracy", "layers"):
        assert (tmp_path / "figures" / f"{name}.png").exists()
    summary = read_json(tmp_path / "summary.json")
    assert summary["cells"] == 6
    assert 0 <= summary["dense"]["test"]["top1"] <= 1


def test_a_stopped_sweep_goes_on_and_may_be_widened(tmp_path, monkeypatch):
    done = []
    run_cell = sweep.run_cell

    def stop_after_two(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[2:])
        return run_cell(*arguments)

    words = ("--methods", "magnitude", "random", "--densities", 0.4, 0.8)
    monkeypatch.setattr(sweep, "run_cell", stop_after_two)
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", *words)
    begun = list(done)

    def record(*arguments):
        done.append(arguments[2:])
        return run_cell(*arguments)

    monkeypatch.setattr(sweep, "run_cell", record)
    run(tmp_path / "cut", *words)
    assert len(done) == 4 and len(set(done)) == 4 and done[:2] == begun
    run(tmp_path / "whole", *words)
    for one, two in zip(table(tmp_path / "cut"), table(tmp_path / "whole"), strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {
            k: v for k, v in two.items() if k != "seconds"
        }
    run(tmp_path / "cut", *words, "--seeds", 0, 1)
    assert len(table(tmp_path / "cut")) == 8


def test_cells_side_by_side_give_the_same_rows(tmp_path):
    words = ("--methods", "magnitude", "snip", "--densities", 0.5)
    alone = run(tmp_path / "alone", *words)
    together = run(tmp_path / "together", *words, "--jobs", 2)
    for one, two in zip(alone, together, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_files(tmp_path, suffix):
    """All but a head of another size; the network then computes what the saved one did."""
    torch.manual_seed(5)
    saved = timm.create_model(TINY.model, num_classes=7, **TINY.model_args)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(saved.state_dict(), path)
    else:
        save_file(saved.state_dict(), path)
    model = vit.build(dataclasses.replace(TINY, weights=path), 10).eval()
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(
        model.forward_features(images), saved.eval().forward_features(images)
    )
    assert model.head.weight.shape == (10, 12)


def test_pixels_are_resized_and_normalised_as_the_model_wants():
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=12, depth=1, num_heads=3
    )
    found = vit.Pixels(model, "cpu")(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    assert found.shape == (2, 3, 16, 16)
    torch.testing.assert_close(found, torch.ones_like(found))  # timm's mean and deviation are 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--methods magnitud", "unknown method 'magnitud'"),
        ("--densities 0", "--densities must lie in (0, 1]"),
        ("--densities 1.5", "--densities must lie in (0, 1]"),
        ("--densities 0.001", "not reachable"),
        ("--model vit_nonsense", "vit_nonsense"),
        ("--weights nowhere.pth", "nowhere.pth does not exist"),
        ("--jobs 0", "--jobs must be at least 1"),
        ("--dataset nonsense", "nonsense"),
    ],
)
def test_mistakes_get_one_line_before_any_training(tmp_path, capsys, words, said):
    line = refusal(capsys, lambda: run(tmp_path / "run", *words.split()))
    assert said in line
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit_are_refused(tmp_path, capsys):
    save_file({"something": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.pth").write_bytes(b"no checkpoint")
    for name in ("other.safetensors", "damaged.pth"):
        words = ("--weights", tmp_path / name)
        assert name in refusal(capsys, lambda words=words: run(tmp_path / "run", *words))


def test_a_folder_of_another_protocol_is_refused(tmp_path, capsys):
    run(tmp_path, "--methods", "random", "--densities", 0.5)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path, "--methods", "random", "--densities", 0.5, "--steps", 20)
    assert "other settings (steps 10 -> 20)" in capsys.readouterr().err
