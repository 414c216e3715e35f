"""Views of computed solids: see `scenes.views`."""

from functa_jax.scenes.views import load

__all__ = ["load"]
