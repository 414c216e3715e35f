"""deepmind: their scenes are ours after import: pixels, latents after each step, second-order
gradients; and what we save of one is their file again."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.haiku_functa import LATENT, RATES, haiku_model, with_latent
from functa_jax.deepmind import load_weights, save_weights
from functa_jax.functa import load
from functa_jax.model import siren
from functa_jax.training import inner_loop
from groundfloor.errors import UserError
from tests.functa_jax.deepmind.deepmind_model import (
    MODEL,
    STEPS,
    config_of,
    jit,
    pairs,
    shapes,
    table,
    weights,
    written,
)

POINTS = 6  # on a ray
NEAR, FAR = 0.8, 1.8
DATA = {
    "name": "srn_cars",
    "type": "scene",
    "num_channels": 4,
    "resolution": 128,
    "num_points_per_ray": POINTS,
}


def scene_weights():
    """Haiku parameters of a scene: densities at both sides of zero and up to their bound."""
    params = weights(channels=4, points=3)
    last = params["latent_modulated_siren/modulated_siren_layer_2/linear"]
    last["w"] = last["w"].at[:, 3].multiply(10)
    return params


def their_colours(net, params, rays):
    """Rendered colours (N, 3) of rays (N, 6), as in DeepMind's minimal_nerf.py: from products of
    what each interval lets pass."""
    origin, direction = rays[:, None, :3], rays[:, None, 3:]
    t = jnp.linspace(NEAR, FAR, POINTS)
    out = net.apply(params, origin + direction * t[:, None])
    sigma = jnp.clip(jax.nn.elu(out[..., 3], 0.1) + 0.1, 0, 10)
    lengths = jnp.append(t[1:] - t[:-1], 1e-3) * jnp.linalg.norm(direction, axis=-1)
    opacity = 1 - jnp.exp(-sigma * lengths)
    passed = jnp.cumprod(jnp.minimum(1, 1 - opacity + 1e-10), -1)
    reached = jnp.concatenate([jnp.ones_like(passed[:, :1]), passed[:, :-1]], -1)
    weight = opacity * reached
    return (weight[..., None] * out[..., :3]).sum(1) + 1 - weight.sum(1)[:, None]


def their_fit(params, rays, colours, steps):
    """Latents (steps + 1, L) and errors (steps + 1,), with raw rates."""
    net = haiku_model(MODEL, 4)

    def error(latent):
        return jnp.mean((their_colours(net, with_latent(params, latent), rays) - colours) ** 2)

    path = [params[LATENT]["latent_vector"]]
    for _ in range(steps):
        path.append(path[-1] - params[RATES]["meta_sgd_lrs"] * jax.grad(error)(path[-1]))
    return jnp.stack(path), jnp.stack([error(latent) for latent in path])


def scene(rays=12, seed=0):
    """Rays (N, 6) from around the origin inwards, and colours (N, 3) to fit."""
    random = np.random.default_rng(seed)
    origin = random.normal(size=(rays, 3))
    origin *= 1.3 / np.linalg.norm(origin, axis=-1, keepdims=True)
    direction = -origin / 1.3 + random.normal(0, 0.2, origin.shape)
    return np.float32(np.hstack([origin, direction])), np.float32(random.uniform(size=(rays, 3)))


@pytest.fixture(scope="module")
def imported_scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "srn_cars_params_5_latents.npz"
    params = scene_weights()
    return load_weights(written(path, params, config_of(channels=4, dataset=DATA))), params


def test_names_and_settings_are_taken_over(imported_scene, tmp_path):
    functa, params = imported_scene
    ours = siren.flatten(functa.params)
    assert ours.keys() == pairs(3).keys()
    for name, (module, leaf) in pairs(3).items():
        np.testing.assert_array_equal(ours[name], params[module][leaf], err_msg=name)
    assert functa.config == siren.ModelConfig(
        channels=3,
        width=8,
        depth=3,
        latent_dim=5,
        w0=20.0,
        modality="scenes",
        inputs=6,
        ray_points=POINTS,
    )
    assert (functa.config.near, functa.config.far) == (NEAR, FAR)
    assert functa.metadata["data"] == "srn_cars" and functa.resolution is None


def test_an_imported_scene_is_saved_loaded_and_fitted_as_any_functa(imported_scene, tmp_path):
    functa, _ = imported_scene
    rays, colours = scene()
    functa.save(tmp_path / "functa.npz")
    again = load(tmp_path / "functa.npz")
    assert again.hash == functa.hash and again.config == functa.config
    latents, psnr = again.encode(colours[None], coords=rays)
    seen = again.decode(latents, coords=rays)
    np.testing.assert_allclose(psnr, -10 * np.log10(np.mean((seen - colours) ** 2)), rtol=1e-4)
    with pytest.raises(UserError, match="give their coords"):
        again.encode(colours[None])


def test_the_released_scenes_have_the_published_shapes():
    config = siren.ModelConfig(3, 512, 15, 128, modality="scenes", inputs=6)
    ours = siren.flatten(jax.eval_shape(lambda: siren.init(config, 0)))
    theirs = table(512, 15, 128, 4)
    theirs["latent_modulated_siren/modulated_siren_layer/linear"]["w"] = (3, 512)
    assert {name: theirs[m][leaf] for name, (m, leaf) in pairs(15).items()} == {
        name: leaf.shape for name, leaf in ours.items()
    }


def test_pixels_and_latents_are_equal_after_each_step(imported_scene):
    functa, params = imported_scene
    arrays = scene()

    @jit
    def ours(params, rays, colours):
        batch = inner_loop.encode(functa.config, params, rays, colours[None], STEPS)
        model = siren.with_params(functa.config, params)
        return batch[0][0], batch[1][0], jax.vmap(lambda z: model(rays, z))(batch[0][0])

    @jit
    def theirs(params, rays, colours, latents):
        path, errors = their_fit(params, rays, colours, STEPS)
        net = haiku_model(MODEL, 4)
        pixels = jax.vmap(lambda z: their_colours(net, with_latent(params, z), rays))(latents)
        return path, errors, pixels

    # Rates above 1 make three steps enlarge what was rounded in the first one.
    for dtype, tolerances in (("float32", (1e-3, 1e-3, 5e-6)), ("float64", (1e-8, 1e-8, 1e-8))):
        with jax.enable_x64(dtype == "float64"):
            ours_as, theirs_as, scene_as = jax.tree.map(
                lambda x, dtype=dtype: np.asarray(x, dtype), (functa.params, params, arrays)
            )
            found = ours(ours_as, *scene_as)
            expected = theirs(theirs_as, *scene_as, found[0])
            for our, their, tolerance in zip(found, expected, tolerances, strict=True):
                assert our.dtype == dtype
                np.testing.assert_allclose(our, their, rtol=0, atol=tolerance)
    latents, _, pixels = found
    assert np.abs(latents[-1]).max() > 1e-2 and np.ptp(pixels) > 0.3


@pytest.mark.slow
def test_second_order_gradients_are_equal_in_every_leaf(imported_scene):
    functa, params = imported_scene
    rays, colours = scene()

    def our_loss(flat, rays, colours):
        net = siren.with_params(functa.config, flat)
        latent, _ = inner_loop.fit(net, rays, colours, 2)
        return inner_loop.image_loss(net, rays, latent, colours)[1]

    def their_loss(flat, rays, colours):
        return their_fit(flat, rays, colours, 2)[1][-1]

    with jax.enable_x64(True):

        def gradient(loss, flat):
            arrays = jax.tree.map(lambda x: np.asarray(x, "float64"), (flat, rays, colours))
            return jax.tree.map(np.asarray, jit(jax.grad(loss))(*arrays))

        theirs = gradient(their_loss, params)
        ours = siren.flatten(gradient(our_loss, functa.params))
    for name, (module, leaf) in pairs(3).items():
        expected = theirs[module][leaf]
        error = np.linalg.norm(ours[name] - expected) / np.linalg.norm(expected)
        assert np.abs(expected).max() > 1e-9 and error < 1e-6, name


def test_a_saved_scene_is_their_file_again(imported_scene, tmp_path):
    functa, params = imported_scene
    save_weights(functa, tmp_path / "again")
    written_again = pickle.loads((tmp_path / "again").read_bytes())
    assert shapes(written_again["params"]) == shapes(params)
    assert written_again["config"]["dataset"] == DATA
    assert load_weights(tmp_path / "again").hash == functa.hash


def test_rays_that_their_format_lacks_are_refused(imported_scene, tmp_path):
    from dataclasses import replace

    functa, _ = imported_scene
    other = replace(functa, config=replace(functa.config, far=2.0))
    with pytest.raises(UserError, match=r"far 1\.8 only, not 2\.0"):
        save_weights(other, tmp_path / "w")
