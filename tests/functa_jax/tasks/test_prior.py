"""The prior on latents: its network, its training, its file, and going on after a kill."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from functa_jax.tasks.prior import diffusion_training
from functa_jax.tasks.prior.diffusion import PriorConfig, load_prior, train_prior
from functa_jax.tasks.prior.diffusion_network import fresh, graph
from functa_jax.tasks.restoration.estimates import find_prior
from functa_jax.tasks.task import Material
from groundfloor.errors import UserError
from tests.functa_jax.functas import FUNCTA

RANDOM = np.random.default_rng(0)
TINY = PriorConfig(
    width=16, blocks=1, heads=2, prior_steps=300, prior_batch=32, prior_rate=1e-2, ema=0.98
)
CENTRES = np.array([[0.02, 0.0, 0.01], [-0.02, 0.01, 0.0]], np.float32)  # about as small as latents
SPREAD = 0.003


def two_classes(count, seed):
    labels = np.arange(count) % 2
    noise = np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)
    return CENTRES[labels] + SPREAD * noise, labels


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The file of a prior of two classes."""
    path = tmp_path_factory.mktemp("prior") / "prior.npz"
    train_prior(
        *two_classes(512, 0), 2, TINY, 0, checkpoint="abc", validation=two_classes(64, 1), path=path
    )
    return path


@pytest.fixture(scope="module")
def prior(file):
    return load_prior(file)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5,), (2, 2, 3)])
def test_denoiser_starts_as_that_of_a_normal_and_uses_every_input(shape):
    network = (PriorConfig(width=8, blocks=1, heads=2), shape, 3)
    model = jax.jit(lambda params, *inputs: nnx.merge(graph(network), params)(*inputs))
    params = fresh(network, jax.random.key(0))
    z = RANDOM.standard_normal((2, *shape)).astype(np.float32)
    phi, labels = np.float32([0.3, 0.9]), np.array([0, 3])
    np.testing.assert_array_equal(model(params, z, phi, labels), np.zeros_like(z))
    params = jax.tree.map(lambda x: 0.5 * RANDOM.standard_normal(x.shape).astype("f4"), params)
    v = model(params, z, phi, labels)
    other = z.copy()
    other[:, -1] += 1  # the last number, or the last cells, of which others hear by attention
    for changed in ((other, phi, labels), (z, phi + 0.1, labels), (z, phi, [1, 2])):
        difference = np.abs(model(params, changed[0], changed[1], np.array(changed[2])) - v)
        assert difference[:, 0].min() > 1e-6
    each = model(params, z[::-1], phi[::-1], labels[::-1])[::-1]  # rows do not see each other
    np.testing.assert_allclose(each, v, rtol=1e-4, atol=1e-4)


def test_samples_are_of_the_class_asked_for(prior):
    for sampler in ("ddim", "ddpm"):
        for label in (0, 1):
            made = prior.sample(200, label, steps=50, sampler=sampler)
            np.testing.assert_allclose(made.mean(axis=0), CENTRES[label], atol=0.002)
            assert np.all(abs(np.log2(made.std(axis=0) / SPREAD)) < 1)
    either = prior.sample(400, steps=50)  # the network without a class makes both
    share = np.mean(either[:, 0] > 0)
    assert 0.2 < share < 0.8


def test_without_classes_one_prior_makes_all():
    latents, _ = two_classes(512, 0)
    prior = train_prior(latents, np.full(512, -1), 0, TINY, 0)
    made = prior.sample(200, steps=50)
    np.testing.assert_array_equal(made, prior.sample(200, np.full(200, -1), steps=50))
    label = (made[:, 0] < 0).astype(int)
    assert 0.2 < label.mean() < 0.8
    distance = np.sqrt(np.mean((made - CENTRES[label]) ** 2, axis=1))
    assert np.median(distance) < 2 * SPREAD


