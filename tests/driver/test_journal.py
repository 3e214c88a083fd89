from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from daskscore.driver.journal import Journal, Record, read, read_at
from daskscore.errors import RunError
from tests.support import files_no_larger_than

RECORDS: list[Record] = [{"record": "a", "n": 1}, {"record": "b", "text": 'é\n"\udcff"'}, {"record": "c", "n": [1.5]}]


def write(path: Path, records: list[Record]) -> list[bytes]:
    """The lines of a journal with these records."""
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path.read_bytes().splitlines(keepends=True)


def records(path: Path) -> list[Record]:
    return [record for _, record in read(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_records_come_back_in_order(path: Path) -> None:
    assert len(write(path, RECORDS)) == 3
    assert records(path) == RECORDS


def test_a_journal_that_is_not_there_has_no_records(path: Path) -> None:
    assert records(path) == []


def test_a_record_is_found_again_at_its_place(path: Path) -> None:
    write(path, RECORDS)
    assert [read_at(path, place) for place, _ in read(path)] == RECORDS


def test_a_place_where_no_record_begins_is_refused(path: Path) -> None:
    write(path, RECORDS)
    with pytest.raises(RunError, match="was changed while it was read"):
        read_at(path, 3)


def test_an_opened_journal_goes_on_where_it_ended(path: Path) -> None:
    write(path, RECORDS[:1])
    write(path, RECORDS[1:])
    assert records(path) == RECORDS


def test_a_last_record_torn_at_any_byte_never_happened(path: Path) -> None:
    *whole, last = write(path, RECORDS)
    for length in range(len(last)):
        path.write_bytes(b"".join(whole) + last[:length])
        assert records(path) == RECORDS[:2]
        write(path, [{"record": "new"}])
        assert records(path) == [*RECORDS[:2], {"record": "new"}]


def test_a_record_changed_in_any_byte_and_all_that_follow_it_never_happened(path: Path) -> None:
    first, middle, last = write(path, RECORDS)
    for place in range(len(middle)):
        changed = bytearray(middle)
        changed[place] ^= 1
        path.write_bytes(first + changed + last)
        assert records(path) == RECORDS[:1]


def test_opening_cuts_off_what_never_happened(path: Path) -> None:
    first, middle, last = write(path, RECORDS)
    path.write_bytes(first + middle.upper() + last)
    Journal(path).close()
    assert path.read_bytes() == first


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
@example(b"00000000 \n")
@example(b"00000000\n")
@example(b"\0" * 60)
def test_whatever_bytes_follow_the_records_before_them_stand(path: Path, rubbish: bytes) -> None:
    path.unlink(missing_ok=True)
    write(path, RECORDS)
    with path.open("ab") as file:
        file.write(rubbish)
    write(path, [{"record": "new"}])
    assert records(path) == [*RECORDS, {"record": "new"}]


@pytest.mark.parametrize("room", [0, 1, 20, 65])
def test_on_a_full_disk_nothing_is_lost_and_half_a_record_is_taken_back(path: Path, room: int) -> None:
    write(path, RECORDS[:2])
    journal = Journal(path)
    journal.append(RECORDS[2])
    whole = path.read_bytes()
    with files_no_larger_than(len(whole) + room), pytest.raises(RunError, match=r"File too large: .*journal.*--resume"):
        journal.append({"record": "x" * 60})
    assert path.read_bytes() == whole
    journal.append({"record": "there is room again"})
    journal.close()
    assert records(path) == [*RECORDS, {"record": "there is room again"}]


APPEND_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from daskscore.driver.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in count():
    journal.append({"number": number})
    print(number, flush=True)
"""


def test_what_was_appended_survives_kill_9(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", APPEND_FOR_EVER, path], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        said = [driver.stdout.readline() for _ in range(50)]
        driver.send_signal(signal.SIGKILL)
        said += driver.stdout.readlines()
    numbers = [record["number"] for record in records(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) in (len(said), len(said) + 1)
