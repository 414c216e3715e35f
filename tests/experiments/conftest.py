"""Commands that experiments run are called in this process; pictures are coarse."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from experiments import runner
from groundfloor import cli, plots
from groundfloor.runs import read_json


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setitem(plots.STYLE, "savefig.dpi", 30)


@pytest.fixture
def in_this_process(monkeypatch):
    def finished(command, folder, threads=None):
        module, *words = map(str, command)
        package = find_spec(module).submodule_search_locations
        module = import_module(f"{module}.__main__" if package else module)
        words += ["--device", "cpu"] if hasattr(module.Config, "device") else []
        words += ["--out", str(folder)]
        cli.run(module.main, module.Config, module.PRESETS, words)
        return read_json(folder / "summary.json")

    monkeypatch.setattr(runner, "finished", finished)
