"""What a path becomes when it is registered: a place that is the same one from everywhere, and what is seen there."""

from __future__ import annotations

import os
import re
from glob import has_magic

from daskscore.errors import ConfigError
from daskscore.workspace.credentials import check_uri
from daskscore.workspace.names import check_text
from daskscore.workspace.references import OnDatastore, is_reference, parse

URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def lasting(path: str, what: str) -> tuple[str, str]:
    """The absolute local path or the URI of `what`, and whether it is a uri_file, uri_folder or mltable."""
    check_text(f"the path of {what}:", path)
    if not path:
        raise ConfigError(f"the path of {what} is empty. Name a file, a folder or a URI")
    if is_reference(path) and not os.path.exists(path) and not isinstance(parse(path), OnDatastore):
        raise ConfigError(
            f"the path of {what} is {path}, which is registered itself. Name the place where it is: a path, a URI, "
            f"or azureml://datastores/<datastore>/paths/<path>"
        )
    if URI.match(path):
        check_uri(f"the path of {what}", path)
        last = re.split("[?#]", path)[0].rpartition("/")[2]
        return path, "uri_file" if "." in last.strip(".") and not has_magic(last) else "uri_folder"
    return _local(os.path.abspath(os.path.expanduser(path)), what)


def _local(path: str, what: str) -> tuple[str, str]:
    if os.path.isdir(path):
        return path, "mltable" if os.path.isfile(os.path.join(path, "MLTable")) else "uri_folder"
    if os.path.exists(path):
        return path, "uri_file"
    if has_magic(path):
        return path, "uri_folder"
    raise ConfigError(
        f"the path of {what} does not exist: {path}. Check it, or write file://{path} if other machines have it"
    )


def joined(base: str, path: str) -> str:
    """A path below a base URI; what follows the `?` of a web address, a signature for example, stays at the end."""
    base, mark, query = base.partition("?") if base.lower().startswith("http") else (base, "", "")
    path = path.lstrip("/")
    slash = "/" if path and not base.endswith("/") else ""
    return f"{base}{slash}{path}{mark}{query}"


def split(uri: str) -> tuple[str, str]:
    """The folder that holds a file or folder, and the name it has there."""
    place = uri.partition("?")[0] if uri.lower().startswith("http") else uri
    folder, slash, name = place.rstrip("/").rpartition("/")
    return folder if folder and not folder.endswith("/") else folder + slash, name
