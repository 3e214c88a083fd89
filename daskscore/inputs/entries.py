"""One entry of `inputs:`: what it means, and its items or records as lines of a plan. Called in the driver."""

from __future__ import annotations

import difflib
import glob
import hashlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, cast

from daskscore import plugins
from daskscore.core.planning import DEFAULT_ITEMS, Content, cut, line, line_of_pieces
from daskscore.core.tables import Reading, Size
from daskscore.errors import ConfigError, DaskscoreError, InputError
from daskscore.inputs import failed_items
from daskscore.inputs.addresses import is_remote, parse
from daskscore.inputs.interface import Input
from daskscore.inputs.local import LocalFiles
from daskscore.inputs.selection import is_glob
from daskscore.workspace.references import is_reference

if TYPE_CHECKING:
    from daskscore.inputs.remote import RemoteFiles
    from daskscore.inputs.stores import Stores
    from daskscore.inputs.table_options import TableOptions
    from daskscore.inputs.text_files import Opener

TYPES = ("uri_file", "uri_folder", "mltable", "tabular")
DEFAULT_SIZE = "1MB"
"""Of a mini-batch of records where the job does not say."""

SHARES = Size(bytes=4 << 20)
"""How records are cut that will be sorted by their keys: what is sorted at a time depends on it."""

FILE_KEYS = ("path", "type", "mode", "storage_options", "include", "exclude", "partition_format")
MODES = ("direct", "ro_mount", "download", "eval_mount", "eval_download")


@dataclass(slots=True)
class Source:
    """One input, found and ready to be cut; its first mini-batch is at hand."""

    content: Content
    lines: Iterator[tuple[bytes, int]]
    """Mini-batches as lines of the plan, and how many items each has."""
    reading: Reading | None = None
    """Of records: how each piece is read."""
    stores: Stores | None = None
    """Of items in a storage: what opens it."""
    unsorted: Opener | None = None
    """Of records that have to be sorted by their keys before they are mini-batches: what opens their files."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How the inputs of a job are cut."""

    size: int | str | None = None
    """Files, or a size of records like 1MB or 5000 rows."""
    keys: tuple[str, ...] = ()
    """What the items of one mini-batch have in common, whatever its size."""
    skip: str = ""
    """The output, which is never an input."""

    @property
    def files(self) -> int:
        if isinstance(self.size, str):
            raise ConfigError(
                f"mini_batch_size: {self.size!r} is a size, and files are counted. Write a number of files, like 10, or "
                "say what the records are in, like inputs: {path: …, format: csv}"
            )
        return self.size or DEFAULT_ITEMS

    @property
    def records(self) -> Size:
        return Size.parse(self.size or DEFAULT_SIZE)


def joined_stores(several: Sequence[Stores]) -> Stores | None:
    """All in one; None where nothing is in a storage."""
    return reduce(lambda one, other: one.joined(other), several) if several else None


def without_secrets(entry: str | Mapping[str, Any]) -> str | dict[str, Any]:
    """An entry as it may be kept with the run and shown."""
    if isinstance(entry, str):
        return _open_address(entry)
    if entry.get("kind", "local") != "local":  # what its options mean, and whether one is secret, only it knows
        options = hashlib.sha256(json.dumps(dict(entry), sort_keys=True, default=str).encode()).hexdigest()
        return {"kind": str(entry["kind"]), "options_sha256": options}
    kept = {name: value for name, value in entry.items() if name != "storage_options"}
    return {**kept, "path": _open_address(kept["path"])} if isinstance(kept.get("path"), str) else kept


def _open_address(path: str) -> str:
    return parse(path).uri if is_remote(path) and not is_reference(path) else path


def open_entry(entry: str | Mapping[str, Any], cutting: Cutting, *, number: int) -> Source:
    """Find what an entry means, and its first mini-batch; `number` is that of the entry in the job."""
    given: dict[str, Any] = {"path": entry} if isinstance(entry, str) else dict(entry)
    if given.get("kind") == "local":
        del given["kind"]
    if "kind" in given:
        return _plugged(given, cutting)
    path = given.get("path")
    if not isinstance(path, str):
        raise ConfigError(
            f"inputs: an entry names no path (it has {', '.join(given)}). Write a file, a folder or a glob"
        )
    _check_keys(given)
    return _Entry(given, _located(given), cutting, number).source()


