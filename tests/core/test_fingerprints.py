from __future__ import annotations

from daskscore.core.fingerprints import STOOD, fingerprint
from daskscore.core.tracebacks import end_of

HUNG = "Thread 0x7f (most recent call last):\n{other}\n\n" + STOOD + '\n  File "/s.py", line {line}, in {function}\n'


def hung(message: str = "no answer within 60 s", *, other: str = "", line: int = 3, function: str = "run") -> str:
    return fingerprint(message, HUNG.format(other=other, line=line, function=function) + message)


def test_hangs_in_one_function_are_one_failure_whatever_the_line_and_the_other_threads() -> None:
    assert hung() == hung(line=4) == hung(other='  File "/s.py", line 9, in work') == hung("no answer within 5 s")


def test_hangs_in_different_functions_are_not() -> None:
    assert hung() != hung(function="read")


def test_exceptions_of_different_lines_are_not_one_failure() -> None:
    text = 'Traceback (most recent call last):\n  File "/s.py", line {}, in run\nE: x'
    assert fingerprint("E", text.format(3)) != fingerprint("E", text.format(4))


def test_the_end_of_a_text_is_whole_lines_of_it() -> None:
    text = "\n".join(f"line {number}" for number in range(100))
    assert end_of(text, 1_000) == text
    assert end_of(text, 20) == "…\nline 98\nline 99"
    assert all(len(end_of("x" * 100, most)) <= most for most in range(100))
