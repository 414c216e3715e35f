"""Refits, relevance, envelopes, low rank, outliers and steered penalties, each by its own maths."""

import copy

import pytest
import torch
from scipy.optimize import minimize

from groundfloor.pytorch import masking
from prune_torch.methods import METHODS, outliers
from prune_torch.methods.envelope import shrinkage
from prune_torch.methods.lora import Adapted, gradient
from prune_torch.methods.oats import split
from prune_torch.methods.refit import fit
from prune_torch.methods.relevance import explained, relevance
from prune_torch.network.factored import Parts, joined, separated
from prune_torch.protocol import cells
from tests.prune_torch.tiny import cell


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_refit_of_a_linear_layer_is_the_regression_on_what_stays():
    layer = torch.nn.Linear(6, 4).double()
    inputs, aims, mask = draw(40, 6), draw(40, 4, seed=1), draw(4, 6, seed=2) > -0.3
    with torch.no_grad():
        layer.weight.mul_(mask)
    fit(layer, {"weight": layer.weight}, {"weight": mask}, inputs, aims)
    for row, kept, bias, aim in zip(layer.weight, mask, layer.bias, aims.T, strict=True):
        best = torch.linalg.lstsq(inputs[:, kept], (aim - bias)[:, None]).solution[:, 0]
        torch.testing.assert_close(row[kept], best, atol=1e-4, rtol=1e-3)
        assert not row[~kept].any()


def test_a_refit_brings_outputs_nearer_to_the_dense_ones_with_the_same_masks(bench):
    errors, found = [], []
    images = torch.cat([bench.task.batch(0, number)[0] for number in range(4)])
    for name in ("magnitude", "magnitude-refit"):
        method = METHODS[name](cell(bench, 0.35))
        masks, model = method.masks(method.cell.count), method.cell.model.eval()
        with torch.no_grad():
            for parameter, mask in zip(
                method.cell.parameters.values(), masks.values(), strict=True
            ):
                parameter.mul_(mask)
            gap = model.forward_features(images) - bench.model.eval().forward_features(images)
        errors.append(float(gap.square().mean()))
        found.append(masks)
    assert errors[1] < 0.7 * errors[0]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def bare(bench):
    """Without biases relevance is conserved."""
    model = copy.deepcopy(bench.model).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model


def test_relevance_is_conserved_and_halved_at_products(bench):
    model = bare(bench)
    whole = explained(model)
    inputs, labels = bench.task.batch(0, 0)
    outputs = whole(inputs.double())
    torch.testing.assert_close(outputs, model(inputs.double()))
    chosen = outputs.gather(1, labels[:, None]).sum()
    chosen.backward()
    total = {n: relevance(p) for n, p in whole.named_parameters()}
    torch.testing.assert_close(total["head.weight"].sum(), chosen.detach())
    for number in range(2):
        at = f"blocks.{number}."
        fc1, fc2 = (total[f"{at}mlp.fc{i}.weight"].sum() for i in (1, 2))
        torch.testing.assert_close(fc1, fc2)
        q, k, v = total[f"{at}attn.qkv.weight"].chunk(3)
        torch.testing.assert_close(q.sum(), k.sum())
        torch.testing.assert_close(2 * v.sum(), total[f"{at}attn.proj.weight"].sum())


def test_relevance_of_an_mlp_is_that_of_the_rule_step_by_step(bench):
    """R_j = Σ_i x_j w_ij R_i / z_i, from the last MLP's outputs to its inputs."""
    whole, seen = explained(bare(bench)), {}
    mlp = whole.blocks[1].mlp
    for name in ("fc1", "act", "fc2"):
        layer = mlp.get_submodule(name)

        def keep(_, inputs, output, name=name):
            output.retain_grad()
            seen[name] = (inputs[0], output)

        layer.register_forward_hook(keep)
    inputs, _ = bench.task.batch(0, 1)
    whole(inputs.double())[:, 3].sum().backward()
    hidden, out = seen["fc2"]
    wanted = (out * out.grad)[..., None] * mlp.fc2.weight * hidden[..., None, :] / out[..., None]
    torch.testing.assert_close(relevance(mlp.fc2.weight), wanted.sum((0, 1)).detach())
    x, z = seen["fc1"]
    passed = wanted.sum(-2)  # of the neurons, the same before and after the activation
    wanted = passed[..., None] * mlp.fc1.weight * x[..., None, :] / z[..., None]
    torch.testing.assert_close(relevance(mlp.fc1.weight), wanted.sum((0, 1)).detach())


