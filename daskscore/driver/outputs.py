"""Where the output of a job is: a folder of this machine, or one in a storage for which such a folder stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daskscore.config import JobConfig
from daskscore.core.report import Report
from daskscore.errors import ConfigError
from daskscore.inputs.addresses import is_remote
from daskscore.workspace.references import is_reference


class Place(Protocol):
    """What a run needs of its output, wherever that is."""

    folder: Path
    """Of this machine; the run works in it."""

    @property
    def uri(self) -> str:
        """What nobody should take for an input."""
        ...

    def shown(self, path: Path) -> str:
        """What the user calls a path of the folder."""
        ...

    def taken(self) -> None:
        """The run has begun, or goes on."""
        ...

    def publish(self, report: Report) -> None:
        """The run is over."""
        ...


@dataclass(slots=True)
class Local:
    """A folder of this machine."""

    folder: Path

    @property
    def uri(self) -> str:
        return str(self.folder)

    def shown(self, path: Path) -> str:
        return str(path)

    def taken(self) -> None:
        """Nothing is elsewhere."""

    def publish(self, report: Report) -> None:
        """It is where it should be."""


@contextmanager
def opened(
    config: JobConfig, *, resume: bool, overwrite: bool, say: Callable[[str], None], on_loss: Callable[[], None]
) -> Iterator[Place]:
    """The output of a job, for as long as its run may write there."""
    given: dict[str, Any] = config.output if isinstance(config.output, dict) else {"path": config.output}
    path, options = str(given["path"]), given.get("storage_options")
    if not isinstance(options, Mapping | None):
        raise ConfigError("output: storage_options is no mapping. Write it like {key: ${env:NAME}}")
    if is_reference(path):
        from daskscore.workspace.locations import resolve
        from daskscore.workspace.store import open_workspace

        found = resolve(open_workspace(), path)
        path, options = found.uri, {**found.storage_options, **(options or {})}
    if not is_remote(path):
        if options:
            raise ConfigError(f"output: storage_options are for addresses, and {path} is a local path. Remove them")
        yield Local(Path(os.path.abspath(path)))
        return
    from daskscore.driver.remote_output import working_folder

    rows = config.append_row_file_name
    with working_folder(path, options, rows, resume=resume, overwrite=overwrite, say=say, on_loss=on_loss) as place:
        yield place
