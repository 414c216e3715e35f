"""deepmind: DeepMind's model is ours after import, with the same names, shapes,
function, latents and second-order gradients; and theirs runs what we save."""

import pickle
from dataclasses import replace

import dill
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.haiku_functa import RATES, with_latent
from experiments.haiku_functa import fit as their_fit
from functa_jax.deepmind import load_modulations, load_weights, save_weights
from functa_jax.images import signals
from functa_jax.model import siren
from functa_jax.training import inner_loop
from groundfloor.errors import UserError
from tests.functa_jax.deepmind.deepmind_model import (
    MODEL,
    SIDE,
    STEPS,
    VARIANTS,
    config_of,
    haiku_shapes,
    images,
    imported,
    jit,
    pairs,
    settings_of,
    shapes,
    table,
    their_grid,
    their_images,
    variants,
    weights,
    written,
)


@variants
def test_names_and_shapes_are_the_published_ones(model, tmp_path):
    per_unit, rates = 1 + model["modulate_scale"], model["use_meta_sgd"]
    expected = table(8, 3, 5, 3, per_unit, rates)
    assert haiku_shapes(model) == expected
    functa, _ = imported(tmp_path / "w", model)
    save_weights(functa, tmp_path / "again")
    assert shapes(pickle.loads((tmp_path / "again").read_bytes())["params"]) == expected


TOTALS = {64: 3_883_651, 128: 4_342_531, 256: 5_260_291, 512: 7_095_811, 1024: 10_766_851}


@pytest.mark.parametrize("latents", TOTALS)
def test_the_released_sizes_have_the_published_counts(latents):
    model = settings_of(width=512, depth=15, latent_dim=latents, w0=30.0)
    theirs = haiku_shapes(model)
    assert theirs == table(512, 15, latents, 3)
    sizes = [np.prod(shape) for leaves in theirs.values() for shape in leaves.values()]
    assert sum(sizes) == TOTALS[latents]
    ours = siren.flatten(
        jax.eval_shape(lambda: siren.init(siren.ModelConfig(3, 512, 15, latents), 0))
    )
    base = sum(leaf.size for name, leaf in ours.items() if name.startswith("siren/"))
    assert base == 3_417_603
    assert sum(leaf.size for leaf in ours.values()) + latents == TOTALS[latents]
    assert {name: theirs[m][leaf] for name, (m, leaf) in pairs(15).items()} == {
        name: leaf.shape for name, leaf in ours.items()
    }


@variants
def test_every_leaf_and_setting_is_taken_over(model, tmp_path):
    functa, params = imported(tmp_path / "w", model, channels=2)
    ours = siren.flatten(functa.params)
    named = pairs(3, model["use_meta_sgd"])
    assert ours.keys() == named.keys()
    for name, (module, leaf) in named.items():
        np.testing.assert_array_equal(ours[name], params[module][leaf], err_msg=name)
    assert functa.config == siren.ModelConfig(
        channels=2,
        width=8,
        depth=3,
        latent_dim=5,
        w0=20.0,
        modulation="scale_shift" if model["modulate_scale"] else "shift",
        inner_rate=None if model["use_meta_sgd"] else 2**-6,
    )
    assert (functa.resolution, functa.inner_steps) == ((SIDE, SIDE), STEPS)
    assert functa.penalty == 5 * model["l2_weight"]
    assert functa.metadata["data"] == "celeb_a"
    assert functa.metadata["deepmind_config"]["model"]["w0"] == 20.0


@pytest.mark.parametrize("name", ["shift", "scale_shift"])
def test_the_model_decodes_alike(name, tmp_path):
    model = {**VARIANTS[name], "depth": 5}
    functa, params = imported(tmp_path / "w", model)
    latents = np.float32(np.random.default_rng(2).normal(0, 0.3, (3, 5)))
    ours = functa.decode(latents).reshape(3, -1, 3)
    theirs = their_images(model, params, latents)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    assert np.ptp(ours) > 0.1


@variants
def test_latents_and_psnr_are_equal_after_each_step(model, tmp_path):
    functa, params = imported(tmp_path / "w", model)
    rate = None if model["use_meta_sgd"] else 2**-6
    batch = images()

    fit = jit(jax.vmap(lambda image: their_fit(model, params, image, STEPS, their_grid(), rate)))
    path, errors = fit(batch.reshape(4, -1, 3))
    ours, our_errors = functa.course(batch)
    np.testing.assert_allclose(ours, path, rtol=1e-5, atol=1e-6)
    assert np.abs(ours).max() > 1e-3
    psnr, our_psnr = -10 * np.log10(errors), signals.psnr(our_errors)
    np.testing.assert_allclose(our_psnr, psnr, rtol=0, atol=1e-5)


