"""What passes by itself is waited for, what is slow is tried elsewhere, and what can never go well is stopped early."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.consistency import check
from tests.support import Workbench

NAMES = [f"item-{number:03d}" for number in range(60)]


class Busy(BaseHTTPRequestHandler):
    """A service that refuses each item once, and says when to come back."""

    seen: set[str] = set()  # noqa: RUF012  # of the one test that uses it

    def do_GET(self) -> None:
        known = self.path in self.seen
        self.seen.add(self.path)
        self.send_response(200 if known else 429)
        if not known:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def service() -> Iterator[str]:
    Busy.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_busy_service_is_asked_again_later_and_costs_no_try(bench: Workbench, service: str) -> None:
    bench.script(
        f"""
        import os, urllib.request

        def run(mini_batch):
            for item in mini_batch:
                urllib.request.urlopen("{service}/" + os.path.basename(item)).close()
            return [os.path.basename(item) for item in mini_batch]
        """
    )
    bench.inputs(*NAMES)
    done = bench.run("--mini-batch-size", "1", "--run-max-try", "1", "--process-count-per-node", "2")
    assert done.code == 0, done.stderr
    assert done.rows == NAMES
    assert done.report["attempts"] == 2 * len(NAMES)
    check(bench.output)


def test_a_script_can_ask_for_another_time_and_name_items_without_a_result(bench: Workbench) -> None:
    bench.script(
        """
        import os, daskscore

        def run(mini_batch):
            flag = "seen-" + os.path.basename(mini_batch[0])
            if not os.path.exists(flag):
                open(flag, "w").close()
                raise daskscore.Retry("the quota is used up", after=0.5)
            names = [os.path.basename(item) for item in mini_batch]
            return [daskscore.Failed("no face in it") if name.endswith("7") else name for name in names]
        """
    )
    bench.inputs(*NAMES)
    done = bench.run("--mini-batch-size", "20", "--process-count-per-node", "2")
    assert done.code == 0, done.stderr
    assert done.rows == [name for name in NAMES if not name.endswith("7")]
    assert {(item["item"].rpartition("/")[2], item["kind"], item["message"]) for item in done.failed_items} == {
        (name, "raise", "no face in it") for name in NAMES if name.endswith("7")
    }
    assert done.report["isolation_attempts"] == 0
    check(bench.output)


def test_a_straggler_is_tried_elsewhere_and_its_rows_stand_once(bench: Workbench) -> None:
    bench.script(
        """
        import os, time

        def run(mini_batch):
            name = os.path.basename(mini_batch[0])
            time.sleep(0.01)
            if name == "item-058":
                try:
                    os.mkdir("seen")
                except FileExistsError:
                    pass
                else:
                    time.sleep(3600)
            return [name]
        """
    )
    bench.inputs(*NAMES)
    arguments = ("--mini-batch-size", "1", "--process-count-per-node", "2", "--run-invocation-timeout", "7200")
    done = bench.run(*arguments)
    assert done.code == 0, done.stderr
    assert done.rows == NAMES
    check(bench.output)


def test_a_script_that_fails_at_everything_is_stopped_early(bench: Workbench) -> None:
    bench.script(
        """
        def run(mini_batch):
            raise KeyError("no such column")
        """
    )
    bench.inputs(*NAMES)
    done = bench.run("--mini-batch-size", "1", "--process-count-per-node", "2")
    assert done.code == 1
    assert "failed alike: run() raised KeyError: 'no such column'" in done.stderr
    assert 'raise KeyError("no such column")' in done.stderr
    assert done.report["items"]["failed"] < len(NAMES)
    check(bench.output)

    again = bench.run(
        "--mini-batch-size", "1", "--process-count-per-node", "2", "--overwrite", "--set", "alike_failures_limit=-1"
    )
    assert again.code == 1
    assert "failed alike" not in again.stderr
    assert again.report["items"]["failed"] == len(NAMES)
    check(bench.output)


def test_another_process_has_the_next_try(bench: Workbench) -> None:
    bench.script(
        f"""
        import json, os, time

        def run(mini_batch):
            name = os.path.basename(mini_batch[0])
            with open("tries", "a") as file:
                file.write(json.dumps([name, os.getpid()]) + "\\n")
            time.sleep(0.02)
            if name == "item-001":
                raise ValueError("not in this process")
            return [name]

        assert {sys.version_info[:2]}
        """
    )
    bench.inputs(*NAMES)
    done = bench.run("--mini-batch-size", "1", "--process-count-per-node", "2", "--set", "bundle_size=1")
    assert done.code == 0, done.stderr
    tries = [json.loads(line) for line in (bench.folder / "tries").read_text().splitlines()]
    first, second, *_ = [pid for name, pid in tries if name == "item-001"]
    assert first != second