def _check_keys(given: Mapping[str, Any]) -> None:
    from daskscore.inputs.table_options import KEYS

    known = dict.fromkeys((*FILE_KEYS, *sorted(KEYS)))
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"Known are {', '.join(known)}"
            raise ConfigError(f"inputs: an entry has no key {name}. {hint}")


def _plugged(given: dict[str, Any], cutting: Cutting) -> Source:
    """An input that an installed package, or the user, has written."""
    kind = given.pop("kind")
    if not isinstance(kind, str):
        raise ConfigError(f"inputs: {kind!r} is no kind of input. Write its name, like kind: package.module:Class")
    make = plugins.find("input", kind)
    known = [*inspect.signature(make).parameters]
    for name in given:
        if name not in known:
            raise ConfigError(f"inputs: {kind} has no option {name}. It knows {', '.join(known)}")
    try:
        found: Input = make(**given)
    except TypeError as error:
        raise ConfigError(f"inputs: the options of {kind} are not usable: {error}") from error
    if cutting.keys:
        raise ConfigError(
            f"partition_keys: they are for files and records, and the input {kind} says nothing of its items"
        )
    items = ((line(batch), len(batch)) for batch in cut(found.items(), cutting.files))
    return Source(Content.FILES if found.files else Content.WORDS, _begun(items, f"input {kind}"))


def _located(given: dict[str, Any]) -> dict[str, Any]:
    """With registered data and datastores replaced by the place where the bytes are."""
    path = given["path"]
    if not isinstance(given.get("storage_options"), Mapping | None):
        raise ConfigError("inputs: storage_options is no mapping. Write it like {anon: true}")
    if not is_reference(path):
        return {"path": path}
    from daskscore.workspace.locations import resolve  # here, because it loads SQLAlchemy
    from daskscore.workspace.store import open_workspace

    found = resolve(open_workspace(), path)
    options = {**found.storage_options, **(given.get("storage_options") or {})}
    return {"path": found.uri, "type": found.type, "storage_options": options or None}


