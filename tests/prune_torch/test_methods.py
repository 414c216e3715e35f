"""Every method under the protocol: exact counts, zeros that stay, and each one's own rule."""

import copy
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundfloor import seeds
from groundfloor.data import datasets
from groundfloor.errors import UserError
from prune_torch import compact, density, pack
from prune_torch.methods import METHODS, structured
from prune_torch.methods.base import Cell, cubic
from prune_torch.methods.pq_index import pq_index
from prune_torch.network import vit
from prune_torch.protocol import cells, finetune

torch.set_num_threads(1)

FREE = [name for name, method in METHODS.items() if not (method.structured or method.chooses)]
CHOOSING = [name for name, method in METHODS.items() if method.chooses]
STRUCTURED = [name for name, method in METHODS.items() if method.structured]
ZEROS = "weights that stay are zero"
CONFIG = SimpleNamespace(
    **{"batch_size": 16, "augment": False, "amp": False, "steps": 20, "rate": 1e-3},
    **{"decay": 0.05, "prunable": "blocks", "seed": 0},
)


@pytest.fixture(scope="module")
def bench():
    """A tiny ViT on digits, with a few training steps behind it."""
    digits = datasets.load("digits", images=64)
    torch.manual_seed(0)
    shape = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=10, **shape)
    task = finetune.Task(CONFIG, digits, vit.Pixels(model, "cpu"), torch.device("cpu"))
    finetune.run(task, model, finetune.optimizer_for(model, 1e-2, 0.0), 10, seed=0)
    return SimpleNamespace(
        config=CONFIG, task=task, model=model, device=torch.device("cpu"), made_from="dense"
    )


def run_cell(bench, folder, name, level, seed=0, distil=0.0):
    level = None if METHODS[name].chooses else level
    return cells.run_cell(bench, folder, cells.Key(name, level, seed, distil))


def test_outputs_that_are_not_finite_have_no_accuracy(bench):
    model = copy.deepcopy(bench.model)
    with torch.no_grad():
        model.head.bias[3] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        bench.task.evaluate(model, bench.task.val)


def cell(bench, level=0.5, seed=0):
    model = copy.deepcopy(bench.model)
    parameters = density.prunable(model)
    return Cell(
        *(bench.task, model, parameters, density.budget(model, level)),
        **{"steps": 10, "whole": 20, "rate": 1e-3, "decay": 0.05, "seed": seed},
    )


def masks(bench, name, level=0.5, seed=0):
    """Masks of a method that does not search."""
    method = METHODS[name](cell(bench, level, seed))
    return method, method.masks(method.cell.count)


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("level", [0.35, 0.8])
def test_every_method_meets_the_density_to_the_last_weight(bench, name, level, tmp_path):
    row = run_cell(bench, tmp_path, name, level)
    missed = round(level * row["total"]) - row["nonzero"]
    if name == "set":  # a random newcomer that leads to a neuron without outputs never moves
        assert 0 <= missed < 0.01 * row["total"]
    else:
        assert missed == 0
    assert (row["exact"], row["note"]) == ((True, "") if not missed else (False, ZEROS))
    assert 0 <= row["top1_low"] <= row["top1"] <= row["top1_high"] <= row["top5"] + 0.2 <= 1.2
    kept = pack.load(tmp_path / row["checkpoint"])
    assert (
        sum(int(kept[n].count_nonzero()) for n, _ in bench.model.named_parameters())
        == (row["nonzero"])
    )
    network = compact.load(tmp_path / row["checkpoint"])  # the file says how it is built
    assert density.count(network)["nonzero"] == row["nonzero"]
    assert bench.task.evaluate(network, bench.task.test)["top1"] == row["top1"]


@pytest.mark.parametrize("name", STRUCTURED)
def test_whole_groups_stay_below_the_level_and_say_so(bench, name, tmp_path):
    level = 0.85
    row = run_cell(bench, tmp_path, name, level)
    assert row["nonzero"] <= round(level * row["total"])
    assert (row["exact"], row["note"]) == (False, "whole groups")
    # A block of this network holds 44 % of it; heads and neurons are small.
    assert row["density_all"] > (0.4 if name.startswith("block") else 0.8)


