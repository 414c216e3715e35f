"""Images as functions: a modulated SIREN, meta-learned, and one small latent per image.

    import functa_jax
    functaset = functa_jax.load_functaset("runs/meta_train-digits/functaset.npz")  # NumPy only
    functa = functa_jax.load("runs/meta_train-digits")                             # needs JAX
    latents, psnr = functa.encode(images)
    images = functa.decode(latents, resolution=64)

Importing this package does not import JAX; the names below do, when first used.
"""

from groundfloor.interrupts import quiet_imports

quiet_imports()

from functa_jax.functaset import Functaset, load_functaset  # noqa: E402

__all__ = ["Functa", "Functaset", "load", "load_functaset"]


def __getattr__(name):
    if name in ("Functa", "load"):
        from functa_jax import functa

        return getattr(functa, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
