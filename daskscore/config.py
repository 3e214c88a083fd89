"""What the user asked for, validated; every error names the key, the value and what would do."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from daskscore.errors import ConfigError

DEFAULT_FILE_NAME = "parallel_run_step.txt"
MOST_SECONDS = 259_200
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
RESERVED_ARGUMENTS = (
    "mini_batch_size",
    "error_threshold",
    "allowed_failed_count",
    "allowed_failed_percent",
    "output",
    "output_action",
    "logging_level",
    "process_count_per_node",
    "run_invocation_timeout",
    "run_max_try",
    "append_row_file_name",
    "partition_keys",
)
PATH_KEYS = ("source_directory", "output")


def parse_bytes(value: object) -> int:
    """A number of bytes, or a text like 512MB; units are binary."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)(?:i?b)?", str(value).strip(), re.IGNORECASE)
    if match is None:
        raise ValueError("is no size. Write a number of bytes, or one with KB, MB or GB, like 512MB")
    return int(match[1]) * UNITS[match[2].lower()]


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, (str, Path, Mapping)) else value


def _words(value: object) -> object:
    if isinstance(value, str):
        return shlex.split(value)
    return [str(word) for word in value] if isinstance(value, (list, tuple)) else value


def _texts(value: object) -> object:
    return {str(k): _text(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


Threshold = Annotated[int, Field(ge=-1)]
Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS)]
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]