@pytest.mark.parametrize("name", STRUCTURED)
def test_whole_groups_are_written_without_their_dead_parts(bench, name, tmp_path):
    row = run_cell(bench, tmp_path, name, 0.85)
    small = compact.load(tmp_path / row["checkpoint"])
    assert bench.task.evaluate(small, bench.task.test)["top1"] == row["top1"]
    assert compact.parameters(small) < row["total"]
    assert row["gigaflops"] < compact.flops(bench.model) / 1e9
    if name == "heads":
        kept = [share for share in row["heads"] if share < 1]
        assert kept and row["neurons"] == [1.0, 1.0]


@pytest.mark.parametrize("name", CHOOSING)
def test_a_method_with_a_density_of_its_own_reports_it(bench, name, tmp_path):
    row = run_cell(bench, tmp_path, name, None)
    assert row["density"] is None
    if name == "unpruned":
        assert (row["exact"], row["density_all"], row["note"]) == (True, 1.0, "")
    else:
        assert 0.2 < row["density_all"] < 1
        assert not row["exact"] and row["note"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_at_the_same_rates_on_the_same_batches(
    bench, name, tmp_path, monkeypatch
):
    """One warm-up and cosine over a cell, whatever part of it is search."""
    seen, run = [], finetune.run

    def record(task, model, optimizer, steps, **options):
        step = optimizer.step

        def noted(*arguments):
            seen[-1].append(optimizer.param_groups[0]["lr"])
            return step(*arguments)

        optimizer.step = noted
        seen.append([options.get("first", 0)])
        run(task, model, optimizer, steps, **options)

    monkeypatch.setattr(finetune, "run", record)
    row = run_cell(bench, tmp_path, name, 0.6)
    wanted = [finetune.rate_at(step, CONFIG.steps, CONFIG.rate) for step in range(CONFIG.steps)]
    (first, *rates), rounds, (last, *recovery) = seen[0], seen[1:-1], seen[-1]
    if len(seen) == 1:
        rates = []
    assert first == 0 and last == len(rates)
    assert rates + recovery == wanted
    assert rounds == [[0, *rates]] * len(rounds)  # of the lottery, counted
    assert row["extra_passes"] >= len(rounds) * len(rates)


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
    cells._search(method, tmp_path / "search.pt")
    sizes = {n: p.detach().abs() for n, p in density.prunable(trained).items()}
    found, wanted = method.masks(method.cell.count), density.top_masks(sizes, method.cell.count)
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_row(bench, name, tmp_path):
    rows = [run_cell(bench, tmp_path, name, 0.6, seed=1) for _ in range(2)]
    for row in rows:
        for measured in ("seconds", "latency_ms", "latency_ratio"):
            row.pop(measured, None)
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
        (torch.optim.Adam, {"weight_decay": 0.1}),
    ],
)
def test_what_is_masked_stays_zero_under_momentum_and_decay(
    bench, name, optimizer, options, tmp_path
):
    method = METHODS[name](cell(bench, 0.6))
    cells._search(method, tmp_path / "search.pt")
    found = method.masks(method.cell.count)
    model = method.cell.model
    named = dict(model.named_parameters())
    recovery = optimizer(model.parameters(), lr=0.05, **options)
    # Momentum from before the masks would move what they remove.
    bench.task.loss(model, bench.task.batch(0, 0)).backward()
    recovery.step()
    density.hold(recovery, named, found)

    def check(step):
        assert all(not bool(named[n][~mask].any()) for n, mask in found.items())

    finetune.run(bench.task, model, recovery, 5, seed=0, after=check)
    assert any(not mask.all() for mask in found.values()) == (name != "unpruned")


def test_methods_leave_the_dense_network_alone(bench, tmp_path):
    before = copy.deepcopy(bench.model.state_dict())
    for name in ("supermask", "movement", "lottery", "dessilbi", "snip", "sparsegpt", "synflow"):
        run_cell(bench, tmp_path, name, 0.5)
    assert all(torch.equal(v, before[k]) for k, v in bench.model.state_dict().items())
    assert all(p.requires_grad for p in bench.model.parameters())


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


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=30), st.sampled_from([0.25, 8.0]))
def test_the_pq_index_of_scaled_and_repeated_weights_is_the_same(weights, factor):
    weights = torch.tensor(weights, dtype=torch.float64)
    index = pq_index(weights)
    assert -1e-12 <= index <= 1 - 1 / len(weights) + 1e-12
    assert pq_index(factor * weights) == pytest.approx(index, abs=1e-12)
    assert pq_index(weights.repeat(3)) == pytest.approx(index, abs=1e-12)


