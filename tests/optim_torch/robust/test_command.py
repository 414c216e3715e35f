"""python -m optim_torch.robust: what it writes, and the scores of its methods by hand."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from groundfloor import cli, plots
from groundfloor.errors import UserError
from optim_torch.robust import __main__ as robust
from optim_torch.robust import label_rivals
from tests.refusals import refusal

TINY = dataclasses.replace(robust.PRESETS["digits"], images=300, columns=60, seeds=(0,))


def run(folder, *words):
    words = ["tiny", *map(str, words), "--out", str(folder)]
    return cli.run(robust.main, robust.Config, {"tiny": TINY}, words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plots.STYLE, "savefig.dpi", 30)
        patch.setattr(robust, "SHOWN", 10)
        return folder, run(folder)


def test_the_wrong_labels_are_found_and_listed(finished):
    folder, summary = finished
    with (folder / "suspicious.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 300
    wrong = np.array([row["label"] != row["true"] for row in rows])
    found = np.array([row["suspicious"] == "1" for row in rows])
    ours = summary["table"][0]
    assert ours["method"] == "path of shifts"
    assert ours["precision"]["mean"] == pytest.approx((found & wrong).sum() / found.sum())
    assert ours["recall"]["mean"] == pytest.approx((found & wrong).sum() / wrong.sum())
    assert ours["precision"]["mean"] > 0.8 and ours["recall"]["mean"] > 0.8
    assert wrong[:50].mean() > 0.9
    assert (folder / "figures" / "suspicious.png").exists()
    accuracy = {row["method"]: row["neighbours"]["mean"] for row in summary["table"]}
    assert accuracy["path of shifts"] > accuracy[label_rivals.ALL]


def test_a_finished_run_is_shown_again_and_others_are_refused(finished, capsys):
    folder, summary = finished
    before = (folder / "summary.json").read_bytes()
    assert run(folder, "--table", "csv") == summary
    assert (folder / "summary.json").read_bytes() == before
    assert "path of shifts" in (folder / "table.csv").read_text()
    capsys.readouterr()
    assert "noise 0.3 -> 0.2" in refusal(capsys, lambda: run(folder, "--noise", 0.2))


def test_impossible_settings_are_refused(tmp_path, capsys):
    for words, told in (
        (("--noise", 1), "--noise"),
        (("--q", 0), "--q"),
        (("--dataset", "photos"), "no labels"),
    ):
        assert told in refusal(capsys, lambda words=words: run(tmp_path / "none", *words))


def test_a_class_that_is_too_rare_is_said():
    config = dataclasses.replace(TINY, images=20)
    data = config.load(images=20, val_fraction=0)
    with pytest.raises(UserError, match=r"class \d has \d labels after the flips of seed 3"):
        robust.noisy(config, data, 3)


def test_a_class_without_images_is_said(tmp_path):
    random = np.random.default_rng(0)
    labels, images = 1 + np.arange(60) % 3, random.integers(0, 255, (60, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    config = dataclasses.replace(TINY, dataset=str(tmp_path / "a.npz"), images=None)
    with pytest.raises(UserError, match="has no image of class 0 in train"):
        robust.noisy(config, config.load(val_fraction=0), 0)


def test_a_killed_run_goes_on_with_the_next_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(robust, "show", lambda *_: None)
    monkeypatch.setattr(robust, "suspects", lambda *_: None)
    monkeypatch.setattr(robust, "noisy", lambda *_: (None, None, None))
    seen = []

    def compare(*arguments):
        seen.append(arguments[-1])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return [{"method": "one", "precision": 0.1 * arguments[-1]}]

    monkeypatch.setattr(label_rivals, "compare", compare)
    words = ("--seeds", 3, 5)
    with pytest.raises(SystemExit):
        run(tmp_path / "run", *words)
    summary = run(tmp_path / "run", *words)
    assert seen == [3, 5, 5]
    assert summary["table"][0]["precision"]["mean"] == pytest.approx(0.4)


def test_labels_are_flipped_to_other_classes_at_the_stated_share():
    codes, random = np.arange(30_000) % 10, np.random.default_rng(0)
    flipped = label_rivals.flipped(codes, 10, 0.3, "symmetric", random)
    wrong = flipped != codes
    assert wrong.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 30_000))
    steps = np.bincount((flipped - codes)[wrong] % 10, minlength=10)[1:]
    assert np.abs(steps - steps.mean()).max() < 4 * np.sqrt(steps.mean())
    paired = label_rivals.flipped(codes, 10, 0.4, "pair", random)
    assert set((paired - codes) % 10) == {0, 1}


def test_scores_are_those_of_a_confusion_matrix():
    wrong, found = (
        np.array([1, 1, 1, 0, 0, 0, 0, 0], bool),
        np.array([1, 1, 0, 1, 0, 0, 0, 0], bool),
    )
    scores = label_rivals.scores(np.arange(8, 0, -1), found, wrong)
    assert scores["precision"] == 2 / 3 and scores["recall"] == 2 / 3 and scores["auc"] == 1
    assert scores["kept"] == 5 / 8 and scores["wrong_kept"] == 1 / 5
    nothing = label_rivals.scores(np.arange(8), np.zeros(8, bool), np.zeros(8, bool))
    assert nothing["precision"] is nothing["recall"] is nothing["auc"] is None
    json.dumps(nothing)
