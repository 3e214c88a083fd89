"""The keys of a job, with their defaults and rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from daskscore.config.environments import read_environment
from daskscore.config.paths import absolute, current_folder, with_script
from daskscore.config.values import (
    MOST_SECONDS,
    AtLeastOne,
    Bytes,
    FolderPath,
    Percent,
    Seconds,
    Threshold,
    Wanted,
    YesNo,
    check_number,
    check_path,
    not_usable,
    read_inputs,
    read_mini_batch_size,
    read_names,
    read_output,
    read_range,
    read_side_inputs,
    read_texts,
    read_words,
)
from daskscore.inputs.addresses import shown as shown_uri

DEFAULT_FILE_NAME = "parallel_run_step.txt"
LONGEST_FILE_NAME = 200
"""A file name may have 255 bytes; the sink needs some for the name under which it writes."""
DELIMITED = ("text", "csv")
FILE_FORMATS = ("csv", "parquet")
"""Their names end in the file's usual ending."""
FORMATS_OF = {
    "append_row_separator": DELIMITED,
    "append_row_header": DELIMITED,
    "append_row_quoting": DELIMITED,
    "append_row_quote_char": DELIMITED,
    "append_row_escape_char": DELIMITED,
    "append_row_double_quote": DELIMITED,
    "append_row_line_terminator": DELIMITED,
    "append_row_na_rep": DELIMITED,
    "append_row_float_format": DELIMITED,
    "append_row_date_format": DELIMITED,
    "append_row_decimal": DELIMITED,
    "append_row_mixed_types": ("parquet",),
}
"""Where a key that is not for every format has a meaning."""
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