def test_the_pq_index_at_its_ends():
    assert pq_index(torch.full((7,), -3.0)) == pytest.approx(0.0, abs=1e-12)
    assert pq_index(torch.eye(5)[0]) == pytest.approx(1 - 1 / 5)
    uniform = torch.linspace(0, 1, 100_001)  # (2/3)^2 / (1/2)
    assert pq_index(uniform) == pytest.approx(1 - 8 / 9, abs=1e-5)


def test_magnitude_keeps_the_largest(bench):
    method, found = masks(bench, "magnitude")
    sizes = {n: p.detach().abs() for n, p in method.cell.parameters.items()}
    kept = torch.cat([sizes[n][m] for n, m in found.items()])
    gone = torch.cat([sizes[n][~m] for n, m in found.items()])
    assert kept.min() >= gone.max()


def test_a_floor_leaves_something_in_every_layer(bench):
    with torch.no_grad():
        broken = copy.deepcopy(bench)
        broken.model = copy.deepcopy(bench.model)
        broken.model.blocks[0].attn.proj.weight.mul_(1e-6)
    level = 0.25
    _, plain = masks(broken, "magnitude", level)
    _, floor = masks(broken, "magnitude-floor", level)
    name = "blocks.0.attn.proj.weight"
    assert not plain[name].any()
    assert int(floor[name].sum()) == int(0.02 * floor[name].numel())


def test_layers_share_alike_and_by_erk(bench):
    _, found = masks(bench, "layerwise")
    shares = [float(m.double().mean()) for m in found.values()]
    assert max(shares) - min(shares) < 0.01
    method, found = masks(bench, "erk", 0.4)
    shares = {n: float(m.double().mean()) for n, m in found.items()}
    wanted = density.erdos_renyi(method.cell.parameters)
    free = [n for n in shares if shares[n] < 0.99]
    ratios = [shares[n] / wanted[n] for n in free]
    assert max(ratios) / min(ratios) < 1.05


def test_wanda_keeps_the_same_share_of_every_row(bench):
    method, found = masks(bench, "wanda")
    for mask in found.values():
        counts = mask.sum(1)
        assert int(counts.max() - counts.min()) <= 1
    assert method.passes == 8


def test_wanda_sees_the_patches_of_a_patch_embedding(bench):
    whole = cell(bench)
    whole.parameters = density.prunable(whole.model, "matrices")
    squares = METHODS["wanda"](whole)._input_squares()
    images = torch.cat([bench.task.batch(0, number)[0] for number in range(8)])
    patches = images.unflatten(2, (2, 4)).unflatten(4, (2, 4))  # (n, 1, 2, 4, 2, 4)
    wanted = patches.square().sum((0, 2, 4)).flatten()
    torch.testing.assert_close(squares["patch_embed.proj.weight"], wanted)


def test_wanda_is_magnitude_if_all_inputs_are_alike(bench):
    method = METHODS["wanda"](cell(bench))
    method._input_squares = lambda: {
        name: torch.ones(p.shape[1]) for name, p in method.cell.parameters.items()
    }
    for name, mask in method.masks(method.cell.count).items():
        size = method.cell.parameters[name].detach().abs()
        for row, kept in zip(size, mask, strict=True):
            assert row[kept].min() >= row[~kept].max()


