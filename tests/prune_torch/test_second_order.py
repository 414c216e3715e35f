"""SparseGPT: closed forms of its update, its error against cruder masks, and exact counts."""

import pytest
import torch

from groundfloor.pytorch import masking
from prune_torch import density
from prune_torch.methods import sparsegpt
from prune_torch.methods.base import input_rows
from prune_torch.methods.sparsegpt import SparseGPT, inverse_factor, prune
from tests.prune_torch.tiny import cell as cell_of


@pytest.fixture
def problem(monkeypatch):
    """A matrix (6, 20) in blocks of 8 columns, and the Gram matrix of correlated inputs."""
    monkeypatch.setattr(sparsegpt, "BLOCK", 8)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 20, generator=generator, dtype=torch.float64)
    mixing = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    inputs = torch.randn(50, 20, generator=generator, dtype=torch.float64) @ mixing
    return weight, inputs.mT @ inputs


def damped(gram):
    return gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)


def error(change, gram):
    """||X change^T||^2."""
    return float(((change @ gram) * change).sum())


def test_the_factor_is_that_of_the_inverse(problem):
    _, gram = problem
    upper = inverse_factor(gram)
    torch.testing.assert_close(upper, upper.triu())
    identity = torch.eye(len(gram), dtype=gram.dtype)
    torch.testing.assert_close(upper.mT @ upper @ damped(gram), identity)


def test_orthonormal_inputs_give_magnitude_in_every_block(problem):
    weight, _ = problem
    basis = torch.linalg.qr(torch.randn(50, 20, dtype=torch.float64)).Q
    pruned = weight.clone()
    mask = prune(pruned, basis.mT @ basis, 60)
    torch.testing.assert_close(pruned, weight * mask)
    for size, kept in zip(weight.abs().split(8, 1), mask.split(8, 1), strict=True):
        assert int(kept.sum()) == kept.numel() // 2
        assert size[kept].min() >= size[~kept].max()


def step_by_step(weight, hessian, count):
    """The same from inverses made anew for each column, in blocks of 8, without a lazy update."""
    weight, masks = weight.clone(), []
    blocks = {start: weight[:, start : start + 8] for start in range(0, weight.shape[1], 8)}
    sizes = {start: block.numel() for start, block in blocks.items()}
    counts = density.shared_out(sizes, dict.fromkeys(sizes, 1.0), count)
    inverses = [torch.linalg.inv(hessian[j:, j:]) for j in range(len(hessian))]
    for start, block in blocks.items():
        own = torch.stack([inverses[start + i][0, 0] for i in range(block.shape[1])])
        masks.append(masking.top_masks({0: block.square() / own}, counts[start])[0])
        for i in range(block.shape[1]):
            j = start + i
            for row in (~masks[-1][:, i]).nonzero().flatten():
                ratio = weight[row, j] / inverses[j][0, 0]
                weight[row, j:] -= ratio * inverses[j][0]
    return weight, torch.cat(masks, 1)


@pytest.mark.parametrize("count", [0, 31, 60, 119, 120])
def test_it_is_obs_from_left_to_right(problem, count):
    weight, gram = problem
    pruned = weight.clone()
    mask = prune(pruned, gram, count)
    expected, expected_mask = step_by_step(weight, damped(gram), count)
    assert torch.equal(mask, expected_mask)
    assert int(mask.sum()) == count
    assert (pruned[~mask] == 0).all()
    torch.testing.assert_close(pruned, expected)


def test_the_update_of_given_masks_in_one_piece(problem):
    """W' = W - E U, with E zero where a weight stays: E_S = w_S U_SS^-1; it costs ||E||^2."""
    weight, gram = problem
    pruned = weight.clone()
    mask = prune(pruned, gram, 50)
    upper, cost = inverse_factor(gram), 0.0
    for row, found, kept in zip(weight, pruned, mask, strict=True):
        gone = (~kept).nonzero().flatten()
        errors = torch.linalg.solve(upper[gone][:, gone].mT, row[gone])
        torch.testing.assert_close(found, row - errors @ upper[gone])
        cost += float(errors.square().sum())
    assert error(pruned - weight, damped(gram)) == pytest.approx(cost)


