"""All commands of the house: modules that call cli.run with their Config."""

from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import tyro

ROOT = Path(__file__).parent.parent
PACKAGES = ("functa_jax", "prune_torch", "optim_torch", "experiments")
NAMES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if "\n    cli.run(main, Config" in path.read_text(encoding="utf-8")
)


def presets(module):
    """Its presets, or None for a command that has none."""
    if hasattr(module, "BENCHES"):
        return dict.fromkeys(module.BENCHES, module.Config())
    return getattr(module, "PRESETS", None)


def opened(name):
    """(Config, instance to start from or None, words that it cannot do without) of a command."""
    module = import_module(name)
    chosen = presets(module)
    if chosen:
        return module.Config, next(iter(chosen.values())), []
    words, hints = [], get_type_hints(module.Config, include_extras=True)
    for field in fields(module.Config):
        if field.default is MISSING and field.default_factory is MISSING:
            flag = f"--{field.name.replace('_', '-')}"
            positional = tyro.conf.Positional in getattr(hints[field.name], "__metadata__", ())
            words += ["1"] if positional else [flag, "1"]  # a path or a number
    return module.Config, None, words