def test_hooks_go_when_a_pass_is_stopped(bench):
    method = METHODS["wanda"](cell(bench))

    def stop(name, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method.watch_inputs(method.cell.parameters, stop)
    assert not any(layer._forward_pre_hooks for layer in method.cell.model.modules())


def test_snip_scores_are_the_change_of_the_loss(bench):
    """|g w| against the loss with one weight set to zero, for small weights."""
    method = METHODS["snip"](cell(bench))
    model = method.cell.model
    batches = [bench.task.batch(0, number) for number in range(8)]

    def loss():
        with torch.no_grad():
            return float(sum(bench.task.loss(model, batch) for batch in batches) / 8)

    model.eval()
    gradients = method.gradients()
    name = "blocks.1.mlp.fc2.weight"
    weight = method.cell.parameters[name]
    before = loss()
    for i, j in ((0, 0), (3, 7), (11, 40)):
        value = weight[i, j].item()
        small = 1e-2 * value
        with torch.no_grad():
            weight[i, j] = value - small
        change = loss() - before
        with torch.no_grad():
            weight[i, j] = value
        assert change == pytest.approx(-float(gradients[name][i, j]) * small, abs=2e-6)


def test_rigl_swaps_keep_every_layers_number(bench):
    method = METHODS["rigl"](cell(bench, 0.4))
    optimizer = method.optimizer()
    method.start(optimizer)
    method.every = 1
    before = {n: m.clone() for n, m in method.now.items()}
    bench.task.loss(method.cell.model, bench.task.batch(0, 0)).backward()
    optimizer.step()
    method.after_step(0)
    changed = 0
    for name, mask in method.now.items():
        assert int(mask.sum()) == int(before[name].sum())
        came, went = mask & ~before[name], before[name] & ~mask
        assert int(came.sum()) == int(went.sum())
        changed += int(came.sum())
        gradient = method.cell.parameters[name].grad.abs()
        if came.any():
            assert gradient[came].min() >= gradient[~mask & ~before[name]].max()
        assert (method.cell.parameters[name][~mask] == 0).all()
        assert not optimizer.state[method.cell.parameters[name]]["exp_avg"][came].any()
    assert changed > 0


def test_the_cubic_falls_from_first_to_last():
    values = [cubic(step, 10, 1.0, 0.2) for step in range(12)]
    assert values[0] == pytest.approx(0.2 + 0.8 * 0.9**3)
    assert values[9] == values[11] == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)


def test_gradual_masks_only_shrink(bench):
    method = METHODS["gradual"](cell(bench, 0.3))
    method.every = 1
    optimizer = method.optimizer()
    method.start(optimizer)
    last = {n: m.clone() for n, m in method.now.items()}
    for step in range(10):
        bench.task.loss(method.cell.model, bench.task.batch(0, step)).backward()
        optimizer.step()
        method.after_step(step)
        assert all(bool((last[n] >= m).all()) for n, m in method.now.items())
        last = {n: m.clone() for n, m in method.now.items()}
    assert sum(int(m.sum()) for m in last.values()) == method.cell.count


@pytest.mark.parametrize("level", [0.4, 0.6, 0.9])
def test_soft_movement_has_its_number_when_the_search_ends(bench, level):
    """So that the last, exact cut removes or adds few."""
    method = METHODS["movement-soft"](cell(bench, level))
    method.cell.steps = 60
    optimizer = method.optimizer()
    method.start(optimizer)
    finetune.run(
        *(bench.task, method.cell.model, optimizer, 60),
        **{"seed": 0, "after": method.after_step, "loss": method.loss},
    )
    kept = sum(int(m.mask.sum()) for m in method.maskings.values())
    total = sum(m.mask.numel() for m in method.maskings.values())
    assert abs(kept - method.cell.count) < 0.1 * total


@pytest.mark.parametrize("name", ["blocks", "block-lasso"])
def test_whole_blocks_stay_or_go(bench, name):
    for level, whole in ((0.85, 1), (1.0, 2)):
        method = METHODS[name](cell(bench, level))
        cells._search(method, None)
        found = method.masks(method.cell.count)
        for number in (0, 1):
            own = [m for n, m in found.items() if n.startswith(f"blocks.{number}.")]
            assert all(m.all() for m in own) or not any(m.any() for m in own)
        assert sum(bool(found[f"blocks.{i}.mlp.fc1.weight"].any()) for i in (0, 1)) == whole


def test_group_lasso_is_the_proximal_map_of_its_penalty(bench):
    """||w|| / √size falls by the threshold, or to zero; the direction stays."""
    method = METHODS["group-lasso"](cell(bench))
    method.penalty = 20.0
    method.optimizer_used = SimpleNamespace(param_groups=[{"lr": 1e-3}])
    before = [[p.detach().clone() for p in params] for _, params, _ in method.blocks]
    old = method.scores()
    method.after_step(0)
    for then, (_, now, grouping), level, new in zip(
        before, method.blocks, old, method.scores(), strict=True
    ):
        torch.testing.assert_close(new, (level - 0.02).clamp_min(0))
        products = [(a * b.detach()) for a, b in zip(then, now, strict=True)]
        sums = structured.group_sums(products, grouping)
        torch.testing.assert_close(sums, level * new * grouping.size(now))


