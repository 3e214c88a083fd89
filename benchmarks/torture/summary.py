"""What is told of runs: one that failed, the table of all, and the table of costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.torture.faults import Ordeal, of_kinds
from benchmarks.torture.runs import Result

SORTS = ("bytes", "items", "contradiction", "leftovers", "hang", "ending", "memory", "descriptors")
HEADS = (
    "wrong bytes",
    "lost or doubled items",
    "contradictions",
    "leftovers",
    "hangs",
    "wrong endings",
    "memory",
    "descriptors",
)


def story(result: Result) -> str:
    """How one run went, and how to repeat it."""
    ordeal = result.ordeal
    lines = [
        f"run {ordeal.seed}: {ordeal.told()}",
        f"  {result.sessions} sessions, {result.seconds:.1f} s, {result.calls} calls, {result.attempts} attempts; "
        f"done: {', '.join(result.done) or 'nothing'}; peak MiB: "
        + ", ".join(f"{name} {peak >> 10}" for name, peak in sorted(result.peak.items())),
    ]
    for problem in result.problems:
        lines.append(f"  {problem.sort.upper()}: {problem.words}")
    if result.problems:
        lines.append(f"  kept in {result.folder}")
        if of_kinds(ordeal.seed, ordeal.kinds) == ordeal:
            command = f"python -m benchmarks.torture --repeat {ordeal.seed} --just {','.join(ordeal.kinds)}"
            lines.append(f"  repeat: {command}")
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    """Runs by kind of fault; a run with two kinds stands in both lines."""
    kinds = sorted({kind for result in results for kind in result.ordeal.kinds})
    lines = [_line("fault", "runs", "done", *HEADS)]
    lines.append("|---" * (3 + len(HEADS)) + "|")
    for name in (*kinds, "all"):
        found = [result for result in results if name == "all" or name in result.ordeal.kinds]
        done = sum(len(result.done) if name == "all" else result.done.count(name) for result in found)
        counts = [sum(any(p.sort == sort for p in result.problems) for result in found) for sort in SORTS]
        lines.append(_line(name, len(found), done or "", *(count or "" for count in counts)))
    return "\n".join(lines)


def tell_costs(endure: Callable[[Ordeal], Result], kinds: Sequence[str], times: int, seed: int) -> None:
    """Each kind alone, each time beside the same job that nobody disturbs; medians of those that went well."""
    print(_line("fault", "seconds without", "seconds with", "seconds more", "calls more", "problems"))
    print("|---" * 6 + "|")
    for kind in kinds:
        ordeals = [of_kinds(seed * 1000 + number, (kind,)) for number in range(times)]
        pairs = [(endure(ordeal), endure(_undisturbed(ordeal))) for ordeal in ordeals]
        good = [pair for pair in pairs if not pair[0].problems and not pair[1].problems]
        if not good:
            print(_line(kind, *[""] * 4, len(pairs)), flush=True)
            continue
        values = [(still.seconds, loud.seconds, loud.seconds - still.seconds) for loud, still in good]
        cells = [f"{statistics.median(column):.1f}" for column in zip(*values, strict=True)]
        calls = statistics.median(loud.calls - still.calls for loud, still in good)
        print(_line(kind, *cells, f"{calls:g}", len(pairs) - len(good) or ""), flush=True)


def _undisturbed(ordeal: Ordeal) -> Ordeal:
    return replace(ordeal, acts=(), shape=replace(ordeal.shape, table={}))


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
