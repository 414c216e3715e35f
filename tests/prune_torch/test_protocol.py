"""One protocol for all methods: counts, rates, seeds, files, and searches that are kept."""

import copy
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from groundfloor import seeds
from groundfloor.errors import UserError
from groundfloor.pytorch import masking
from prune_torch import compact, costs, density, pack
from prune_torch.methods import METHODS
from prune_torch.protocol import cells, finetune
from tests.prune_torch.tiny import CONFIG, cell

FREE = [name for name, method in METHODS.items() if not (method.structured or method.chooses)]


def run_cell(bench, folder, name, level, seed=0, distil=0.0):
    level = None if METHODS[name].chooses else level
    return cells.run_cell(bench, folder, cells.Key(name, level, seed, distil))


@pytest.fixture(scope="module", params=METHODS)
def finished(request, bench, tmp_path_factory):
    """A cell of every method: its row, the learning rates of each of its trainings, its folder.

    The dense network is as it was.
    """
    name = request.param
    level = 0.85 if METHODS[name].structured else 0.35
    folder, trainings, run = tmp_path_factory.mktemp(name), [], finetune.run

    def record(task, model, optimizer, steps, **options):
        step = optimizer.step

        def noted(*arguments):
            trainings[-1].append(optimizer.param_groups[0]["lr"])
            return step(*arguments)

        optimizer.step = noted
        trainings.append([options.get("first", 0)])
        run(task, model, optimizer, steps, **options)

    dense = copy.deepcopy(bench.model.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "run", record)
        row = run_cell(bench, folder, name, level)
    assert all(torch.equal(v, dense[n]) for n, v in bench.model.state_dict().items())
    assert all(p.requires_grad for p in bench.model.parameters())
    return SimpleNamespace(name=name, level=level, row=row, trainings=trainings, folder=folder)


def test_counts_meet_the_level_or_the_row_says_why_not(finished, bench):
    name, row = finished.name, finished.row
    missed = round(finished.level * row["total"]) - row["nonzero"]
    if name in FREE:
        # A random newcomer of SET that leads to a neuron without outputs never moves; a random
        # network's biases begin at zero, and those of k have no gradient.
        idle = name in ("set", "norms-only")
        assert missed == 0 or (idle and 0 < missed < 0.01 * row["total"])
        note = "" if not missed else "weights that stay are zero"
        assert (row["exact"], row["note"]) == (not missed, note)
    elif METHODS[name].structured:
        assert missed > 0
        assert (row["exact"], row["note"]) == (False, "whole groups")
        # A block of this network holds 44 % of it; heads and neurons are small.
        assert row["density_all"] > (0.4 if name.startswith("block") else 0.8)
        assert row["gigaflops"] < costs.flops(bench.model) / 1e9
    elif name == "unpruned":
        assert (row["exact"], row["density_all"], row["note"]) == (True, 1.0, "")
    else:
        assert 0.2 < row["density_all"] < 1
        assert not row["exact"] and row["note"]
    assert (row["density"] is None) == METHODS[name].chooses
    assert 0 <= row["top1_low"] <= row["top1"] <= row["top1_high"] <= row["top5"] + 0.2 <= 1.2
    if name == "heads":
        assert min(row["heads"]) < 1 and row["neurons"] == [1.0, 1.0]


def test_the_file_is_the_network_of_the_row(finished, bench):
    """It says how the network is built; whole groups are gone from it."""
    row = finished.row
    network = compact.load(finished.folder / row["checkpoint"])
    assert bench.task.evaluate(network, bench.task.test)["top1"] == row["top1"]
    if METHODS[finished.name].structured:
        assert costs.parameters(network) < row["total"]
    elif finished.name == "oats":  # two factors stand for a matrix
        assert density.count(network)["nonzero"] > row["nonzero"]
    else:
        assert density.count(network)["nonzero"] == row["nonzero"]


