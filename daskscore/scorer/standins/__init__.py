"""Azure's helper modules, for scripts that import them where they are not installed.

`install` puts a finder behind all others: a module that is really there is never shadowed. What a stand-in does not
do says so by name, with what to use instead.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

from daskscore.scorer.standins.place import Place

__all__ = ["Place", "install"]

HOMES = {
    "azureml_user": None,
    "azureml_user.parallel_run": "entry_script",
    "azureml": None,
    "azureml.core": "core",
    "azureml.core.dataset": "core",
    "azureml.core.datastore": "core",
    "azureml.core.environment": "core",
    "azureml.core.experiment": "core",
    "azureml.core.model": "core",
    "azureml.core.run": "core",
    "azureml.core.workspace": "core",
    "mltable": "mltable",
}
"""Which module of this package stands in for which; None: a package with nothing in it but other stand-ins."""


def install(place: Place) -> None:
    """From now on the modules can be imported; they know where this scorer works."""
    Place.here = place
    sys.meta_path.append(Finder())


class Finder(Loader):
    """Asked by Python only after everybody else had to pass."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in HOMES:
            return None
        return ModuleSpec(name, self, is_package=any(other.startswith(f"{name}.") for other in HOMES))

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        home = HOMES[module.__name__]
        if home is None:
            return
        source = importlib.import_module(f"daskscore.scorer.standins.{home}")
        vars(module).update({name: getattr(source, name) for name in source.__all__})
        vars(module)["__getattr__"] = _missing(module.__name__, source.__all__)


def _missing(module: str, there: Sequence[str]) -> object:
    def __getattr__(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        # Not AttributeError, which `from … import` replaces with a sentence of its own.
        raise ImportError(
            f"{module}.{name} is not there: daskscore stands in for {module}, which is not installed, with "
            f"{', '.join(name for name in there if name[0] != '_')} only. Install the real package in the script's environment to use {name}"
        )

    return __getattr__
