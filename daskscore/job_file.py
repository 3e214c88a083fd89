"""A job file, and YAML on the command line: read with errors that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from daskscore.errors import ConfigError

AS_WRITTEN = ("arguments", "environmentVariables", "environment_variables")
"""Below these keys a number or a truth value stays the text that it was: the 1.10 of a version is not 1.1."""

READ_AS_TEXT = "tag:yaml.org,2002:str"
NO_TEXT = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp"))


def read_job_file(path: Path) -> dict[str, Any]:
    """The keys of a YAML job file."""
    if path.is_dir():
        raise ConfigError(f"job file {path} is a folder. Name the file in it; data is named with --input")
    if path.suffix == ".py":
        raise ConfigError(f"job file {path} is a Python file. Name a script with --entry-script {path}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"job file {path} cannot be read: {reason}. Check the path") from None
    content = parse(text, f"job file {path}")
    if not isinstance(content, dict):
        raise ConfigError(
            f"job file {path} is {_kind(content)}, not a mapping. It must hold lines like 'entry_script: score.py'"
        )
    return content


def parse(text: str, what: str) -> Any:
    """The content of one YAML document; `what` it is stands at the start of each error."""
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_mappings(root, set())
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{what} is no YAML{_place(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is no YAML: {str(error).splitlines()[0]}. Is it a text file?") from None
    except RecursionError:
        raise ConfigError(f"{what} is no YAML that a job can have: it is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{what} has a value that cannot be read: {error}. Put it in quotes") from None
    finally:
        if loader is not None:
            loader.dispose()


def parse_assignment(text: str) -> tuple[str, Any]:
    """Key and value of `--set key=value`: lists and mappings are YAML, all else is the text itself."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if "." not in key:  # with dots it is a name inside the file, which stays as it is
        key = key.replace("-", "_")
    if not equals or not key:
        raise ConfigError(
            f"--set {text}: there is no {'key' if equals else '='} in it. Write it like --set run_max_try=5"
        )
    if value.strip() in ("null", "~"):
        return key, None
    if not value.lstrip().startswith(("[", "{", '"', "'")):
        return key, value
    if key in AS_WRITTEN:
        return key, parse(f"{key}: {value}", f"--set {key}")[key]
    return key, parse(value, f"--set {key}")


def _pairs(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _check_mappings(node: yaml.Node, seen: set[int]) -> None:
    """Refuse a repeated key, which YAML forbids and PyYAML quietly overwrites; and keep what is to stay as written."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    keys: dict[str, yaml.Node] = {}
    for key, value in _pairs(node):
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in keys:
                line = keys[key.value].start_mark.line + 1
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} stands here again, after line {line}. Keep one of the two",
                    problem_mark=key.start_mark,
                )
            keys[key.value] = key
            key.tag = READ_AS_TEXT  # a variable may be called ON
        if key.value in AS_WRITTEN:
            _keep_as_written(value)
        _check_mappings(value, seen)
    for part in node.value if isinstance(node, yaml.SequenceNode) else ():
        _check_mappings(part, seen)


def _keep_as_written(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode):
        node.tag = READ_AS_TEXT if node.tag in NO_TEXT else node.tag
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _keep_as_written(part)
    else:
        for _, value in _pairs(node):
            _keep_as_written(value)


def _place(error: yaml.MarkedYAMLError) -> str:
    """Where and why, and the line itself."""
    mark = error.problem_mark or error.context_mark
    where = f" in line {mark.line + 1}" if mark is not None else ""
    what = error.problem
    if error.context and error.context_mark is not None and mark is not None and error.context_mark.line != mark.line:
        since = f"{error.context} that begins in line {error.context_mark.line + 1}"
        what = f"{since}, {what}" if str(what).startswith("but") else f"{what}, {since}"
    advice = ". Indent with spaces" if "\\t" in (error.problem or "") else ""
    snippet = mark.get_snippet() if mark is not None else None
    return f"{where}: {what}{advice}" + (f"\n{snippet}" if snippet else "")


def _kind(content: object) -> str:
    return {type(None): "empty", list: "a list", str: "a text"}.get(type(content), f"a {type(content).__name__}")
