"""A job from a file, a mapping or keywords, or one error with a line for each key that is wrong."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from daskscore.config.job import JobConfig
from daskscore.config.paths import absolute, current_folder, with_script
from daskscore.config.values import Wanted, shown
from daskscore.errors import ConfigError
from daskscore.job_file import read_job_file

ENTRY_KEY = "a key of an entry of inputs: --input '{path: a.csv, type: tabular}', inputs={'path': …} in Python"
OTHER_NAMES = {
    "allow_overwrite": "--overwrite on the command line, overwrite=True in Python",
    "append_row_to": "output, and append_row_file_name for a name other than parallel_run_step.txt",
    "code": "source_directory",
    "delimiter": ENTRY_KEY,
    "dtypes": ENTRY_KEY,
    "format": ENTRY_KEY,
    "on_bad_record": ENTRY_KEY,
    "partition_format": ENTRY_KEY,
    "storage_options": ENTRY_KEY,
    "type": ENTRY_KEY,
    "compute": "cluster",
    "compute_target": "cluster",
    "data": "inputs",
    "entry_point": "entry_script",
    "input_data": "inputs",
    "instance_count": "node_count",
    "max_concurrency_per_instance": "process_count_per_node",
    "max_retries": "run_max_try, which counts the first try too: max_retries + 1",
    "output_dir": "output",
    "overwrite": "--overwrite on the command line, overwrite=True in Python",
    "processes": "process_count_per_node",
    "program_arguments": "arguments",
    "quiet": "--quiet on the command line, quiet=True in Python",
    "resume": "--resume on the command line, resume=True in Python",
    "script": "entry_script",
    "timeout": "run_invocation_timeout",
    "workers": "process_count_per_node",
}
"""Words that other tools have for ours, and what is meant here."""

NOTHING_GIVEN = """there is nothing to run. Name a job file, or a script, its data and a folder for the results:
  daskscore run job.yml
  daskscore run --entry-script score.py --input images/ --output out/
daskscore run --help lists all that can be set"""


def load(job: str | os.PathLike[str] | Mapping[str, Any] | JobConfig | None, overrides: Mapping[str, Any]) -> JobConfig:
    """A job file or mapping, with single keys replaced; paths in a file are relative to its folder, others to here."""
    if job is None and not overrides:
        raise ConfigError(NOTHING_GIVEN)
    base = here = current_folder()
    if isinstance(job, JobConfig):
        if not overrides:
            return job
        job = job.model_dump(exclude_unset=True)
    if isinstance(job, (str, os.PathLike)):
        path = Path(job)
        base = (here / path).parent
        job = read_job_file(path)
    elif job is not None and not isinstance(job, Mapping):
        raise ConfigError(f"the job is {shown(job)}. Give the path of a job file, a mapping or a JobConfig")
    settings = {**absolute(job or {}, base), **absolute(overrides, here)}
    return validate(with_script(settings, here if "entry_script" in overrides else base))


def validate(settings: Mapping[str, Any]) -> JobConfig:
    """The job, or a ConfigError with a line for each key that is wrong."""
    try:
        return JobConfig.model_validate(settings)
    except ValidationError as error:
        # Without a script there is no folder of it: one thing to say, not two.
        sentences = [
            _sentence(p) for p in error.errors() if (p["loc"], p["type"]) != (("source_directory",), "missing")
        ]
        raise ConfigError("\n".join(dict.fromkeys(sentences))) from None


def _sentence(problem: Any) -> str:
    key = str(problem["loc"][0]) if problem["loc"] else ""
    value = problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"{key}: there is no such key. {_meant(key, value)}"
    if problem["type"] == "missing":
        return f"{key}: is missing. {_HINTS[key]}"
    if problem["type"] == "value_error":
        text = problem["msg"].removeprefix("Value error, ")
        return f"{key}: {text}" if key else str(text)
    name = f"{key}.{problem['loc'][1]}" if key == "side_inputs" and len(problem["loc"]) > 1 else key
    choice = problem["type"] == "literal_error" and len(problem["loc"]) == 1
    wanted = problem["ctx"]["expected"] if choice else _wanted(key)
    if value is None:
        return f"{name}: is empty. Write {wanted}, or remove the key"
    return f"{name}: {shown(value)} is not usable. Write {wanted}"


def _meant(key: str, value: object) -> str:
    """What an unknown key may have been meant to be."""
    word = key.strip().lower().replace("-", "_")
    if word in OTHER_NAMES:
        return f"Here it is {OTHER_NAMES[word]}"
    if nearest := difflib.get_close_matches(word, JobConfig.model_fields, n=1):
        return f"Did you mean {nearest[0]}?"
    if isinstance(value, Mapping) and any(name in JobConfig.model_fields for name in value):
        return f"Move what stands below it to the left, and remove {key}"
    return "The README lists all keys"


def _wanted(key: str) -> str:
    field = JobConfig.model_fields[key]
    found = [part for part in _parts(field.annotation, *field.metadata) if isinstance(part, Wanted)]
    return found[-1].text


def _parts(*kinds: Any) -> list[Any]:
    """A type, and all that it is made of."""
    return [part for kind in kinds for part in (*_parts(*get_args(kind)), kind)]


_HINTS = {
    "entry_script": "Name the scoring script, like entry_script: score.py (--entry-script score.py)",
    "output": "Name a folder for the results, like output: out/ (--output out/)",
}
