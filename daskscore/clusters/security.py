"""Who may talk to a cluster: the holders of certificates that a job names, or of one that is made for one run."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from distributed.security import Security

from daskscore.errors import ConfigError

KEYS = ("ca", "cert", "key")


def of_files(named: object) -> Security:
    """The certificates that a job names; refuses what cannot be read, or does not fit together."""
    if not isinstance(named, Mapping):
        raise ConfigError("cluster: security: is a mapping. Write {ca: ca.pem, cert: client.pem, key: client.key}")
    for name in named:
        if name not in KEYS:
            raise ConfigError(f"cluster: security: has no key {name}. Known are {', '.join(KEYS)}")
    for name in KEYS:
        if not isinstance(named.get(name), str):
            raise ConfigError(f"cluster: security: names no {name}. Write the path of a file in PEM format")
        try:
            with open(named[name], "rb"):
                pass
        except OSError as error:
            raise ConfigError(f"cluster: security: {name}: {named[name]}: {error.strerror}. Check the path") from None
    security = Security(
        require_encryption=True,
        tls_ca_file=named["ca"],
        tls_client_cert=named["cert"],
        tls_client_key=named["key"],
    )
    try:
        security.get_connection_args("client")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"cluster: security: {named['ca']}, {named['cert']} and {named['key']} cannot be used together: {error}. "
            "Name a CA, a certificate that it has signed, and the key of that, in PEM format"
        ) from None
    return security


def temporary(kind: str, extra: str) -> Security:
    """A certificate that exists in memory alone; whoever does not get it from us stays outside."""
    try:
        made: Security = Security.temporary()
    except ImportError:
        raise ConfigError(
            f"cluster: {kind} encrypts with the package cryptography, which is not installed. "
            f"Install it: pip install 'daskscore[{extra}]'"
        ) from None
    return made


def in_words(security: Security) -> dict[str, Any]:
    """What `Security(**words)` is made of elsewhere: texts only, to be sent where nobody else listens."""
    names = [f"tls_{role}_{part}" for role in ("client", "scheduler", "worker") for part in ("cert", "key")]
    return {"require_encryption": True, **{name: getattr(security, name) for name in ["tls_ca_file", *names]}}
