"""What the stand-ins know of the scorer they are in."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar

from daskscore.scorer.asked import asked


@dataclass(slots=True)
class Place:
    """Set once per process, before the script is imported; the mini-batch changes as the work goes on."""

    run_id: str
    process: str
    output: str
    source_directory: str
    log_folder: str
    """`logs/user/entry_script_log/<node>` in the output folder."""
    metrics_file: str
    logging_level: str = "INFO"
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    """Local paths of the registered models, by name and version, the newest last."""
    model_folder: str = ""
    """What a script finds in AZUREML_MODEL_DIR; nothing where the job names no model."""
    gpus: str = ""
    """What a script finds in CUDA_VISIBLE_DEVICES; nothing where there is no GPU for this process."""
    mini_batch: int | None = None
    metrics_prefix: str = field(default_factory=lambda: asked("metrics_name_prefix", sys.argv))
    """Before the name of each metric."""

    here: ClassVar[Place]

    def log_metric(self, name: str, value: Any, kind: str) -> None:
        """A line of `metrics_file`."""
        line = {
            "name": self.metrics_prefix + name,
            "value": value,
            "kind": kind,
            "mini_batch": self.mini_batch,
            "process": self.process,
        }
        text = json.dumps(line, default=_plain) + "\n"
        os.makedirs(os.path.dirname(self.metrics_file), exist_ok=True)
        fd = os.open(self.metrics_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
