"""Files that cannot be cut by bytes, as one stream of text that can: decompressed, and made UTF-8.

The driver counts in this stream where pieces begin and end, and the scorer reads it up to there; both run this code.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from daskscore.core.tables import is_cuttable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Decompress = Callable[[IO[bytes], str], IO[bytes]]
"""For the compressions that the standard library does not know: a file and the compression's name."""

DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
"""What reading a broken compressed file raises, besides OSError."""


_OPEN: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}


def decoded(file: IO[bytes], compression: str, encoding: str, decompress: Decompress) -> IO[bytes]:
    """The text of a file, in UTF-8 or in an encoding that can be cut."""
    match compression:
        case "":
            text = file
        case "gzip" | "bz2" | "xz":
            text = _OPEN[compression](file, "rb")
        case other:
            text = decompress(file, other)
    return text if is_cuttable(encoding) else io.BufferedReader(_AsUtf8(text, encoding), 1 << 18)


class _AsUtf8(io.RawIOBase):
    """Text in another encoding, read as UTF-8."""

    def __init__(self, text: IO[bytes], encoding: str) -> None:
        self.text = text
        self.decoder = codecs.getincrementaldecoder(encoding)()
        self.rest = b""
        self.at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while not self.rest and not self.at_end:
            read = self.text.read(1 << 17)
            self.at_end = not read
            self.rest = self.decoder.decode(read, final=self.at_end).encode("utf-8", "surrogatepass")
        length = min(len(view), len(self.rest))
        view[:length] = self.rest[:length]
        self.rest = self.rest[length:]
        return length


def skip(text: IO[bytes], length: int) -> int:
    """Read over so many bytes; less where the text ends before."""
    left = length
    while left:
        read = text.read(min(left, 1 << 18))
        if not read:
            break
        left -= len(read)
    return length - left
