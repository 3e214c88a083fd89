"""A local file, a folder with all that is below it, or a glob."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from daskscore.errors import InputError


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files by name, folder by folder; what starts with a dot is hidden, and so is what stands below `skip`."""

    path: str
    skip: str = ""
    files: bool = True

    def items(self) -> Iterator[str]:
        count = 0
        for root in self._roots():
            if os.path.isdir(root):
                walk = _walk(root, self.skip, ())
            else:
                _check_file(root)
                walk = iter([root])
            for item in walk:
                count += 1
                yield item
        if not count:
            raise InputError(
                f"input {self.path} holds no files (hidden ones do not count). Name a folder that has some, or a glob"
            )

    def _roots(self) -> list[str]:
        path = os.path.abspath(os.path.expanduser(self.path))
        if os.path.lexists(path):
            return [path]
        if glob.has_magic(path):
            return sorted(glob.glob(path, recursive=True))
        raise InputError(f"input {self.path} does not exist ({_what_is_there(path)})")


def _walk(folder: str, skip: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"input folder {folder} cannot be read: {error.strerror}. Check its rights") from error
    for entry in entries:
        if entry.is_dir():
            here = _identity(entry.path) if entry.is_symlink() else (0, 0)
            if entry.path == skip or (here != (0, 0) and here in above):
                continue
            yield from _walk(entry.path, skip, (*above, _identity(folder)) if entry.is_symlink() else above)
        elif entry.is_file() or entry.is_symlink():
            yield entry.path


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _check_file(path: str) -> None:
    """A single file that is named must be readable; of a folder's files, each answers for itself."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InputError(f"input {path} cannot be read: {error.strerror}. Check the path") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"input {path} is neither a file nor a folder. Name a file, a folder or a glob")
    if not os.access(path, os.R_OK):
        raise InputError(f"input {path} cannot be read: Permission denied. Check its rights")


def _what_is_there(path: str) -> str:
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return f"the nearest folder that does is {folder}; relative paths start at the job file, or here: {os.getcwd()}"
