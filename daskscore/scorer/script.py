"""Find the user's script, import it, and know how to call it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any

from daskscore.core.layout import profile_log
from daskscore.scorer import enqueued
from daskscore.scorer.asked import asked, wanted
from daskscore.scorer.standins.place import Place

HERE = os.path.dirname(os.path.abspath(__file__))


class BrokenScript(Exception):
    """The script cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Script:
    """The three functions of an entry script; `init` and `shutdown` may be absent."""

    run: Callable[..., Any]
    takes_context: bool
    init: Callable[[], Any] | None
    shutdown: Callable[[], Any] | None


def load(entry_script: str, source_directory: str) -> Script:
    """Import the script in its folder; its siblings are importable, and so is it itself."""
    _enter(source_directory)
    path = os.path.join(source_directory, entry_script)
    module = _from_file(path) if os.path.isfile(path) else _from_name(entry_script, source_directory)
    script = _functions(module, entry_script)
    profiler = asked("profiling_module", sys.argv)
    return _profiled(script, profiler) if profiler else script


def _functions(module: ModuleType, entry_script: str) -> Script:
    run = getattr(module, "run", None)
    if enqueued.has_queue(module) and (not callable(run) or wanted("amlbi_async_mode", sys.argv)):
        run = enqueued.one_by_one(module, takes_context=_takes_context(module.enqueue, entry_script, "enqueue"))
    if not callable(run):
        raise BrokenScript(
            f"{entry_script} has no function run(mini_batch). Define it: it is given the items of one mini-batch "
            f"and returns a list or a pandas DataFrame{_one_like_run(module)}"
        )
    return Script(
        run=run,
        takes_context=_takes_context(run, entry_script),
        init=_without_arguments(module, "init", entry_script),
        shutdown=_without_arguments(module, "shutdown", entry_script),
    )


def _profiled(script: Script, module: str) -> Script:
    from daskscore.scorer.profiling import MODULES, Profiled

    if module not in MODULES:
        raise BrokenScript(f"--profiling_module {module} is no profiler. Write {' or '.join(MODULES)}")
    place = Place.here
    path = os.path.join(place.output, profile_log(os.path.basename(place.log_folder), place.process))
    profile = Profiled(path)
    return Script(
        run=profile.counted(script.run),
        takes_context=script.takes_context,
        init=profile.counted(script.init) if script.init is not None else None,
        shutdown=profile.at_the_end(script.shutdown),
    )


def _enter(source_directory: str) -> None:
    try:
        os.chdir(source_directory)
    except OSError as error:
        raise BrokenScript(
            f"the script's folder {source_directory} cannot be entered: {error.strerror}. "
            "Check entry_script and source_directory; the folder must be there on every machine"
        ) from None
    sys.path.insert(0, source_directory)


def _from_file(path: str) -> ModuleType:
    folder, file = os.path.split(os.path.realpath(path))
    if folder not in sys.path:
        sys.path.insert(1, folder)
    name = os.path.splitext(file)[0]
    if not name.isidentifier() or name in sys.modules or name in sys.stdlib_module_names:
        name = "entry_script"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BrokenScript(f"{path} is no Python file. entry_script names a .py file, or a module like package.module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if isinstance(spec.loader, SourceFileLoader):
        # Never from __pycache__: a script that was mended within the same second would run as it was before.
        exec(spec.loader.source_to_code(spec.loader.get_data(path), path), module.__dict__)
    else:
        spec.loader.exec_module(module)
    return module


def _from_name(name: str, source_directory: str) -> ModuleType:
    if name.endswith(".py") or os.sep in name:
        raise BrokenScript(_no_file(name, source_directory))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise BrokenScript(
            f"No module named '{error.name}' in {source_directory} or among the installed ones. "
            f"entry_script is {name}: name a file, like score.py, or a module that can be imported from source_directory"
        ) from None


def _no_file(name: str, source_directory: str) -> str:
    folder, file = os.path.split(os.path.join(source_directory, name))
    if os.path.isdir(os.path.join(folder, file)):
        return f"entry_script {name} is a folder. Name the Python file in it"
    try:
        nearest = difflib.get_close_matches(file, os.listdir(folder), n=1)
    except OSError:
        return f"entry_script {name} does not exist: there is no folder {folder}. Check the path"
    hint = f"Did you mean {nearest[0]}?" if nearest else "Check the path"
    return f"entry_script {name} does not exist: there is no such file in {folder}. {hint}"


def _one_like_run(module: ModuleType) -> str:
    functions = {name.lower(): name for name, value in vars(module).items() if inspect.isfunction(value)}
    nearest = difflib.get_close_matches("run", functions, n=1)
    return f". Is {functions[nearest[0]]} meant to be it?" if nearest else ""


def _takes_context(run: Callable[..., Any], entry_script: str, name: str = "run") -> bool:
    _refuse_async(run, name, entry_script)
    try:
        parameters = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = inspect.Parameter
    positional = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    any_number = any(p.kind is kinds.VAR_POSITIONAL for p in parameters)
    needed = [p for p in positional if p.default is kinds.empty]
    named_only = [p for p in parameters if p.kind is kinds.KEYWORD_ONLY and p.default is kinds.empty]
    if (not positional and not any_number) or len(needed) > 2 or named_only:
        raise BrokenScript(
            f"{name}{inspect.signature(run)} in {entry_script} cannot be called with a mini-batch. "
            f"Declare {name}(mini_batch) or {name}(mini_batch, mini_batch_context)"
        )
    return len(positional) > 1


def _without_arguments(module: ModuleType, name: str, entry_script: str) -> Callable[[], Any] | None:
    function = getattr(module, name, None)
    if function is None:
        return None
    if not callable(function):
        raise BrokenScript(f"{name} in {entry_script} is no function. Rename it, or make it a function {name}()")
    _refuse_async(function, name, entry_script)
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise BrokenScript(
            f"{name}{inspect.signature(function)} in {entry_script} cannot be called without arguments. Declare {name}()"
        ) from None
    except ValueError:
        pass
    return function  # type: ignore[no-any-return]  # callable() narrows to a callable that returns object


def _refuse_async(function: Callable[..., Any], name: str, entry_script: str) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise BrokenScript(
            f"{name} in {entry_script} is async. Make it a plain function; it may use asyncio.run inside"
        )


def advice(error: BaseException) -> str:
    """What to do about an error that kept a script from being loaded, where there is something to say."""
    if isinstance(error, SystemExit):
        return (
            ". The script ended its own process. Its sys.argv holds ParallelRunStep's arguments before its own: use "
            "parse_known_args(). If it lacks an argument, give it after --, or in the key arguments"
        )
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    if package in sys.modules or package in sys.stdlib_module_names:
        return ""
    return f". Install it for {sys.executable}, or put it into source_directory"


def user_traceback(error: BaseException) -> str:
    """The traceback as the user's own interpreter would have shown it: without daskscore's and importlib's frames."""
    return "".join(traceback.format_exception(type(error), error, _first_user_frame(error.__traceback__)))


def _first_user_frame(trace: TracebackType | None) -> TracebackType | None:
    frame = trace
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not (file.startswith((HERE, "<frozen importlib")) or file == importlib.__file__):
            return frame
        frame = frame.tb_next
    return None
