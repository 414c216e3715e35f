"""Images as functions: a modulated SIREN, meta-learned, and one small latent per image.

    import functa_jax
    functaset = functa_jax.load_functaset("runs/meta_train-digits/functaset.npz")  # NumPy only
    functa = functa_jax.load("runs/meta_train-digits")                             # needs JAX
    latents, psnr = functa.encode(images)
    images = functa.decode(latents, resolution=64)
    features = functa_jax.FunctaTransformer("runs/meta_train-digits")              # scikit-learn
    decoder = functa_jax.torch_decoder("runs/meta_train-digits")                   # PyTorch alone

Importing this package does not import JAX; the names below do, when first used.
"""

from groundfloor.interrupts import quiet_imports

quiet_imports()

from functa_jax.functaset import Functaset, load_functaset  # noqa: E402

__all__ = ["Functa", "FunctaTransformer", "Functaset", "load", "load_functaset", "torch_decoder"]


def __getattr__(name):
    if name in ("Functa", "load"):
        from functa_jax import functa

        return getattr(functa, name)
    if name == "FunctaTransformer":
        from functa_jax.transformer import FunctaTransformer

        return FunctaTransformer
    if name == "torch_decoder":
        from functa_jax.model.torch_siren import torch_decoder

        return torch_decoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