class JobConfig(BaseModel):
    """One job. Names and defaults are those of ParallelRunConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry_script: Annotated[
        str, BeforeValidator(check_path), Wanted("the path of a Python file, or a module like package.module")
    ]
    """The scoring script: a file of source_directory, or a module in it like `package.module`."""
    source_directory: FolderPath
    """The script's folder: on its `sys.path`, and its working directory."""
    inputs: Annotated[
        list[str | dict[str, Any]], BeforeValidator(read_inputs), Wanted("a file, a folder, a glob, or a list of these")
    ] = []
    """Files, folders and globs; each is cut into mini-batches by itself, in this order."""
    output: Annotated[
        Path | str | dict[str, Any],
        BeforeValidator(read_output),
        Wanted("the path of a folder, or an address like s3://bucket/folder/"),
    ]
    """The folder for the rows, the report and the logs."""
    arguments: Annotated[
        list[str], BeforeValidator(read_words), Wanted("a list of words, or a text that a shell would split into them")
    ] = []
    """What the script finds in `sys.argv` after the system's own arguments."""
    mini_batch_size: Annotated[
        int | str | None,
        BeforeValidator(read_mini_batch_size),
        Wanted("a number of files like 10, or of records a size like 1MB or '5000 rows'"),
    ] = None
    """How much one call of run() is given: 10 files where not given; of records 1MB, or another size, or `5000 rows`."""
    partition_keys: Annotated[
        list[str], BeforeValidator(read_names), Wanted("a list of names, like [store, brand]")
    ] = []
    """Columns, or parts of file names: all items with the same values are one mini-batch, whatever its size."""
    rank_mini_batch_count: AtLeastOne | None = None
    """Instead of inputs: this many mini-batches that have a number and no items."""
    side_inputs: Annotated[
        dict[str, str | dict[str, Any]],
        BeforeValidator(read_side_inputs),
        Wanted("names with paths, like {model: models/best.bin}"),
    ] = {}
    """Files and folders that every scorer needs; `${{side_inputs.name}}` in an argument becomes the path."""
    models: Annotated[
        list[str | dict[str, Any]],
        BeforeValidator(read_inputs),
        Wanted("a registered model like azureml:name:1, a path or an address, or a list of these"),
    ] = []
    """What `Model.get_model_path` finds; AZUREML_MODEL_DIR is the folder that holds the first one."""
    alike_failures_limit: Threshold = 20
    """So many of the first attempts that fail with the same traceback, while hardly any go well, end the job; -1: none do."""
    error_threshold: Threshold = -1
    """More failed items than this end the job; -1: any number may fail."""
    mini_batch_error_threshold: Threshold = -1
    """More failed mini-batches than this end the job; -1: any number may fail."""
    allowed_failed_count: Threshold | None = None
    """More mini-batches than this failing at the same time, between tries, end the job."""
    allowed_failed_percent: Percent | None = None
    """A larger share of failed mini-batches ends the job, once all have been handed out."""
    output_action: Literal["append_row", "summary_only"] = "append_row"
    """append_row: one file with the rows of all mini-batches; summary_only: rows are only counted."""
    append_row_file_name: Annotated[str, Wanted("a file name")] = DEFAULT_FILE_NAME
    append_row_format: Literal["text", "jsonl", "csv", "parquet"] = "text"
    append_row_separator: Annotated[str, Wanted("one character, like ','")] = " "
    """Between the columns of a DataFrame; a comma where the format is csv."""
    append_row_header: YesNo = False
    """One line with a DataFrame's column names at the top; on where the format is csv."""
    append_row_index: YesNo = False
    """A DataFrame's index as the first column."""
    append_row_quoting: Literal["minimal", "all", "nonnumeric", "none"] = "minimal"
    """Which fields stand in quotes."""
    append_row_quote_char: Annotated[str, Wanted("one character, like '\"'")] = '"'
    append_row_escape_char: Annotated[str | None, Wanted("one character, like a backslash")] = None
    """Before what would be read as a separator or a quote, where it is not in quotes or doubled."""
    append_row_double_quote: YesNo = True
    """A quote inside of quotes is written twice."""
    append_row_line_terminator: Annotated[str, Wanted(r"'\n' or '\r\n'")] = "\n"
    append_row_na_rep: Annotated[str, Wanted("a text, like 'NA'")] = ""
    """What stands for a missing value."""
    append_row_float_format: Annotated[str | None, Wanted("a format for one number, like '%.3f'")] = None
    append_row_date_format: Annotated[str | None, Wanted("a format for one time, like '%Y-%m-%d'")] = None
    append_row_decimal: Annotated[str, Wanted("one character, like ','")] = "."
    append_row_mixed_types: YesNo = False
    """A column that has several types is written as text, in a Parquet file."""
    join: Literal["none", "key", "input"] = "none"
    """What stands before each result: nothing, the item's own name (of a record file and row), or the input's columns."""
    columns: Annotated[
        dict[Literal["in", "out"], Annotated[list[str], BeforeValidator(read_names)]],
        Wanted("a mapping like {in: [id], out: [label]}"),
    ] = {}
    """With `join`: which columns of the input, and of what run() returned, are written; all where not given."""
    logging_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    run_invocation_timeout: Seconds = 60
    """Seconds that one call of run() may take."""
    init_timeout: Seconds | None = None
    """Seconds that importing the script and init() may take; 3 × run_invocation_timeout + 30 where not given."""
    run_max_try: AtLeastOne = 3
    """How often a mini-batch is tried before its items count as failed."""
    on_item_error: Literal["isolate", "fail_mini_batch"] | None = None
    """What becomes of a mini-batch that keeps failing. isolate: it is divided until the items to blame stand alone, and the
    others are scored. fail_mini_batch: all of it fails. Where not given, append_row isolates, but not where partition_keys
    make what belongs together; a script of summary_only may write a file for each mini-batch, which stays whole."""
    isolation_attempts: Threshold | None = None
    """How many attempts at parts of mini-batches the run may make for that; 1,000 and a tenth of the number of mini-batches
    where not given, -1: any number."""
    backup_attempts: YesNo | None = None
    """Near the end, start a second attempt in an idle process at what takes much longer than others; the faster one counts.
    Where not given, with append_row: files that a script writes itself would be written twice at the same time."""
    task_overhead_timeout: Seconds = 600
    """Seconds without a sign of life outside run() after which a scorer is replaced."""
    first_task_creation_timeout: Seconds = 600
    """Seconds to wait for a Dask worker."""
    progress_update_timeout: Seconds | None = None
    """Seconds without any progress after which the job ends; longer than all other deadlines where not given."""
    memory_limit_per_process: Bytes | None = None
    """A scorer that holds more is ended, and its mini-batch fails with kind `memory`."""
    staging_limit: Bytes = 2 << 30
    """How much of the inputs in storages a worker keeps on its own disk while they are scored, and ahead of that."""
    log_file_limit: Bytes = 100 << 20
    """How large what one process prints, or logs, may become; the beginning and the newest end are kept."""
    resource_monitor_interval: Annotated[
        float,
        BeforeValidator(check_number),
        Field(ge=0, le=MOST_SECONDS),
        Wanted(f"a number of seconds, at most {MOST_SECONDS} (three days); 0 for none"),
    ] = 600
    """Seconds between two looks at what each node uses; 0: none."""
    process_count_per_node: AtLeastOne | None = None
    """Scorer processes per node; as many as the machine has processors where not given."""
    node_count: Annotated[
        int | str, BeforeValidator(read_range), Wanted("a number of nodes like 4, or a range like 2-10")
    ] = 1
    """Nodes of the cluster; a range lets the cluster grow and shrink with the work."""
    gpus_per_process: Annotated[
        int, BeforeValidator(check_number), Field(ge=0), Wanted("a whole number; 0 hands out no GPU")
    ] = 1
    """Of a machine that has GPUs: how many each process is given, in CUDA_VISIBLE_DEVICES, and gives back."""
    gpus_per_node: Annotated[int, BeforeValidator(check_number), Field(ge=0), Wanted("a whole number")] | None = None
    """How many GPUs a machine has; found where not given."""
    environment_variables: Annotated[
        dict[str, str], BeforeValidator(read_texts), Wanted("names with values, like {OMP_NUM_THREADS: 1}")
    ] = {}
    environment: Annotated[
        str | dict[str, Any] | None,
        BeforeValidator(read_environment),
        Wanted("the path of a conda file (.yml), a requirements file (.txt) or a Python interpreter, or current"),
    ] = None
    """What the script runs in: a conda file, a requirements file, a Python, or `current`, which is the worker's own."""
    cluster: Annotated[
        str | dict[str, Any],
        Wanted("local, the address of a Dask scheduler, its scheduler file, or a mapping with a kind"),
    ] = "local"
    """`local`, the address of a Dask scheduler, its scheduler file, or `package.module:function`."""
    bundle_size: Annotated[AtLeastOne | Literal["auto"], Wanted("a whole number, at least 1, or auto")] = "auto"
    """Mini-batches per Dask task; measured where not given."""
    preflight: YesNo = True
    """Import the script here before anything else is started."""

    @model_validator(mode="before")
    @classmethod
    def _from_here(cls, settings: object) -> object:
        """A JobConfig that is made by hand has relative paths too."""
        if not isinstance(settings, Mapping):
            return settings
        settings = absolute(settings, current_folder())
        return settings if settings.get("source_directory") else with_script(settings, current_folder())

    @field_validator(
        "output_action",
        "append_row_format",
        "append_row_quoting",
        "bundle_size",
        "join",
        "on_item_error",
        mode="before",
    )
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("logging_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("entry_script")
    @classmethod
    def _no_job_file(cls, value: str) -> str:
        if value.lower().endswith((".yml", ".yaml", ".json")):
            raise ValueError(f"{value} is no Python file. A job file is named without a flag: daskscore run {value}")
        return value

    @field_validator("append_row_file_name")
    @classmethod
    def _unix_file_name(cls, value: str) -> str:
        if not value or value in (".", "..") or re.search(r'[~"#%&*:<>?/\\{|}\0]', value):
            raise ValueError(
                f"{value!r} is no file name. Parameter append_row_file_name must be a valid UNIX file name: "
                'one without / and ~ " # % & * : < > ? \\ { | }'
            )
        if value in ("report.json", "failed_items.jsonl", "metrics.jsonl", "logs", ".daskscore"):
            raise ValueError(f"{value} is a name that the run itself needs. Choose another")
        if len(os.fsencode(value)) > LONGEST_FILE_NAME:
            raise ValueError(f"a name of {len(os.fsencode(value))} bytes is too long. Choose a shorter one")
        return value

    @field_validator("append_row_separator")
    @classmethod
    def _separates(cls, value: str) -> str:
        value = "\t" if value == r"\t" else value
        if len(value) != 1 or value in '\r\n"\0':
            raise not_usable()
        return value

    @field_validator("append_row_quote_char", "append_row_escape_char", "append_row_decimal")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value in "\r\n\0"):
            raise not_usable()
        return value

    @field_validator("append_row_line_terminator")
    @classmethod
    def _ends_a_line(cls, value: str) -> str:
        value = value.replace(r"\r", "\r").replace(r"\n", "\n")
        if value not in ("\n", "\r\n"):
            raise not_usable()
        return value

    @field_validator("append_row_na_rep")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if re.search("[\r\n\0]", value):
            raise not_usable()
        return value

    @field_validator("append_row_float_format")
    @classmethod
    def _formats_a_number(cls, value: str | None) -> str | None:
        try:
            usable = value is None or (value % 1.5 != value and "\0" not in value)
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise not_usable()
        return value

    @field_validator("append_row_date_format")
    @classmethod
    def _formats_a_time(cls, value: str | None) -> str | None:
        if value is not None and ("%" not in value or "\0" in value):
            raise not_usable()
        return value

    @field_validator("arguments")
    @classmethod
    def _not_reserved(cls, value: list[str]) -> list[str]:
        for word in value:
            name = word[2:].split("=")[0]
            if word.startswith("--") and name in RESERVED_ARGUMENTS:
                raise ValueError(
                    f"'{word}' is a reserved argument in ParallelRunStep, please use another argument name instead. "
                    f"The script gets --{name} from the job's own key {name}"
                )
        return value

    @model_validator(mode="after")
    def _rows_of_one_format(self) -> Self:
        """What is not said is as the format has it; what is said must mean something in it."""
        given, form = self.model_fields_set, self.append_row_format
        usual: dict[str, Any] = {"append_row_file_name": f"parallel_run_step.{form}"} if form in FILE_FORMATS else {}
        if form == "csv":
            usual |= {"append_row_separator": ",", "append_row_header": True}
        self.__dict__.update({key: value for key, value in usual.items() if key not in given})
        for key, formats in FORMATS_OF.items():
            if form not in formats and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key}: is for append_row_format {' and '.join(formats)}, and this job's is {form}. "
                    "Remove one of the two"
                )
        if form in DELIMITED:
            told: dict[str | None, str] = {self.append_row_separator: "append_row_separator"}
            for key in ("append_row_quote_char", "append_row_escape_char"):
                if (character := getattr(self, key)) in told:
                    raise ValueError(f"{key}: {character!r} is the {told[character]} too. Choose another for one")
                told[character] = key
        return self

    @model_validator(mode="after")
    def _something_to_score(self) -> Self:
        if not self.inputs and self.rank_mini_batch_count is None:
            raise ValueError(
                "inputs: is missing. Name files, folders or globs, like inputs: images/ (--input images/), "
                "or give rank_mini_batch_count"
            )
        if self.inputs and self.rank_mini_batch_count is not None:
            raise ValueError("rank_mini_batch_count: is for jobs without inputs. Remove one of the two")
        return self

    @model_validator(mode="after")
    def _columns_of_a_join(self) -> Self:
        if self.columns and self.join == "none":
            raise ValueError("columns: choose what a join writes. Say join: input or join: key too, or remove them")
        if self.join != "none" and self.output_action == "summary_only":
            raise ValueError("join: no rows are written with output_action: summary_only. Remove one of the two")
        if "in" in self.columns and self.join != "input":
            raise ValueError(
                "columns: in: chooses columns of the input, which join: key does not write. Say join: input"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> Self:
        if self.partition_keys and self.mini_batch_size is not None:
            raise ValueError(
                "Parameters mini_batch_size and partition_keys are mutually exclusive, because they specify different ways "
                "to partition the input datasets into mini-batches. Remove one of the two"
            )
        if self.partition_keys and self.rank_mini_batch_count is not None:
            raise ValueError(
                "partition_keys: are for inputs, and rank_mini_batch_count is for jobs without. Remove one"
            )
        return self

    @model_validator(mode="after")
    def _groups_stay_whole(self) -> Self:
        if self.partition_keys and self.on_item_error == "isolate":
            raise ValueError(
                "on_item_error: isolate would divide what partition_keys make belong together. Remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _side_inputs_that_are_there(self) -> Self:
        for word in self.arguments:
            for name in re.findall(r"\$\{\{\s*side_inputs\.([^}\s]+)\s*\}\}", word):
                if name not in self.side_inputs:
                    known = ", ".join(self.side_inputs) or "none"
                    raise ValueError(
                        f"arguments: there is no side input called {name} for {word!r}. Known are: {known}. "
                        "Name it under side_inputs"
                    )
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Addresses without what would let somebody in."""
        return [(name, _without_signatures(value)) for name, value in super().__repr_args__()]

    @property
    def isolates(self) -> bool:
        """Whether a mini-batch may be divided."""
        if self.on_item_error is None:
            return self.output_action == "append_row" and not self.partition_keys
        return self.on_item_error == "isolate"

    @property
    def fewest_nodes(self) -> int:
        return int(str(self.node_count).partition("-")[0])

    @property
    def most_nodes(self) -> int:
        return int(str(self.node_count).rpartition("-")[2])

    @property
    def backs_up(self) -> bool:
        """Whether two attempts may be made at the same time."""
        return self.output_action == "append_row" if self.backup_attempts is None else self.backup_attempts

    @property
    def init_seconds(self) -> float:
        return self.init_timeout or 3 * self.run_invocation_timeout + 30

    @property
    def progress_seconds(self) -> float:
        slowest = self.init_seconds + self.run_invocation_timeout + self.task_overhead_timeout
        return self.progress_update_timeout or slowest + 60

    @property
    def processes(self) -> int:
        if self.process_count_per_node:
            return self.process_count_per_node
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def script_files(self) -> list[Path]:
        """Where the entry script may stand: a file, or the one that a dotted module is made of."""
        module = self.source_directory.joinpath(*self.entry_script.split("."))
        return [
            self.source_directory / self.entry_script,
            module.with_name(module.name + ".py"),
            module / "__init__.py",
        ]


def _without_signatures(value: Any) -> Any:
    match value:
        case str():
            return shown_uri(value) if "://" in value else value
        case list():
            return [_without_signatures(entry) for entry in value]
        case _ if type(value) is dict:
            return {name: _without_signatures(entry) for name, entry in value.items()}
        case _:
            return value
