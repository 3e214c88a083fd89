"""The ways to write a registered thing: by name and version, or as a path on a datastore.

Azure's long forms name a subscription and a workspace as well; here they mean the same name in this workspace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from daskscore.errors import InputError
from daskscore.workspace.names import NAME, Kind

LATEST = "@latest"
FORMS = (
    "azureml:name:version",
    "azureml:name@latest",
    "{kind}:name",
    "{kind}:name:version",
    "azureml://datastores/<datastore>/paths/<path>",
    "azureml://subscriptions/…/datastores/<datastore>/paths/<path>",
    "azureml://locations/<location>/workspaces/<workspace>/{folder}/<name>/versions/<version>",
    "azureml://locations/<location>/workspaces/<workspace>/{folder}/<name>/labels/latest",
)
FOLDERS: dict[Kind, str] = {"data": "data", "model": "models"}
REGISTERED: dict[Kind, str] = {"data": "registered data", "model": "a registered model"}

_IN_SUBSCRIPTION = r"subscriptions/[^/]+/resource-?groups/[^/]+/(?:providers/[^/]+/)?workspaces/[^/]+/"
_SHORT = re.compile(rf"(azureml|data|model):({NAME})(?::({NAME})|(@{NAME}))?")
_ON_DATASTORE = re.compile(
    rf"azureml://(?:{_IN_SUBSCRIPTION})?datastores/({NAME})/paths(?:/(.*))?", re.DOTALL | re.IGNORECASE
)
_LONG = re.compile(
    rf"azureml:/?/?(?:{_IN_SUBSCRIPTION}|locations/[^/]+/workspaces/[^/]+/)"
    rf"(data|models)/({NAME})/(?:versions/({NAME})|(?:versions/)?labels/({NAME}))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Registered:
    """Some data or a model, by name."""

    kind: Kind
    name: str
    which: str
    """A version, or `@` and a label."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}{self.which if self.which.startswith('@') else ':' + self.which}"


@dataclass(frozen=True, slots=True)
class OnDatastore:
    """A path below a datastore's own."""

    datastore: str
    path: str

    def __str__(self) -> str:
        return f"azureml://datastores/{self.datastore}/paths/{self.path}"


Reference = Registered | OnDatastore


def is_reference(text: str) -> bool:
    """Whether the text asks for a registered thing, well-formed or not; `./data:x` is how to name such a file."""
    return text.startswith(("azureml:", "data:", "model:"))


def parse(text: str, kind: Kind = "data") -> Reference:
    """What is meant, where some data or a model is wanted; an InputError shows the forms there are."""
    if found := _ON_DATASTORE.fullmatch(text):
        path = found[2] or ""
        if ".." in path.split("/"):
            raise InputError(f"{text}: a path on a datastore cannot lead out of it. Write it without '..'")
        return OnDatastore(found[1], path)
    if found := _LONG.fullmatch(text):
        seen: Kind = "data" if found[1].lower() == "data" else "model"
        return _wanted(text, kind, Registered(seen, found[2], found[3] or f"@{found[4]}"))
    if found := _SHORT.fullmatch(text):
        if found[1] == "azureml":
            if not (found[3] or found[4]):
                raise InputError(f"{text} names no version. Write {text}:<version> or {text}@latest")
            return Registered(kind, found[2], found[3] or found[4])
        seen = "data" if found[1] == "data" else "model"
        return _wanted(text, kind, Registered(seen, found[2], found[3] or found[4] or LATEST))
    forms = ", ".join(form.format(kind=kind, folder=FOLDERS[kind]) for form in FORMS)
    raise InputError(f"{text} is no reference to {REGISTERED[kind]}. Write one of {forms}")


def _wanted(text: str, kind: Kind, found: Registered) -> Registered:
    if found.kind != kind:
        raise InputError(f"{text} names {REGISTERED[found.kind]} where {REGISTERED[kind]} is wanted. Name another")
    return found