def test_labels_and_guidance(prior):
    noise = RANDOM.standard_normal((8, 3))

    def decode(labels=None, guidance=0.0):
        return prior.decode_ddim(noise, labels, guidance, steps=5)

    labels = np.array([0, 1, 0, 1, -1, 0, 1, -1])
    mixed, free = decode(labels), decode()
    for label in (0, 1):
        np.testing.assert_allclose(
            mixed[labels == label], decode(label)[labels == label], atol=1e-6
        )
    np.testing.assert_allclose(mixed[labels < 0], free[labels < 0], atol=1e-6)
    np.testing.assert_allclose(decode(None, 3.0), free, atol=1e-6)  # no class to exaggerate
    np.testing.assert_allclose(decode(0, 1e-6), decode(0), atol=1e-6)
    assert np.abs(decode(0, 3.0) - decode(0)).max() > 1e-4
    one, same, other = (prior.sample(8, 0, steps=5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_inversion_of_the_prior(prior):
    latents, labels = two_classes(20, 2)
    noise = prior.encode_ddim(latents, labels)
    assert noise.shape == latents.shape and 0.5 < noise.std() < 1.5
    np.testing.assert_allclose(prior.decode_ddim(noise, labels), latents, atol=0.02 * SPREAD)


def test_denoising_is_the_posterior_mean(prior):
    """Of one class, which is N(centre, SPREAD^2), it is a Wiener filter."""
    latents, labels = two_classes(100, 3)
    for level in (0.1, 0.5):
        std = level * prior.scale
        noisy = latents + std * np.random.default_rng(4).standard_normal(latents.shape)
        gain = SPREAD**2 / (SPREAD**2 + std**2)
        expected = CENTRES[labels] + gain * (noisy - CENTRES[labels])
        found = prior.denoise(noisy, level, labels)
        # most of the noise is gone, in the way of the filter
        assert np.mean((found - expected) ** 2) < 0.2 * np.mean((noisy - expected) ** 2)
        each = prior.denoise(noisy, np.full(100, level), labels)
        np.testing.assert_array_equal(each, found)
    far = prior.denoise(latents, 1e6, labels)  # nothing but noise is seen: the class's mean
    np.testing.assert_allclose(far, CENTRES[labels], atol=0.004)


def test_saved_and_loaded_bit_for_bit(prior, file, tmp_path):
    prior.save(tmp_path / "again.npz")
    again = load_prior(tmp_path / "again.npz")
    with np.load(file) as one, np.load(tmp_path / "again.npz") as other:
        assert one.files == other.files
        assert all(one[key].tobytes() == other[key].tobytes() for key in one.files)
    assert again.checkpoint == "abc" and again.config == TINY and again.history == prior.history
    noise = RANDOM.standard_normal((8, 3))
    made = [p.decode_ddim(noise, 1, steps=5) for p in (prior, again)]
    np.testing.assert_array_equal(*made)


def test_refused_files(file, tmp_path):
    whole = file.read_bytes()
    (tmp_path / "prior.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_prior(tmp_path)
    with np.load(file) as arrays:
        kept = {key: arrays[key] for key in arrays.files}
    for change, message in (
        ({"leave/kernel": np.zeros((16, 4), np.float32)}, "arrays are not those"),
        ({"about": None}, "not a prior"),
    ):
        changed = {key: value for key, value in (kept | change).items() if value is not None}
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(UserError, match=message):
            load_prior(tmp_path / "changed.npz")
    with pytest.raises(UserError, match="no prior at"):
        load_prior(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.sample(2, 7), "class 7"),
        (lambda p: p.sample(2, sampler="euler"), "euler"),
        (lambda p: p.denoise(np.zeros((2, 3)), 0.0), "noise_level"),
        (lambda p: p.encode_ddim(np.zeros((2, 4))), r"not \(n, 3"),
    ],
)
def test_refused_arguments(prior, call, message):
    with pytest.raises(UserError, match=message):
        call(prior)


def train_again(path, checkpoint="abc"):
    held = two_classes(64, 1)
    return train_prior(
        *two_classes(512, 0), 2, TINY, 0, checkpoint=checkpoint, validation=held, path=path
    )


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """The folder of the states that a training left which was killed after its second."""

    def save_and_die(self, state, save=diffusion_training.Checkpoints.save):
        save(self, state)
        if state["step"] == 200:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(diffusion_training, "SAVE_SECONDS", -1)
        patch.setattr(diffusion_training.Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train_again(tmp_path / "prior.npz")
    assert not (tmp_path / "prior.npz").exists()
    (folder,) = (tmp_path / "prior.training").iterdir()
    return folder


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_is_skipped_for_the_same_prior_alone(prior, file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(diffusion_training, "train", None)
        assert train_again(file).identity == prior.identity
        with pytest.raises(TypeError):  # another functa: trained anew
            train_again(file, "other")


@pytest.mark.parametrize(
    ("weights", "steps", "fits"), [("abc", 0, True), ("abc", 5, False), ("x", 0, False)]
)
def test_tasks_take_it_for_latents_of_its_own_fit_alone(file, weights, steps, fits):
    functa = replace(FUNCTA, lbfgs_steps=steps)
    functa.__dict__["hash"] = weights
    material = Material(functa, None, None, file.parent)
    if fits:
        assert find_prior(material, file.name).checkpoint == "abc"
    else:
        with pytest.raises(UserError, match="was made for latents of another fit"):
            find_prior(material, file.name)
    assert find_prior(material, "none.npz") is None


@pytest.mark.parametrize("damage", [False, True])
def test_killed_training_goes_on_bit_for_bit(damage, killed, prior, tmp_path, capsys):
    """From the newest state, or from the one before if that is damaged."""
    if damage:
        for path, content in files_of(killed).items():
            if any(part.startswith(f"{200:010d}-") for part in path.relative_to(killed).parts):
                middle = len(content) // 2
                path.write_bytes(content[:middle] + b"\xff" * 9 + content[middle + 9 :])
    resumed = train_again(tmp_path / "prior.npz")
    said = capsys.readouterr().out
    assert f"the prior goes on from step {100 if damage else 200}" in said
    assert ("200" in said and "damaged and was skipped" in said) == damage
    jax.tree.map(np.testing.assert_array_equal, resumed.params, prior.params)
    assert resumed.history == prior.history
    assert [path.name for path in tmp_path.iterdir()] == ["prior.npz"]


def test_a_training_that_is_at_work_elsewhere_is_left_alone(killed, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (killed / ".lock").unlink()
    before = files_of(killed)
    with (killed / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as another process
        with pytest.raises(UserError, match=r"at work in .*prior\.training"):
            train_again(tmp_path / "prior.npz")
    assert {**files_of(killed), **before} == files_of(killed)


def test_states_of_another_training_are_left_alone(killed, tmp_path, capsys):
    before = files_of(killed)
    train_again(tmp_path / "prior.npz", "other")
    assert "goes on" not in capsys.readouterr().out
    assert files_of(killed) == before


def test_each_use_of_chance_has_its_own_stream():
    names = ("weights", "steps", "validation")
    keys = [diffusion_training._stream(seed, name) for name in names for seed in (0, 1)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 6


def test_equal_latents_have_no_prior():
    with pytest.raises(UserError, match="that differ, not these 5"):
        train_prior(np.ones((5, 3)), np.zeros(5), 1, TINY, 0)


def test_best_validation_weights_are_kept(prior):
    losses = [row[2] for row in prior.history]
    latents, labels = two_classes(64, 1)
    validate = diffusion_training._validation(prior.network)
    state = {"ema": prior.params, "best": prior.params, "best_loss": jnp.float32(jnp.inf)}
    _, loss = validate(state, (latents - prior.mean) / prior.scale, labels)
    np.testing.assert_allclose(loss, min(losses), atol=2e-4)
