"""What one mini-batch costs beyond the script's own work: daskscore against one `client.map` task per mini-batch.

    python benchmarks/overhead.py                      # 200,000 mini-batches of 10 items
    python benchmarks/overhead.py --mini-batches 2000  # a quick look

Both engines have two processes with one thread each, get the same items and call the same trivial `run`; they take
turns, and the outputs are compared. daskscore runs as a user would start it (`daskscore run`, with scorer processes,
deadlines, journal and assembly). The cost per mini-batch is the slope between N/4 and N mini-batches, so start-up is
reported apart. A peer's N is smaller, because it is slower; its cost per mini-batch is flat.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ITEMS = 10
SCRIPT = "def run(mini_batch):\n    return mini_batch\n"


@dataclass(frozen=True, slots=True)
class Cost:
    """One engine at two sizes."""

    engine: str
    mini_batches: int
    start_up_seconds: float
    wall_microseconds: float
    cpu_microseconds: float


@dataclass(frozen=True, slots=True)
class Took:
    wall: float
    cpu: float


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "score.py").write_text(SCRIPT)
        rounds = [
            (
                slope("daskscore", lambda n: daskscore(folder, n), options.mini_batches),
                slope("client.map", lambda n: client_map(folder, n), options.peer_mini_batches),
            )
            for _ in range(options.rounds)
        ]
        first_row = statistics.median(first_commit(folder) for _ in range(options.rounds))
    ours, theirs = (median([pair[which] for pair in rounds]) for which in (0, 1))
    ratios = [theirs.wall_microseconds / ours.wall_microseconds for ours, theirs in rounds]
    _print(ours, theirs, statistics.median(ratios), first_row)
    if options.json:
        found = {"daskscore": asdict(ours), "client.map": asdict(theirs), "ratios": ratios, "first_row": first_row}
        options.json.write_text(json.dumps(found, indent=1))


def slope(engine: str, run: Callable[[int], Took], n: int) -> Cost:
    """The cost of one more mini-batch: the difference of two runs, divided by that of their sizes."""
    small, large = run(n // 4), run(n)
    more = n - n // 4
    wall = (large.wall - small.wall) / more
    return Cost(
        engine=engine,
        mini_batches=n,
        start_up_seconds=small.wall - wall * (n // 4),
        wall_microseconds=max(wall * 1e6, 0.01),
        cpu_microseconds=max((large.cpu - small.cpu) / more * 1e6, 0.01),
    )


def daskscore(folder: Path, n: int) -> Took:
    """A whole `daskscore run`, checked for every row."""
    output = folder / "out"
    took = _timed(_command(folder, n))
    rows = (output / "parallel_run_step.txt").read_bytes()
    assert rows == _expected(n), "daskscore's rows are not the items in their order"
    shutil.rmtree(output)
    return took


def client_map(folder: Path, n: int) -> Took:
    """One Dask task per mini-batch, as Dask's own documentation maps a function over many inputs."""
    rows = folder / "rows.txt"
    took = _timed([sys.executable, str(HERE / "plain_dask.py"), str(n), str(ITEMS), str(rows)])
    assert rows.read_bytes() == _expected(n), "client.map's rows are not the items in their order"
    return took


def first_commit(folder: Path) -> float:
    """Seconds from the start of the command to the first row that no crash can undo."""
    journal = folder / "out" / ".daskscore" / "journal"
    began = time.monotonic()
    process = subprocess.Popen(_command(folder, 100_000), env=_environment(), stdout=subprocess.DEVNULL)
    while not (journal.exists() and b'"commit"' in journal.read_bytes()):
        assert process.poll() is None, "the run ended without a commit"
        time.sleep(0.002)
    seconds = time.monotonic() - began
    process.wait()
    shutil.rmtree(folder / "out")
    return seconds


def median(costs: list[Cost]) -> Cost:
    return Cost(
        engine=costs[0].engine,
        mini_batches=costs[0].mini_batches,
        start_up_seconds=statistics.median(cost.start_up_seconds for cost in costs),
        wall_microseconds=statistics.median(cost.wall_microseconds for cost in costs),
        cpu_microseconds=statistics.median(cost.cpu_microseconds for cost in costs),
    )


def _command(folder: Path, n: int) -> list[str]:
    inputs = json.dumps([{"kind": "generated:Items", "count": n * ITEMS}])
    options = ["--mini-batch-size", str(ITEMS), "--process-count-per-node", "2", "--quiet", "--set", f"inputs={inputs}"]
    script = ["--entry-script", str(folder / "score.py"), "--output", str(folder / "out")]
    return [sys.executable, "-m", "daskscore", "run", *script, *options]


def _environment() -> dict[str, str]:
    """The project and this folder are importable, also where neither is installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}


def _timed(command: list[str]) -> Took:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _expected(n: int) -> bytes:
    return b"".join(b"item-%07d\n" % number for number in range(n * ITEMS))


def _print(ours: Cost, theirs: Cost, ratio: float, first_row: float) -> None:
    print("| engine | mini-batches | start-up s | wall µs per mini-batch | CPU µs per mini-batch |")
    print("|---|---|---|---|---|")
    for cost in (ours, theirs):
        print(
            f"| {cost.engine} | {cost.mini_batches:,} | {cost.start_up_seconds:.2f} "
            f"| {cost.wall_microseconds:.1f} | {cost.cpu_microseconds:.1f} |"
        )
    print(f"\nclient.map costs {ratio:.0f} times as much (median of the rounds).")
    print(f"First row committed {first_row:.2f} s after the command was started.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mini-batches", type=int, default=200_000)
    parser.add_argument("--peer-mini-batches", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