@pytest.mark.parametrize("gone", [1, 5])
def test_without_the_first_columns_the_rest_is_the_least_squares_optimum(
    problem, monkeypatch, gone
):
    """Nothing is frozen then, and it is OBS; one weight: -w_q / [H^-1]_qq times column q."""
    monkeypatch.setattr(sparsegpt, "BLOCK", 128)
    weight, gram = problem
    row = weight[:1].clone()
    row[0, :gone] *= 1e-3
    pruned = row.clone()
    mask = prune(pruned, gram, 20 - gone)
    assert not mask[0, :gone].any()
    hessian = damped(gram)
    best = torch.linalg.solve(hessian[gone:, gone:], hessian[gone:] @ row[0])
    torch.testing.assert_close(pruned[0, gone:], best)
    if gone == 1:
        inverse = torch.linalg.inv(hessian)
        torch.testing.assert_close(pruned[0], row[0] - row[0, 0] / inverse[0, 0] * inverse[0])
        removed = error(pruned - row, hessian)
        assert removed == pytest.approx(float(row[0, 0] ** 2 / inverse[0, 0]))


@pytest.mark.parametrize("count", [36, 60, 90])
def test_outputs_change_less_than_without_update_and_than_by_magnitude(problem, count):
    weight, gram = problem
    pruned = weight.clone()
    mask = prune(pruned, gram, count)
    largest = masking.top_masks({0: weight.abs()}, count)[0]
    second_order = error(pruned - weight, gram)
    assert second_order < error(weight * mask - weight, gram)
    assert second_order < error(weight * largest - weight, gram)


def test_inputs_that_are_always_zero_go_first_and_move_nothing(problem):
    weight, gram = problem
    dead = torch.zeros(20, dtype=bool)
    dead[[1, 9, 17]] = True
    gram[dead] = gram[:, dead] = 0
    weight = weight.sign()  # a large weight of a dead input could outlast a tiny one
    pruned = weight.clone()
    mask = prune(pruned, gram, 105)  # there are 18 weights of dead inputs
    assert not (~mask[:, ~dead]).any()
    assert torch.equal(pruned, weight * mask)
    pruned = weight.clone()
    mask = prune(pruned, torch.zeros_like(gram), 60)
    assert torch.equal(pruned, weight * mask)
    assert int(mask.sum()) == 60


def test_a_convolution_is_a_matrix_on_patches():
    layer = torch.nn.Conv2d(3, 5, (2, 4), stride=(2, 4))
    images = torch.randn(2, 3, 8, 8)
    outputs = input_rows(layer, images) @ layer.weight.flatten(1).mT + layer.bias
    expected = layer(images).flatten(2).mT.flatten(0, 1)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "level"), [("blocks", 0.35), ("blocks", 0.8), ("matrices", 0.3)])
def test_every_matrix_keeps_its_exact_share(bench, kind, level):
    method = SparseGPT(cell_of(bench, level, kind=kind))
    cell = method.cell
    before = {n: p.detach().clone() for n, p in cell.model.named_parameters()}
    found = method.masks(cell.count)
    sizes = {n: p.numel() for n, p in cell.parameters.items()}
    counts = density.shared_out(sizes, dict.fromkeys(sizes, 1.0), cell.count)
    assert {n: int(m.sum()) for n, m in found.items()} == counts
    assert sum(counts.values()) == cell.count
    for name, parameter in cell.model.named_parameters():
        if name in found:
            assert torch.equal(parameter != 0, found[name])
        else:
            assert torch.equal(parameter, before[name])
    assert method.passes == 8 * len(sizes)
    assert torch.isfinite(cell.model(bench.task.batch(0, 0)[0])).all()


def test_a_matrix_sees_the_inputs_that_pruned_ones_give(bench):
    """The last one, pruned anew in the finished network, comes out the same."""
    method = SparseGPT(cell_of(bench))
    name = list(method.cell.parameters)[-1]
    weight = bench.model.get_parameter(name).detach().double()
    found = method.masks(method.cell.count)
    with torch.no_grad():
        gram = method._gram(name)
        assert torch.equal(prune(weight, gram, int(found[name].sum())), found[name])
    torch.testing.assert_close(method.cell.parameters[name].detach(), weight.float())
