"""Diffusion against closed forms, the prior's file, Fréchet distance, the whole task."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from functa_jax import functa
from functa_jax.evaluation import reconstruction
from functa_jax.model import siren
from functa_jax.tasks import generate
from functa_jax.tasks.generation import frechet
from functa_jax.tasks.prior import diffusion_training
from functa_jax.tasks.prior.diffusion import PriorConfig, load_prior, train_prior
from functa_jax.tasks.prior.diffusion_network import fresh, graph
from functa_jax.tasks.prior.diffusion_process import (
    HALF_TURN,
    SMALLEST,
    angles,
    guided,
    mix,
    step_down,
    unmix,
    walk_down,
    walk_up,
)
from functa_jax.training import exporter
from groundfloor import cli
from groundfloor.data import datasets
from groundfloor.errors import UserError
from tests.refusals import refusal

RANDOM = np.random.default_rng(0)
ANGLE = st.floats(SMALLEST, HALF_TURN)


# ---- the process ----


@given(ANGLE)
def test_mixing_is_a_rotation(phi):
    x, noise = RANDOM.standard_normal((2, 5, 3)).astype(np.float32)
    z, v = mix(x, noise, phi)
    np.testing.assert_allclose(z**2 + v**2, x**2 + noise**2, rtol=1e-5)  # so variances add to one
    np.testing.assert_allclose(z, np.cos(phi) * x + np.sin(phi) * noise, atol=1e-6)
    for found, expected in zip(unmix(z, v, phi), (x, noise), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_angles_are_the_cosine_schedule():
    """Nichol & Dhariwal (2021), equation 17, up to their division by f(0)."""
    t = np.linspace(1, 0, 21)
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(np.cos(angles(20)) ** 2, f, atol=1e-6)


@given(ANGLE, ANGLE)
def test_ancestral_step_is_the_posterior_of_ho_et_al(one, other):
    """Mean and variance of q(z_s | z_t, x): Ho et al. (2020), equations 6 and 7."""
    lower, phi = sorted((one, other))
    if phi - lower < 1e-2:
        return
    x, noise, fresh = RANDOM.standard_normal((3, 7))
    bar_s, bar_t = np.cos(lower) ** 2, np.cos(phi) ** 2
    alpha = bar_t / bar_s
    z, v = mix(x, noise, phi)
    mean = np.sqrt(bar_s) * (1 - alpha) / (1 - bar_t) * x
    mean += np.sqrt(alpha) * (1 - bar_s) / (1 - bar_t) * z
    std = np.sqrt((1 - bar_s) / (1 - bar_t) * (1 - alpha))
    found = step_down(z, v, phi, lower, 1.0, fresh)
    np.testing.assert_allclose(found, mean + std * fresh, atol=1e-4)


@given(ANGLE, ANGLE)
def test_ddim_step_with_the_true_noise_is_exact_mixing(one, other):
    lower, phi = sorted((one, other))
    x, noise = RANDOM.standard_normal((2, 7))
    found = step_down(*mix(x, noise, phi), phi, lower, 0.0, np.nan_to_num(0.0))
    np.testing.assert_allclose(found, mix(x, noise, lower)[0], atol=1e-5)


MEAN = np.array([0.5, -1.0, 2.0], np.float32)
ROOT = np.array([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.2, 0.3, 0.2]], np.float32)
COVARIANCE = ROOT @ ROOT.T
VARIANCES, AXES = np.linalg.eigh(COVARIANCE)


def exact_velocity(z, phi):
    """E[v | z] for latents N(MEAN, COVARIANCE)."""
    cosine, sine = jnp.cos(phi), jnp.sin(phi)
    gain = cosine * VARIANCES / (cosine**2 * VARIANCES + sine**2)
    x = MEAN + ((z - cosine * MEAN) @ AXES * gain) @ AXES.T
    return (cosine * z - x) / sine


def test_ddim_solves_the_flow_of_gaussian_data():
    """dz/dphi = v carries noise n to MEAN + (C + tan^2)^(1/2) n, one linear map."""
    noise = RANDOM.standard_normal((50, 3)).astype(np.float32)
    found = jax.jit(lambda z: walk_down(exact_velocity, z, 1000))(noise)
    root = scipy.linalg.sqrtm(COVARIANCE + np.tan(SMALLEST) ** 2 * np.eye(3)).real
    np.testing.assert_allclose(found, MEAN + noise @ root, atol=0.01)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samplers_return_mean_and_covariance(eta):
    noise = RANDOM.standard_normal((10_000, 3)).astype(np.float32)
    key = jax.random.key(1)
    made = jax.jit(lambda z: walk_down(exact_velocity, z, 200, eta, key))(noise)
    np.testing.assert_allclose(np.mean(made, axis=0), MEAN, atol=0.04)
    np.testing.assert_allclose(np.cov(made, rowvar=False), COVARIANCE, atol=0.06)


def test_walking_up_inverts_walking_down():
    noise = RANDOM.standard_normal((50, 3)).astype(np.float32)
    latents = jax.jit(lambda z: walk_down(exact_velocity, z, 20))(noise)
    found = jax.jit(lambda x: walk_up(exact_velocity, x, 20))(latents)
    np.testing.assert_allclose(found, noise, atol=5e-3)
    again = jax.jit(lambda z: walk_down(exact_velocity, z, 20))(found)
    np.testing.assert_allclose(again, latents, atol=1e-3)


def test_guidance_algebra():
    with_class, without = RANDOM.standard_normal((2, 4, 3))
    np.testing.assert_array_equal(guided(with_class, without, 0.0), with_class)
    np.testing.assert_allclose(guided(with_class, without, -1.0), without, atol=1e-12)
    np.testing.assert_allclose(guided(with_class, without, 2.5), 3.5 * with_class - 2.5 * without)
    # The same rule for noise and for v, since both are linear in each other at given z.
    z, phi = RANDOM.standard_normal((4, 3)), 0.7
    noise = unmix(z, guided(with_class, without, 2.5), phi)[1]
    parts = [unmix(z, v, phi)[1] for v in (with_class, without)]
    np.testing.assert_allclose(noise, guided(*parts, 2.5), atol=1e-6)


# ---- the network and its training ----

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


@pytest.mark.parametrize("damage", [False, True])
def test_killed_training_goes_on_bit_for_bit(damage, killed, prior, tmp_path, capsys):
    """From the newest state, or from the one before if that is damaged."""
    if damage:
        for path, content in files_of(killed).items():
            if "200" in str(path.relative_to(killed)):
                middle = len(content) // 2
                path.write_bytes(content[:middle] + b"\xff" * 9 + content[middle + 9 :])
    resumed = train_again(tmp_path / "prior.npz")
    said = capsys.readouterr().out
    assert f"the prior goes on from step {100 if damage else 200}" in said
    assert ("200" in said and "damaged and was skipped" in said) == damage
    jax.tree.map(np.testing.assert_array_equal, resumed.params, prior.params)
    assert resumed.history == prior.history
    assert [path.name for path in tmp_path.iterdir()] == ["prior.npz"]


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


# ---- Fréchet distance ----


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_frechet_distance_is_the_closed_form(seed, numbers):
    random = np.random.default_rng(seed)
    a = random.standard_normal((40, numbers)) @ random.standard_normal((numbers, numbers))
    b = random.standard_normal((30, numbers)) + random.standard_normal(numbers)
    c_a, c_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = scipy.linalg.sqrtm(c_a @ c_b).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c_a + c_b - 2 * root)
    np.testing.assert_allclose(frechet.frechet_distance(a, b), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(frechet.frechet_distance(b, a), expected, rtol=1e-4, atol=1e-6)
    assert frechet.frechet_distance(a, a[::-1]) < 1e-6
    np.testing.assert_allclose(frechet.frechet_distance(a, a + 3), 9 * numbers, rtol=1e-6)


def test_frechet_distance_of_one_number():
    a, b = RANDOM.standard_normal((100, 1)), 2 + 3 * RANDOM.standard_normal((50, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    np.testing.assert_allclose(frechet.frechet_distance(a, b), expected)


def test_few_images_take_few_features_and_chance_has_its_interval():
    """Features are what a classifier says they are: here the first pixels, of known variance."""
    random = np.random.default_rng(3)
    scales = np.array([3.0, 2.0, 1.0, 0.1])

    def split(count, shift=0):
        pixels = np.clip(128 + 10 * scales * random.normal(size=(count, 4)) + shift, 0, 255)
        images = np.uint8(pixels).reshape(count, 2, 2, 1)
        return datasets.Split(images, np.zeros(count, int), np.arange(count))

    data = datasets.Dataset("x", split(400), split(25), split(300), 2, "")
    judge = frechet.Judge(
        lambda images: (reconstruction.as_rows(images), np.zeros(len(images))),
        data,
        data.test,
        data.val,
    )
    assert judge.components == 2  # a tenth of 25
    variances = np.var(reconstruction.pixel_rows(data.train.images), axis=0)
    np.testing.assert_allclose(judge.explained, variances[:2].sum() / variances.sum(), atol=0.02)
    alike, other, far = (
        judge.row(name, generate.as_floats(split(300, shift).images))
        for name, shift in (("alike", 0), ("other", 0), ("far", 30))
    )
    assert not judge.told_apart(alike, other) and judge.told_apart(alike, far)
    assert not judge.told_apart(alike, alike)
    assert judge.told_apart(alike, far, "FID to validation")
    same = judge.row("same", generate.as_floats(data.test.images), same=True)
    np.testing.assert_allclose([same["FID"], same["FID ±"]], 0, atol=1e-6)
    # As a standard error: over new draws of both sides FID spreads as its resamples say.
    again = [
        frechet.frechet_distance(
            *(reconstruction.pixel_rows(split(300, s).images)[:, :2] for s in (0, 30))
        )
        for _ in range(100)
    ]
    assert 0.6 < far["FID ±"] / (1.96 * np.std(again)) < 1.6


def test_nearest_is_brute_force():
    train, rows = RANDOM.standard_normal((30, 4)), RANDOM.standard_normal((5, 4))
    every = np.sqrt(((rows[:, None] - train) ** 2).mean(axis=-1))
    distances, indices = frechet.nearest(train, rows, 3)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :3])


# ---- the task ----

# Six numbers, as many as PCA then has: both priors share what is compiled.
CONFIG = siren.ModelConfig(channels=1, width=8, depth=3, latent_dim=6, w0=5.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of an untrained functa on 120 digits of each split."""
    folder = tmp_path_factory.mktemp("run")
    model = functa.Functa(CONFIG, siren.init(CONFIG, 0), (8, 8), metadata={"data": "digits"})
    model.save(folder / "functa.npz")
    about = {"dataset": "digits", "resolution": None, "images": 120}
    (folder / "config.json").write_text(json.dumps(about))
    exporter.export(model, datasets.load("digits", images=120), folder / "functaset.npz")
    return folder


