from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from daskscore.driver.interruption import EXIT_CODE, SIGNALS, Interruption

both = pytest.mark.parametrize("number", SIGNALS)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_nobody_has_asked_at_first() -> None:
    assert not Interruption()()


def test_a_program_may_ask_from_any_thread() -> None:
    interruption = Interruption()
    thread = threading.Thread(target=interruption.ask)
    thread.start()
    thread.join()
    assert interruption()


@both
def test_the_first_signal_asks_for_an_end_in_good_order(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption()
    with interruption.listening(), interruption.in_good_order():
        signal.raise_signal(number)
    assert interruption()
    assert capsys.readouterr().err == "\nStopping: what is done is being committed. Once more ends at once.\n"


@both
def test_before_there_is_something_to_commit_it_simply_ends_the_work(number: int) -> None:
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt), interruption.listening():
        signal.raise_signal(number)


def test_after_all_is_committed_it_simply_ends_the_work_again() -> None:
    interruption = Interruption()
    with interruption.in_good_order():
        pass
    with pytest.raises(KeyboardInterrupt), interruption.listening():
        signal.raise_signal(signal.SIGINT)


def test_in_another_thread_signals_are_left_alone() -> None:
    found: list[object] = []

    def listen() -> None:
        with Interruption().listening():
            found.extend(signal.getsignal(number) for number in SIGNALS)

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == before


DRIVER = """
import os, sys, time
from daskscore.driver.interruption import Interruption
interruption = Interruption()
with interruption.listening(), interruption.in_good_order():
    if sys.argv[1:] == ["behind a pager"]:
        os.set_blocking(2, False)
        for size in (1000, 1):
            try:
                while True: os.write(2, b"x" * size)
            except BlockingIOError:
                pass
        os.set_blocking(2, True)
        interruption.ask()
    print("listening", flush=True)
    while not interruption(): time.sleep(0.01)
    print("asked", flush=True)
    while True: time.sleep(1000)
"""


@contextmanager
def driver(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing but wait for signals."""
    command = [sys.executable, "-c", DRIVER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        try:
            yield process
        finally:
            process.kill()


@both
def test_the_second_signal_ends_at_once(number: int) -> None:
    with driver() as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == EXIT_CODE
    assert stderr.endswith(b"\nEnded at once. What was committed is kept: --resume continues.\n")


def test_it_ends_at_once_behind_a_pager_that_stands_still_too() -> None:
    with driver("behind a pager") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == EXIT_CODE
