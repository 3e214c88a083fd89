"""Where the records of a text file end, found in whole blocks at once. Called in the driver, while the plan is made.

Quotes are counted with numpy: a line end after an even number of them is a border. That is exact where every quote
stands at an edge of its field, which is looked at too; around one that does not, `core.csv_records` is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskscore.core.csv_records import is_record, line_pattern
from daskscore.core.tables import Dialect

BLOCK_BYTES = 1 << 18
PATIENCE = 64
"""After so many stray quotes in one block the rest of it is walked record by record."""

_LF, _CR = 10, 13
_ONE, _LAST, _ALL = np.uint64(1), np.uint64(63), np.uint64(2**64 - 1)

Positions = NDArray[np.int64]
Bits = NDArray[np.uint64]
"""One bit per byte of a block."""


class Stretch(NamedTuple):
    """What was found in one block of a file."""

    offset: int
    """Of the block, in the text."""
    block: bytes
    ends: Positions
    """Of the records that end here, in the text."""
    lines: Positions
    """Of the lines that end here, in the text; a record can have several."""
    is_open: bool
    """The text after the last end belongs to a record that goes on in the next block."""


def stretches(text: IO[bytes], dialect: Dialect | None, offset: int = 0, begun: bytes = b"") -> Iterator[Stretch]:
    """The record ends of a text, block by block; with no dialect each line is a record.

    The text is read from `offset` on; `begun` has already been read of it.
    """
    borders = LineBorders() if dialect is None else CsvBorders(dialect)
    last: Stretch | None = None
    escape, cr_ends_lines = ("", False) if dialect is None else (dialect.escape, True)
    for block in _aligned_blocks(text, begun, escape.encode(), cr_ends_lines):
        whole = block.endswith((b"\n", b"\r"))
        found = borders.scan(block if whole else block + b"\n")
        length = offset + len(block)
        last = Stretch(
            offset,
            block,
            np.minimum(found.ends + offset, length),
            np.minimum(found.lines + offset, length),
            borders.is_open,
        )
        offset = length
        yield last
    if last is not None and last.is_open:
        nothing = np.empty(0, np.int64)
        yield Stretch(offset, b"", np.array([offset], np.int64), nothing, False)


def _aligned_blocks(text: IO[bytes], rest: bytes, escape: bytes, cr_ends_lines: bool) -> Iterator[bytes]:
    """The text in blocks that end where a line does, escaped line ends apart; the last one where the text does."""
    while read := text.read(max(BLOCK_BYTES, len(rest))):
        block = rest + read
        cut = _last_line_end(block, escape, cr_ends_lines)
        rest = block[cut:]
        if cut:
            yield block[:cut]
    if rest:
        yield rest


def _last_line_end(block: bytes, escape: bytes, cr_ends_lines: bool) -> int:
    stop = len(block)
    while True:
        end = block.rfind(b"\n", 0, stop)
        if cr_ends_lines and end < stop - BLOCK_BYTES // 8:
            end = max(end, block.rfind(b"\r", 0, min(stop, len(block) - 1)))
        if end < 0 or not escape or block[end - 1 : end] != escape:
            return end + 1
        stop = end


class Found(NamedTuple):
    """Of one block: the ends of its records, and of its lines."""

    ends: Positions
    lines: Positions


class LineBorders:
    """Each line is a record, unless it is blank."""

    is_open = False

    def scan(self, block: bytes) -> Found:
        """The ends in a block that ends where a line does."""
        buffer = np.frombuffer(block, np.uint8)
        lines = np.flatnonzero(buffer == _LF) + 1
        return Found(lines[_with_data(block, buffer, lines, _LINE, was_open=False)], lines)


class CsvBorders:
    """Scans the blocks of one file in order."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.is_open = False
        """The block before ended inside quotes."""
        self.scratch = _Scratch()

    def scan(self, block: bytes) -> Found:
        """The ends in a block that ends where a line does."""
        was_open = self.is_open
        buffer = np.frombuffer(block, np.uint8)
        lines = borders = self._line_ends(block, buffer)
        escape = self.dialect.escape.encode()
        if escape and escape in block:
            borders = np.array(list(self._walk(block, 0)), np.int64)
        elif was_open or (self.dialect.quote and self.dialect.quote.encode() in block):
            borders = np.concatenate(list(self._outside_quotes(block, buffer, lines)))
        return Found(borders[_with_data(block, buffer, borders, self.dialect, was_open=was_open)], lines)

    def _outside_quotes(self, block: bytes, buffer: NDArray[np.uint8], lines: Positions) -> Iterator[Positions]:
        """The line ends that are borders: counted up to the first stray sign, past which the record is walked."""
        signs = self._signs(block, buffer)
        start = 0
        for _ in range(PATIENCE):
            inside = _inside(signs.quotes, self.is_open)
            stray = _first(signs.strays(inside))
            here = len(block) if stray is None else stray
            seen = lines[np.searchsorted(lines, start, "right") : np.searchsorted(lines, here, "right")]
            borders = seen[~_at(inside, seen - 1)]
            yield borders
            if stray is None:
                self.is_open = bool(_at(inside, np.array([len(block) - 1]))[0])
                return
            start = int(borders[-1]) if len(borders) else start
            end = next(self._walk(block, start), None)
            if end is None:
                return
            yield np.array([end], np.int64)
            start = end
            signs.forget_before(end)
        yield np.array(list(self._walk(block, start)), np.int64)

    def _walk(self, block: bytes, start: int) -> Iterator[int]:
        """Border by border: exact for every dialect, and thirty times slower."""
        pattern = line_pattern(self.dialect, inside_quotes=self.is_open and start == 0)
        while start < len(block):
            match = pattern.match(block, start)
            assert match is not None
            self.is_open = match.lastgroup is not None
            if self.is_open:
                return
            start = match.end()
            yield start
            pattern = line_pattern(self.dialect)

    def _line_ends(self, block: bytes, buffer: NDArray[np.uint8]) -> Positions:
        """After each LF, and after each CR that has none."""
        is_end, alone = self.scratch(0, len(block)), self.scratch(1, len(block))
        np.equal(buffer, _LF, out=is_end)
        if b"\r" in block:
            np.equal(buffer, _CR, out=alone)
            alone[:-1] &= ~is_end[1:]
            is_end |= alone
        return np.flatnonzero(is_end) + 1

    def _signs(self, block: bytes, buffer: NDArray[np.uint8]) -> _Signs:
        sign, is_edge = self.scratch(0, len(block)), self.scratch(1, len(block))
        np.equal(buffer, ord(self.dialect.delimiter), out=is_edge)
        for end in (_LF, _CR) if b"\r" in block else (_LF,):
            is_edge |= np.equal(buffer, end, out=sign)
        comment = self.dialect.comment.encode()
        comments = None
        if comment and comment in block:
            comments = _bits(np.equal(buffer, ord(comment), out=sign))
        quotes = _bits(np.equal(buffer, ord(self.dialect.quote), out=sign))
        if self.dialect.double_quote:
            is_edge |= sign
        edge = _bits(is_edge)
        after = edge << _ONE
        after[1:] |= edge[:-1] >> _LAST
        after[0] |= _ONE
        before = edge >> _ONE
        before[:-1] |= edge[1:] << _LAST
        return _Signs(quotes, comments, after, before)