class JobConfig(BaseModel):
    """One job. Names and defaults are those of ParallelRunConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry_script: str = Field(min_length=1)
    """The scoring script: a file of source_directory, or a module in it like `package.module`."""
    source_directory: Path
    """The script's folder: on its `sys.path`, and its working directory."""
    inputs: Annotated[list[str | dict[str, Any]], BeforeValidator(_one_or_many)] = []
    """Files, folders and globs; each is cut into mini-batches by itself, in this order."""
    output: Path
    """The folder for the rows, the report and the logs."""
    arguments: Annotated[list[str], BeforeValidator(_words)] = []
    """What the script finds in `sys.argv` after the system's own arguments."""
    mini_batch_size: int = Field(10, ge=1)
    """How many files one call of run() is given."""
    rank_mini_batch_count: int | None = Field(None, ge=1)
    """Instead of inputs: this many mini-batches that have a number and no items."""
    side_inputs: dict[str, Path] = {}
    """Files and folders that every scorer needs; `${{side_inputs.name}}` in an argument becomes the path."""
    error_threshold: Threshold = -1
    """More failed items than this end the job; -1: any number may fail."""
    mini_batch_error_threshold: Threshold = -1
    """More failed mini-batches than this end the job; -1: any number may fail."""
    allowed_failed_count: Threshold | None = None
    """More mini-batches than this failing at the same time, between tries, end the job."""
    allowed_failed_percent: float | None = Field(None, ge=0, le=100)
    """A larger share of failed mini-batches ends the job, once all have been handed out."""
    output_action: Literal["append_row", "summary_only"] = "append_row"
    """append_row: one file with the rows of all mini-batches; summary_only: rows are only counted."""
    append_row_file_name: str = DEFAULT_FILE_NAME
    append_row_format: Literal["text", "jsonl"] = "text"
    append_row_separator: str = Field(" ", min_length=1, max_length=1)
    """Between the columns of a DataFrame."""
    append_row_header: bool = False
    """One line with a DataFrame's column names at the top."""
    append_row_index: bool = False
    """A DataFrame's index as the first column."""
    logging_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    run_invocation_timeout: Seconds = 60
    """Seconds that one call of run() may take."""
    init_timeout: Seconds | None = None
    """Seconds that importing the script and init() may take; 3 × run_invocation_timeout + 30 where not given."""
    run_max_try: int = Field(3, ge=1)
    """How often a mini-batch is tried before its items count as failed."""
    task_overhead_timeout: Seconds = 600
    """Seconds without a sign of life outside run() after which a scorer is replaced."""
    first_task_creation_timeout: Seconds = 600
    """Seconds to wait for a Dask worker."""
    progress_update_timeout: Seconds | None = None
    """Seconds without any progress after which the job ends; longer than all other deadlines where not given."""
    memory_limit_per_process: Bytes | None = None
    """A scorer that holds more is ended, and its mini-batch fails with kind `memory`."""
    process_count_per_node: int | None = Field(None, ge=1)
    """Scorer processes per node; as many as the machine has processors where not given."""
    node_count: int = Field(1, ge=1)
    environment_variables: Annotated[dict[str, str], BeforeValidator(_texts)] = {}
    cluster: str | dict[str, Any] = "local"
    """`local`, the address of a Dask scheduler, its scheduler file, or `package.module:function`."""
    bundle_size: int | Literal["auto"] = "auto"
    """Mini-batches per Dask task; measured where not given."""
    preflight: bool = True
    """Import the script here before anything else is started."""

    @field_validator("output_action", "append_row_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("logging_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("mini_batch_size", mode="before")
    @classmethod
    def _files_are_counted(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip().isdigit():
            raise ValueError("is a number of files, like 10: files are counted, not weighed")
        return value

    @field_validator("bundle_size")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("is a number of mini-batches, at least 1, or auto")
        return value

    @field_validator("append_row_file_name")
    @classmethod
    def _unix_file_name(cls, value: str) -> str:
        if not value or value in (".", "..") or re.search(r'[~"#%&*:<>?/\\{|}\0]', value):
            raise ValueError("is no file name. Parameter append_row_file_name must be a valid UNIX file name.")
        if value in ("report.json", "failed_items.jsonl", "logs", ".daskscore"):
            raise ValueError("is a name that the run itself needs; choose another")
        return value

    @field_validator("arguments")
    @classmethod
    def _not_reserved(cls, value: list[str]) -> list[str]:
        for word in value:
            name = word[2:].split("=")[0]
            if word.startswith("--") and name in RESERVED_ARGUMENTS:
                raise ValueError(
                    f"has --{name}: '{name}' is a reserved argument in ParallelRunStep, please use another argument name "
                    f"instead. The script is given --{name} by daskscore; set the key {name} of the job"
                )
        return value

    @model_validator(mode="after")
    def _something_to_score(self) -> Self:
        if not self.inputs and self.rank_mini_batch_count is None:
            raise ValueError(
                "inputs: the job names no data. Add inputs (a file, a folder, a glob) or rank_mini_batch_count"
            )
        if self.inputs and self.rank_mini_batch_count is not None:
            raise ValueError("rank_mini_batch_count: is for jobs without inputs. Remove one of the two")
        return self

    @property
    def init_seconds(self) -> float:
        return self.init_timeout or 3 * self.run_invocation_timeout + 30

    @property
    def progress_seconds(self) -> float:
        slowest = self.init_seconds + self.run_invocation_timeout + self.task_overhead_timeout
        return self.progress_update_timeout or slowest + 60

    @property
    def processes(self) -> int:
        return (
            self.process_count_per_node or len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else (self.process_count_per_node or os.cpu_count() or 1)
        )


def load(job: str | Path | Mapping[str, Any] | JobConfig | None, overrides: Mapping[str, Any]) -> JobConfig:
    """A job file or mapping, with single keys replaced; paths in a file are relative to its folder, others to here."""
    if isinstance(job, JobConfig):
        return job if not overrides else validate({**job.model_dump(exclude_unset=True), **overrides})
    here = Path.cwd()
    settings: dict[str, Any] = {}
    if isinstance(job, Mapping):
        settings = absolute(job, here)
    elif job is not None:
        path = Path(job)
        settings = absolute(read_job_file(path), path.absolute().parent)
    return validate({**settings, **absolute(overrides, here)})


def read_job_file(path: Path) -> dict[str, Any]:
    """The keys of a YAML job file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"job file {path} cannot be read: {reason}. Check the path") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"job file {path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"job file {path} is {_kind(content)}, not a mapping. It must hold lines like 'entry_script: score.py'"
        )
    return {str(key): value for key, value in content.items()}


def absolute(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """With the paths among the settings made absolute; `source_directory` is found where it is not given."""
    found = dict(settings)
    for key in PATH_KEYS:
        if isinstance(found.get(key), (str, Path)):
            found[key] = base / Path(found[key]).expanduser()
    if "inputs" in found:
        entries = _one_or_many(found["inputs"])
        if isinstance(entries, (list, tuple)):
            found["inputs"] = [_absolute_input(entry, base) for entry in entries]
    if isinstance(found.get("side_inputs"), Mapping):
        found["side_inputs"] = {name: base / Path(path).expanduser() for name, path in found["side_inputs"].items()}
    script = found.get("entry_script")
    if isinstance(script, (str, Path)) and "source_directory" not in found:
        path = base / Path(script).expanduser()
        if path.suffix == ".py" or path.exists():
            found["source_directory"], found["entry_script"] = path.parent, path.name
        else:
            found["source_directory"] = base
    return found


def _absolute_input(entry: Any, base: Path) -> Any:
    if isinstance(entry, Mapping):
        return {**entry, "path": _absolute_input(entry["path"], base)} if "path" in entry else dict(entry)
    text = os.fspath(entry) if isinstance(entry, (str, Path)) else entry
    if not isinstance(text, str) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return text
    return os.path.join(base, os.path.expanduser(text)) if text else text


def validate(settings: Mapping[str, Any]) -> JobConfig:
    """The job, or a ConfigError with a line for each key that is wrong."""
    try:
        return JobConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(problem) for problem in error.errors())) from None


def _sentence(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"][:1])
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, JobConfig.model_fields, n=1)
        return f"{key}: there is no such key. " + (
            f"Did you mean {nearest[0]}?" if nearest else "See the README for all keys."
        )
    if problem["type"] == "missing":
        return f"{key}: is missing. {_HINTS.get(key, 'The job needs it')}"
    text = problem["msg"].removeprefix("Value error, ")
    if not key:
        return str(text)
    if problem["type"] == "value_error":
        return f"{key}: {problem['input']!r} {text}"
    return f"{key}: {problem['input']!r} is not usable: {text[0].lower()}{text[1:]}"


_HINTS = {
    "entry_script": "Name the scoring script, like entry_script: score.py (--entry-script score.py)",
    "output": "Name a folder for the results, like output: out/ (--output out/)",
    "source_directory": "It is the script's folder, and is known once entry_script is given",
}


def _kind(content: object) -> str:
    return {type(None): "empty", list: "a list", str: "a text"}.get(type(content), f"a {type(content).__name__}")
