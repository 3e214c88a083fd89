"""Find the user's script, import it, and know how to call it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

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
    """Import the script as a module of its folder; its siblings are importable, and so is it itself."""
    sys.path.insert(0, source_directory)
    path = os.path.join(source_directory, entry_script)
    module = _from_file(path) if os.path.isfile(path) else _from_name(entry_script, source_directory)
    run = getattr(module, "run", None)
    if not callable(run):
        raise BrokenScript(
            f"{entry_script} has no function run(mini_batch). Define it: it is given the items of one mini-batch "
            "and returns a list or a pandas DataFrame"
        )
    return Script(
        run=run,
        takes_context=_takes_context(run, entry_script),
        init=_without_arguments(module, "init", entry_script),
        shutdown=_without_arguments(module, "shutdown", entry_script),
    )


def _from_file(path: str) -> ModuleType:
    folder, file = os.path.split(os.path.realpath(path))
    if folder not in sys.path:
        sys.path.insert(1, folder)
    name = os.path.splitext(file)[0]
    if not name.isidentifier() or name in sys.modules or name in sys.stdlib_module_names:
        name = f"entry_script_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BrokenScript(f"{path} is no Python file. entry_script names a .py file, or a module like package.module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _from_name(name: str, source_directory: str) -> ModuleType:
    if name.endswith(".py") or os.sep in name:
        raise BrokenScript(f"No module named '{name}': there is no such file in {source_directory}. Check entry_script")
    return importlib.import_module(name)


def _takes_context(run: Callable[..., Any], entry_script: str) -> bool:
    if inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run):
        raise BrokenScript(f"run in {entry_script} is async. Make it a plain function; it may use asyncio.run inside")
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
            f"run{inspect.signature(run)} in {entry_script} cannot be called with a mini-batch. "
            "Declare run(mini_batch) or run(mini_batch, mini_batch_context)"
        )
    return len(positional) > 1


def _without_arguments(module: ModuleType, name: str, entry_script: str) -> Callable[[], Any] | None:
    function = getattr(module, name, None)
    if function is None:
        return None
    if not callable(function):
        raise BrokenScript(f"{name} in {entry_script} is no function. Rename it, or make it a function {name}()")
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise BrokenScript(
            f"{name}{inspect.signature(function)} in {entry_script} cannot be called without arguments. Declare {name}()"
        ) from None
    except ValueError:
        pass
    return function  # type: ignore[no-any-return]  # callable() narrows to a callable that returns object


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
