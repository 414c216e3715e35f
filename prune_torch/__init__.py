"""A Vision Transformer pruned to many densities by many methods, under one protocol."""

from common.interrupts import quiet_imports

quiet_imports()
