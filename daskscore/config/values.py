"""What values a key may have, and the words for what it may not."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from daskscore.inputs.addresses import is_remote
from daskscore.inputs.addresses import shown as shown_uri
from daskscore.workspace.references import is_reference

MOST_SECONDS = 259_200
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SHOWN_KEYS = ("kind", "path", "type")
"""Of a mapping that is not usable; what stands below others may be secret."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a value must be, in the words of the error that another value gets."""

    text: str


def parse_bytes(value: object) -> int:
    """A number of bytes, or a text like 512MB; units are binary."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip(), re.IGNORECASE)
    if match is None or isinstance(value, bool):
        raise not_usable()
    number = float(match[1]) if "." in match[1] else int(match[1])
    return int(number * UNITS[match[2].lower()])


def check_number(value: object) -> object:
    """Python counts True as 1; here it is a mistake, and so is a number that is none."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise not_usable()
    return value


def check_path(value: object) -> object:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise not_usable()
    if "://" in value:
        raise ValueError(f"{shown_uri(value)} is an address. Write a path of this machine")
    return value


def _one_or_many(value: object) -> object:
    if isinstance(value, (str, os.PathLike, Mapping)):
        return [value]
    if isinstance(value, AbstractSet):
        raise ValueError("a set has no order, and the output has that of the inputs. Give a list")
    return list(value) if isinstance(value, Iterable) else value


def read_inputs(value: object) -> object:
    entries = _one_or_many(value)
    for entry in entries if isinstance(entries, list) else ():
        path = entry.get("path", "a path is up to its kind") if isinstance(entry, Mapping) else entry
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(
                f"{shown(entry)} names no path. Write a file, a folder or a glob, in quotes if it is a number"
            )
    return [_discreet(entry) for entry in entries] if isinstance(entries, list) else entries


def read_names(value: object) -> object:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise not_usable()
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice. Name each once")
    return list(names)


def read_range(value: object) -> int | str:
    """A number of at least 1, or two of them like `2-10`."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", value)):
        fewest, most = int(found[1]), int(found[2])
        if 1 <= fewest <= most:
            return fewest if fewest == most else f"{fewest}-{most}"
        raise not_usable()
    number = check_number(value)
    if isinstance(number, str) and re.fullmatch(r"\s*\d+\s*", number):
        number = int(number)
    if not isinstance(number, int) or number < 1:
        raise not_usable()
    return number


def read_output(value: object) -> object:
    """A local path, an address, or a mapping of an address and its storage options."""
    given = value if isinstance(value, Mapping) else {"path": value}
    path = given.get("path")
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).strip() or "\0" in os.fspath(path):
        raise not_usable()
    for name in given:
        if name not in ("path", "storage_options"):
            raise ValueError(f"a mapping has no key {name} here. Known are path and storage_options")
    if isinstance(value, Mapping):
        return _discreet(dict(value))
    text = os.fspath(path)
    return text if is_remote(text) or is_reference(text) else Path(text)


def read_side_inputs(value: object) -> object:
    if not isinstance(value, Mapping):
        raise not_usable()
    for name, entry in value.items():
        path = entry.get("path") if isinstance(entry, Mapping) else entry
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).strip() or "\0" in os.fspath(path):
            raise ValueError(f"{name} names no path. Write a file, a folder, an address or registered data")
    return {str(name): os.fspath(p) if isinstance(p, os.PathLike) else _discreet(p) for name, p in value.items()}


def read_mini_batch_size(value: object) -> object:
    """A number of files, or a size of records as a text; which of the two fits is known once the inputs are."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    text = str(value).strip()
    if re.fullmatch(r"0*[1-9]\d*", text):
        return int(text)
    if not isinstance(value, str) or not re.fullmatch(
        r"0*[1-9]\d*\s*(rows?|[kmgt]?i?b)|0*[1-9]\d*\s*[kmgt]", text, re.IGNORECASE
    ):
        raise not_usable()
    return text


def read_words(value: object) -> object:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{shown(value)} cannot be split into words: {error}. Write a list of words") from None
    if not isinstance(value, (list, tuple)):
        raise not_usable()
    for word in value:
        if word is None or isinstance(word, (list, tuple, Mapping)):
            raise ValueError(f"{shown(word)} is no word. Write a list of words, like [--threshold, 0.5]")
    return [str(word) for word in value]


def read_texts(value: object) -> object:
    if not isinstance(value, Mapping):
        raise not_usable()
    for name, text in value.items():
        if not name or re.search("[=\0]", str(name)):
            raise ValueError(f"{shown(name)} is no name of a variable. Write one that is not empty and has no =")
        if text is None:
            raise ValueError(f"{name} has no value. Write '' for a variable that is empty")
        if isinstance(text, (list, tuple, Mapping)) or "\0" in str(text):
            raise ValueError(f"{name} is {shown(text)}, which is no text. Put it in quotes")
    return {str(name): str(text).lower() if isinstance(text, bool) else str(text) for name, text in value.items()}


def not_usable() -> PydanticCustomError:
    """The error is told in the words of the key's own `Wanted`."""
    return PydanticCustomError("not_usable", "is not usable")


class Options(dict[str, Any]):
    """What opens a storage: its values may be secret, and whoever prints a job does not see them."""

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: …' for name in self)}}}"


def _discreet(entry: object) -> Any:
    """An entry that does not show its storage options when it is printed."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("storage_options"), Mapping):
        return entry
    return {**entry, "storage_options": Options(entry["storage_options"])}


def shown(value: object) -> str:
    """A value as it may stand in a message, where no secret may."""
    text = _shown(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _shown(value: object) -> str:
    match value:
        case Mapping():
            inner = (f"{name!r}: {_shown(one) if name in SHOWN_KEYS else '…'}" for name, one in value.items())
            return f"{{{', '.join(inner)}}}"
        case list() | tuple():
            return f"[{', '.join(map(_shown, value))}]"
        case str() if "://" in value:
            return repr(shown_uri(value))
        case _:
            return repr(value)


YesNo = Annotated[bool, Wanted("true or false")]
AtLeastOne = Annotated[int, BeforeValidator(check_number), Field(ge=1), Wanted("a whole number, at least 1")]
Threshold = Annotated[int, BeforeValidator(check_number), Field(ge=-1), Wanted("a whole number, or -1 for any number")]
Percent = Annotated[float, BeforeValidator(check_number), Field(ge=0, le=100), Wanted("a number from 0 to 100")]
Seconds = Annotated[
    float,
    BeforeValidator(check_number),
    Field(gt=0, le=MOST_SECONDS),
    Wanted(f"a number of seconds, more than 0 and at most {MOST_SECONDS} (three days)"),
]
Bytes = Annotated[
    int, BeforeValidator(parse_bytes), Field(gt=0), Wanted("a number of bytes, or one with KB, MB or GB, like 512MB")
]
FolderPath = Annotated[Path, BeforeValidator(check_path), Wanted("the path of a folder")]
