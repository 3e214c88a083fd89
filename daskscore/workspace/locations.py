"""From a reference to the place where the bytes are, and what is needed to open it. Called in the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daskscore.workspace import assets, datastores
from daskscore.workspace.names import Kind
from daskscore.workspace.paths import joined, split
from daskscore.workspace.references import LATEST, OnDatastore, Registered, parse
from daskscore.workspace.store import Workspace


@dataclass(frozen=True, slots=True)
class Located:
    """Where something is. Secrets still stand in it as `${env:NAME}`, so it may be logged, kept and sent."""

    uri: str
    """An absolute local path or a URI; `credentials.filled` makes it the real one."""
    type: str | None
    """uri_file, uri_folder, mltable or tabular, or a model's type; None on a datastore, where only a look can tell."""
    storage_options: Mapping[str, Any]
    """For fsspec; `credentials.filled` makes them the real ones."""
    name: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model and the folder that contains it: the model stands one level below what a script calls AZUREML_MODEL_DIR."""

    model: Located
    folder: str
    """The folder that holds the model, and perhaps others too; whoever copies or links takes `base_name` alone."""
    base_name: str
    """What the model is called in that folder."""


def resolve(workspace: Workspace, text: str, kind: Kind = "data") -> Located:
    """What a reference means today; `@latest` is looked up now, and the version found is part of the answer."""
    match parse(text, kind):
        case Registered(_, name, which):
            return _of_asset(workspace, assets.show(workspace, kind, name, which))
        case OnDatastore() as place:
            return _on_datastore(workspace, place)


def model_folder(workspace: Workspace, name: str, version: str | None = None) -> ModelFolder:
    """The folder of a registered model; of the newest version where none is named."""
    return folder_of(_of_asset(workspace, assets.show(workspace, "model", name, version or LATEST)))


def folder_of(model: Located) -> ModelFolder:
    return ModelFolder(model, *split(model.uri))


def _of_asset(workspace: Workspace, asset: assets.Asset) -> Located:
    uri, options = asset.path, asset.storage_options
    if uri.startswith("azureml://"):
        place = resolve(workspace, uri)
        uri, options = place.uri, {**place.storage_options, **options}
    return Located(uri, asset.type, options, asset.name, asset.version)


def _on_datastore(workspace: Workspace, place: OnDatastore) -> Located:
    store = datastores.show(workspace, place.datastore)
    return Located(joined(store.uri, place.path), None, store.storage_options, None, None)
