"""What pip installs: the runtime, its viewer and templates, and nothing else."""

import tomllib
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.config.pyprojecttoml import apply_configuration

from groundfloor import __version__

ROOT = Path(__file__).parent.parent
PACKAGES = ("groundfloor", "functa_jax", "prune_torch", "optim_torch")


@pytest.fixture
def distribution(monkeypatch):
    monkeypatch.chdir(ROOT)
    return apply_configuration(Distribution({"script_name": "pip"}), ROOT / "pyproject.toml")


def test_a_wheel_holds_all_files_of_the_four_packages_and_no_others(distribution):
    distribution.include_package_data = False  # by a manifest, which there is none of
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    sources = {Path(path) for path in build.get_source_files()}
    sources |= {Path(folder, name) for _, folder, _, names in build.data_files for name in names}
    expected = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for suffix in ("py", "html", "css", "js", "json", "safetensors")
        for path in (ROOT / package).rglob(f"*.{suffix}")
    }
    assert sources == expected
    assert Path("functa_jax/viewer/viewer.html") in sources
    others = {
        path.suffix
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert others == {".py", ".html", ".css", ".js", ".json", ".safetensors"}


def test_the_version_comes_from_one_place(distribution):
    assert distribution.metadata.version == __version__


def test_requirements_are_those_of_the_package_and_its_extras_for_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packaged = {*project["dependencies"], *extras["tfds"], *extras["test"]}
    lines = (line.partition("#")[0] for line in (ROOT / "requirements.txt").open())
    listed = {line.strip().replace('"', "'") for line in lines}
    assert listed - {""} == packaged - {f"{project['name']}[tfds]"}
