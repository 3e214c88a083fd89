"""Which form a job file has, and the jobs it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from daskscore.config import absolute
from daskscore.errors import ConfigError
from daskscore.jobfiles import meaningless, prs, row_settings
from daskscore.jobfiles.deployment import translate_deployment
from daskscore.jobfiles.interface import Form, Translated
from daskscore.jobfiles.parallel import ParallelJob, Place
from daskscore.jobfiles.pipeline import translate_pipeline
from daskscore.jobfiles.reading import ABOUT, Section, did_you_mean, is_remote, load, located, nearest, shown
from daskscore.jobfiles.values import Bindings, no_parent, no_parent_output

DEPLOYMENT_KEYS = ("endpoint_name", "code_configuration", "job_definition")
TYPES = ("parallel", "pipeline", "model")
INVOCATION_KEYS = ("experiment_name", "outputs")
"""Beside `inputs`: the file that an invocation of an endpoint is given."""
OTHER_TYPES = ("command", "sweep", "spark", "automl", "import", "data_transfer", "finetuning")


def translate(
    path: str | Path,
    *,
    output: str | Path | None = None,
    bindings: Mapping[str, Any] | None = None,
    inputs: Sequence[str | Path] = (),
) -> list[Translated]:
    """The jobs of a file of any known form, in the order in which they need each other.

    Paths in the file are relative to its folder; `output`, `inputs` and paths among the `bindings` to the current one.
    `inputs` stand for the data that the file's one job cuts into mini-batches. `bindings` give values to names of the
    file (`inputs.data`, `jobs.prepare.outputs.images`) or replace keys of it (`jobs.score.resources.instance_count`).
    """
    path, here = Path(path), Path.cwd()
    if path.name == row_settings.FILE_NAME:
        return [_row_settings(path)]
    document = load(path)
    given = Bindings(bindings, here)
    data = tuple(located(str(entry), here) for entry in inputs)
    document = replace(document, values=_changed(document, given.changes))
    if is_ours(document):
        given.check([])
        return [_ours(document, output, data)]
    return _foreign(document, _output(output, here), given, data)


def _foreign(document: Section, output: Path, bindings: Bindings, inputs: tuple[str, ...]) -> list[Translated]:
    kind = str(document.raw("type") or "").lower()
    if document.has(prs.ROOT):
        bindings.check([])
        return [prs.translate_config(document, output=output, inputs=inputs)]
    if _is_deployment(document, kind):
        if kind == "pipeline":
            return _pipeline_deployment(document, output, bindings, inputs)
        if kind not in ("", "model"):
            raise document.wrong("type", f"is {shown(kind)}. Deployment type must be of type pipeline or model.")
        bindings.check([])
        return [translate_deployment(document, output=output, inputs=inputs)]
    if kind == "parallel":
        bindings.check(f"inputs.{name}" for name in document.section("inputs").names())
        return [_alone(document, output, bindings, inputs).translate()]
    if kind == "pipeline":
        return translate_pipeline(document, output=output, bindings=bindings, inputs=inputs)
    _refuse(document, kind)


def is_ours(document: Section) -> bool:
    """A file of daskscore has keys of JobConfig, and nothing that tells another form."""
    if _is_invocation(document):
        return False
    theirs = ("type", "$schema", "jobs", "pipeline", "command", "auth_mode", prs.ROOT, *DEPLOYMENT_KEYS)
    return not any(document.has(key) for key in theirs)


def _is_invocation(document: Section) -> bool:
    """Data for an endpoint, and nothing that says what is done with them."""
    given = any(document.has(key) for key in INVOCATION_KEYS)
    return given and not any(document.has(key) for key in ("type", "task", "jobs", "entry_script"))


def _is_endpoint(document: Section) -> bool:
    return document.has("auth_mode") or "batchendpoint" in str(document.raw("$schema") or "").lower()


def _is_deployment(document: Section, kind: str) -> bool:
    named = "batchdeployment" in str(document.raw("$schema") or "").lower()
    return named or kind == "model" or any(document.has(key) for key in DEPLOYMENT_KEYS)


def _refuse(document: Section, kind: str) -> NoReturn:
    if document.has("pipeline"):
        raise document.wrong("pipeline", "is a pipeline of v1. Run the file that its step names as parallel_run_config")
    if _is_endpoint(document):
        raise ConfigError(
            f"{document.source}: is a batch endpoint, which has no script. Run the file of its deployment: daskscore run "
            "deployment.yml --input DATA --output out/"
        )
    if not kind and (document.has("command") or "commandjob" in str(document.raw("$schema") or "").lower()):
        kind = "command"
    if not kind and _is_invocation(document):
        raise ConfigError(
            f"{document.source}: names data for an endpoint, and no script. Run the file of the deployment with them: "
            "daskscore run deployment.yml --input DATA --output out/"
        )
    if document.has("jobs") and not kind:
        raise document.wrong("type", "is missing. A file with jobs is of type: pipeline")
    if kind in OTHER_TYPES:
        raise document.wrong(
            "type", f"is {kind}, and only parallel jobs, and pipelines and deployments of them, run here"
        )
    if not kind:
        raise document.wrong("type", "is missing. Write type: parallel, pipeline or model")
    near = nearest(kind, TYPES)
    raise document.wrong(
        "type", f"is {shown(kind)}. " + (f"Did you mean {near}?" if near else "Write parallel or pipeline")
    )


def _ours(document: Section, output: str | Path | None, inputs: tuple[str, ...]) -> Translated:
    """daskscore's own keys; what the file beside the script says comes below them."""
    settings = absolute(document.values, document.folder)
    if output is not None:
        settings["output"] = Path.cwd() / output
    if inputs:
        settings["inputs"] = list(inputs)
    source, script = settings.get("source_directory"), settings.get("entry_script")
    if source is None and isinstance(script, str):
        source = Path(located(script, document.folder)).parent
    rows, ignored = row_settings.beside(Path(str(source))) if source is not None else ({}, [])
    return Translated(
        Form.DASKSCORE, Path(document.source).stem, {**rows, **_without_path(settings, document)}, tuple(ignored)
    )


