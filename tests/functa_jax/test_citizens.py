"""A functa in scikit-learn and in PyTorch: the same numbers, clones, pickles, gradients, ONNX."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import functa_jax
from functa_jax.functa import Functa
from functa_jax.functaset import Functaset, Latents
from functa_jax.model import siren
from groundfloor.errors import UserError

KINDS = {
    "plain": {},
    "scales": {"modulation": "scale_shift", "channels": 3},
    "nearest": {"grid": 2, "coordinates": "local", "map_size": 3},
    "one by one": {"grid": 2, "coordinates": "global", "channels": 3},
    "bilinear": {"grid": 2, "interpolation": "bilinear", "coordinates": "local"},
    "bilinear scales": {
        "grid": 4,
        "interpolation": "bilinear",
        "map_size": 3,
        "modulation": "scale_shift",
    },
}


def functa_of(resolution=(8, 8), **settings):
    """An untrained functa whose latents matter: all weights at random."""
    settings = {"channels": 1, "width": 16, "depth": 4, "latent_dim": 5, "w0": 20.0, **settings}
    config = siren.ModelConfig(**settings)
    rng = np.random.default_rng(0)
    flat = siren.flatten(siren.init(config, 0))
    for name in ("latent_map/kernel", "latent_map/bias"):
        flat[name] = 0.1 * rng.standard_normal(flat[name].shape).astype(np.float32)
    return Functa(config, siren.unflatten(flat), resolution)


def latents_of(functa, n=3):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, *functa.config.latent_shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "resolution"),
    [
        *((kind, (7, 9)) for kind in KINDS),
        *((kind, size) for kind in ("plain", "bilinear scales") for size in (None, 12)),
    ],
)
def test_the_torch_decoder_is_the_decoder(kind, resolution):
    functa = functa_of(**KINDS[kind])
    latents = latents_of(functa)
    decoder = functa_jax.torch_decoder(functa, resolution)
    with torch.no_grad():
        images = decoder(torch.from_numpy(latents)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, functa.decode(latents, resolution), atol=1e-5)


@pytest.mark.slow
def test_the_torch_decoder_of_a_file_needs_no_jax(tmp_path):
    import subprocess
    import sys

    functa = functa_of(**KINDS["nearest"])
    functa.save(tmp_path / "functa.npz")
    latents = latents_of(functa)
    np.save(tmp_path / "latents.npy", latents)
    code = (
        "import sys, numpy as np, torch, functa_jax\n"
        f"decoder = functa_jax.torch_decoder({str(tmp_path)!r})\n"
        f"latents = torch.from_numpy(np.load({str(tmp_path / 'latents.npy')!r}))\n"
        f"np.save({str(tmp_path / 'images.npy')!r}, decoder(latents).detach().numpy())\n"
        f"functa_jax.torch_decoder({str(tmp_path)!r})\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    images = np.load(tmp_path / "images.npy").transpose(0, 2, 3, 1)
    np.testing.assert_allclose(images, functa.decode(latents), atol=1e-5)


def test_gradients_reach_latents():
    """Against central differences of the decoder itself, in float64."""
    decoder = functa_jax.torch_decoder(functa_of(**KINDS["bilinear"])).double()
    latents = torch.from_numpy(latents_of(functa_of(**KINDS["bilinear"]), 1)).double()
    assert torch.autograd.gradcheck(decoder, latents.requires_grad_(), fast_mode=True)


def test_a_decoder_is_refused_where_there_is_none(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        functa_jax.torch_decoder(tmp_path)
    with pytest.raises(UserError, match="resolution 0"):
        functa_jax.torch_decoder(functa_of(), 0)


@pytest.mark.parametrize("kind", ["plain", "nearest", "bilinear"])
def test_the_torch_decoder_refuses_other_latents_and_takes_none(kind):
    functa = functa_of(**KINDS[kind])
    decoder, latents = functa_jax.torch_decoder(functa), torch.from_numpy(latents_of(functa))
    assert len(decoder(latents[:0])) == 0
    for wrong in (latents[0], torch.cat([latents, latents], 1), torch.cat([latents, latents], -1)):
        with pytest.raises(UserError, match="latents have shape"):
            decoder(wrong)


@pytest.mark.parametrize("kind", ["plain", "nearest"])
def test_no_images_have_no_latents(kind, digits):
    transformer = functa_jax.FunctaTransformer(functa_of(**KINDS[kind])).fit(digits[0])
    features = transformer.transform(digits[0][:0])
    assert features.shape == (0, transformer.functa_.config.numbers)


def test_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    functa = functa_of(**KINDS["nearest"])
    decoder, latents = functa_jax.torch_decoder(functa), latents_of(functa)
    torch.onnx.export(decoder, (torch.from_numpy(latents),), tmp_path / "d.onnx", dynamo=True)
    session = runtime.InferenceSession(tmp_path / "d.onnx")
    (images,) = session.run(None, {session.get_inputs()[0].name: latents})
    np.testing.assert_allclose(images.transpose(0, 2, 3, 1), functa.decode(latents), atol=1e-4)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images[:60] / 16).astype(np.float32), found.target[:60] % 2


@pytest.mark.parametrize("kind", ["plain", "nearest"])
def test_the_transformer_encodes_and_decodes(kind, digits):
    images, _ = digits
    functa = functa_of(**KINDS[kind])
    transformer = functa_jax.FunctaTransformer(functa).fit(images)
    latents, _ = functa.encode(images)
    features = transformer.transform(images)
    np.testing.assert_allclose(features, latents.reshape(len(latents), -1), atol=1e-6)
    rows = transformer.transform(images.reshape(len(images), -1))
    np.testing.assert_allclose(rows, features, atol=1e-6)
    rebuilt = transformer.inverse_transform(features)
    np.testing.assert_allclose(rebuilt, functa.decode(latents), atol=1e-6)
    assert len(transformer.get_feature_names_out()) == features.shape[1]


def test_the_transformer_in_a_pipeline(digits, tmp_path):
    images, labels = digits
    functa_of().save(tmp_path / "functa.npz")
    transformer = functa_jax.FunctaTransformer(str(tmp_path), steps=1, batch_size=64)
    pipeline = make_pipeline(transformer, LogisticRegression())
    scores = cross_val_score(pipeline, images, labels, cv=3, error_score="raise")
    assert len(scores) == 3
    assert clone(transformer).get_params() == transformer.get_params()
    pipeline.fit(images, labels)
    (tmp_path / "functa.npz").unlink()  # a pickle holds the network
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict(images), pipeline.predict(images))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros((2, 9, 8)), np.full((2, 8, 8), 9.0)])
def test_the_transformer_refuses_what_is_no_image(wrong, digits):
    transformer = functa_jax.FunctaTransformer(functa_of()).fit(digits[0])
    with pytest.raises(UserError):
        transformer.transform(wrong)
    with pytest.raises(UserError, match="not \\(n, 5\\)"):
        transformer.inverse_transform(np.zeros((2, 4)))


@pytest.fixture
def functaset():
    rng = np.random.default_rng(0)

    def part(n):
        return Latents(
            rng.standard_normal((n, 2, 2, 3)).astype(np.float32),
            rng.integers(0, 4, n),
            np.arange(n),
            rng.uniform(20, 30, n).astype(np.float32),
        )

    train = part(50)
    mean, std = train.latents.mean(0), train.latents.std(0)
    return Functaset(train, part(6), part(8), mean, std, {"data": "digits"})


def test_a_split_is_a_data_set_of_pytorch(functaset):
    loader = torch.utils.data.DataLoader(functaset.train, batch_size=20)
    batches = [*loader]
    latents = torch.cat([latents for latents, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    np.testing.assert_array_equal(latents, functaset.train.latents)
    np.testing.assert_array_equal(labels, functaset.train.labels)
    first, second = torch.utils.data.random_split(functaset.train, [30, 20])
    assert len(first) == 30 and len(second) == 20


@pytest.mark.parametrize("rows", [slice(2, 7), [0, 4, 4], np.arange(50) % 2 == 0])
def test_rows_of_a_split_are_a_split(functaset, rows):
    part = functaset.train[rows]
    for column in ("latents", "labels", "ids", "psnr"):
        whole = getattr(functaset.train, column)
        np.testing.assert_array_equal(getattr(part, column), whole[rows])


@pytest.mark.parametrize("row", [True, np.False_, None])
def test_what_is_no_row_is_refused(functaset, row):
    with pytest.raises(TypeError, match=f"{row} is no row"):
        functaset.train[row]


def test_what_a_notebook_shows_is_one_line(functaset):
    assert repr(functaset) == (
        "Functaset(digits, 50 train, 6 val, 8 test; latents of 2 x 2 x 3 numbers)"
    )
    for thing in (functaset, functaset.train, functa_of()):
        assert len(repr(thing)) < 200 and "\n" not in repr(thing)
