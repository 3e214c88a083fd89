"""The peer of overhead.py: `client.map` with one task per mini-batch on two worker processes.

python benchmarks/plain_dask.py MINI_BATCHES ITEMS_EACH OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from distributed import Client, LocalCluster


def run(mini_batch: list[str]) -> list[str]:
    return mini_batch


def main() -> None:
    n, size, output = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    items = [f"item-{number:07d}" for number in range(n * size)]
    mini_batches = [items[start : start + size] for start in range(0, len(items), size)]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        results = client.gather(client.map(run, mini_batches, pure=False))
    output.write_text("".join(f"{row}\n" for rows in results for row in rows))


if __name__ == "__main__":
    main()