def _without_path(settings: dict[str, Any], document: Section) -> dict[str, Any]:
    """With the script's own folder named: once the settings leave their file, nobody knows what it was relative to."""
    script = settings.get("entry_script")
    if not isinstance(script, str) or not script.strip() or settings.get("source_directory") is not None:
        return settings
    here = Path(located(script, document.folder))
    if here.suffix == ".py" or here.is_file():
        return {**settings, "source_directory": here.parent, "entry_script": here.name}
    return {**settings, "source_directory": document.folder}


def _alone(document: Section, output: Path, bindings: Bindings, inputs: tuple[str, ...]) -> ParallelJob:
    schema = str(document.raw("$schema") or "").lower()
    is_component = "component" in schema or document.has("version") or document.raw("is_deterministic") is not None
    form = Form.COMPONENT if is_component else Form.PARALLEL_JOB
    name = document.text("name") or Path(document.source).stem
    return ParallelJob(document, name, form, Place(output, bindings, no_parent, no_parent_output, inputs))


def _pipeline_deployment(
    document: Section, output: Path, bindings: Bindings, inputs: tuple[str, ...]
) -> list[Translated]:
    """The deployment of a pipeline: the pipeline is a file beside it."""
    written = document.raw("component")
    path = located(written, document.folder) if isinstance(written, str) else ""
    if document.has("job_definition") or not path or is_remote(path):
        key = "job_definition" if document.has("job_definition") else "component"
        raise document.wrong(
            key,
            f"is {shown(document.raw(key))}, which is registered elsewhere. Name a YAML file: component: ./pipeline.yml",
        )
    inner = load(Path(path), shown_as=str(written))
    first, *others = translate_pipeline(inner, output=output, bindings=bindings, inputs=inputs)
    known = ("$schema", "type", "component", "settings", *ABOUT, *meaningless.keys(meaningless.PIPELINE_DEPLOYMENT))
    ignored = [*document.unknown(known), *meaningless.found_in(document, meaningless.PIPELINE_DEPLOYMENT)]
    about = {**first.about, **document.about()}
    return [replace(first, about=about, ignored=(*ignored, *first.ignored)), *others]


def _row_settings(path: Path) -> Translated:
    settings, ignored = row_settings.read(path)
    folder = path.absolute().parent
    return Translated(Form.ROW_SETTINGS, path.stem, {"source_directory": folder, **settings}, tuple(ignored))


def _output(output: str | Path | None, here: Path) -> Path:
    if output is None or not str(output):
        raise ConfigError("output: is missing. Name a folder for the results, like output: out/ (--output out/)")
    return Path(located(str(output), here))


def _changed(document: Section, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The file with single keys replaced, as `az ml job create --set` does it."""
    values: Mapping[str, Any] = document.values
    for name, value in changes.items():
        values = _replaced(document, values, name.split("."), value, name)
    return values


def _replaced(document: Section, values: Any, trail: list[str], value: Any, name: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{document.source}: there is no {name} to replace: {shown(values)} has no keys")
    key, *rest = trail
    if not rest:
        return {**values, key: value}
    if key == "jobs" and rest[0] not in (values.get("jobs") or {}):
        raise ConfigError(
            f"{document.source}: there is no {name} to replace. {did_you_mean(rest[0], values.get('jobs') or {})}"
        )
    return {**values, key: _replaced(document, values.get(key) or {}, rest, value, name)}
