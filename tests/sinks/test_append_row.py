from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskscore.errors import RunError
from daskscore.sinks import append_row
from daskscore.sinks.append_row import AppendRow
from daskscore.sinks.interface import Piece
from daskscore.sinks.summary_only import SummaryOnly
from tests.support import files_no_larger_than


@dataclass
class Desk:
    """Parts as scorers leave them, and the output that becomes of them."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "parts").mkdir()
        (self.folder / "scratch").mkdir()
        self.sink = AppendRow(self.folder / "rows.txt", self.folder / "scratch")

    def piece(self, part: str, text: str) -> Piece:
        """Rows at the end of a part."""
        path = self.folder / "parts" / part
        with path.open("ab") as file:
            offset = file.tell()
            file.write(text.encode())
        return Piece(path, offset, len(text.encode()))

    def assemble(self, *pieces: Piece, header: str | None = None) -> str:
        assert self.sink.assemble(iter(pieces), header=header) == str(self.sink.path)
        assert self.left_over == []
        return self.sink.path.read_text(encoding="utf-8")

    @property
    def left_over(self) -> list[Path]:
        return list((self.folder / "scratch").iterdir())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_rows_stand_in_the_order_of_the_pieces(desk: Desk) -> None:
    c, a = desk.piece("x", "c\n"), desk.piece("x", "a\n")
    b = desk.piece("y", "b\n")
    assert desk.assemble(a, b, c) == "a\nb\nc\n"


def test_what_no_piece_names_stays_out(desk: Desk) -> None:
    a = desk.piece("x", "a\n")
    desk.piece("x", "half a row of an attempt that cra")
    assert desk.assemble(a, desk.piece("x", "b\n")) == "a\nb\n"


def test_the_header_stands_once_and_first(desk: Desk) -> None:
    assert desk.assemble(desk.piece("x", "1 2\n"), desk.piece("y", "3 4\n"), header="a é\n") == "a é\n1 2\n3 4\n"


def test_a_header_of_undecodable_bytes_keeps_them(desk: Desk) -> None:
    desk.sink.assemble([], header="a\udcff\n")
    assert desk.sink.path.read_bytes() == b"a\xff\n"


def test_without_rows_there_is_an_empty_file(desk: Desk) -> None:
    assert desk.assemble() == ""


def test_the_same_piece_twice_stands_there_twice(desk: Desk) -> None:
    a = desk.piece("x", "a\n")
    assert desk.assemble(a, a) == "a\na\n"


@pytest.mark.parametrize("sendfile", [True, False])
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.tuples(st.integers(0, 5), st.text(max_size=20)), max_size=30), seed=st.randoms())
def test_any_pieces_of_any_parts_become_their_texts_in_order(
    tmp_path_factory: pytest.TempPathFactory, sendfile: bool, texts: list[tuple[int, str]], seed: random.Random
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    written = [(desk.piece(f"part{part}", text), text) for part, text in texts]
    seed.shuffle(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(append_row, "_SENDFILE", sendfile)
        patch.setattr(append_row, "COPY_BYTES", 7)
        desk.assemble(*(piece for piece, _ in written))
    assert desk.sink.path.read_bytes().decode() == "".join(text for _, text in written)


def test_a_piece_may_be_larger_than_what_is_copied_at_once(desk: Desk) -> None:
    text = "0123456789\n" * 4_000_000
    assert len(text) > 2 * append_row.COPY_BYTES
    assert desk.assemble(desk.piece("x", text), desk.piece("y", "end\n")) == text + "end\n"


def test_few_parts_are_open_at_a_time_however_many_there_are(desk: Desk) -> None:
    pieces = [desk.piece(f"part{n % 300}", f"{n}\n") for n in range(900)]
    before, most = len(os.listdir("/proc/self/fd")), 0

    def watched() -> Iterator[Piece]:
        nonlocal most
        for piece in pieces:
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
            yield piece

    desk.sink.assemble(watched(), header=None)
    assert desk.sink.path.read_text() == "".join(f"{n}\n" for n in range(900))
    assert (most, len(os.listdir("/proc/self/fd"))) == (append_row.OPEN_PARTS + 1, before)


def test_nothing_stands_under_the_name_before_all_rows_do(desk: Desk) -> None:
    pieces = [desk.piece("x", "a\n"), desk.piece("x", "b\n")]

    def watched() -> Iterator[Piece]:
        for piece in pieces:
            assert not desk.sink.path.exists()
            yield piece

    desk.sink.assemble(watched(), header="h\n")
    assert desk.sink.path.read_text() == "h\na\nb\n"


def test_an_earlier_output_is_replaced_and_not_written_over(desk: Desk) -> None:
    desk.assemble(desk.piece("x", "old\n"))
    with desk.sink.path.open() as reader:
        desk.assemble(desk.piece("x", "new\n"))
        assert reader.read() == "old\n"


@pytest.mark.parametrize("wrong", ["missing", "short", "full"])
def test_on_failure_an_earlier_output_stays_and_nothing_is_left_over(desk: Desk, wrong: str) -> None:
    desk.assemble(desk.piece("x", "old\n"))
    good, bad = desk.piece("x", "new\n"), desk.piece("y", "lost\n")
    if wrong == "missing":
        bad.part.unlink()
    if wrong == "short":
        os.truncate(bad.part, 2)
    with files_no_larger_than(6 if wrong == "full" else 1 << 30), pytest.raises(RunError) as error:
        desk.sink.assemble([good, bad], header=None)
    assert (desk.sink.path.read_text(), desk.left_over) == ("old\n", [])
    reason = {"missing": "No such file or directory", "short": "a part is shorter than its journal says"}
    assert str(error.value).startswith(
        f"{reason.get(wrong, 'File too large')}: {desk.sink.path} could not be assembled."
    )


def test_an_interrupt_leaves_nothing_over(desk: Desk) -> None:
    def interrupted() -> Iterator[Piece]:
        yield desk.piece("x", "a\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.sink.assemble(interrupted(), header=None)
    assert (desk.sink.path.exists(), desk.left_over) == (False, [])


def test_summary_only_writes_nothing_and_names_the_folder(tmp_path: Path) -> None:
    assert SummaryOnly(tmp_path).assemble([], header=None) == str(tmp_path)
    assert list(tmp_path.iterdir()) == []
