"""The one place of the version; `pyproject.toml` reads it too."""

VERSION = "0.1.0"
