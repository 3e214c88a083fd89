"""What every scorer needs besides its mini-batches: side inputs and models, found before any work starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskscore.config import JobConfig
from daskscore.errors import ConfigError, UsageError
from daskscore.inputs.addresses import is_remote
from daskscore.inputs.entries import joined_stores
from daskscore.workspace.references import is_reference

if TYPE_CHECKING:
    from daskscore.inputs.stores import Stores

REFERENCE = re.compile(r"\$\{\{\s*side_inputs\.([^}\s]+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Needed:
    """Places by name: local paths, and addresses from which the workers bring things."""

    side_inputs: dict[str, str]
    models: dict[tuple[str, str], str]
    """By name and version; the first is the one whose folder a script finds in AZUREML_MODEL_DIR."""
    stores: Stores | None = None
    """What opens the addresses."""

    def filled(self, word: str) -> str:
        """An argument of the script, with the paths that are known here."""

        def path(found: re.Match[str]) -> str:
            place = self.side_inputs[found[1]]
            return found[0] if is_remote(place) else place

        return REFERENCE.sub(path, word)


NOTHING = Needed({}, {})


def find(config: JobConfig) -> Needed:
    """Raises for what is not there."""
    stores: list[Stores] = []
    side_inputs = {
        name: _place(f"side_inputs.{name}", entry, "data", stores)[0] for name, entry in config.side_inputs.items()
    }
    models: dict[tuple[str, str], str] = {}
    for entry in config.models:
        place, name, version = _place("models", entry, "model", stores)
        if models.setdefault((name, version), place) != place:
            raise ConfigError(
                f"models: two are called {name}: {models[name, version]} and {place}. Register one by a name"
            )
    return Needed(side_inputs, models, joined_stores(stores))


def _place(key: str, entry: str | Mapping[str, Any], kind: Any, stores: list[Stores]) -> tuple[str, str, str]:
    """Where an entry is, and the name and version it has, or would have."""
    given = {"path": entry} if isinstance(entry, str) else dict(entry)
    path, options = given.pop("path", None), given.pop("storage_options", None)
    if not isinstance(path, str) or given or not isinstance(options, Mapping | None):
        raise ConfigError(f"{key}: {sorted(entry)} is not usable. Write a path, or {{path: …, storage_options: {{…}}}}")
    name, version = "", "1"
    if is_reference(path):
        from daskscore.workspace.locations import resolve
        from daskscore.workspace.store import open_workspace

        found = resolve(open_workspace(), path, "model" if path.startswith("model:") else kind)
        path, options = found.uri, {**found.storage_options, **(options or {})}
        name, version = found.name or "", found.version or version
    path = path[len("file://") :] if path.lower().startswith("file://") else path
    if not is_remote(path):
        if options and not name:
            raise ConfigError(f"{key}: storage_options are for addresses, and {path} is a local path. Remove them")
        if not os.path.exists(path):
            raise ConfigError(f"{key}: {path} does not exist. Check the path")
        path = os.path.abspath(path)  # a slash at its end would make it the folder that holds it
        return path, name or os.path.basename(path), version
    from daskscore.inputs.remote import RemoteFiles

    try:
        files = RemoteFiles(path, options, everything=True)
        next(files.items())
    except UsageError as error:
        raise type(error)(f"{key}: {str(error).removeprefix('input ')}") from error
    stores.append(files.stores)
    uri = files.address.uri
    return uri, name or uri.rstrip("/").rpartition("/")[2], version
