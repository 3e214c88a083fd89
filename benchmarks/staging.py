"""What staging ahead saves: whole runs over small objects in an S3 server that takes 50 ms longer for each request.

    python -m benchmarks.staging [--objects 1000] [--latency 0.05] [--run-seconds 0.02]

Needs moto: pip install 'moto[s3]' flask flask-cors. One slot; `run()` reads each item and sleeps. Fetched when needed
means: by the script itself, with s3fs, one item after the other. All seconds include starting up.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import daskscore
from tests.servers import Proxy, S3Server, started_s3

OBJECT_BYTES = 10_000
SCRIPT = """
import json, os, time

def init():
    global filesystem
    if "OPTIONS" in os.environ:
        import s3fs
        filesystem = s3fs.S3FileSystem(**json.loads(os.environ["OPTIONS"]))

def run(mini_batch):
    sizes = []
    for item in mini_batch:
        if "OPTIONS" in os.environ:
            sizes.append(len(filesystem.cat_file(item)))
        else:
            with open(item, "rb") as file:
                sizes.append(len(file.read()))
        time.sleep(float(os.environ["RUN_SECONDS"]))
    return sizes
"""


class Keys:
    """An input of words: the keys of the bucket, which the script fetches itself."""

    files = False

    def __init__(self, objects: int) -> None:
        self.objects = objects

    def items(self) -> Any:
        return (f"objects/in/{number:06}" for number in range(self.objects))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--run-seconds", type=float, default=0.02, help="per item")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, started_s3() as server:
        (Path(folder) / "score.py").write_text(SCRIPT)
        objects = {f"in/{number:06}": b"x" * OBJECT_BYTES for number in range(options.objects)}
        server.put("objects", objects)
        (Path(folder) / "in").mkdir()
        for name, data in objects.items():
            (Path(folder) / name).write_bytes(data)
        proxy = Proxy(server.port, options.latency)
        try:
            measure(Path(folder), server, proxy, options.objects, options.run_seconds)
        finally:
            proxy.close()


def measure(folder: Path, server: S3Server, proxy: Proxy, objects: int, run_seconds: float) -> None:
    remote = {"path": "s3://objects/in/", "storage_options": server.behind(proxy)}
    words = {"kind": "benchmarks.staging:Keys", "objects": objects}
    for seconds in (0.0, run_seconds):
        local = timed(folder, str(folder / "in"), seconds)
        ahead = timed(folder, remote, seconds)
        needed = timed(folder, words, seconds, OPTIONS=json.dumps(server.behind(proxy)))
        print(
            f"{objects} items, run() {seconds * 1000:g} ms for each: local {local:.1f} s, staged ahead {ahead:.1f} s, "
            f"fetched when needed {needed:.1f} s; ahead is {needed / ahead:.1f} times faster, {local / ahead:.2f} of local "
            "speed"
        )


def timed(folder: Path, inputs: Any, run_seconds: float, **variables: str) -> float:
    """Seconds of one run."""
    began = time.monotonic()
    report = daskscore.run(
        entry_script=folder / "score.py",
        inputs=inputs,
        output=folder / "out",
        overwrite=True,
        process_count_per_node=1,
        environment_variables={"RUN_SECONDS": str(run_seconds), **variables},
        run_invocation_timeout=600,
    )
    if report.status != "Completed":
        sys.exit(report.message)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
