"""A pipeline of Azure ML v2: its parallel steps, in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daskscore.errors import ConfigError
from daskscore.jobfiles import meaningless
from daskscore.jobfiles.expressions import NoMeaning, names
from daskscore.jobfiles.interface import Form, Ignored, Translated
from daskscore.jobfiles.outputs import NAME
from daskscore.jobfiles.parallel import ParallelJob, Place
from daskscore.jobfiles.reading import ABOUT, Section, did_you_mean, is_remote, load, located, shown
from daskscore.jobfiles.values import Bindings, Data, Value, value_of

KNOWN = (
    *ABOUT,
    "$schema",
    "type",
    "component",
    "inputs",
    "outputs",
    "jobs",
    "settings",
    *meaningless.keys(meaningless.PIPELINE),
)
SETTINGS = meaningless.keys(meaningless.PIPELINE, "settings")


def translate_pipeline(
    document: Section, *, output: Path, bindings: Bindings, inputs: tuple[str, ...] = ()
) -> list[Translated]:
    """The parallel steps of a pipeline's file; one alone has the output folder for itself, several a folder each."""
    document = _with_component(document)
    pipeline = Pipeline(document, _steps(document), output, bindings, inputs)
    bindings.check(pipeline.ports())
    translated = [job.translate() for job in pipeline.in_order()]
    ignored = [*_ignored(document), *pipeline.other_steps()]
    about = {**document.about(), **translated[0].about}
    first = replace(translated[0], ignored=(*ignored, *translated[0].ignored), about=about)
    return [first, *translated[1:]]


@dataclass(frozen=True, slots=True)
class Step:
    kind: str
    node: Section
    """Above its component, where it is a parallel one."""

    @property
    def is_parallel(self) -> bool:
        return self.kind == "parallel"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The names of one pipeline, and what they stand for."""

    document: Section
    steps: Mapping[str, Step]
    output: Path
    bindings: Bindings
    inputs: tuple[str, ...]

    def in_order(self) -> list[ParallelJob]:
        """The parallel steps, each after those that it needs, else as they stand in the file."""
        waiting = {name: self.job(name) for name, step in self.steps.items() if step.is_parallel}
        if not waiting:
            kinds = ", ".join(f"{name} ({step.kind})" for name, step in self.steps.items()) or "none"
            raise self.document.wrong("jobs", f"has no parallel step, and only those run here. Its steps: {kinds}")
        if len(waiting) > 1 and self.inputs:
            raise ConfigError(
                f"{self.document.source}: has {len(waiting)} parallel steps, so that it is open which one gets "
                f"{self.inputs[0]}. Name the input, like --set jobs.{next(iter(waiting))}.inputs.data=PATH"
            )
        ordered: list[ParallelJob] = []
        while waiting:
            free = next((job for job in waiting.values() if waiting.keys().isdisjoint(job.needs)), None)
            if free is None:
                raise self.document.wrong(
                    "jobs", f"wait for each other: {_circle(waiting)}. Remove one of the bindings"
                )
            ordered.append(waiting.pop(free.name))
        return ordered

    def job(self, name: str) -> ParallelJob:
        node = self.steps[name].node
        parallel = [other for other, step in self.steps.items() if step.is_parallel]
        folder = self.output if len(parallel) == 1 else self.output / name
        place = Place(folder, self.bindings, self.resolve, self.output_of, self.inputs)
        needed = {step for step, _ in _references(node.values)}
        return ParallelJob(node, name, Form.PIPELINE_STEP, place, tuple(step for step in parallel if step in needed))

    def ports(self) -> list[str]:
        """The inputs and outputs that a caller can give."""
        own = [f"inputs.{name}" for name in self.document.section("inputs").names()]
        for name, step in self.steps.items():
            if step.is_parallel:
                own += [f"jobs.{name}.inputs.{port}" for port in step.node.section("inputs").names()]
        others = {
            f"jobs.{name}.outputs.{port}"
            for step in self.steps.values()
            for name, port in _references(step.node.values)
            if name in self.steps and not self.steps[name].is_parallel
        }
        return [*own, *sorted(others)]

    def other_steps(self) -> list[Ignored]:
        return [
            Ignored(f"jobs.{name}", f"is a {step.kind} step, and only parallel ones run here")
            for name, step in self.steps.items()
            if not step.is_parallel
        ]

    def resolve(self, reference: str) -> Value:
        """What a step calls `parent.inputs.x` or `parent.jobs.step.outputs.y`."""
        match reference.removeprefix("parent.").split("."):
            case ["inputs", name]:
                section = self.document.section("inputs")
                if name not in section.names():
                    raise NoMeaning(f"the pipeline has no input {name}. {did_you_mean(name, section.names())}")
                return value_of(section, name, _nothing_above, self.bindings)
            case ["jobs", step, "outputs", name]:
                return self._output_of_step(step, name)
            case _:
                raise NoMeaning(
                    f"${{{{{reference}}}}} stands for nothing. Write ${{{{parent.inputs.x}}}} or "
                    "${{parent.jobs.step.outputs.y}}"
                )

    def output_of(self, name: str) -> Mapping[str, Any]:
        """What the pipeline says about one of its outputs."""
        section = self.document.section("outputs")
        if name not in section.names():
            raise NoMeaning(f"the pipeline has no output {name}. {did_you_mean(name, section.names())}")
        written = section.raw(name)
        if isinstance(written, str):
            return {"path": written}
        return {str(key): value for key, value in section.section(name).values.items() if value is not None}

    def _output_of_step(self, name: str, output: str) -> Value:
        step = self.steps.get(name)
        if step is None:
            raise NoMeaning(f"the pipeline has no step {name}. {did_you_mean(name, self.steps)}")
        if step.is_parallel:
            return self.job(name).output(output)
        binding = f"jobs.{name}.outputs.{output}"
        if (given := self.bindings.find(binding)) is not None:
            declared = step.node.section("outputs").raw(output)
            kind = declared.get("type") if isinstance(declared, Mapping) else None
            return Data(located(str(given.values[output]), given.folder), str(kind).lower() if kind else None)
        raise NoMeaning(
            f"step {name} is a {step.kind} step, and only parallel ones run here. Run it yourself, and give its output: "
            f"--set {binding}=PATH"
        )


def _steps(document: Section) -> dict[str, Step]:
    jobs = document.section("jobs")
    if not jobs.values and jobs.below is not None:
        # A pipeline that refers to a component: the steps, and what their paths are relative to, are the component's.
        jobs = jobs.below
    return {name: _step(jobs, name) for name in jobs.names()}


def _step(jobs: Section, name: str) -> Step:
    if not NAME.fullmatch(name):
        raise jobs.wrong(name, "is no name for a step. Use letters, digits and _")
    if jobs.values.get(name) is None:
        raise jobs.wrong(name, "is empty. Write type: parallel and its task below it")
    node = jobs.section(name)
    kind = (node.text("type") or "").lower()
    if kind not in ("", "parallel"):
        return Step(kind, node)
    component = _component(node)
    kind = kind or ((component.text("type") or "") if component is not None else "").lower() or "command"
    if kind != "parallel":
        return Step(kind, node)
    if node.has("component") and component is None:
        raise node.wrong(
            "component",
            f"is {shown(node.raw('component'))}, which is registered elsewhere. Save its YAML beside this file, and name "
            "that: component: ./component.yml",
        )
    if component is not None and (component.text("type") or "").lower() != "parallel":
        raise node.wrong("component", f"is {component.source}, whose type is not parallel. Name a parallel component")
    return Step("parallel", replace(node, below=component))


def _component(node: Section) -> Section | None:
    """The component of a step, where it is a file beside the pipeline's or stands in it."""
    written = node.raw("component")
    if isinstance(written, Mapping):
        inline = {str(key): value for key, value in written.items()}
        return replace(node, values=inline, trail=(*node.trail, "component"))
    if written is not None and not isinstance(written, str):
        raise node.wrong("component", f"is {shown(written)}. Name a YAML file, like ./component.yml")
    if written is None or is_remote(located(written, node.folder)):
        return None
    try:
        return load(Path(located(written, node.folder)), shown_as=written)
    except ConfigError as error:
        raise node.wrong("component", str(error)) from None


