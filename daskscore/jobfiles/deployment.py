"""A batch deployment's YAML: the scoring job that each invocation of it is."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

from daskscore.errors import ConfigError
from daskscore.jobfiles import environments, meaningless, row_settings, run_settings
from daskscore.jobfiles.interface import Form, Ignored, Translated
from daskscore.jobfiles.reading import Section, is_remote, shown, whole

MAX_RETRIES = 3
TIMEOUT = 30
MINI_BATCH_SIZE = 10
CONCURRENCY = 1
FILE_NAME = "predictions.csv"
"""The defaults of this form, whatever those of JobConfig are."""

SETTINGS = (
    "max_concurrency_per_instance",
    "error_threshold",
    "logging_level",
    "mini_batch_size",
    "retry_settings",
    "output_action",
    "output_file_name",
    "environment_variables",
)
KNOWN = (
    "$schema",
    "type",
    "name",
    "description",
    "tags",
    "model",
    "code_configuration",
    "environment",
    "resources",
    "instance_count",
    "settings",
    *SETTINGS,
    *meaningless.keys(meaningless.DEPLOYMENT),
)
KNOWN_BELOW = {
    "code_configuration": ("code", "scoring_script"),
    "resources": ("instance_count", *meaningless.keys(meaningless.DEPLOYMENT, "resources")),
    "settings": SETTINGS,
}


def translate_deployment(document: Section, *, output: Path, inputs: tuple[str, ...]) -> Translated:
    """A deployment of a model; the data are the caller's, as they are an invocation's."""
    settings = _settings(document)
    ignored = _ignored(document, settings)
    source, script = _script(document)
    rows, rows_ignored = row_settings.beside(source)
    model = environments.model(document)
    variables = run_settings.environment_variables(settings) or {}
    found = {
        "entry_script": script,
        "source_directory": source,
        "inputs": list(inputs) or None,
        "output": output,
        **_own_settings(document, settings),
        "models": environments.models(model, variables),
        "environment_variables": variables or None,
        **rows,
    }
    return Translated(
        form=Form.DEPLOYMENT,
        name=document.text("name") or Path(document.source).stem,
        settings={key: value for key, value in found.items() if value is not None},
        ignored=(*ignored, *rows_ignored),
        environment=environments.environment(document),
        model=model,
        about=document.about(),
    )


def check_scoring_script(script: Path, deployment: str) -> None:
    """What the reference checks before it creates a deployment, in its words; reads the script, runs nothing."""
    try:
        source = script.read_bytes()
    except OSError:
        raise ConfigError(f"Failed to open scoring script {script}.") from None
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line, text = getattr(error, "lineno", 1), getattr(error, "text", None) or str(error)
        raise ConfigError(
            f"Failed to submit deployment {deployment} due to syntax errors in scoring script {script}.\n"
            f"Error on line {line}: {text.strip()}\n"
            "If you wish to bypass this validation use --skip-script-validation paramater."
        ) from None


def _settings(document: Section) -> Section:
    """Under `settings` where the deployment has a type, at the root where it has none; either place is read."""
    settings = document.section("settings")
    root = {key: document.values[key] for key in SETTINGS if document.values.get(key) is not None}
    return replace(settings, below=Section(root, document.source, document.folder, document.trail))


def _script(document: Section) -> tuple[Path, str]:
    configuration = document.section("code_configuration")
    script = configuration.text("scoring_script")
    if script is None:
        raise configuration.wrong(
            "scoring_script",
            "is missing, and a model without a script is not run from its file. Name a script with init() and run()",
        )
    code = configuration.path("code")
    if code is not None and is_remote(code):
        raise configuration.wrong("code", f"is {code}, and the script must be at hand. Name a local folder")
    return Path(code) if code is not None else configuration.folder, script


def _own_settings(document: Section, settings: Section) -> dict[str, Any]:
    retry = settings.section("retry_settings")
    tries = retry.whole("max_retries", least=0)
    return {
        "mini_batch_size": _mini_batch_size(settings),
        "error_threshold": run_settings.threshold(settings, "error_threshold"),
        "run_max_try": 1 + (MAX_RETRIES if tries is None else tries),
        "run_invocation_timeout": retry.seconds("timeout") or TIMEOUT,
        "process_count_per_node": settings.whole("max_concurrency_per_instance", least=1) or CONCURRENCY,
        "node_count": _instance_count(document),
        "logging_level": run_settings.logging_level(settings),
        **_output(settings),
    }


def _mini_batch_size(settings: Section) -> int:
    value = settings.raw("mini_batch_size")
    number = MINI_BATCH_SIZE if value is None else whole(value)
    if number is None or number < 1:
        raise settings.wrong(
            "mini_batch_size", f"is {shown(value)}, and a deployment counts files. Write a number, like 10"
        )
    return number


def _output(settings: Section) -> dict[str, Any]:
    written = settings.text("output_action") or "append_row"
    action = {"appendrow": "append_row", "summaryonly": "summary_only"}.get(written.lower().replace("_", ""))
    if action is None:
        raise settings.wrong("output_action", f"is {written}. Write append_row or summary_only")
    if action == "append_row":
        return {"output_action": action, "append_row_file_name": settings.text("output_file_name") or FILE_NAME}
    if settings.has("output_file_name"):
        raise settings.wrong(
            "output_file_name",
            "When output_action is set to summary_only, the output_file_name need not to be specified.",
        )
    return {"output_action": action}


def _instance_count(document: Section) -> int | None:
    if document.has("instance_count") and document.has("resources"):
        raise document.wrong("instance_count", "Can't set instance_count when resources is provided.")
    if document.has("instance_count"):
        return document.whole("instance_count", least=1)
    return document.section("resources").whole("instance_count", least=1)


def _ignored(document: Section, settings: Section) -> list[Ignored]:
    unknown = document.unknown(KNOWN)
    for key, known in KNOWN_BELOW.items():
        unknown += document.section(key).unknown(known)
    unknown += settings.section("retry_settings").unknown(("max_retries", "timeout"))
    return [*unknown, *meaningless.found_in(document, meaningless.DEPLOYMENT)]
