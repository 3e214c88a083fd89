"""environment.yml gives conda users what pyproject.toml gives pip users."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]


def bounds(lines: list[str]) -> dict[str, SpecifierSet]:
    """The version bounds by package; conda knows no extras, there `dask[distributed]` is two packages."""
    found: dict[str, SpecifierSet] = {}
    for requirement in map(Requirement, lines):
        for name in (requirement.name, *requirement.extras):
            assert name not in found, f"{name} is named twice"
            found[name] = requirement.specifier
    return found


def test_conda_and_pip_users_get_the_same_packages_and_bounds() -> None:
    conda = bounds(CONDA)
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda.pop("pip") == SpecifierSet()
    assert conda == bounds(PROJECT["dependencies"])


def test_the_conda_environment_holds_this_checkout_and_nothing_else_from_pip() -> None:
    assert [line for line in ENVIRONMENT["dependencies"] if isinstance(line, dict)] == [{"pip": ["-e ."]}]


def test_every_dependency_has_a_lower_bound() -> None:
    unbounded = {name for name, specifier in bounds(PROJECT["dependencies"]).items() if ">=" not in str(specifier)}
    assert not unbounded
