"""Secrets stand in the environment; what is registered only names them, as `${env:NAME}`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, overload

from daskscore.errors import ConfigError
from daskscore.workspace.names import check_text

REFERENCE = re.compile(r"\$\{env:([^}]*)\}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SECRET_WORDS = {
    "apikey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "sas",
    "secret",
    "sig",
    "signature",
    "sslpassword",
    "token",
}
NAMES_A_PLACE = {"endpoint", "file", "path", "uri", "url"}
"""`token_url` and `key_file` say where a secret is; they are none."""
NO_SECRETS = {"", "anon", "browser", "cache", "cloud", "google_default"}
"""What gcsfs takes for `token` besides tokens."""

IN_A_CONNECTION_STRING = re.compile(
    r"(AccountKey|SharedAccessKey|SharedAccessSignature|Password|Pwd)\s*=\s*[^;\s]", re.IGNORECASE
)
IN_AN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^:/@\s]*:[^/@\s]+@", re.IGNORECASE)


@overload
def filled(value: str, environment: Mapping[str, str] = ...) -> str: ...
@overload
def filled(value: Mapping[str, Any], environment: Mapping[str, str] = ...) -> dict[str, Any]: ...
def filled(value: str | Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> str | dict[str, Any]:
    """With each `${env:NAME}` replaced. Called last of all, where the storage is opened: what it returns is secret."""
    answer: str | dict[str, Any] = _filled(value, environment)
    return answer


def _filled(value: Any, environment: Mapping[str, str]) -> Any:
    match value:
        case str():
            return REFERENCE.sub(lambda found: variable(found[1], environment), value)
        case Mapping():
            return {key: _filled(inner, environment) for key, inner in value.items()}
        case list() | tuple():
            return [_filled(inner, environment) for inner in value]
        case _:
            return value


def variable(name: str, environment: Mapping[str, str]) -> str:
    try:
        return environment[name]
    except KeyError:
        raise ConfigError(
            f"${{env:{name}}}: the environment variable {name} is not set. Set it and try again"
        ) from None


def check_options(what: str, options: Mapping[str, Any]) -> None:
    """Refuses what cannot be stored, and every secret that is written out; the secret is not repeated."""
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(
            f"the storage options of {what} hold something other than texts, numbers, true, false, lists and mappings. "
            f"Write dates and the like in quotes"
        ) from None
    for keys, value in _leaves(options, ()):
        key = ".".join(keys)
        if _is_literal_secret(keys[-1], value):
            raise ConfigError(
                f"the storage option {key} of {what} looks like a secret, and secrets are not stored. "
                f"Put it into an environment variable and write {keys[0]}=${{env:NAME}}"
            )
        if isinstance(value, str):
            check_text(f"the storage option {key} of {what}:", value)
            _check_references(f"the storage option {key} of {what}", value)


def check_uri(what: str, uri: str) -> None:
    """Refuses an address with a password or a signature in it; neither is repeated."""
    _check_references(what, uri)
    if IN_AN_ADDRESS.match(REFERENCE.sub("", uri)):
        raise ConfigError(
            f"{what} has a password in its address, and secrets are not stored. "
            f"Put it into an environment variable and write ${{env:NAME}} in its place"
        )
    for name in secrets_in_query(uri):
        raise ConfigError(
            f"{what} has a secret in its address ({name}=…), and secrets are not stored. "
            f"Put all that follows the ? into an environment variable and write ?${{env:NAME}}"
        )


def secrets_in_query(uri: str) -> list[str]:
    """The names of the parameters behind the `?` that look like secrets written out."""
    pairs = [pair.partition("=") for pair in uri.partition("?")[2].split("&")]
    return [name for name, _, value in pairs if value and _is_literal_secret(name, value)]


def _leaves(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    match value:
        case Mapping():
            for key, inner in value.items():
                yield from _leaves(inner, (*keys, str(key)))
        case list() | tuple():
            for inner in value:
                yield from _leaves(inner, keys)
        case _:
            yield keys, value


def _check_references(what: str, text: str) -> None:
    for found in REFERENCE.finditer(text):
        if not VARIABLE.fullmatch(found[1]):
            raise ConfigError(
                f"{what}: ${{env:…}} needs the name of an environment variable, like ${{env:STORAGE_KEY}}"
            )


def _is_secret_key(key: str) -> bool:
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
    if words[-1] in NAMES_A_PLACE:
        return False
    return not SECRET_WORDS.isdisjoint(words) or "connection_string" in "_".join(words)


def _is_literal_secret(key: str, value: Any) -> bool:
    match value:
        case bool() | None:
            return False
        case str():
            written = REFERENCE.sub("", value)
            if IN_A_CONNECTION_STRING.search(written) or IN_AN_ADDRESS.search(written):
                return True
            return _is_secret_key(key) and value not in NO_SECRETS and not REFERENCE.search(value)
        case _:
            return _is_secret_key(key)