def _with_component(document: Section, seen: tuple[Path, ...] = ()) -> Section:
    """A pipeline that is an instance of a component, above it."""
    written = document.raw("component")
    if written is None:
        return document
    path = located(str(written), document.folder)
    if not isinstance(written, str) or is_remote(path):
        raise document.wrong("component", f"is {shown(written)}. Name a YAML file beside this one")
    if Path(path) in seen:
        raise document.wrong(
            "component", f"is {written}, which this pipeline is part of. A pipeline cannot hold itself"
        )
    return replace(document, below=_with_component(load(Path(path), shown_as=written), (*seen, Path(path))))


def _nothing_above(reference: str) -> Value:
    raise NoMeaning(f"${{{{{reference}}}}} stands for nothing: an input of the pipeline has a value of its own")


def _references(values: object) -> Iterator[tuple[str, str]]:
    """The outputs of other steps that are named anywhere in a step: step and output."""
    seen: set[int] = set()
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            for reference in names(value):
                match reference.removeprefix("parent.").split("."):
                    case ["jobs", step, "outputs", name]:
                        yield step, name
        elif id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def _circle(waiting: Mapping[str, ParallelJob]) -> str:
    """One way from a step back to itself."""
    way = [next(iter(waiting))]
    while (step := next(need for need in waiting[way[-1]].needs if need in waiting)) not in way:
        way.append(step)
    return " → ".join([*way[way.index(step) :], step])


def _ignored(document: Section) -> list[Ignored]:
    unknown = [*document.unknown(KNOWN), *document.section("settings").unknown(SETTINGS)]
    return [*unknown, *meaningless.found_in(document, meaningless.PIPELINE)]
