"""A parallel job of Azure ML v2: inline in a pipeline, from a component, or a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daskscore.jobfiles import environments, meaningless, row_settings, run_settings, switches
from daskscore.jobfiles.expressions import GROUP, NoMeaning, filled, names, sole, words
from daskscore.jobfiles.interface import Form, Ignored, Translated
from daskscore.jobfiles.outputs import NAME, Outputs
from daskscore.jobfiles.reading import ABOUT, Section, did_you_mean, is_remote, shown
from daskscore.jobfiles.sizes import mini_batch_size
from daskscore.jobfiles.values import Absent, Bindings, Data, Literal, Resolve, Value, value_of

MAX_RETRIES = 2
TIMEOUT = 60
MINI_BATCH_SIZE = 1
"""The defaults of this form, whatever those of JobConfig are."""

TABLES_SIZE = "1MB"
"""One byte, as the default would mean it for a table, is no mini-batch."""

TASK_TYPES = ("run_function", "function")
KNOWN = (
    *ABOUT,
    "$schema",
    "type",
    "component",
    "inputs",
    "outputs",
    "task",
    "input_data",
    "append_row_to",
    "environment",
    "mini_batch_size",
    "partition_keys",
    "error_threshold",
    "mini_batch_error_threshold",
    "logging_level",
    "max_concurrency_per_instance",
    "retry_settings",
    "resources",
    "environment_variables",
    *meaningless.keys(meaningless.JOB),
)
KNOWN_BELOW = {
    "task": (
        "type",
        "code",
        "entry_script",
        "program_arguments",
        "append_row_to",
        "environment",
        "model",
        *meaningless.keys(meaningless.JOB, "task"),
    ),
    "retry_settings": ("max_retries", "timeout"),
    "resources": ("instance_count", *meaningless.keys(meaningless.JOB, "resources")),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands: what it can refer to above itself, what the caller gives it, and where its outputs go."""

    output: Path
    bindings: Bindings
    parent: Resolve
    parent_output: Callable[[str], Mapping[str, Any]]
    inputs: tuple[str, ...] = ()
    """Data that the caller names instead of the file's."""


