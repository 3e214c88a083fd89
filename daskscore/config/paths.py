"""Where the paths of a job start: at its file, or at the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from daskscore.errors import ConfigError
from daskscore.inputs.addresses import is_remote
from daskscore.workspace.references import is_reference


def current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the current folder does not exist any more. Change to one that does") from None


def absolute(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """With the paths among the settings made absolute; what is no path is left for `validate` to refuse."""
    found = {str(key): value for key, value in settings.items()}
    for key in ("source_directory", "output"):
        if key in found:
            found[key] = _absolute_input(found[key], base)
    if "environment" in found:
        found["environment"] = _absolute_environment(found["environment"], base)
    if isinstance(found.get("side_inputs"), Mapping):
        found["side_inputs"] = {name: _absolute_input(path, base) for name, path in found["side_inputs"].items()}
    if isinstance(found.get("models"), (str, os.PathLike, Mapping)):
        found["models"] = [found["models"]]
    if isinstance(found.get("models"), (list, tuple)):
        found["models"] = [_absolute_input(model, base) for model in found["models"]]
    if "cluster" in found:
        found["cluster"] = _absolute_cluster(found["cluster"], base)
    inputs = found.get("inputs")
    if isinstance(inputs, (str, os.PathLike, Mapping)):
        found["inputs"] = [_absolute_input(inputs, base)]
    elif isinstance(inputs, Iterable) and not isinstance(inputs, AbstractSet):
        found["inputs"] = [_absolute_input(entry, base) for entry in inputs]
    return found


def _absolute_cluster(cluster: Any, base: Path) -> Any:
    """The paths in it: of a scheduler file, of certificates, and of what ssh needs."""
    if not isinstance(cluster, Mapping):
        return _absolute(cluster, base) if str(cluster).endswith(".json") else cluster
    found = dict(cluster)
    if str(found.get("address")).endswith(".json"):
        found["address"] = _absolute(found["address"], base)
    if isinstance(found.get("security"), Mapping):
        found["security"] = {name: _absolute(path, base) for name, path in found["security"].items()}
    if found.get("kind") == "ssh" and isinstance(found.get("options"), Mapping):
        connect = found["options"].get("connect_options")
        each = (
            [_with_ssh_files(one, base) for one in connect]
            if isinstance(connect, list)
            else _with_ssh_files(connect, base)
        )
        found["options"] = {**found["options"], **({} if connect is None else {"connect_options": each})}
    return found


def _with_ssh_files(options: Any, base: Path) -> Any:
    if not isinstance(options, Mapping):
        return options
    found = dict(options)
    for key in ("client_keys", "config", "known_hosts"):
        value = found.get(key)
        if isinstance(value, (str, list)):
            found[key] = [_absolute(one, base) for one in value] if isinstance(value, list) else _absolute(value, base)
    return found


def _absolute_input(entry: Any, base: Path) -> Any:
    if isinstance(entry, Mapping):
        return {**entry, "path": _absolute(entry["path"], base)} if "path" in entry else dict(entry)
    return _absolute(entry, base)


def _absolute_environment(wanted: Any, base: Path) -> Any:
    if isinstance(wanted, Mapping):
        return {**wanted, "conda_file": _absolute(wanted["conda_file"], base)} if "conda_file" in wanted else wanted
    return wanted if str(wanted).strip().lower() == "current" else _absolute(wanted, base)


def _absolute(path: Any, base: Path) -> Any:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text.strip() or "\0" in text or is_remote(text) or is_reference(text):
        return text
    return os.path.abspath(os.path.join(base, os.path.expanduser(text)))


def with_script(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    """With `entry_script` below `source_directory`, which is the script's own folder where it is not given."""
    script, source = settings.get("entry_script"), settings.get("source_directory")
    script = os.fspath(script) if isinstance(script, os.PathLike) else script
    if not isinstance(script, str) or not script.strip() or "\0" in script or is_remote(script):
        return settings
    here = Path(_absolute(script, base))
    if source is None and (here.suffix == ".py" or here.is_file()):
        return {**settings, "source_directory": here.parent, "entry_script": here.name}
    if source is None:
        return {**settings, "source_directory": base, "entry_script": script}
    if isinstance(source, str) and not os.path.isfile(os.path.join(source, script)) and here.is_file():
        # A path as the command line completes it, from here and not from the source directory.
        script = str(here.relative_to(source)) if here.is_relative_to(source) else str(here)
    return {**settings, "entry_script": script}
