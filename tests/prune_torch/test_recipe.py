"""The dense network's recipe: exact resumption, a running mean, and networks that are released."""

import copy
import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from groundfloor.errors import UserError
from prune_torch import compact, pack, sweep
from prune_torch.network import released, vit
from prune_torch.protocol import bench as benches
from prune_torch.protocol import finetune, recipe, workers
from tests.prune_torch.sweeps import TINY


def test_the_mean_of_weights_is_a_geometric_sum():
    model, steps = torch.nn.Linear(1, 1, bias=False), 400
    mean = recipe.average(model, steps)
    values = torch.arange(1.0, 41.0)
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
        mean.update_parameters(model)
    decay = 0.5 ** (recipe.HALF_LIVES / steps)
    wanted = values[0]  # the first is taken as it is
    for value in values[1:]:
        wanted = decay * wanted + (1 - decay) * value
    torch.testing.assert_close(mean.module.weight.detach().squeeze(), wanted)


def test_a_killed_training_with_mixed_images_goes_on_bit_for_bit(bench, tmp_path, monkeypatch):
    monkeypatch.setattr("groundfloor.pytorch.steps.SECONDS", 0.0)
    monkeypatch.setattr(finetune, "LOOK_EVERY", 1)
    losses = []

    def train(last, keep):
        model = copy.deepcopy(bench.model)
        mean = recipe.average(model, 8)

        def kill(step):
            if step == last:
                raise KeyboardInterrupt

        def loss(network, batch):
            value = recipe.mixed_loss(bench.task, network, batch)
            losses.append(float(value.detach()))
            return value

        optimizer = recipe.optimizer_for(model, 1e-3)
        options = {"seed": 3, "loss": loss, "average": mean, "after": kill, "keep": keep}
        finetune.run(bench.task, model, optimizer, 8, **options)
        return mean.module.state_dict()

    whole = train(None, None)
    plain = [float(bench.task.loss(bench.model, bench.task.batch(3, 0)).detach())]
    assert losses[0] != plain[0]  # smoothed, or mixed
    with pytest.raises(KeyboardInterrupt):
        train(4, tmp_path)
    resumed = train(None, tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_muon_moves_the_matrices_of_blocks_as_torch_does(bench, monkeypatch):
    """Were it not for bfloat16; all else moves as by AdamW."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    ours, theirs = copy.deepcopy(bench.model), copy.deepcopy(bench.model)
    optimizer = recipe.optimizer_for(ours, 1e-3)
    of_blocks = [p for p in theirs.blocks.parameters() if p.dim() == 2]
    chosen = {id(p) for p in of_blocks}
    rest = [p for p in theirs.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        of_blocks, lr=1e-3, weight_decay=recipe.DECAY, adjust_lr_fn="match_rms_adamw"
    )
    groups = [
        {"params": [p for p in rest if p.dim() == 2], "weight_decay": recipe.DECAY},
        {"params": [p for p in rest if p.dim() != 2], "weight_decay": 0.0},
    ]
    theirs_optimizers = [muon, torch.optim.AdamW(groups, lr=recipe.OTHERS * 1e-3)]
    for step in range(3):
        for model, steppers in ((ours, [optimizer]), (theirs, theirs_optimizers)):
            model.zero_grad()
            bench.task.loss(model, bench.task.batch(0, step)).backward()
            for stepper in steppers:
                stepper.step()
    before = dict(bench.model.named_parameters())
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        moved, wanted = (each.detach() - before[name].detach() for each in (mine, other))
        error = float((moved - wanted).norm() / wanted.norm().clamp(min=1e-9))
        assert error < 1e-3, (name, error)


def test_orthogonal_keeps_singular_vectors_and_levels_values():
    generator = torch.Generator().manual_seed(0)
    for shape in ((12, 30), (30, 12)):
        u, _ = torch.linalg.qr(torch.randn(shape[0], 12, generator=generator))
        v, _ = torch.linalg.qr(torch.randn(shape[1], 12, generator=generator))
        values = torch.logspace(0, -1.5, 12)
        found = u.T @ recipe.orthogonal(u * values @ v.T) @ v
        level = found.diagonal()
        torch.testing.assert_close(found, level.diag(), atol=1e-4, rtol=0)
        assert level.min() > 0.6 and level.max() < 1.3


@pytest.mark.parametrize("kind", range(6))
def test_the_loss_is_linear_in_the_images_that_were_mixed(bench, monkeypatch, kind):
    """A network that sees which classes are in an image: labels are mixed in the same shares."""
    monkeypatch.setattr(recipe, "MIXED", 1.0)
    monkeypatch.setattr(recipe, "SMOOTHING", 0.0)
    labels = torch.arange(10)
    images = torch.eye(10)[:, :, None, None].expand(-1, -1, 8, 8)  # a channel a class

    class Network(torch.nn.Module):
        num_classes = 10

        def forward(self, mixed):
            self.shares = mixed.mean((2, 3))
            return self.shares

    network = Network()
    torch.manual_seed(kind)
    value = recipe.mixed_loss(bench.task, network, (images, labels))
    shares = network.shares
    wanted = -(shares * shares.log_softmax(1)).sum(1).mean()
    assert float(value) == pytest.approx(float(wanted), rel=1e-4)


def test_a_released_network_is_taken_in_place_of_training(tmp_path, monkeypatch):
    monkeypatch.setattr(released, "FOLDER", tmp_path / "released")
    config = dataclasses.replace(TINY, device="cpu", recipe="mixed")
    first = workers.make_bench(config)
    assert released.matching(first.settings()) is None
    first.dense(tmp_path / "a")
    file = released.FOLDER / "tiny.safetensors"
    released.write(first.model, first.settings(), file)
    assert file.stat().st_size < 0.6 * next((tmp_path / "a").glob("*.safetensors")).stat().st_size

    def trained(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(benches.Bench, "train", trained)
    again = workers.make_bench(config)
    _, facts = again.dense(tmp_path / "b")
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, first.model.state_dict()[name].half().float())
    assert facts["test"] == again.task.evaluate(again.model, again.task.test)
    for other in ({"retrain": True}, {"dense_rate": 0.5}):
        with pytest.raises(ZeroDivisionError):
            workers.make_bench(dataclasses.replace(config, **other)).dense(tmp_path / "c")
    sparse = tmp_path / "sparse.safetensors"
    pack.save(first.model.state_dict(), sparse, compact.description(first.model))
    _, facts = workers.make_bench(dataclasses.replace(config, from_sparse=sparse)).dense(tmp_path)
    assert "released" not in facts  # it begins with what was given
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"tiny\.safetensors"):
        workers.make_bench(config).dense(tmp_path / "d")


def test_the_network_that_comes_with_the_package_is_that_of_its_preset():
    path = released.FOLDER / "cifar10-small.safetensors"
    with safe_open(path, framework="pt") as file:
        settings = json.loads(file.metadata()[released.KEY])
    preset = sweep.PRESETS["cifar10-small"]
    own = {name: str(getattr(preset, name)) for name in benches.DENSE_SETTINGS}
    assert settings == own | {"data_fingerprint": settings["data_fingerprint"]}
    model = vit.build(preset, 10)
    model.load_state_dict(released.state(path))
    assert path.stat().st_size < 1.1e6
