"""The environment and the model that a job file names, as they are written there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daskscore.jobfiles.interface import Environment, Model
from daskscore.jobfiles.reading import URI, Section, is_remote, located, shown


def environment(section: Section, key: str = "environment") -> Environment | None:
    """A name, or a mapping with an image, a conda file, a Dockerfile, or what v1 writes about its packages."""
    written = section.raw(key)
    home = section.home(key)
    if written is None:
        return None
    if isinstance(written, str):
        return Environment(reference=written)
    if not isinstance(written, Mapping):
        raise section.wrong(key, f"is {shown(written)}. Write its name, or a mapping with an image and a conda file")
    conda, build = written.get("conda_file"), written.get("build")
    python, docker = written.get("python"), written.get("docker")
    v1_packages = python.get("condaDependencies") if isinstance(python, Mapping) else None
    inline = conda if isinstance(conda, Mapping) else v1_packages
    context = build.get("path") if isinstance(build, Mapping) else None
    image = written.get("image") or (docker.get("baseImage") if isinstance(docker, Mapping) else None)
    return Environment(
        name=_text(written.get("name")),
        version=_text(written.get("version")),
        image=_text(image),
        conda_file=_local(conda, home.folder),
        conda=inline if isinstance(inline, Mapping) else None,
        build=_local(context, home.folder),
    )


def variables(environment: object) -> dict[str, Any]:
    """What an environment of v1 sets for its scripts: one of the reference's own objects, or its YAML."""
    if isinstance(environment, Mapping):
        found = environment.get("environmentVariables") or environment.get("environment_variables")
    else:
        found = getattr(environment, "environment_variables", None)
    return dict(found) if isinstance(found, Mapping) else {}


def model(section: Section, key: str = "model") -> Model | None:
    """`azureml:name:version`, a path, or `{name, path}`."""
    written = section.raw(key)
    if written is None:
        return None
    name = written.get("name") if isinstance(written, Mapping) else None
    path = written.get("path") if isinstance(written, Mapping) else written
    if not isinstance(path, str):
        raise section.wrong(key, f"is {shown(written)}. Write azureml:name:version, or a mapping with name and path")
    place = located(path, section.home(key).folder)
    if URI.match(place) or is_remote(place):
        return Model(reference=place, name=_text(name))
    return Model(name=_text(name), path=Path(place))


def models(model: Model | None, variables: Mapping[str, Any]) -> list[str] | None:
    """The key of JobConfig: AZUREML_MODEL_DIR becomes the folder that contains the model; one that the file names wins."""
    if model is None or "AZUREML_MODEL_DIR" in variables:
        return None
    return [str(model.path) if model.path is not None else str(model.reference)]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _local(value: Any, folder: Path) -> Path | None:
    return Path(located(value, folder)) if isinstance(value, str) and not URI.match(value) else None
