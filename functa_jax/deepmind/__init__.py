"""DeepMind's released functa: their weights and modulations become ours, and ours theirs."""

from functa_jax.deepmind.weights import load_modulations, load_weights, save_weights

__all__ = ["load_modulations", "load_weights", "save_weights"]