@pytest.mark.parametrize("seed", range(4))
def test_the_envelopes_map_has_the_least_objective(seed):
    norms, sizes = draw(5, seed=seed).abs() + 0.1, torch.tensor([1.0, 2.0, 2.0, 3.0, 1.0]).double()
    budget, strength = 3.5, 0.4

    def objective(u):  # over x it is least at x = norms * u / (strength + u)
        u = torch.as_tensor(u)
        return float((strength * norms.square() / (strength + u)).sum() / 2)

    limits = {"type": "ineq", "fun": lambda u: budget - float((sizes * torch.as_tensor(u)).sum())}
    found = minimize(
        objective, [0.3] * 5, bounds=[(0, 1)] * 5, constraints=[limits], options={"ftol": 1e-12}
    )
    u = torch.as_tensor(found.x)
    torch.testing.assert_close(
        shrinkage(norms, sizes, budget, strength), u / (strength + u), atol=1e-4, rtol=0
    )


def test_groups_that_have_nearly_died_do_not_hide_the_others():
    norms, sizes = torch.tensor([1.0, 0.5, 0.2, 1e-22]), torch.ones(4)
    factors = shrinkage(norms, sizes, 2, 1e-3)
    torch.testing.assert_close(factors[:3], shrinkage(norms[:3], sizes[:3], 2, 1e-3))
    assert factors[3] == 0


def test_the_envelope_at_its_ends():
    norms, ones = draw(6).abs(), torch.ones(6).double()
    whole = shrinkage(norms, ones, 6, 0.25)
    torch.testing.assert_close(whole, torch.full_like(whole, 1 / 1.25))
    top = torch.tensor([5.0, 4.0, 1e-3, 1e-4, 0.0, 0.0]).double()
    kept = shrinkage(top, ones, 2, 0.01)  # what is well inside the budget decays, the rest goes
    torch.testing.assert_close(kept, torch.tensor([1 / 1.01] * 2 + [0.0] * 4).double())