def test_every_method_trains_at_the_same_rates_on_the_same_batches(finished):
    """One warm-up and cosine over a cell, whatever part of it is search."""
    wanted = [finetune.rate_at(step, CONFIG.steps, CONFIG.rate) for step in range(CONFIG.steps)]
    *searches, (last, *recovery) = finished.trainings
    rates = searches[0][1:] if searches else []
    assert rates + recovery == wanted
    assert last == len(rates)
    assert searches == [[0, *rates]] * len(searches)  # the lottery has several, counted
    assert finished.row["extra_passes"] >= (len(searches) - 1) * len(rates)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_row(finished, bench, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "_cost", lambda *_: {})  # of the network that the row is about
    again = run_cell(bench, tmp_path, finished.name, finished.level)
    assert again.keys() >= {"top1", "loss", "nonzero", "layers", "extra_passes"}
    assert all(finished.row[name] == value for name, value in again.items() if name != "seconds")


def test_what_is_masked_stays_zero_under_momentum_and_decay(bench, tmp_path):
    """Of a method that puts other parameters into the model and takes them out again."""
    method = METHODS["movement"](cell(bench, 0.6))
    cells.search(method, tmp_path)
    masks = method.masks(method.cell.count)
    model = method.cell.model
    named = dict(model.named_parameters())
    recovery = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True
    )
    # Momentum from before the masks would move what they remove.
    bench.task.loss(model, bench.task.batch(0, 0)).backward()
    recovery.step()
    masking.hold(recovery, named, masks)

    def check(step):
        assert all(not bool(named[n][~mask].any()) for n, mask in masks.items())

    finetune.run(bench.task, model, recovery, 5, seed=0, after=check)
    assert any(not mask.all() for mask in masks.values())


def test_outputs_that_are_not_finite_have_no_accuracy(bench):
    model = copy.deepcopy(bench.model)
    with torch.no_grad():
        model.head.bias[3] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        bench.task.evaluate(model, bench.task.val)


def test_moments_go_over_to_the_recovery(bench, tmp_path):
    """Dense training, stopped in between as a search is, ends as dense training ends."""
    whole = copy.deepcopy(bench.model)
    optimizer = finetune.optimizer_for(whole, CONFIG.rate, CONFIG.decay)
    finetune.run(bench.task, whole, optimizer, CONFIG.steps, seed=seeds.fold(0, "cell"))
    late = run_cell(bench, tmp_path, "magnitude-late", 1.0)
    control = run_cell(bench, tmp_path, "unpruned", None)
    assert late["steps"] == control["steps"] == CONFIG.steps
    for row in (late, control):
        kept = pack.load(tmp_path / row["checkpoint"])
        assert all(torch.equal(kept[n], v) for n, v in whole.state_dict().items())


def test_late_magnitude_keeps_the_largest_after_the_longest_search(bench, tmp_path):
    late = METHODS["magnitude-late"]
    assert late.share == max(method.share for method in METHODS.values())
    trained = copy.deepcopy(bench.model)
    optimizer = finetune.optimizer_for(trained, 1e-3, 0.05)
    finetune.run(bench.task, trained, optimizer, 10, seed=0, whole=20)
    method = late(cell(bench))
    cells.search(method, tmp_path / "search.pt")
    sizes = {n: p.detach().abs() for n, p in density.prunable(trained).items()}
    found, wanted = method.masks(method.cell.count), masking.top_masks(sizes, method.cell.count)
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_distillation_alone_follows_the_dense_network_not_the_labels(bench, tmp_path):
    """With weight 1 wrong labels change nothing; with less they do."""
    batches = [bench.task.batch(0, 3)]
    wrong = [(inputs, (labels + 1) % 10) for inputs, labels in batches]
    student = copy.deepcopy(bench.model)
    with torch.no_grad():
        student.head.weight.mul_(0.5)
    for weight, same in ((1.0, True), (0.5, False)):
        one, two = (
            float(bench.task.loss(student, batch, bench.model, weight).detach())
            for batch in (batches[0], wrong[0])
        )
        assert (one == two) == same
    assert float(
        bench.task.loss(bench.model, batches[0], bench.model, 1.0).detach()
    ) == pytest.approx(0, abs=1e-6)
    taught = run_cell(bench, tmp_path, "magnitude", 0.5, distil=0.5)
    alone = run_cell(bench, tmp_path, "magnitude", 0.5)
    assert taught["checkpoint"] != alone["checkpoint"]
    assert taught["loss"] != alone["loss"]


