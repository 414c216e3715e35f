"""DeepMind's modulated SIREN and training step, written in haiku from the published definition.

Dupont et al. (2022), "From data to functa", section 3, with the parameter names of their released
files. It is what our model is tested equal to, and what our step is timed against: like theirs,
the step maps coordinates over images and fits every image a second time to log its PSNR.
"""

from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
import optax

LATENT = "latent_modulated_siren/~/latent_vector"
RATES = "latent_modulated_siren/~/meta_sgd_lrs"
MAP = "latent_modulated_siren/~/latent_to_modulation/~/mlp/~/linear_0"


class LatentVector(hk.Module):
    def __init__(self, size, scale):
        super().__init__()
        init = hk.initializers.RandomUniform(-scale, scale)
        self.value = hk.get_parameter("latent_vector", [size], init=init)


class MetaSGDLrs(hk.Module):
    def __init__(self, size):
        super().__init__()
        hk.get_parameter("meta_sgd_lrs", [size], init=hk.initializers.RandomUniform(0.005, 0.1))


class LatentToModulation(hk.Module):
    def __init__(self, sizes):
        super().__init__()
        self.net = hk.nets.MLP(sizes)

    def __call__(self, latent):
        return self.net(latent)


class ModulatedSirenLayer(hk.Module):
    def __init__(self, units, bound):
        super().__init__()
        self.units, self.init = units, hk.initializers.RandomUniform(-bound, bound)

    def __call__(self, x):
        return hk.Linear(self.units, w_init=self.init)(x)


class LatentModulatedSiren(hk.Module):
    def __init__(self, model, channels):
        super().__init__()
        self.model, self.channels = model, channels
        self.per_unit = model["modulate_scale"] + model["modulate_shift"]
        modulations = self.per_unit * (model["depth"] - 1) * model["width"]
        if model["use_meta_sgd"]:
            MetaSGDLrs(model["latent_dim"])
        self.latent = LatentVector(model["latent_dim"], model["latent_init_scale"])
        self.map = LatentToModulation((*model["layer_sizes"], modulations))

    def __call__(self, coords):
        width, depth, w0 = (self.model[name] for name in ("width", "depth", "w0"))
        rows = self.map(self.latent.value).reshape(depth - 1, self.per_unit, width)
        h, bound = coords, 1 / coords.shape[-1]
        for row in rows:
            h = ModulatedSirenLayer(width, bound)(h)
            scale, shift = (1 + row[0], row[1]) if self.per_unit == 2 else (1, row[0])
            h, bound = jnp.sin(w0 * (scale * h + shift)), (6 / width) ** 0.5 / w0
        return ModulatedSirenLayer(self.channels, bound)(h) + 0.5


def haiku_model(model, channels):
    """The model as a pair of pure functions; model is the "model" section of DeepMind's config."""
    return hk.without_apply_rng(
        hk.transform(lambda coords: LatentModulatedSiren(model, channels)(coords))
    )


def with_latent(params, latent):
    """params with this latent (L,) in the place of their own."""
    return {**params, LATENT: {"latent_vector": latent}}


def fit(model, params, image, steps, coords, rate=None):
    """Latents (steps + 1, L) and errors (steps + 1,): raw rates, the loss of this image alone."""
    net, rates = haiku_model(model, image.shape[-1]), rate
    if rate is None:
        rates = params[RATES]["meta_sgd_lrs"]

    def loss(latent):
        error = jnp.mean((net.apply(with_latent(params, latent), coords) - image) ** 2)
        return error + model["l2_weight"] * jnp.sum(latent**2), error

    path, errors = [params[LATENT]["latent_vector"]], []
    for _ in range(steps):
        gradient, error = jax.grad(loss, has_aux=True)(path[-1])
        path.append(path[-1] - rates * gradient)
        errors.append(error)
    return jnp.stack(path), jnp.stack([*errors, loss(path[-1])[1]])


def make_step(model, optimizer, steps=3):
    """A compiled `step(params, opt_state, coords, images) -> (params, opt_state, psnr in dB)`.

    images (B, N, C) in [0, 1]; coords (B, N, 2), one copy for each image. The latent stays at its
    start: the images' own latents carry what is learned of it.
    """

    def errors(params, coords, images):
        one = partial(fit, model, params, steps=steps)
        return jax.vmap(lambda image, grid: one(image, coords=grid)[1][-1])(images, coords)

    @jax.jit
    def step(params, opt_state, coords, images):
        gradient = jax.grad(lambda p: jnp.mean(errors(p, coords, images)))(params)
        gradient[LATENT] = jax.tree.map(jnp.zeros_like, gradient[LATENT])
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        params = optax.apply_updates(params, updates)
        logged = errors(params, coords, images)
        return params, opt_state, jnp.mean(-10 * jnp.log10(logged))

    return step