def test_gradients_of_full_rank_adapters_are_those_of_the_weight():
    """With an orthogonal A, and B = 0 as at the beginning."""
    weight = draw(4, 8, seed=3)
    adapted = Adapted(weight, torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(draw(8, 8, seed=4)).Q
    adapted.a, adapted.b = (torch.nn.Parameter(x) for x in (basis, torch.zeros(4, 8).double()))
    adapted.mask.fill_(1.0)
    leaf, inputs = weight.clone().requires_grad_(), draw(10, 8, seed=5)
    (inputs @ leaf.T).square().sum().backward()
    (inputs @ adapted(weight).T).square().sum().backward()
    torch.testing.assert_close(gradient(adapted.a, adapted.b), leaf.grad)


def test_a_sparse_matrix_plus_one_of_low_rank_is_found_again():
    low, places = draw(40, 1) @ draw(1, 48, seed=1), torch.arange(12)
    sparse = torch.zeros(40, 48).double()
    sparse[3 * places, 4 * places] = 6.0 * (-1.0) ** places.double()
    scales = draw(48, seed=2).abs() + 0.5
    parts = split(low + sparse, scales, 1, 12)
    torch.testing.assert_close(parts.joined(), low + sparse, atol=1e-3, rtol=1e-3)
    assert torch.equal(parts.sparse != 0, sparse != 0)
    assert parts.nonzero() == 12 + 40 + 48
    alone = split(low, scales, 0, 50)
    wanted = masking.top_masks({0: (low * scales).abs()}, 50)[0]
    torch.testing.assert_close(alone.joined(), low * wanted)


def test_weights_in_parts_come_back_from_a_file_as_they_were():
    parts = {"a.weight": Parts(draw(3, 5), draw(3, 2, seed=1), draw(2, 5, seed=2))}
    state = {"a.weight": parts["a.weight"].joined(), "a.bias": draw(3, seed=3)}
    whole = joined(*separated(state, parts))
    assert whole.keys() == state.keys()
    assert all(torch.equal(whole[name], state[name]) for name in state)


def test_blocks_with_outliers_keep_more(bench):
    model = copy.deepcopy(bench.model)
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[:, 0] *= 30
    method = METHODS["wanda-owl"](cell(bench, 0.5, model=model))
    found = method.masks(method.cell.count)
    kept = [
        sum(int(m.sum()) for n, m in found.items() if n.startswith(f"blocks.{i}.")) for i in (0, 1)
    ]
    assert kept[1] > kept[0]
    assert sum(kept) == method.cell.count
    for mask in found.values():  # Wanda's rule within each
        assert int(mask.sum(1).max() - mask.sum(1).min()) <= 1


def test_densities_by_outliers_lie_about_their_mean():
    found = outliers.densities({"a": 0.01, "b": 0.02, "c": 0.06}, 0.5)
    values = list(found.values())
    assert sum(values) / 3 == pytest.approx(0.5)
    assert max(values) - min(values) == pytest.approx(2 * outliers.REACH)
    assert (values[1] - values[0]) / (values[2] - values[1]) == pytest.approx(0.01 / 0.04)
    assert set(outliers.densities({"a": 0.1, "b": 0.1}, 0.3).values()) == {0.3}


@pytest.mark.parametrize(
    ("name", "level", "most"),
    [("l1-steered", 0.4, 0.04), ("group-lasso-steered", 0.8, 0.01), ("dessilbi-steered", 0.4, 0)],
)
def test_steered_penalties_meet_the_level_before_the_cut(bench, name, level, most):
    method = METHODS[name](cell(bench, level))
    method.cell.steps, method.cell.whole = 40, 80
    cells.search(method, None)
    total = sum(p.numel() for p in method.cell.parameters.values())
    if name == "dessilbi-steered":
        tensors = [method.path.state[p]["gamma"] for p in method.cell.parameters.values()]
    else:
        tensors = method.cell.parameters.values()
    kept = sum(int(t.count_nonzero()) for t in tensors)
    assert abs(kept - method.cell.count) <= most * total


def test_random_search_is_no_worse_than_its_first_draw_and_leaves_the_weights(bench):
    method = METHODS["random-search"](cell(bench, 0.4))
    before = {n: p.detach().clone() for n, p in method.cell.parameters.items()}
    losses, loss = [], method.training_loss
    method.training_loss = lambda: losses.append(loss()) or losses[-1]
    masks = method.masks(method.cell.count)
    assert all(torch.equal(p, before[n]) for n, p in method.cell.parameters.items())
    with torch.no_grad():
        for name, parameter in method.cell.parameters.items():
            parameter.mul_(masks[name])
    assert loss() == min(losses) < losses[0]
    assert sum(int(m.sum()) for m in masks.values()) == method.cell.count


def test_only_norms_and_biases_of_a_random_network_are_trained(bench, tmp_path):
    method = METHODS["norms-only"](cell(bench, 0.5))
    method.masks(method.cell.count)
    parts = dict(method.cell.model.named_parameters())
    trained = {name for name, parameter in parts.items() if parameter.requires_grad}
    assert trained == {n for n in parts if n.endswith("bias") or ".norm" in n or n[:4] == "norm"}
    dense = dict(bench.model.named_parameters())
    for name, parameter in parts.items():
        if name not in trained:
            assert not torch.equal(parameter, dense[name])
