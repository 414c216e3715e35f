"""A Vision Transformer pruned to many densities by many methods, under one protocol."""

from groundfloor.interrupts import quiet_imports

quiet_imports()
