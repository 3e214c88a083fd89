"""Where the output of a job is: a folder of this machine, or one in a storage for which such a folder stands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daskscore.config import JobConfig
from daskscore.core.layout import Layout
from daskscore.core.report import Report
from daskscore.errors import ConfigError, OutputError
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

    def reopen(self) -> None:
        """A Completed run goes on: all that it left is needed in the folder."""
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

    def reopen(self) -> None:
        """It is all here."""

    def publish(self, report: Report) -> None:
        """It is where it should be."""


@contextmanager
def opened(
    config: JobConfig, *, resume: bool, overwrite: bool, say: Callable[[str], None], on_loss: Callable[[], None]
) -> Iterator[Place]:
    """The output of a job, for as long as its run may write there."""
    path, options = _located(config.output)
    if not is_remote(path):
        yield Local(Path(os.path.abspath(path)))
        return
    from daskscore.driver.remote_output import working_folder

    rows = config.append_row_file_name
    with working_folder(path, options, rows, resume=resume, overwrite=overwrite, say=say, on_loss=on_loss) as place:
        yield place


def stored_job(output: Path | str | Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of the job whose run stands there."""
    path, options = _located(output)
    text: str | bytes | None
    if is_remote(path):
        from daskscore.driver.remote_output import kept_job

        text = kept_job(path, options)
    else:
        job = Layout(Path(path)).job
        text = job.read_bytes() if job.is_file() else None
    if text is None:
        raise OutputError(f"there is no run in {path}. Name the output folder of one, where report.json is")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise OutputError(
            f"what is kept of the job in {path} is damaged ({error}), so its run cannot be continued. Start anew with another "
            "--output"
        ) from None
    return found


def _located(output: Path | str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """A local path, or an address and what opens it."""
    given: Mapping[str, Any] = output if isinstance(output, Mapping) else {"path": output}
    path, options = str(given["path"]), given.get("storage_options")
    if not isinstance(options, Mapping | None):
        raise ConfigError("output: storage_options is no mapping. Write it like {key: ${env:NAME}}")
    if is_reference(path):
        from daskscore.workspace.locations import resolve
        from daskscore.workspace.store import open_workspace

        found = resolve(open_workspace(), path)
        path, options = found.uri, {**found.storage_options, **(options or {})}
    if options and not is_remote(path):
        raise ConfigError(f"output: storage_options are for addresses, and {path} is a local path. Remove them")
    return path, options