@dataclass(slots=True)
class _Entry:
    """An entry whose place is known."""

    given: dict[str, Any]
    place: dict[str, Any]
    cutting: Cutting
    number: int
    stores: Stores | None = field(init=False, default=None)
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.place["path"]
        if self.path.lower().startswith("file://"):
            self.path = self.path[len("file://") :]
        if is_remote(self.path):
            from daskscore.inputs.stores import Stores

            options = self.place.get("storage_options") or self.given.get("storage_options")
            address, self.stores = Stores.of(self.path, options)
            self.path = address.uri
        elif self.given.get("storage_options") and os.path.basename(self.path) != failed_items.NAME:
            raise ConfigError(
                f"inputs: storage_options are for addresses, and {self.path} is a local path. Remove them"
            )

    def source(self) -> Source:
        kind = self._type()
        if kind == "mltable":
            return self._mltable()
        if kind == "tabular" or self._table_keys():
            from daskscore.inputs.table_options import TableOptions

            pattern = {"partition_format": self._pattern()} if "partition_format" in self.given else {}
            options = TableOptions.parse({**self._table_keys(), **pattern})
            return self._records(lambda: self._files(self.path), options)
        if kind is None and self._lists_failed_items():
            return self._failed_items()
        found = self._files(self.path)
        return self._items(_as_told(found.items(), self.path, kind))

    def _type(self) -> str | None:
        """What the entry says it is, or else its registration."""
        kind = self.given.get("type", self.place.get("type"))
        if kind is not None and kind not in TYPES:
            raise ConfigError(f"inputs: type {kind!r} is not known. Known are {', '.join(TYPES)}")
        if (mode := self.given.get("mode", "direct")) not in MODES:
            raise ConfigError(f"inputs: mode {mode!r} is not known. Known are {', '.join(MODES)}")
        if kind in ("uri_file", "uri_folder") and (keys := self._table_keys()):
            raise ConfigError(
                f"inputs: {next(iter(keys))} is for records, and {self.given['path']} is of type {kind}. "
                "Say type: tabular, or remove the key"
            )
        return cast(str | None, kind)

    def _table_keys(self) -> dict[str, Any]:
        return {name: value for name, value in self.given.items() if name not in FILE_KEYS}

    def _pattern(self) -> str:
        """Where the keys stand in the names of files."""
        pattern = self.given.get("partition_format", "")
        if not isinstance(pattern, str):
            raise ConfigError(
                f"inputs: partition_format {pattern!r} is no text. Write it like '{{user}}/{{season}}/{{name}}.wav'"
            )
        return pattern

    def _top(self) -> str:
        """The folder that keys stand below."""
        if is_remote(self.path):
            magic = re.search(r"[*?\[]", self.path)
            return self.path[: magic.start()].rpartition("/")[0] if magic else self.path
        path = os.path.abspath(os.path.expanduser(self.path))
        while glob.has_magic(path) and not os.path.lexists(path):
            path = os.path.dirname(path)
        return path if os.path.isdir(path) else os.path.dirname(path)

    def _files(self, path: str) -> LocalFiles | RemoteFiles:
        include, exclude = self.given.get("include"), self.given.get("exclude")
        if not is_remote(path):
            return LocalFiles(path, self.cutting.skip, include, exclude)
        from daskscore.inputs.remote import RemoteFiles

        return RemoteFiles(path, include=include, exclude=exclude, skip=self.cutting.skip, stores=self.stores)

    def _items(self, items: Iterator[str]) -> Source:
        if self.cutting.keys:
            from daskscore.inputs.partitions import partition_files

            found = partition_files(items, self.cutting.keys, self._pattern(), self._top())
            lines = ((line(files, keys), len(files)) for keys, files in found)
        else:
            lines = ((line(batch), len(batch)) for batch in cut(items, self.cutting.files))
        return Source(Content.FILES, _begun(self._in_words(lines), f"input {self.path}"), stores=self.stores)

    def _records(self, find: Callable[[], LocalFiles | RemoteFiles | _Several], options: TableOptions) -> Source:
        from daskscore.inputs.tables import decide_reading, table_pieces  # here, because they load numpy and pyarrow

        keys = self.cutting.keys
        from daskscore.inputs.partitions import are_in_paths, partition_tables

        try:
            size = self.cutting.records
        except ValueError as error:
            raise ConfigError(f"mini_batch_size: {self.cutting.size!r} {error}") from None
        opener = self._opener
        try:
            reading = decide_reading(find().items(), options, opener, keys)
        except InputError as error:
            if (parse(self.path).root if is_remote(self.path) else self.path) in str(error):
                raise
            raise InputError(f"input {self.path}: {error}") from error
        except DaskscoreError:
            raise
        except Exception as error:
            raise self._trouble(error) from error
        unsorted = None
        if keys and are_in_paths(keys, reading):
            found = partition_tables(find().items(), reading, keys, self._top(), opener, self.number)
            lines = ((line_of_pieces(few, key), sum(piece["items"] for piece in few)) for key, few in found)
        else:
            unsorted = opener if keys else None
            pieces = table_pieces(find().items(), reading, SHARES if keys else size, opener, number=self.number)
            lines = ((line_of_pieces([piece]), piece["items"]) for piece in pieces)
        begun = _begun(self._in_words(lines), f"input {self.path}")
        return Source(Content.RECORDS, begun, reading, self.stores, unsorted)

    def _lists_failed_items(self) -> bool:
        try:
            return failed_items.is_list(self.path, self._opener)
        except DaskscoreError:
            raise
        except Exception as error:
            raise self._trouble(error) from error

    def _failed_items(self) -> Source:
        """The files that failed in an earlier run."""
        for name in ("include", "exclude"):
            if name in self.given:
                raise ConfigError(f"inputs: {name} is for folders, and {self.path} is a list of items. Remove it")
        roots: set[str] = set()
        for item in failed_items.read(self.path, self._opener):
            if is_remote(item) and (root := parse(item).root) not in roots:
                roots.add(root)
                self._reached(root)
        return self._items(failed_items.read(self.path, self._opener))

    def _mltable(self) -> Source:
        from daskscore.inputs.mltable import read_mltable

        for name in self._table_keys():
            raise ConfigError(
                f"inputs: {name} beside type: mltable: the MLTable file itself says how to read. Remove it"
            )
        try:
            table = read_mltable(self.path, self._opener)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"input {self.path} holds no file called MLTable. Name the folder that has it") from None
        except DaskscoreError:
            raise
        except Exception as error:
            raise self._trouble(error) from error

        table = replace(table, paths=tuple(map(self._reached, table.paths)))

        def find() -> _Several:
            return _Several(table.files(lambda path: self._files(path).items()))

        if table.options is None:
            return self._items(find().items())
        if self._pattern():
            raise ConfigError(
                f"inputs: partition_format beside {self.path}, whose MLTable reads records. Write "
                "extract_columns_from_partition_format there, and remove it here"
            )
        if self.given.get("mode", "direct") != "direct":
            raise InputError(
                f"input {self.path}: its MLTable reads records, and its mode is {self.given['mode']}. Please ensure input "
                "dataset consumption mode is direct"
            )
        return self._records(find, table.options)

    def _reached(self, path: str) -> str:
        """A path that an MLTable names; what opens it is among the stores from now on."""
        place = _located({"path": path})
        path = place["path"]
        if path.lower().startswith("file://"):
            return path[len("file://") :]
        if not is_remote(path) or (is_remote(self.path) and path.startswith(self.path.rstrip("/") + "/")):
            return path
        from daskscore.inputs.stores import Stores

        options = place.get("storage_options")
        if options is None and not is_remote(self.path):
            options = self.given.get("storage_options")
        elif options is None and is_remote(self.path) and parse(path).protocol == parse(self.path).protocol:
            options = self.place.get("storage_options") or self.given.get("storage_options")
        address, stores = Stores.of(path, options)
        self.stores = self.stores.joined(stores) if self.stores is not None else stores
        return address.uri

    def _opener(self, name: str) -> IO[bytes]:
        if not is_remote(name):
            return open(name, "rb")
        assert self.stores is not None
        filesystem, path = self.stores.filesystem(name)
        return cast(IO[bytes], filesystem.open(path, "rb"))

    def _in_words(self, lines: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
        """What a storage library raises while records are read, in our own words."""
        try:
            yield from lines
        except DaskscoreError:
            raise
        except Exception as error:
            raise self._trouble(error) from error

    def _trouble(self, error: Exception) -> Exception:
        if self.stores is None:
            if isinstance(error, OSError):
                return InputError(f"input {error.filename or self.path} cannot be read: {error.strerror or error}")
            return error
        from daskscore.inputs.troubles import explain

        trouble = explain(error)
        if trouble is None:
            return error
        return InputError(
            f"input {self.path} cannot be read: {self.stores.mask(trouble.words)}. Check it, and the credentials"
        )


@dataclass(frozen=True, slots=True)
class _Several:
    """Files that were found already."""

    found: Iterable[str]

    def items(self) -> Iterator[str]:
        return iter(self.found)


def _begun(lines: Iterator[tuple[bytes, int]], what: str) -> Iterator[tuple[bytes, int]]:
    """With the first one made: what is wrong with an input shows before any work starts."""
    first = next(lines, None)
    if first is None:
        raise InputError(f"{what} has no records. Name files with some, or remove it")
    return chain([first], lines)


def _as_told(items: Iterator[str], path: str, kind: str | None) -> Iterator[str]:
    """Refuse a folder where a file was promised, and the other way round."""
    first = next(items)
    is_file = first == (path if is_remote(path) else os.path.abspath(os.path.expanduser(path)))
    if kind == "uri_file" and not is_file and is_glob(path):
        raise InputError(
            f"input {path} is a pattern, and its type is uri_file. Write type: uri_folder, or name one file"
        )
    if kind == "uri_file" and not is_file:
        raise InputError(f"input {path} is no file but a folder, and its type is uri_file. Write type: uri_folder")
    if kind == "uri_folder" and is_file:
        raise InputError(f"input {path} is a file, and its type is uri_folder. Write type: uri_file")
    return chain([first], items)
