"""What is read off an optimizer: counts, order, exact pruning, weights given back to the bit."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from groundfloor.pytorch import masking
from optim_torch import DessiLBI
from optim_torch.dessilbi import structure
from optim_torch.dessilbi.path import Recorder
from optim_torch.dessilbi.vit_groups import vit_groups

torch.set_num_threads(1)


def trained(penalty="auto", steps=60, **options):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)
    )
    threshold = 0.2 if penalty == "l1" else 0.8
    options = {"lr": 0.1, "nu": 2.0, "threshold": threshold, "momentum": 0.5, **options}
    named = model.named_parameters() if penalty == "auto" else _weights(model, penalty)
    optimizer = DessiLBI(named, **options)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 1, 6, 6, generator=generator)
    labels = (inputs.mean((1, 2, 3)) * 20).long().clamp(-2, 2) + 2
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model, optimizer


def _weights(model, penalty):
    weights = [(n, p) for n, p in model.named_parameters() if p.dim() > 1]
    rest = [(n, p) for n, p in model.named_parameters() if p.dim() == 1]
    return [{"params": weights, "penalty": penalty}, {"params": rest, "penalty": "none"}]


@pytest.mark.parametrize("penalty", ["auto", "l1", "filter"])
def test_density_counts_what_masks_keep(penalty):
    model, optimizer = trained(penalty)
    masks = structure.masks(optimizer)
    total = sum(p.numel() for p in model.parameters())
    kept = sum(
        int(masks[n].sum()) if n in masks else p.numel() for n, p in model.named_parameters()
    )
    assert 0 < kept < total
    assert structure.density(optimizer) == kept / total
    assert structure.kept_entries(optimizer, masks) == kept
    for row in structure.layers(optimizer):
        mask = masks[row["layer"]]
        assert (row["nonzero"], row["total"]) == (int(mask.sum()), mask.numel())
        assert row["density"] == float(mask.double().mean())
        assert row["selected"] == int(structure.support(optimizer)[row["layer"]].sum())


def test_before_the_first_step_nothing_is_selected():
    model = nn.Linear(4, 3)
    optimizer = DessiLBI(model.named_parameters(), 0.1)
    assert structure.density(optimizer) == 3 / 15
    assert not structure.masks(optimizer)["weight"].any()
    assert torch.isinf(structure.entry_times(optimizer)["weight"]).all()
    assert not optimizer.state


@pytest.mark.parametrize("penalty", ["auto", "l1", "filter"])
def test_ranking_is_by_entry_then_v(penalty):
    _, optimizer = trained(penalty)
    order, sizes = structure.ranking(optimizer)
    times, norms = [], []
    for block in optimizer.blocks():
        times.append(structure.entry_times(optimizer)[block.names[0]].flatten())
        v = optimizer.state[block.params[0]]["v"]
        norms.append((block.grouping.norms([v]) / block.threshold()).flatten())
    times, norms = torch.cat(times), torch.cat(norms)
    keys = [(float(times[i]), -float(norms[i])) for i in order]
    assert keys == sorted(keys)
    assert sorted(order.tolist()) == list(range(len(sizes)))
    assert {math.isinf(t) for t, _ in keys} == {True, False}


def test_without_a_threshold_the_largest_v_comes_first():
    weight = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    optimizer = DessiLBI([{"params": [weight], "penalty": "l1"}], 0.1, nu=1.0, threshold=0.0)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    order, _ = structure.ranking(optimizer)
    assert order.tolist() == [3, 2, 1, 0]


def test_frozen_layers_are_kept_and_the_others_steered_around_them():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2)
    )
    model[0].requires_grad_(False)
    inputs = torch.randn(32, 6)
    optimizer = DessiLBI(
        model.named_parameters(), 0.1, nu=2.0, penalty="l1", threshold=0.1, target_density=0.7
    )
    for _ in range(400):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), (inputs[:, 0] > 0).long()).backward()
        optimizer.step()
    masks, total = structure.masks(optimizer), sum(p.numel() for p in model.parameters())
    assert "0.weight" not in masks and "2.weight" in masks
    assert structure.density(optimizer) == structure.kept_entries(optimizer, masks) / total
    assert structure.density(optimizer) == pytest.approx(0.7, abs=0.02)
    frozen = model[0].weight.clone()
    with structure.swapped(optimizer, structure.restricted(optimizer, masks)):
        assert torch.equal(model[0].weight, frozen)
    model[0].requires_grad_(True)
    assert not structure.masks(optimizer)["0.weight"].any()  # from now on it has to earn its place


@pytest.mark.parametrize("density", [0.2, 0.35, 0.5, 0.9, 1.0])
def test_pruning_meets_the_density_exactly_with_single_entries(density):
    model, optimizer = trained("l1")
    masks = structure.masks_at(optimizer, density)
    total = sum(p.numel() for p in model.parameters())
    assert structure.kept_entries(optimizer, masks) == round(density * total)


@pytest.mark.parametrize("density", [0.2, 0.35, 0.5, 0.9])
def test_pruning_whole_filters_misses_by_less_than_the_largest(density):
    model, optimizer = trained("filter")
    masks = structure.masks_at(optimizer, density)
    total = sum(p.numel() for p in model.parameters())
    missing = round(density * total) - structure.kept_entries(optimizer, masks)
    assert 0 <= missing < 72
    for mask in masks.values():
        assert (mask.flatten(1).all(1) == mask.flatten(1).any(1)).all()


@pytest.mark.parametrize("penalty", ["auto", "l1", "filter"])
def test_pruning_to_the_supports_own_density_gives_the_support(penalty):
    _, optimizer = trained(penalty)
    masks = structure.masks_at(optimizer, structure.density(optimizer))
    support = structure.masks(optimizer)
    assert all(torch.equal(masks[name], support[name]) for name in support)


def test_masks_of_one_path_are_nested():
    _, optimizer = trained("l1")
    smaller = structure.masks_at(optimizer, 0.3)
    larger = structure.masks_at(optimizer, 0.6)
    assert all(bool((larger[name] >= smaller[name]).all()) for name in smaller)


def test_impossible_densities_are_refused():
    _, optimizer = trained("l1")
    for density in (-0.1, 0.001, 1.1):
        with pytest.raises(ValueError, match="density must lie in"):
            structure.masks_at(optimizer, density)


@pytest.mark.parametrize("kind", ["restricted", "gammas"])
def test_swapping_gives_the_dense_weights_back_to_the_bit(kind):
    model, optimizer = trained()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    masks = structure.masks(optimizer)
    weights = (
        structure.restricted(optimizer, masks)
        if kind == "restricted"
        else structure.gammas(optimizer)
    )
    with pytest.raises(KeyError), structure.swapped(optimizer, weights):
        for name, p in model.named_parameters():
            assert torch.equal(p, weights.get(name, before[name]))
            assert name not in masks or bool((p[~masks[name]] == 0).all())
        assert model(torch.zeros(1, 1, 6, 6)).requires_grad
        raise KeyError
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
    with (
        pytest.raises(ValueError, match="no penalised parameter"),
        structure.swapped(optimizer, {"0.bias": torch.zeros(8)}),
    ):
        pass


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_held_weights_stay_zero_through_momentum_and_decay(base):
    model, optimizer = trained()
    masks = structure.masks(optimizer)
    named = dict(model.named_parameters())
    options = {"momentum": 0.9} if base is torch.optim.SGD else {}
    again = base(model.parameters(), lr=0.01, weight_decay=0.1, **options)
    for _ in range(3):  # momentum from before the masks
        model(torch.randn(8, 1, 6, 6)).square().mean().backward()
        again.step()
    handle = masking.hold(again, named, masks)
    for _ in range(5):
        model(torch.randn(8, 1, 6, 6)).square().mean().backward()
        again.step()
        assert all(bool((named[name][~mask] == 0).all()) for name, mask in masks.items())
    handle.remove()
    again.step()
    assert any(bool((named[name][~mask] != 0).any()) for name, mask in masks.items())


def test_random_masks_keep_the_shape_of_the_structure():
    _, optimizer = trained()
    masks = structure.masks(optimizer)
    drawn = structure.random_masks(masks, torch.Generator().manual_seed(0))
    for name, mask in masks.items():
        assert drawn[name].sum() == mask.sum()
        if mask.dim() == 4:
            assert (drawn[name].flatten(1).all(1) == drawn[name].flatten(1).any(1)).all()
    assert any(not torch.equal(drawn[name], mask) for name, mask in masks.items())


def test_recorder_keeps_the_norms_it_saw(tmp_path):
    model, optimizer = trained(steps=0)
    tensors = {"0.weight": model[0].weight, "5.weight": model[5].weight}
    recorder = Recorder(tensors, chosen={"5.weight": [3, 7]})
    seen = []
    for step in range(6):
        optimizer.zero_grad()
        model(torch.ones(2, 1, 6, 6)).square().mean().backward()
        optimizer.step()
        recorder.record(step, optimizer)
        gamma = optimizer.state[model[0].weight]["gamma"]
        seen.append((model[0].weight.detach().flatten(1).norm(dim=1), gamma.flatten(1).norm(dim=1)))
        if step == 2:
            other = Recorder(tensors, chosen={"5.weight": [3, 7]})
            other.load_state_dict(recorder.state_dict())
            recorder = other
    recorder.save(tmp_path / "path.npz")
    with np.load(tmp_path / "path.npz") as arrays:
        assert arrays["time"].tolist() == [0, 1, 2, 3, 4, 5]
        np.testing.assert_allclose(arrays["w/0.weight"], np.stack([w for w, _ in seen]), rtol=1e-6)
        np.testing.assert_allclose(
            arrays["gamma/0.weight"], np.stack([g for _, g in seen]), rtol=1e-6
        )
        assert arrays["w/5.weight"].shape == (6, 2)
    with pytest.raises(ValueError, match="of other tensors"):
        Recorder({"other": model[5].weight}).load_state_dict(recorder.state_dict())
    with pytest.raises(ValueError, match="makes no groups"):
        Recorder({"bias": model[5].bias})


def test_what_is_read_off_does_not_change_with_the_next_step():
    model, optimizer = trained()
    gammas = structure.gammas(optimizer)
    before = {name: gamma.clone() for name, gamma in gammas.items()}
    model(torch.ones(2, 1, 6, 6)).sum().backward()
    optimizer.step()
    assert all(torch.equal(gammas[name], before[name]) for name in before)
    assert any(not torch.equal(g, before[n]) for n, g in structure.gammas(optimizer).items())


def test_recorder_works_without_gamma():
    model = nn.Linear(3, 2)
    recorder = Recorder({"weight": model.weight})
    recorder.record(0, torch.optim.SGD(model.parameters(), 0.1))
    assert not recorder.arrays()["gamma/weight"].any()


def tiny_vit():
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=12, depth=2, num_heads=3
    )


def test_vit_heads_and_neurons_leave_the_network_when_they_are_dropped():
    """Zeroing a head's group is the same as cutting its output; so with a neuron's."""
    model = tiny_vit().eval()
    optimizer = DessiLBI(vit_groups(model), 0.1, nu=1.0, base=torch.optim.AdamW, lr_gamma=1.0)
    names = [n for group in optimizer.param_groups for n in group["param_names"]]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    blocks = {block.names[0]: block for block in optimizer.blocks()}
    assert len(blocks) == 4
    head = torch.tensor([True, False, True])
    neuron = torch.arange(48) != 5
    inputs = torch.randn(2, 1, 8, 8)
    weights = {}
    for name, kept in (("blocks.0.attn.qkv.weight", head), ("blocks.1.mlp.fc1.weight", neuron)):
        block = blocks[name]
        spread = block.grouping.spread(kept, block.params)
        weights |= {n: p * m for n, p, m in zip(block.names, block.params, spread, strict=True)}
    with structure.swapped(optimizer, weights), torch.no_grad():
        zeroed = model(inputs)

    def cut_head(_, args):
        (x,) = args
        return (x.unflatten(-1, (3, 4)) * head[:, None]).flatten(-2)

    def cut_neuron(_, args):
        return (args[0] * neuron,)

    model.blocks[0].attn.proj.register_forward_pre_hook(cut_head)
    model.blocks[1].mlp.fc2.register_forward_pre_hook(cut_neuron)
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), zeroed, atol=1e-6, rtol=1e-5)


def test_vit_groups_train_and_are_counted():
    model = tiny_vit()
    optimizer = DessiLBI(
        vit_groups(model), 1e-2, nu=1.0, threshold=0.1, base=torch.optim.AdamW, lr_gamma=0.1
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(4, 1, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()
    rows = structure.layers(optimizer)
    assert [row["groups"] for row in rows] == [3, 48, 3, 48]
    assert [row["total"] for row in rows] == [3 * 12 * 12 + 36 + 144, 12 * 48 + 48 + 48 * 12] * 2
    assert 0 < sum(row["selected"] for row in rows) < 102


def test_where_biases_alone_are_trained_nothing_is_dropped():
    model = tiny_vit()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    optimizer = DessiLBI(vit_groups(model), 1e-2, nu=1.0, threshold=0.1)
    model(torch.randn(4, 1, 8, 8)).square().mean().backward()
    optimizer.step()
    assert structure.masks(optimizer) == {} and structure.density(optimizer) == 1
    assert structure.restricted(optimizer, structure.masks(optimizer)) == {}


def test_biases_of_q_and_v_go_with_their_head():
    """BEiT has them beside its qkv matrix."""
    import timm

    sizes = {"img_size": 32, "depth": 1, "embed_dim": 12, "num_heads": 3}
    model = timm.create_model("beit_base_patch16_224", **sizes)
    heads, rest = vit_groups(model, neurons=False)
    biases = {"blocks.0.attn.q_bias", "blocks.0.attn.v_bias"}
    assert biases < dict(heads["params"]).keys()
    assert not biases & dict(rest["params"]).keys()
    views = {
        name: view
        for (name, _), view in zip(heads["params"], heads["penalty"]["slices"], strict=True)
    }
    assert all(views[name] == ((3, 4), 0) for name in biases)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("vit_tiny_patch16_224", {"mlp_layer": "SwiGLU"}, "MLPs with gates"),
        ("vit_tiny_patch16_224", {"mlp_layer": "GluMlp"}, "MLPs with gates"),
        ("vit_small_patch16_18x2_224", {}, "parallel blocks"),
        ("efficientnet_b0", {}, "is it a timm ViT"),
        ("resnet18", {}, "is it a timm ViT"),
        ("swin_tiny_patch4_window7_224", {}, "is it a timm ViT"),
        ("mixer_s32_224", {}, "is it a timm ViT"),
    ],
)
def test_models_without_the_groups_are_refused(name, options, said):
    import timm

    if "mlp_layer" in options:
        options = {"mlp_layer": getattr(timm.layers, options["mlp_layer"]), "depth": 1}
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    with pytest.raises(ValueError, match=said):
        vit_groups(model)


def test_models_without_blocks_are_refused():
    with pytest.raises(ValueError, match="timm ViT"):
        vit_groups(nn.Linear(2, 2))
