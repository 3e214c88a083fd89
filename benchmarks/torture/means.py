"""What this machine allows."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec

from benchmarks.torture.clusters import can_be_apart
from benchmarks.torture.faults import NEEDS


def possible(kinds: Sequence[str]) -> dict[str, str]:
    """Kinds that this machine cannot do, each with the reason."""
    return {kind: why for kind in kinds if (why := _lacks(NEEDS.get(kind, "")))}


@functools.cache
def _lacks(need: str) -> str:
    match need:
        case "mount":
            return "" if _may_mount() else "it takes the right to mount a small disk"
        case "cc":
            return "" if shutil.which("cc") or shutil.which("gcc") else "there is no C compiler"
        case "netns":
            return "" if can_be_apart() else "it takes the right to make network namespaces"
        case "s3":
            found = all(find_spec(name) is not None for name in ("moto", "flask"))
            return "" if found else "moto's S3 server is not installed: pip install 'moto[s3]' flask flask-cors"
        case _:
            return ""


def _may_mount() -> bool:
    if os.getuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True
