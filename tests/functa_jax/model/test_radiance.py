"""radiance: closed forms of volume rendering, and a decoder that the loops can use."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functa_jax.functa import Functa
from functa_jax.model import radiance, siren
from functa_jax.training.samples import Samples
from groundfloor.errors import UserError

CONFIG = siren.ModelConfig(3, 6, 3, 4, modality="scenes", inputs=6, ray_points=8)
NEAR, FAR = CONFIG.near, CONFIG.far


def through(raw, colour=(0.2, 0.4, 0.6), config=CONFIG, direction=(0.0, 0.0, 1.0)):
    """The colour (3,) of one ray through a field whose network says `raw` everywhere."""

    def field(points):
        values = jnp.array([*colour, raw], jnp.float32)
        return jnp.broadcast_to(values, (*points.shape[:-1], 4))

    ray = jnp.array([[0.0, 0.0, 0.0, *direction]])
    return np.asarray(radiance.render(config, field, ray)[0])


@pytest.mark.parametrize("raw", [-0.05, 0.3, 3.0])
@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (1.0, 2.0, 2.0)])
def test_constant_density_passes_exp_of_minus_sigma_d(raw, direction):
    sigma = 0.1 * np.exp(raw) if raw < 0 else raw + 0.1  # 0.1 (e^s - 1) + 0.1
    length = np.linalg.norm(direction) * (FAR - NEAR + radiance.LAST_LENGTH)
    passed = np.exp(-sigma * length)
    expected = (1 - passed) * np.array([0.2, 0.4, 0.6]) + passed  # before white
    np.testing.assert_allclose(through(raw, direction=direction), expected, atol=1e-6)


def test_empty_space_is_the_background_and_a_wall_hides_it():
    np.testing.assert_allclose(through(-100.0), 1, atol=1e-6)
    wall = replace(CONFIG, background="black", max_density=1e4)
    np.testing.assert_allclose(through(1e6, config=wall), [0.2, 0.4, 0.6], atol=1e-6)
    np.testing.assert_allclose(through(-100.0, config=wall), 0, atol=1e-6)


def test_a_gain_multiplies_what_the_network_adds_to_one_half():
    gained = replace(CONFIG, density_gain=4.0)
    np.testing.assert_allclose(through(0.8, config=gained), through(4 * 0.3 + 0.5), atol=1e-6)
    np.testing.assert_allclose(through(0.5, config=gained), through(0.5), atol=1e-7)


def test_density_is_bounded_soft_at_zero_and_never_negative():
    raw = jnp.array([-50.0, -0.1, 0.0, 1e-3, 5.0, 9.9, 20.0])
    sigma = radiance.density(raw, 10.0)
    np.testing.assert_allclose(sigma[3:], [0.101, 5.1, 10, 10], rtol=1e-6)
    assert (sigma >= 0).all() and (jnp.diff(sigma) >= 0).all()
    assert float(jax.grad(radiance.density)(-1.0, 10.0)) > 0.03


@given(st.lists(st.floats(0, 50), min_size=1, max_size=40))
def test_weights_are_opacity_times_what_passed_before(thickness):
    weights = np.asarray(radiance.ray_weights(jnp.array([thickness], jnp.float32)))[0]
    passed = np.exp(-np.cumsum(np.float64([0, *thickness])))
    np.testing.assert_allclose(weights, passed[:-1] - passed[1:], atol=2e-6)
    assert (weights >= 0).all() and weights.sum() <= 1 + 1e-6


def test_an_opaque_first_point_hides_all_behind_it():
    weights = radiance.ray_weights(jnp.array([[0.0, 1e3, 5.0, 1e3]]))
    np.testing.assert_allclose(weights, [[0, 1, 0, 0]], atol=1e-6)


RAYS = jnp.array([[0, 0, 1.3, 0, 0, -1], [0, 0, 1.3, 0, 0, -2], [0.4, 0, 1.3, 0, 0, -1]])
MISSING = jnp.array([[0.6, 0, 1.3, 0, 0, -1.0]])


def places(config, rays):
    """Places (N, P) of points on rays (N, 6)."""
    return np.asarray(radiance.depths(config, rays[:, None, :3], rays[:, None, 3:]))


def test_places_are_even():
    (even,) = places(CONFIG, RAYS)
    np.testing.assert_allclose(even, np.linspace(NEAR, FAR, 8), rtol=1e-6)


def test_points_in_a_ball_lie_between_where_the_ray_enters_and_leaves_it():
    t = places(replace(CONFIG, ball=0.5), RAYS)
    ends = np.array([[0.8, 1.8], [0.4, 0.9], [1.0, 1.6]])
    np.testing.assert_allclose(t[:, [0, -1]], ends, rtol=1e-5)
    np.testing.assert_allclose(np.diff(t, 2), 0, atol=1e-6)


def test_a_ray_that_misses_the_ball_is_background_and_teaches_nothing():
    config = replace(CONFIG, ball=0.5)
    np.testing.assert_allclose(places(config, MISSING), 1.3, rtol=1e-6)
    rays = jnp.concatenate([RAYS, MISSING])

    def seen(outputs):
        return radiance.render(config, lambda points: outputs, rays)

    walls = jnp.full((4, config.ray_points, 4), 10.0)
    np.testing.assert_array_equal(seen(walls)[3], 1)
    assert (seen(walls)[:3] > 1).any(-1).all()
    gradient = jax.grad(lambda outputs: (seen(outputs) ** 2).sum())(0.3 * walls / 10)
    np.testing.assert_array_equal(gradient[3], 0)
    assert (gradient[:3] != 0).any()
    kept = Samples(np.zeros((5, 4, 3), np.uint8), np.asarray(rays)).instructive(config)
    np.testing.assert_array_equal(kept.coords, RAYS)
    assert kept.values.shape == (5, 3, 3)
    with pytest.raises(UserError, match=r"no ray meets the ball of radius 0\.5"):
        Samples(kept.values[:, :1], np.asarray(MISSING)).instructive(config)
    pixels = Samples(np.zeros((5, 4, 1), np.uint8), np.zeros((4, 2), np.float32))
    assert pixels.instructive(replace(config, modality="images", inputs=2)) is pixels


@pytest.fixture(scope="module")
def params():
    return siren.init(CONFIG, 0)


def test_latents_are_fitted_to_the_rays_that_meet_the_ball(params):
    functa = Functa(replace(CONFIG, ball=0.5), params, None, inner_steps=2)
    values = np.random.default_rng(0).random((2, 4, 3), np.float32)
    alone = functa.encode(values[:, :3], coords=RAYS)
    with_others = functa.encode(values, coords=np.concatenate([RAYS, MISSING]))
    for found, expected in zip(with_others, alone, strict=True):
        np.testing.assert_array_equal(found, expected)
    masked = functa.encode(
        values, coords=np.concatenate([RAYS, MISSING]), mask=np.ones((2, 4), bool)
    )
    np.testing.assert_allclose(masked[0], alone[0], atol=1e-6)


def test_a_ray_is_the_sum_over_its_points_one_by_one(params):
    """Against a slow reference, one point after the other."""
    model = siren.with_params(CONFIG, params)
    as_function = siren.ModelConfig(4, 6, 3, 4, modality="functions", inputs=3)
    points_model = siren.with_params(as_function, params)  # the same network, of points
    latent = jnp.array([0.3, -0.2, 0.5, 0.1])
    ray = np.array([0.1, 0.2, 1.3, -0.1, 0.1, -1.0], np.float32)
    t = np.linspace(NEAR, FAR, 8)
    left, colour = 1.0, np.zeros(3)
    for place, after in zip(t, [*t[1:], FAR + 1e-3], strict=True):
        *c, s = np.asarray(points_model.at(ray[None, :3] + place * ray[None, 3:], latent))[0]
        sigma = min(s + 0.1 if s > 0 else 0.1 * np.exp(s), 10)
        opacity = 1 - np.exp(-sigma * (after - place) * np.linalg.norm(ray[3:]))
        colour, left = colour + left * opacity * np.array(c), left * (1 - opacity)
    np.testing.assert_allclose(model(ray[None], latent)[0], colour + left, atol=1e-5)


def test_gradients_are_finite_in_empty_full_and_mixed_space(params):
    rays = jnp.array([[0, 0, 1.3, 0, 0, -1], [0, 0, 1.3, 0.9, 0, -1]], jnp.float32)

    @jax.jit
    def gradients(params, latent, shift):
        def loss(params, latent):
            last = params["siren"]["layers"][2]
            moved = {**last, "bias": last["bias"].at[3].add(shift)}
            layers = {**params["siren"]["layers"], 2: moved}
            model = siren.with_params(CONFIG, {**params, "siren": {"layers": layers}})
            return jnp.mean(model(rays, latent) ** 2)

        return jax.grad(loss, (0, 1))(params, latent)

    for shift in (-100.0, 0.0, 100.0):
        leaves = jax.tree.leaves(gradients(params, jnp.zeros(4), shift))
        assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_settings_of_rays_are_in_the_hash_and_checked():
    plain = siren.ModelConfig(3)
    assert "near" not in plain.named and "far" not in plain.named
    assert replace(CONFIG, far=2.0).named["far"] == 2.0
    with pytest.raises(ValueError, match="far"):
        siren.ModelConfig(3, near=2.0)
