"""The models that a script may ask for by name."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE, DEFAULT = "DASKSCORE_WORKSPACE", "~/.daskscore/workspace.db"


def registered_models() -> dict[str, dict[str, str]]:
    """Local paths of the workspace's models, by name and version, the newest last; nothing is opened where there is none."""
    if not os.environ.get(VARIABLE) and not Path(DEFAULT).expanduser().exists():
        return {}
    from daskscore.workspace import assets
    from daskscore.workspace.store import open_workspace

    found: dict[str, dict[str, str]] = {}
    for asset in assets.listed(open_workspace(), "model"):
        if "://" not in asset.path:
            found.setdefault(asset.name, {})[asset.version] = asset.path
    return found
