"""Pruning a Vision Transformer on CIFAR-10. In work: there is nothing to run here yet."""
