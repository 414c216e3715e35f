"""One file for all densities: exact counts, nested sets, the method's own masks."""

import copy

import pytest
import torch

import prune_torch
from groundfloor.errors import UserError
from groundfloor.pytorch import masking
from prune_torch import compact, costs, density, elastic
from prune_torch.methods import METHODS
from tests.prune_torch.sweeps import run
from tests.prune_torch.tiny import cell


def kept(model):
    """Which prunable weights are not zero."""
    return {name: parameter != 0 for name, parameter in density.prunable(model).items()}


@pytest.fixture(scope="module")
def file(bench, tmp_path_factory):
    path = tmp_path_factory.mktemp("elastic") / "snip.safetensors"
    method = METHODS["snip"](cell(bench))
    elastic.save(method.cell.model, elastic.of_method(method, "blocks"), path)
    return path


def test_every_density_is_met_and_sets_are_nested(bench, file):
    total = costs.parameters(bench.model)
    before = None
    for level in (0.33, 0.5, 0.52, 0.9):
        model = prune_torch.load(file, density=level)
        assert density.count(model)["nonzero"] == round(level * total)
        now = kept(model)
        if before:
            assert not any((before[name] & ~now[name]).any() for name in now)
        before = now


def test_at_its_levels_the_masks_are_the_methods_own(bench, file):
    for level in (0.4, 0.75):
        method = METHODS["snip"](cell(bench, level))
        own = method.masks(method.cell.count)
        found = kept(prune_torch.load(file, density=level))
        assert all(torch.equal(found[name], own[name]) for name in own)
    whole = prune_torch.load(file, density=1.0)
    dense = copy.deepcopy(bench.model).eval().state_dict()
    assert all(torch.equal(x, dense[name]) for name, x in whole.state_dict().items())


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_a_sweep_writes_them_and_whole_groups_are_cut_out(tmp_path):
    run(tmp_path, "--methods", "neurons", "dessilbi", "--densities", 0.7, "--elastic")
    assert "changes weights" in elastic.unfit("sparsegpt")
    assert "search" in elastic.unfit("gradual")
    small, large = (
        prune_torch.load(tmp_path / "neurons-elastic.safetensors", density=d) for d in (0.5, 0.9)
    )
    assert costs.parameters(small) < costs.parameters(large)
    assert density.count(prune_torch.load(tmp_path / "dessilbi-elastic.safetensors", 0.3))


@pytest.mark.parametrize("name", ["neurons", "heads", "blocks"])
def test_groups_stay_or_go_whole_as_the_method_has_it(bench, tmp_path, name):
    method = METHODS[name](cell(bench))
    path = tmp_path / "groups.safetensors"
    importances = elastic.of_method(method, "blocks")
    elastic.save(method.cell.model, importances, path, structured=True)
    for level in (0.75, 0.85, 0.87):
        method = METHODS[name](cell(bench, level))
        own = method.masks(method.cell.count)
        masking.apply(dict(method.cell.model.named_parameters()), own)
        expected = compact.compact(method.cell.model)
        found = prune_torch.load(path, density=level)
        least = round(level * costs.parameters(bench.model))
        assert costs.parameters(found) <= least
        if level != 0.87:  # not one of the file's levels
            state = found.state_dict()
            for key, tensor in expected.state_dict().items():
                torch.testing.assert_close(tensor, state[key])


def test_without_a_density_it_is_the_network_before(bench, file):
    state = prune_torch.load(file).state_dict()
    assert all(torch.equal(state[n], tensor) for n, tensor in bench.model.state_dict().items())


def test_a_network_with_zeros_has_no_more_than_its_own_density(bench, tmp_path):
    method = METHODS["snip"](cell(bench))
    parameters = density.prunable(method.cell.model)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.view(-1)[::2] = 0.0
    path = tmp_path / "half.safetensors"
    elastic.save(method.cell.model, elastic.of_method(method, "blocks"), path)
    held = {name: parameter != 0 for name, parameter in parameters.items()}
    model = prune_torch.load(path, density=0.5)
    assert density.count(model)["nonzero"] == round(0.5 * costs.parameters(model))
    assert not any((mask & ~held[name]).any() for name, mask in kept(model).items())
    with pytest.raises(UserError, match=r"half\.safetensors: density 0\.9 asks for"):
        prune_torch.load(path, density=0.9)


def test_what_cannot_be_is_refused_by_name(file, tmp_path):
    plain = tmp_path / "plain.safetensors"
    compact.save(prune_torch.load(file, density=0.5), plain)
    for path, level, said in ((plain, 0.5, "no importances"), (file, 0.01, "not reachable")):
        with pytest.raises(UserError, match=said) as caught:
            prune_torch.load(path, density=level)
        assert path.name in str(caught.value)