def test_a_killed_training_goes_on_bit_for_bit(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("groundfloor.pytorch.steps.SECONDS", 0.0)
    monkeypatch.setattr(finetune, "LOOK_EVERY", 1)

    def train(steps_before_the_kill, keep):
        model = copy.deepcopy(bench.model)
        optimizer = finetune.optimizer_for(model, 1e-3, 0.05)

        def kill(step):
            if step == steps_before_the_kill:
                raise KeyboardInterrupt

        finetune.run(bench.task, model, optimizer, 12, seed=3, after=kill, keep=keep)
        return model.state_dict()

    whole = train(None, None)
    with pytest.raises(KeyboardInterrupt):
        train(7, tmp_path / "state")
    newest = sorted((tmp_path / "state").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-9] + b"other end")  # falls back to the one before
    resumed = train(None, tmp_path / "state")
    assert all(torch.equal(whole[n], resumed[n]) for n in whole)


def test_a_state_that_cannot_be_read_stops_the_training_and_stays(bench, tmp_path, monkeypatch):
    model = copy.deepcopy(bench.model)
    optimizer = finetune.optimizer_for(model, 1e-3, 0.05)
    kept = tmp_path / f"{5:010d}-{'0' * 16}.pt"
    kept.write_bytes(b"anything")
    with pytest.raises(UserError, match=r"no checkpoint in .* is good"):
        finetune.run(bench.task, model, optimizer, 6, seed=0, keep=tmp_path)

    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        finetune.run(bench.task, model, optimizer, 6, seed=0, keep=tmp_path)
    assert kept.exists()


def test_one_search_serves_all_densities(bench, tmp_path, monkeypatch):
    """The second density finds the search, and gets the row that it would have had alone."""
    run_cell(bench, tmp_path / "both", "dessilbi", 0.5)
    alone = run_cell(bench, tmp_path / "alone", "dessilbi", 0.7)
    monkeypatch.setattr(METHODS["dessilbi"], "optimizer", None)  # no second search
    both = run_cell(bench, tmp_path / "both", "dessilbi", 0.7)
    assert {**both, "seconds": 0} == {**alone, "seconds": 0}


def test_a_search_serves_no_other_network_or_protocol(bench):
    key = cells.Key("dessilbi", 0.5, 0)
    others = [
        copy.copy(bench),
        copy.copy(bench),
    ]
    others[0].made_from = "dense-other"
    others[1].config = copy.copy(CONFIG)
    others[1].config.rate *= 2
    assert len({key.search(b) for b in (bench, *others)}) == 3


def test_a_damaged_search_is_not_used_and_not_deleted(bench, tmp_path):
    run_cell(bench, tmp_path, "dessilbi", 0.5)
    (kept,) = tmp_path.glob("dessilbi-search-*/*.pt")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    with pytest.raises(UserError, match="is good"):
        run_cell(bench, tmp_path, "dessilbi", 0.7)
    assert kept.read_bytes() == content


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.debias])
def test_a_penalty_chooses_but_does_not_shrink_what_stays(bench, tmp_path, name):
    """With hardly any training what stays has the dense network's values."""
    still = copy.copy(bench)
    still.config = copy.copy(CONFIG)
    still.config.rate = 1e-12
    row = run_cell(still, tmp_path, name, 0.7)
    assert 0.5 < row["density_all"] < 0.75
    dense = bench.model.state_dict()
    for key, value in pack.load(tmp_path / row["checkpoint"]).items() if name == "l1" else ():
        kept = value != 0
        torch.testing.assert_close(value[kept], dense[key][kept], atol=1e-6, rtol=0)