TINY_FLAGS = "--prior-steps 3 --prior-batch 16 --width 16 --blocks 1 --heads 2 --guidance 1"
TINY_FLAGS += " --classifier-steps 3 --samples 120"


def command(folder, out, flags=TINY_FLAGS):
    arguments = ["--run", str(folder), "--out", str(out), *flags.split()]
    cli.run(generate.main, generate.Config, args=arguments)


def test_the_whole_task(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "STEPS", 3)
    monkeypatch.setattr(frechet, "RESAMPLES", 20)
    command(folder, tmp_path)
    report = json.loads((tmp_path / "generate.json").read_text())
    for name in report["figures"]:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    names = [row["images"] for row in report["rows"]]
    assert sum("diffusion, DDIM" in name for name in names) == 2  # functa and PCA
    assert sum("diffusion, DDPM" in name for name in names) == 2
    assert sum(name.startswith("PCA") for name in names) == 5
    assert all(np.isfinite(row["FID"]) and row["FID"] >= 0 for row in report["rows"])
    assert all(row["FID ±"] >= 0 for row in report["rows"])
    assert "bootstrap resamples" in report["remarks"][2]
    assert "the first 12 principal components" in report["remarks"][0]  # of 120 images
    made = load_prior(tmp_path)
    assert made.latent_shape == (6,) and made.checkpoint == report["checkpoint"]


def test_refusals(folder, tmp_path, capsys):
    (tmp_path / "prior.npz").write_bytes(b"PK nothing")
    assert "prior.npz is damaged" in refusal(capsys, lambda: command(folder, tmp_path))
    for flags, message in (
        ("--guidance -1", "guidance"),
        ("--samples 1", "--samples 1: must be in [20,"),
        ("--width 10 --heads 4", "--width 10: must be even and a multiple of --heads 4"),
        ("--drop-labels 2", "--drop-labels 2.0: must be in [0, 1]"),
        ("--prior-rate nan", "--prior-rate nan: must be a finite number"),
    ):
        assert message in refusal(capsys, lambda f=flags: command(folder, tmp_path / "new", f))
    assert not (tmp_path / "new").exists()
