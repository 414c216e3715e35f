"""Each method's own rule."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prune_torch import density
from prune_torch.methods import METHODS, structured
from prune_torch.methods.base import cubic
from prune_torch.methods.pq_index import pq_index
from prune_torch.protocol import cells, finetune
from tests.prune_torch.tiny import cell


def masks(bench, name, level=0.5, seed=0):
    """Masks of a method that does not search."""
    method = METHODS[name](cell(bench, level, seed=seed))
    return method, method.masks(method.cell.count)


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
    squares = METHODS["wanda"](whole).input_squares()
    images = torch.cat([bench.task.batch(0, number)[0] for number in range(8)])
    patches = images.unflatten(2, (2, 4)).unflatten(4, (2, 4))  # (n, 1, 2, 4, 2, 4)
    wanted = patches.square().sum((0, 2, 4)).flatten()
    torch.testing.assert_close(squares["patch_embed.proj.weight"], wanted)


def test_wanda_is_magnitude_if_all_inputs_are_alike(bench):
    method = METHODS["wanda"](cell(bench))
    method.input_squares = lambda: {
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


@pytest.mark.parametrize("level", [0.4, 0.9])
def test_soft_movement_has_its_number_when_the_search_ends(bench, level):
    """So that the last, exact cut removes or adds few."""
    method = METHODS["movement-soft"](cell(bench, level))
    method.cell.steps = 60
    optimizer = method.optimizer()
    method.start(optimizer)
    finetune.run(
        bench.task,
        method.cell.model,
        optimizer,
        60,
        seed=0,
        after=method.after_step,
        loss=method.loss,
    )
    kept = sum(int(m.mask.sum()) for m in method.maskings.values())
    total = sum(m.mask.numel() for m in method.maskings.values())
    assert abs(kept - method.cell.count) < 0.1 * total


@pytest.mark.parametrize("name", ["blocks", "block-lasso"])
def test_whole_blocks_stay_or_go(bench, name):
    for level, whole in ((0.85, 1), (1.0, 2)):
        method = METHODS[name](cell(bench, level))
        cells.search(method, None)
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


def test_dessilbis_masks_of_one_search_are_nested(bench):
    method = METHODS["dessilbi"](cell(bench))
    optimizer = method.optimizer()
    method.start(optimizer)
    finetune.run(bench.task, method.cell.model, optimizer, 10, seed=0)
    method.finish()
    fewer, more = method.masks(200), method.masks(900)
    assert all(bool((more[n] >= m).all()) for n, m in fewer.items())
    assert sum(int(m.sum()) for m in fewer.values()) == 200


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