def test_levels_that_whole_groups_cannot_reach_are_refused(bench):
    assert METHODS["heads"](cell(bench, 0.9)).refusal() is None
    assert "stay, whatever goes" in METHODS["heads"](cell(bench, 0.3)).refusal()
    assert METHODS["group-lasso"](cell(bench, 0.3)).refusal() is None


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


def test_dessilbis_masks_of_one_search_are_nested(bench):
    method = METHODS["dessilbi"](cell(bench))
    optimizer = method.optimizer()
    method.start(optimizer)
    finetune.run(bench.task, method.cell.model, optimizer, 10, seed=0)
    method.finish()
    fewer, more = method.masks(200), method.masks(900)
    assert all(bool((more[n] >= m).all()) for n, m in fewer.items())
    assert sum(int(m.sum()) for m in fewer.values()) == 200


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
        SimpleNamespace(**{**vars(bench), "made_from": "dense-other"}),
        SimpleNamespace(**{**vars(bench), "config": copy.copy(CONFIG)}),
    ]
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


def test_random_masks_differ_by_seed_alone(bench):
    first, again, other = (masks(bench, "random", seed=seed)[1] for seed in (0, 0, 1))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


def run_scores(scores, threshold, gradients, *, rate=0.5, decay=0.0, momentum=0.0):
    """Plain SGD on scores; the gradient depends on the masks alone. Returns scores and masks."""
    parameter = torch.nn.Parameter(scores.clone())
    optimizer = torch.optim.SGD([parameter], rate, weight_decay=decay, momentum=momentum)
    history = []
    for step in range(40):
        mask = parameter.detach() > threshold
        history.append(mask)
        parameter.grad = gradients(mask, step)
        optimizer.step()
    return parameter.detach(), history


def mask_gradient(mask, step):
    """Integers that depend on the mask and on the step."""
    generator = torch.Generator().manual_seed(step)
    noise = torch.randint(-3, 4, mask.shape, generator=generator).double()
    return noise + mask.double() * 2 - 1 + mask.double().sum().remainder(3)


@pytest.mark.parametrize("decay", [0.0, 0.125])
def test_p1_scores_may_be_shifted_with_their_threshold(decay):
    """Masks agree at every step and scores stay apart by the shift; not with weight decay."""
    generator = torch.Generator().manual_seed(7)
    scores = torch.randint(-8, 9, (50,), generator=generator).double()
    one, masks_one = run_scores(scores, 0.0, mask_gradient, decay=decay)
    two, masks_two = run_scores(scores + 16, 16.0, mask_gradient, decay=decay)
    same = all(torch.equal(a, b) for a, b in zip(masks_one, masks_two, strict=True))
    assert (same and torch.equal(two - one, torch.full_like(one, 16.0))) == (decay == 0.0)
    assert len({tuple(m.tolist()) for m in masks_one}) > 5


@pytest.mark.parametrize(
    ("rate", "decay", "holds"), [(8.0, 1 / 8, True), (8.0, 1.0, False), (1.0, 1 / 8, False)]
)
def test_p2_scores_rates_and_decay_may_be_scaled_together(rate, decay, holds):
    """α = 8: scores, rate and inverse decay by α leave the masks; any one left out does not."""
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(50, generator=generator, dtype=torch.float64)
    options = {"momentum": 0.5}
    one, masks_one = run_scores(scores, 0.0, mask_gradient, rate=0.25, decay=0.125, **options)
    two, masks_two = run_scores(
        8 * scores, 0.0, mask_gradient, rate=0.25 * rate, decay=0.125 * decay, **options
    )
    same = all(torch.equal(a, b) for a, b in zip(masks_one, masks_two, strict=True))
    assert (same and torch.equal(two, 8 * one)) == holds


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.debias])
def test_a_penalty_chooses_but_does_not_shrink_what_stays(bench, tmp_path, name):
    """With hardly any training what stays has the dense network's values."""
    still = SimpleNamespace(**{**vars(bench), "config": copy.copy(CONFIG)})
    still.config.rate = 1e-12
    row = run_cell(still, tmp_path, name, 0.7)
    assert 0.5 < row["density_all"] < 0.75
    dense = bench.model.state_dict()
    for key, value in pack.load(tmp_path / row["checkpoint"]).items() if name == "l1" else ():
        kept = value != 0
        torch.testing.assert_close(value[kept], dense[key][kept], atol=1e-6, rtol=0)