@variants
def test_second_order_outer_gradients_are_equal_in_every_leaf(model, tmp_path):
    functa, params = imported(tmp_path / "w", model)
    rate = None if model["use_meta_sgd"] else 2**-6
    steps = STEPS if model == VARIANTS["shift"] else 2  # compiles faster

    def our_loss(flat, coords, image):
        net = siren.with_params(functa.config, flat)
        latent, _ = inner_loop.fit(net, coords, image, steps, penalty=functa.penalty)
        return inner_loop.image_loss(net, coords, latent, image)[1]

    def their_loss(flat, coords, image):
        return their_fit(model, flat, image, steps, coords, rate)[1][-1]

    points = [their_grid(), images(1)[0].reshape(-1, 3)]
    with jax.enable_x64(True):

        def gradient(loss, flat, dtype):
            arrays = jax.tree.map(lambda x: np.asarray(x, dtype), (flat, *points))
            return jax.tree.map(np.asarray, jit(jax.grad(loss))(*arrays))

        theirs = gradient(their_loss, params, "float64")
        ours = {"float64": (gradient(our_loss, functa.params, "float64"), 1e-9)}
        if model == VARIANTS["shift"]:  # with our own sine
            ours["float32"] = gradient(our_loss, functa.params, "float32"), 2e-5
    for dtype, (found, tolerance) in ours.items():
        found = siren.flatten(found)
        for name, (module, leaf) in pairs(3, model["use_meta_sgd"]).items():
            expected = theirs[module][leaf]
            error = np.linalg.norm(found[name] - expected) / np.linalg.norm(expected)
            assert found[name].dtype == dtype and np.abs(expected).max() > 1e-9
            assert error < tolerance, name


def test_coordinates_are_theirs():
    for side in (1, 8):
        np.testing.assert_allclose(siren.coordinate_grid(side), their_grid(side), atol=1e-7)


def test_rates_are_raw(tmp_path):
    functa, params = imported(tmp_path / "w")
    rates = functa.params["inner_rate"]
    assert rates.min() == -0.5 and rates.max() == 1.5
    np.testing.assert_array_equal(rates, params[RATES]["meta_sgd_lrs"])


def test_a_start_other_than_zero_is_folded_into_the_map(tmp_path):
    params, start = weights(), np.float32(np.random.default_rng(3).normal(0, 0.1, 5))
    moved = with_latent(params, jnp.array(start))
    functa = load_weights(written(tmp_path / "w", moved, config_of()))
    assert functa.metadata["latent_offset"] == start.tolist()
    batch = images()
    latents, errors = functa.course(batch)
    fit = jit(jax.vmap(lambda image: their_fit(MODEL, moved, image, STEPS, their_grid())))
    path, their_errors = fit(batch.reshape(4, -1, 3))
    np.testing.assert_allclose(latents + start, path, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(errors, their_errors, rtol=2e-5)
    config = config_of(settings_of(l2_weight=0.1))
    with pytest.raises(UserError, match="penalty"):
        load_weights(written(tmp_path / "p", moved, config))


def test_published_modulations_are_made_ready_for_their_weights(tmp_path):
    start = np.float32([0.1, -0.2, 0.0, 0.3, 0.05])
    moved = with_latent(weights(), jnp.array(start))
    functa = load_weights(written(tmp_path / "w", moved, config_of()))
    latents = np.float32(np.random.default_rng(4).normal(0, 0.3, (3, 5)))
    rows = {"modulation": latents, "psnr": np.float32([20, 21, 22])}
    path = tmp_path / "m"
    path.write_bytes(dill.dumps({"train": rows, "test": rows}))
    functaset = load_modulations(path, functa)
    assert functaset.metadata["checkpoint"] == functa.hash
    ours = functa.decode(functaset.test.latents).reshape(3, -1, 3)
    theirs = their_images(MODEL, moved, latents)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(load_modulations(path).test.latents, latents)


def test_the_published_code_runs_what_we_save(tmp_path):
    functa, _ = imported(tmp_path / "theirs", seed=7)
    save_weights(functa, tmp_path / "w")
    saved = dill.loads((tmp_path / "w").read_bytes())
    assert type(saved["config"]["model"]) is dict
    latents = np.float32(np.random.default_rng(2).normal(0, 0.3, (3, 5)))
    theirs = their_images(saved["config"]["model"], saved["params"], latents)
    ours = functa.decode(latents).reshape(3, -1, 3)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)
    wide = replace(functa, resolution=(4, 6))
    with pytest.raises(UserError, match="square"):
        save_weights(wide, tmp_path / "wide")
    assert not (tmp_path / "wide").exists()
