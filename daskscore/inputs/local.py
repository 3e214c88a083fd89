"""A local file, a folder with all that is below it, or a glob."""

from __future__ import annotations

import difflib
import glob
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from daskscore.errors import InputError
from daskscore.inputs.selection import Patterns, Selection

Identity = tuple[int, int]
"""What tells a folder from all others, whichever links lead to it."""


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files by name, folder by folder; what starts with a dot is hidden, and so is the folder `skip`."""

    path: str
    skip: str = ""
    include: Patterns = None
    exclude: Patterns = None
    files: bool = field(default=True, init=False)

    def items(self) -> Iterator[str]:
        path = os.path.abspath(os.path.expanduser(self.path))
        found = self._selected(path)
        first = next(found, None)
        if first is None:
            what = "matches no file" if glob.has_magic(path) and not os.path.lexists(path) else "holds no files"
            narrowed = " that include and exclude let through" if self.include or self.exclude else ""
            raise InputError(f"input {path} {what}{narrowed} (hidden ones do not count). Check the path")
        yield first
        yield from found

    def _selected(self, path: str) -> Iterator[str]:
        found = (file for file in self._found(path) if file == path or not _is_marker(file))
        if not (self.include or self.exclude):
            return found
        selection = Selection.of(self.include, self.exclude)
        start = _start(path)
        return (file for file in found if selection.takes(file[start:] or os.path.basename(file), visible=True))

    def _found(self, path: str) -> Iterator[str]:
        skip = frozenset(_identity(self.skip) if self.skip else ())
        if not os.path.lexists(path):
            if not glob.has_magic(path):
                raise InputError(_not_there(path))
            yield from _matches(path, skip)
        elif not os.path.isdir(path):
            _check_file(path)
            yield path
        elif skip & _identity(path):
            raise InputError(f"input {path} is the output folder as well. Name another folder with --output")
        else:
            yield from _walk(path, skip)


def _start(path: str) -> int:
    """Where the names that patterns are compared with begin in those of the files."""
    if glob.has_magic(path) and not os.path.lexists(path):
        parts = path.split(os.sep)
        path = os.sep.join(parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])
    return len(os.path.join(path, ""))


def _is_marker(file: str) -> bool:
    """What engines write to say that a job is done, `_SUCCESS` for example; it is no data."""
    if not file.startswith("_", file.rfind(os.sep) + 1):
        return False
    with suppress(OSError):
        return os.stat(file).st_size == 0
    return False


def _walk(top: str, skip: frozenset[Identity]) -> Iterator[str]:
    """All files below a folder; a link to a folder above itself is not followed again."""
    above: list[frozenset[Identity]] = [_identity(top)]
    listings = [_listing(top, inner=False)]
    while listings:
        entry = next(listings[-1], None)
        if entry is None:
            listings.pop()
            above.pop()
            continue
        path, is_folder = entry
        if not is_folder:
            yield path
            continue
        here = _identity(path)
        if not here & skip.union(*above):
            above.append(here)
            listings.append(_listing(path, inner=True))


def _listing(folder: str, *, inner: bool) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a folder) in the order of whole paths, which object storage has too.

    Pipes, sockets and devices are no data.
    """
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == ".daskscore" and inner:
                    return iter(())  # what an earlier run has left is no data of the next
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folders.add(entry.name)
                elif not _is_file(entry):
                    continue
                names.append(entry.name)
    except OSError as error:
        raise InputError(f"input folder {folder} cannot be read: {error.strerror}. Check its rights") from error
    names.sort(key=lambda name: name + "/" if name in folders else name)
    return ((os.path.join(folder, name), name in folders) for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself: as an item, it says why it cannot be read


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Asks the disk about links only; of a folder's other entries, the listing itself knows."""
    return _is_data(entry.path) if entry.is_symlink() else entry.is_file()


def _matches(pattern: str, skip: frozenset[Identity]) -> Iterator[str]:
    """What a glob finds: a folder stands for the files below it, but with ** each file is matched by itself."""
    if "**" in pattern.split(os.sep):
        parts = pattern.split(os.sep)
        fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        top = os.sep.join(parts[:fixed]) or os.sep
        start = len(os.path.join(top, ""))
        for path in _walk(top, skip) if os.path.isdir(top) else ():
            if _fits(path[start:].split(os.sep), parts[fixed:]):
                yield path
        return
    for path in sorted(glob.glob(pattern), key=lambda path: path + "/" if os.path.isdir(path) else path):
        if not os.path.isdir(path):
            if _is_data(path):
                yield path
        elif not skip & _identity(path):
            yield from _walk(path, skip)


def _fits(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return (bool(parts) and len(pattern) == 1) or any(_fits(parts[n:], pattern[1:]) for n in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _is_data(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True  # it is named by what it cannot do, like any item


def _identity(path: str) -> frozenset[Identity]:
    try:
        found = os.stat(path)
    except OSError:
        return frozenset()
    return frozenset([(found.st_dev, found.st_ino)])


def _check_file(path: str) -> None:
    """A single file that is named must be readable; of a folder's files, each answers for itself."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        target = f" (it is a link to {os.readlink(path)})" if os.path.islink(path) else ""
        raise InputError(f"input {path} cannot be read: {error.strerror}{target}. Check the path") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"input {path} is neither a file nor a folder. Name a file, a folder or a glob")
    if not os.access(path, os.R_OK):
        raise InputError(f"input {path} cannot be read: Permission denied. Check its rights")


def _not_there(path: str) -> str:
    folder, name = os.path.split(path)
    while not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    try:
        nearest = difflib.get_close_matches(name, os.listdir(folder), n=1)
    except OSError:
        nearest = []
    hint = f"Did you mean {nearest[0]}?" if nearest else "Check the path"
    return f"input {path} does not exist: there is no {name} in {folder}. {hint}"
