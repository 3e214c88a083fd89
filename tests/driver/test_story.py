"""A run as its output folder tells it: what `daskscore show` and `logs` read."""

from __future__ import annotations

from pathlib import Path

import pytest

from daskscore.core.layout import Layout
from daskscore.driver.story import Attempt, Story, attempt_in

LINE = b'7,1,0/process001,2026-01-02T03:04:05.000006,2,0,2,0.5,,0.5,RUN_EXCEPTION,raise,"%b","[""a"",""b""]"\n'


def attempt(message: bytes) -> Attempt:
    found = attempt_in(LINE % message)
    assert found is not None
    return found


@pytest.fixture
def story(tmp_path: Path) -> Story:
    log = tmp_path / attempt(b"").log_names[0]
    log.parent.mkdir(parents=True)
    log.write_text(
        "mini-batch 7: run() raised ValueError: one\nTraceback: one\n\n"
        "mini-batch 7: run() raised ValueError: two\nlines\nTraceback: two\n\n"
        "mini-batch 70: run() raised ValueError: one\nTraceback: other\n\n"
    )
    return Story(Layout(tmp_path))


@pytest.mark.parametrize(
    ("message", "trace"),
    [
        (b"run() raised ValueError: one", "Traceback: one"),
        (rb"run() raised ValueError: two\nlines", "lines\nTraceback: two"),
        (b"run() raised KeyError: gone from the log", ""),
    ],
)
def test_an_attempt_has_the_traceback_with_its_own_message(story: Story, message: bytes, trace: str) -> None:
    assert story.traceback(attempt(message)).strip() == trace


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"7,1,0/process001\n", LINE[:-1], LINE.replace(b"0.5", b"half"), LINE.replace(b"7,1", b"x,1")]
)
def test_what_is_no_whole_line_is_no_attempt(line: bytes) -> None:
    assert attempt_in(line) is None
