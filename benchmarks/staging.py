"""What staging ahead saves: small objects in an S3 server that takes 50 ms longer for each request.

    python -m benchmarks.staging [--objects 1000] [--latency 0.05] [--run-seconds 0.02]

Needs moto: pip install 'moto[s3]' flask flask-cors s3fs. One slot; `run()` is a sleep.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from daskscore.core.planning import cut
from daskscore.inputs.remote import RemoteFiles
from daskscore.inputs.stores import Stores
from daskscore.worker.staging import Stager
from tests.servers import Proxy, S3Server, started_s3

MINI_BATCH = 10
OBJECT_BYTES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--run-seconds", type=float, default=0.02, help="per item")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started_s3() as server:
        server.put("objects", {f"in/{number:06}": b"x" * OBJECT_BYTES for number in range(options.objects)})
        proxy = Proxy(server.port, options.latency)
        try:
            measure(Path(folder), server, proxy, options.run_seconds)
        finally:
            proxy.close()


def measure(folder: Path, server: S3Server, proxy: Proxy, run_seconds: float) -> None:
    began = time.monotonic()
    items = list(RemoteFiles("s3://objects/in", server.behind(proxy)).items())
    print(f"{len(items)} objects listed in {time.monotonic() - began:.2f} s")
    stores = Stores({"s3://objects/": server.behind(proxy)})
    local = folder / "local"
    local.mkdir()
    copies = [str(local / f"{number:06}") for number in range(len(items))]
    for path in copies:
        Path(path).write_bytes(b"x" * OBJECT_BYTES)
    for seconds in (0.0, run_seconds):
        on_disk = timed(one_by_one(copies, None), seconds)
        with Stager(folder / "ahead", stores) as stager:
            ahead = timed(all_ahead(items, stager), seconds)
            brought = f"{stager.brought_items} items, at most {stager.most_held_bytes >> 10} KiB held"
        with Stager(folder / "needed", stores, workers=1) as stager:
            needed = timed(one_by_one(items, stager), seconds)
        print(
            f"run() {seconds * 1000:g} ms per item: local {on_disk:.1f} s, ahead {ahead:.1f} s ({brought}), "
            f"when needed {needed:.1f} s; ahead is {needed / ahead:.1f} times faster, {on_disk / ahead:.2f} of local speed"
        )


def timed(mini_batches: Iterator[list[str]], run_seconds: float) -> float:
    began = time.monotonic()
    for paths in mini_batches:
        for path in paths:
            Path(path).read_bytes()
            time.sleep(run_seconds)
    return time.monotonic() - began


def all_ahead(items: list[str], stager: Stager) -> Iterator[list[str]]:
    with stager.begin(cut(items, MINI_BATCH)) as ahead:
        for position in range(len(ahead)):
            staged = ahead.next(60)
            assert staged is not None
            assert not staged.failures
            yield staged.paths
            ahead.done(position)


def one_by_one(items: list[str], stager: Stager | None) -> Iterator[list[str]]:
    for item in items:
        if stager is None:
            yield [item]
            continue
        with stager.begin([[item]]) as ahead:
            staged = ahead.next(60)
            assert staged is not None
            yield staged.paths


if __name__ == "__main__":
    main()