@dataclass(frozen=True, slots=True)
class ParallelJob:
    """One parallel job, to be translated once all that it refers to is known."""

    node: Section
    """Above its component, where it has one."""
    name: str
    form: Form
    place: Place
    needs: tuple[str, ...] = ()

    def translate(self) -> Translated:
        """Keys of JobConfig; raises ConfigError with the file and the key."""
        node = _bound(self.node, self._plain)
        task = node.section("task")
        self._refuse_missing(task)
        ignored = _ignored(node)
        source = _source_directory(task)
        side_inputs: dict[str, str] = {}
        key = task.name_of("program_arguments")
        model = environments.model(task)
        said = switches.sort_out(
            self._arguments(task, side_inputs), f"{task.home('program_arguments').source}: {key}", key
        )
        own = self._own_settings(node)
        rows, rows_ignored = row_settings.beside(source)
        settings: dict[str, Any] = {
            "entry_script": _entry_script(task),
            "source_directory": source,
            "inputs": self._data_to_cut(said.settings),
            "output": self.place.output,
            "arguments": said.script,
            "side_inputs": side_inputs,
            "models": environments.models(model, run_settings.environment_variables(node) or {}) or [],
            "output_action": "append_row" if self.outputs.rows is not None else "summary_only",
            **own,
            **rows,
            **said.settings,
        }
        if self.outputs.rows is not None:
            settings.setdefault("append_row_file_name", self.outputs.rows_file)
        if "partition_keys" in settings:
            settings.pop("mini_batch_size", None)
        return Translated(
            form=self.form,
            name=self.name,
            settings={key: value for key, value in settings.items() if value not in ([], {})},
            ignored=(*ignored, *said.ignored, *rows_ignored),
            environment=environments.environment(node) or environments.environment(task),
            model=model,
            notes=(*self._notes(own, said.settings), *switches.near_switches(task.raw("program_arguments"))),
            needs=self.needs,
            folders=tuple(self.outputs.folders()),
            about=node.about(),
        )

    @property
    def outputs(self) -> Outputs:
        section = self.node.section("outputs")
        return Outputs(self.name, self.place.output, section, self._rows_name(section), self.place.parent_output)

    def output(self, name: str) -> Data:
        """What a later job reads; of the output that takes the rows, the file of the rows."""
        output = self.outputs.find(name)
        if name == self.outputs.rows:
            return Data(str(self.place.output / self.outputs.rows_file), "uri_file")
        return Data(str(output.path), output.type)

    def _refuse_missing(self, task: Section) -> None:
        """Name all inputs at once that the script needs and nobody gives."""
        arguments = task.raw("program_arguments")
        needed = names(GROUP.sub("", arguments)) if isinstance(arguments, str) else []
        cut = sole(str(self.node.raw("input_data"))) if not self.place.inputs else None
        known = self.node.section("inputs").names()
        asked = dict.fromkeys([cut or "", *needed])
        values = [self._input(name.removeprefix("inputs.")) for name in asked if name.removeprefix("inputs.") in known]
        missing = list(dict.fromkeys(value.name for value in values if isinstance(value, Absent)))
        if missing:
            give = " ".join(f"--set {name}=VALUE" for name in missing)
            raise self.node.wrong("inputs", f"have no value: {', '.join(missing)}. Give each one: {give}")

    # What the job's own words mean.

    def _own_settings(self, node: Section) -> dict[str, Any]:
        retry, resources = node.section("retry_settings"), node.section("resources")
        tries = retry.whole("max_retries", least=0)
        keys = run_settings.partition_keys(node)
        found = {
            "mini_batch_size": None if keys is not None else self._mini_batch_size(node),
            "partition_keys": keys,
            "error_threshold": run_settings.threshold(node, "error_threshold"),
            "mini_batch_error_threshold": run_settings.threshold(node, "mini_batch_error_threshold"),
            "run_max_try": 1 + (MAX_RETRIES if tries is None else tries),
            "run_invocation_timeout": retry.seconds("timeout") or TIMEOUT,
            "process_count_per_node": run_settings.count(node, "max_concurrency_per_instance"),
            "node_count": run_settings.count(resources, "instance_count"),
            "logging_level": run_settings.logging_level(node),
            "environment_variables": run_settings.environment_variables(node),
        }
        return {key: value for key, value in found.items() if value is not None}

    def _mini_batch_size(self, node: Section) -> int | str:
        if not node.has("mini_batch_size"):
            cut = None if self.place.inputs else self._cut()
            table = isinstance(cut, Data) and cut.type == "mltable" and cut.mode == "direct"
            return TABLES_SIZE if table else MINI_BATCH_SIZE
        try:
            return mini_batch_size(node.get("mini_batch_size"))
        except ValueError as error:
            raise node.wrong("mini_batch_size", f"is {shown(node.get('mini_batch_size'))}. {error}") from None

    def _data_to_cut(self, said: Mapping[str, Any]) -> list[str | dict[str, str]]:
        if self.place.inputs:
            return list(self.place.inputs)
        if not self.node.has("input_data") and "rank_mini_batch_count" in said:
            return []
        match self._cut():
            case Absent() as absent:
                raise self.node.wrong("input_data", str(absent))
            case Literal(value=literal):
                raise self.node.wrong("input_data", f"is {shown(literal)}, which is no data. Give that input a path")
            case Data(path=path, type="mltable", mode=mode):
                return [{"path": path, "type": "mltable", **({"mode": mode} if mode else {})}]
            case Data(path=path):
                return [path]
            case None:
                raise self.node.wrong("input_data", "is missing. Name the input to cut, like ${{inputs.data}}")

    def _cut(self) -> Value | None:
        """The input that is cut into mini-batches."""
        written = self.node.raw("input_data")
        if written is None:
            return None
        reference = sole(str(written)) or ""
        if not reference.startswith("inputs."):
            raise self.node.wrong(
                "input_data", f"is {shown(written)}. Name one of the inputs, like ${{{{inputs.data}}}}"
            )
        try:
            return self._resolve(reference)
        except NoMeaning as error:
            raise self.node.wrong("input_data", str(error)) from None

    # The script's arguments.

    def _arguments(self, task: Section, side_inputs: dict[str, str]) -> list[str]:
        """The words of program_arguments; the data among them is brought to the script as side inputs."""

        def word(reference: str) -> str:
            kind, _, name = reference.partition(".")
            if kind not in ("inputs", "outputs"):
                raise NoMeaning(f"${{{{{reference}}}}} is neither an input nor an output. Write ${{{{inputs.name}}}}")
            match self._resolve(reference):
                case Absent() as absent:
                    raise NoMeaning(str(absent))
                case Literal() as literal:
                    return str(literal)
                case Data(path=path, mode=mode) if kind == "outputs" or (mode == "direct" and is_remote(path)):
                    return path
                case Data(path=path):
                    side_inputs[name] = path
                    return f"${{{{side_inputs.{name}}}}}"

        written = task.raw("program_arguments")
        try:
            if isinstance(written, list):
                return [filled(str(text), word) for text in written]
            return words(written, is_there=self._is_there, value=word) if (written := _text(written)) else []
        except NoMeaning as error:
            raise task.wrong("program_arguments", str(error)) from None

    def _is_there(self, reference: str) -> bool:
        return not isinstance(self._resolve(reference), Absent)

    # Names.

    def _resolve(self, reference: str) -> Value:
        kind, _, name = reference.partition(".")
        if kind == "inputs":
            return self._input(name)
        if kind == "outputs":
            return Data(str(self.outputs.find(name).path))
        if reference == "name":
            return Literal(self.name)
        return self.place.parent(reference)

    def _input(self, name: str) -> Value:
        section = self.node.section("inputs")
        if name not in section.names():
            raise NoMeaning(f"there is no input {name}. {did_you_mean(name, section.names())}")
        if not NAME.fullmatch(name):
            raise section.wrong(name, "is no name for an input. Use letters, digits and _")
        if len(self.place.inputs) == 1 and sole(str(self.node.raw("input_data"))) == f"inputs.{name}":
            return Data(self.place.inputs[0])
        return value_of(section, name, self.place.parent, self.place.bindings)

    def _plain(self, text: str) -> Any:
        """A setting that may be bound to an input."""

        def value(reference: str) -> Any:
            match self._resolve(reference):
                case Absent() as absent:
                    raise NoMeaning(str(absent))
                case Data(path=path):
                    return path
                case Literal(value=literal):
                    return literal

        if (reference := sole(text)) is not None:
            return value(reference)
        return filled(text, lambda name: str(value(name))) if "${{" in text else text

    def _rows_name(self, outputs: Section) -> str | None:
        """The output that takes the rows, if any: by the contract it stands in the task, in some files above it."""
        task = self.node.section("task")
        holder = task if task.has("append_row_to") else self.node
        written = holder.raw("append_row_to")
        if written is None:
            return None
        reference = sole(str(written)) or ""
        name = reference.removeprefix("outputs.")
        known = outputs.names()
        if not reference.startswith("outputs.") or name not in known:
            raise holder.wrong("append_row_to", f"is {shown(written)}, which is no output. {did_you_mean(name, known)}")
        return name

    def _notes(self, own: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
        notes = [
            f"outputs.{output.name} is {output.path}, and not {output.written}"
            for output in self.outputs.all()
            if output.written is not None
        ]
        if self.node.has("mini_batch_size") and "partition_keys" in own:
            notes.append("partition_keys decide how the data is cut; mini_batch_size does not count beside them")
        theirs = {"process_count_per_node": "max_concurrency_per_instance"}
        for key in said:
            if self.node.has(theirs.get(key, key)) and own.get(key) != said[key]:
                notes.append(f"{key} is {said[key]}, as program_arguments have it, and not {own.get(key)}")
        return notes


def _bound(node: Section, resolve: Callable[[str], Any]) -> Section:
    below = _bound(node.below, resolve) if node.below is not None else None
    return replace(node, resolve=resolve, below=below)


def _text(written: object) -> str | None:
    if written is not None and not isinstance(written, str):
        raise NoMeaning(f"is {shown(written)}. Write one text, like --model ${{{{inputs.model}}}}")
    return written


def _source_directory(task: Section) -> Path:
    kind = task.text("type")
    if kind is not None and kind not in TASK_TYPES:
        raise task.wrong("type", f"is {kind}, and only run_function runs here: a script with init() and run()")
    code = task.path("code")
    if code is None:
        return task.home("entry_script").folder
    if is_remote(code):
        raise task.wrong("code", f"is {code}, and the script must be at hand. Name a local folder")
    return Path(code)


def _entry_script(task: Section) -> str:
    script = task.text("entry_script")
    if script is None:
        raise task.wrong("entry_script", "is missing. Name the script with run(), like entry_script: score.py")
    return script


def _ignored(node: Section) -> list[Ignored]:
    found = node.unknown(KNOWN)
    for key, known in KNOWN_BELOW.items():
        found += node.section(key).unknown(known)
    found += meaningless.found_in(node, meaningless.JOB)
    for section, name in ((node.section("resources"), "instance_count"), (node, "max_concurrency_per_instance")):
        if section.whole(name, least=-1) == -1:
            found.append(Ignored(section.name_of(name), "is -1: the cluster's own size is taken"))
    return found
