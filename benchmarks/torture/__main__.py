"""Jobs of a few seconds under fire: each run draws a job and what happens to it from its seed, and is checked to the byte.

python -m benchmarks.torture --runs 500 --jobs 2 --seed 1
python -m benchmarks.torture --runs 50 --kinds driver,disk     # only these kinds of fault
python -m benchmarks.torture --repeat 1000017 --kinds …        # one run again, as a failing one says
python -m benchmarks.torture --costs --runs 3                  # what each kind alone costs
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.torture import summary
from benchmarks.torture.faults import KINDS, draw, of_kinds
from benchmarks.torture.means import possible
from benchmarks.torture.runs import Result, endure
from benchmarks.torture.storages import Storages

SEEDS = 1_000_000
"""Runs of one seed have numbers below this."""


def main() -> int:
    options = _options()
    kinds = [kind for kind in options.kinds if kind not in (lacking := possible(options.kinds))]
    for kind, why in lacking.items():
        print(f"without {kind}: {why}", file=sys.stderr)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="daskscore-torture-"))
    with Storages() as storages:
        if options.costs:
            place = folder / "costs"
            summary.tell_costs(lambda ordeal: endure(ordeal, place, storages), kinds, options.runs, options.seed)
            return 0
        seeds = (
            [options.repeat]
            if options.repeat is not None
            else [options.seed * SEEDS + number for number in range(options.runs)]
        )
        results = _all(seeds, kinds, folder, storages, options)
    print(summary.table(results))
    bad = [result for result in results if result.problems]
    return 1 if bad else 0


def _all(
    seeds: list[int], kinds: list[str], folder: Path, storages: Storages, options: argparse.Namespace
) -> list[Result]:
    telling = threading.Lock()

    def one(seed: int) -> Result:
        ordeal = draw(seed, kinds) if options.just is None else of_kinds(seed, tuple(options.just))
        result = endure(ordeal, folder / str(seed), storages)
        with telling:
            if result.problems or options.verbose:
                print(summary.story(result), flush=True)
        return result

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            return list(pool.map(one, seeds))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", type=_kinds, default=list(KINDS), help=f"some of {','.join(KINDS)}")
    parser.add_argument("--repeat", type=int, metavar="SEED", help="one run, by its own seed")
    parser.add_argument("--just", type=_kinds, metavar="KINDS", help="all of these in each run")
    parser.add_argument("--folder", type=Path, help="where runs that fail keep what they left")
    parser.add_argument("--costs", action="store_true", help="each kind alone, --runs times, beside undisturbed runs")
    parser.add_argument("--verbose", action="store_true", help="tell of each run")
    return parser.parse_args()


def _kinds(text: str) -> list[str]:
    found = [word for word in text.split(",") if word]
    if unknown := set(found) - set(KINDS):
        raise argparse.ArgumentTypeError(f"there is no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