class _Scratch:
    """Memory for a flag per byte, used again for each block: new pages would cost more than what is done in them."""

    def __init__(self) -> None:
        self.flags = [np.empty(0, np.bool_), np.empty(0, np.bool_)]

    def __call__(self, number: int, length: int) -> NDArray[np.bool_]:
        if len(self.flags[number]) < length:
            self.flags[number] = np.empty(2 * length, np.bool_)
        return self.flags[number][:length]


class _Signs(NamedTuple):
    """Where the signs of a dialect stand in a block, a bit for each byte."""

    quotes: Bits
    comments: Bits | None
    after_edge: Bits
    """The byte before is a delimiter, a line end or another quote."""
    before_edge: Bits

    def strays(self, inside: Bits) -> Bits:
        """Quotes that stand at no edge of a field, and comments."""
        strays = self.quotes & ~((inside & self.after_edge) | (~inside & self.before_edge))
        if self.comments is not None:
            strays |= self.comments & ~inside
        return strays

    def forget_before(self, position: int) -> None:
        word, bit = divmod(position, 64)
        for bits in (self.quotes, self.comments):
            if bits is not None:
                bits[:word] = 0
                if bit:
                    bits[word] &= _ALL << np.uint64(bit)


def _bits(flags: NDArray[np.bool_]) -> Bits:
    bits = np.zeros((len(flags) + 63) // 64, np.uint64)
    packed = np.packbits(flags, bitorder="little")
    bits.view(np.uint8)[: len(packed)] = packed
    return bits


def _inside(quotes: Bits, open_before: bool) -> Bits:
    """From each opening quote up to its closing one: the exclusive or of all bits before, word by word."""
    inside = quotes.copy()
    for step in (1, 2, 4, 8, 16, 32):
        inside ^= inside << np.uint64(step)
    carry = np.bitwise_xor.accumulate(inside >> _LAST)
    carry = np.concatenate((np.zeros(1, np.uint64), carry[:-1])) ^ np.uint64(open_before)
    return inside ^ (carry * _ALL)


def _first(bits: Bits) -> int | None:
    word = int(np.argmax(bits != 0))
    value = int(bits[word])
    return word * 64 + (value & -value).bit_length() - 1 if value else None


def _at(bits: Bits, positions: Positions) -> NDArray[np.bool_]:
    found: Bits = (bits[positions >> 6] >> (positions & 63).astype(np.uint64)) & _ONE
    return found.astype(np.bool_)


def _with_data(
    block: bytes, buffer: NDArray[np.uint8], ends: Positions, dialect: Dialect, *, was_open: bool
) -> NDArray[np.bool_] | slice:
    """Which of the lines are records: not those that are blank or a comment."""
    if not len(ends):
        return slice(None)
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    suspect = _suspects(dialect)[buffer[starts]]
    suspect[0] &= not was_open
    for index in np.flatnonzero(suspect).tolist():
        suspect[index] = not is_record(block[starts[index] : ends[index]], dialect)
    return ~suspect if suspect.any() else slice(None)


@lru_cache
def _suspects(dialect: Dialect) -> NDArray[np.bool_]:
    """By its first byte: whether a line may be no record."""
    table = np.zeros(256, np.bool_)
    table[list(b"\r\n" + dialect.blanks + dialect.comment.encode())] = True
    return table


_LINE = Dialect(delimiter="\n", quote="")
