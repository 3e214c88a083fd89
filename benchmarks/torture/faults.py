"""What an adversary does to a run, and at which moment of its progress; drawn beforehand, from the seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.torture import tables
from benchmarks.torture.jobs import HAS_ISOLATION, Job, Shape, draw_shape
from benchmarks.torture.watching import STAGES, Progress

KILLED = ("scorer", "guard", "nursery", "worker", "keeper")
"""Processes of ours that are below the driver, from the leaf up."""
COMMON = (*KILLED, "driver", "stop", "misbehave")
KINDS = (*COMMON, "disk", "storage", "input", "clock", "nanny", "stall", "cut", "clock-back")
"""All kinds, the dear ones last."""
NEEDS = {"disk": "mount", "clock": "cc", "clock-back": "cc", "cut": "netns", "storage": "s3", "stall": "s3"}
"""What a machine must have for a kind."""
WEIGHTS = {
    "driver": 6,
    "misbehave": 6,
    "scorer": 4,
    "worker": 3,
    "storage": 4,
    "disk": 3,
    "cut": 1,
    "stall": 1,
    "clock-back": 1,
}
"""Of those that are not 2."""
ALONE = ("cut", "nanny")
"""They need a cluster of their own, which costs seconds."""
COSTLY = {"scorer": "crash", "guard": "crash", "nursery": "crash", "stop": "timeout"}
"""What a kind makes of the attempt in hand."""
JUMPS = {"clock": (-2.0, 7.0, 3600.0, 86_400.0 * 400), "clock-back": (-7.0, -3600.0, -86_400.0 * 400)}
RUN_SECONDS = 2.0
"""How long run() may take, where something is to run into it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When the script was called so often, or when a stage was reached."""

    calls: int = 0
    stage: str = "nothing"

    def reached(self, progress: Progress) -> bool:
        return progress.calls >= self.calls and STAGES.index(progress.stage) >= STAGES.index(self.stage)

    def told(self) -> str:
        return f"after {self.calls} calls" if self.calls else f"at the stage {self.stage!r}"


@dataclass(frozen=True, slots=True)
class Act:
    """One deed."""

    kind: str
    moment: Moment
    whom: str = ""
    """The sort of process."""
    everyone: bool = False
    """All processes of that sort."""
    seconds: float = 0.0
    """How long it lasts, where it ends by itself."""
    amount: float = 0
    """Requests, bytes that are left, seconds of a clock; as the kind has it."""
    at_once: bool = False
    """A resume does not wait until all processes of the killed driver are gone."""

    def told(self) -> str:
        words = [self.kind, self.moment.told()]
        if self.whom and self.whom != self.kind:
            words.append(f"of {'each' if self.everyone else 'a'} {self.whom}")
        elif self.everyone:
            words.append("each")
        if self.seconds:
            words.append(f"for {self.seconds:.1f} s")
        if self.amount:
            words.append(f"({self.amount:g})")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Ordeal:
    """A job, and all that happens to it."""

    seed: int
    kinds: tuple[str, ...]
    shape: Shape
    acts: tuple[Act, ...]
    cluster: str = "local"
    """`existing`: a scheduler and two workers that stand already; `apart`: each in a network namespace of its own."""

    @property
    def costly(self) -> frozenset[str]:
        """The kinds of failure that an innocent item may have in its last try."""
        return frozenset(COSTLY[act.kind] for act in self.acts if act.kind in COSTLY)

    @property
    def hits(self) -> int:
        """How many acts may meet one and the same mini-batch."""
        return sum(act.kind in COSTLY for act in self.acts)

    def told(self) -> str:
        return f"{self.shape.told()}; {', '.join(act.told() for act in self.acts) or 'nothing happens'}"


def draw(seed: int, kinds: Sequence[str]) -> Ordeal:
    """With one or two of the kinds; the same for the same seed and kinds."""
    chance = random.Random(seed)
    weights = [WEIGHTS.get(kind, 2) for kind in kinds]
    first = chance.choices(kinds, weights)[0] if kinds else ""
    chosen = [first] if first else []
    if first and first not in ALONE and chance.random() < 0.5:
        others = [kind for kind in kinds if kind != first and kind not in ALONE and _together(first, kind)]
        chosen += chance.sample(others, min(1, len(others)))
    return of_kinds(seed, tuple(chosen))


def _together(one: str, other: str) -> bool:
    """Whether it is still known what must come of both."""
    pair = {one, other}
    return pair not in ({"input", "disk"}, {"storage", "stall"}, {"input", "storage"}, {"input", "stall"})


def of_kinds(seed: int, kinds: tuple[str, ...]) -> Ordeal:
    """With just these kinds; the same for the same seed and kinds."""
    chance = random.Random(f"{seed} {' '.join(kinds)}")
    shape = draw_shape(chance, storage=bool({"storage", "stall"} & set(kinds)))
    shape = _fitting(shape, kinds, chance)
    acts: list[Act] = []
    for kind in kinds:
        acts += _acts(kind, chance, _calls(shape), shape)
    shape = _patient(shape, acts)
    if "misbehave" in kinds:
        shape = _misbehaving(shape, chance)
    cluster = {"cut": "apart", "nanny": "existing"}.get(kinds[0] if kinds else "", "local")
    return Ordeal(seed, kinds, shape, tuple(acts), cluster)


def _fitting(shape: Shape, kinds: tuple[str, ...], chance: random.Random) -> Shape:
    """The shape that the kinds need."""
    found = set(kinds)
    if found & {"storage", "stall"} and not (shape.remote_inputs or shape.remote_output):
        which = chance.choice(("inputs", "output"))
        shape = replace(shape, remote_inputs=which == "inputs", remote_output=which == "output")
    if "input" in found:
        shape = replace(shape, content="files", remote_inputs=False)
    if "stall" in found:
        shape = replace(shape, remote_inputs=True)
    if found & set(ALONE):
        shape = replace(shape, nodes=2, processes=2, remote_inputs=False, remote_output=False, item_seconds=0.02)
    if "cut" in found:
        shape = replace(shape, items=120, item_seconds=0.05)
    if "worker" in found:
        shape = replace(shape, nodes=2)
    return shape


def _patient(shape: Shape, acts: list[Act]) -> Shape:
    """So many tries that what the adversary does uses none of them up."""
    costly = sum(act.kind in COSTLY for act in acts)
    if any(act.kind == "stop" for act in acts):
        shape = replace(shape, run_seconds=RUN_SECONDS)
    return replace(shape, max_try=3 + costly)


def _misbehaving(shape: Shape, chance: random.Random) -> Shape:
    """The table; run_max_try is as small as what passes allows."""
    names = Job(shape, folder=None, disk=None).items  # type: ignore[arg-type]  # its folders are not asked for
    dear = chance.random() < 0.25
    batches = max(1, shape.items // shape.mini_batch_size)
    table = tables.draw(
        chance, names, poison=chance.randint(1, max(1, batches // 5)), passing=chance.randint(0, 3), dear=dear
    )
    if chance.random() < 0.3:
        table.setdefault(chance.choice(names), ["short"])
    return replace(shape, table=table, run_seconds=RUN_SECONDS if dear else shape.run_seconds)


def _calls(shape: Shape) -> int:
    return shape.items


def _moment(chance: random.Random, calls: int, *, stages: Sequence[str] = STAGES) -> Moment:
    if stages and chance.random() < 0.35:
        return Moment(stage=chance.choice(stages))
    return Moment(calls=chance.randint(1, max(1, calls - 1)))


def _acts(kind: str, chance: random.Random, calls: int, shape: Shape) -> list[Act]:
    running = ("worker", "journal")
    match kind:
        case "scorer" | "guard" | "nursery" | "worker":
            return [
                Act(kind, _moment(chance, calls, stages=running), kind, everyone=chance.random() < 0.3)
                for _ in range(chance.randint(1, 3))
            ]
        case "keeper":
            return [Act(kind, _moment(chance, calls, stages=running), kind)]
        case "driver":
            return [
                Act(kind, _moment(chance, calls), kind, at_once=chance.random() < 0.5)
                for _ in range(chance.randint(1, 3))
            ]
        case "nanny":
            return [Act(kind, _moment(chance, calls, stages=running), kind)]
        case "stop":
            return [
                Act(
                    kind,
                    _moment(chance, calls, stages=running),
                    chance.choice(("scorer", "guard", "nursery", "worker", "driver")),
                    seconds=chance.choice((0.1, 0.5, 1.5, 3.0)),
                )
                for _ in range(chance.randint(1, 2))
            ]
        case "disk":
            left = chance.choice((0, 0, 0, 1 << 12, 1 << 14, 1 << 16))
            return [
                Act(kind, _moment(chance, calls, stages=("lock", *running, "assembling", "rows")), amount=left)
                for _ in range(chance.randint(1, 2))
            ]
        case "storage":
            return [Act(kind, _moment(chance, calls), amount=chance.randint(1, 6)) for _ in range(chance.randint(1, 3))]
        case "stall":
            return [Act(kind, Moment(), amount=1)]
        case "input":
            return [
                Act(kind, Moment(calls=chance.randint(1, calls // 2)), chance.choice(("deleted", "changed")), amount=n)
                for n in (1, chance.randint(1, 5))
            ]
        case "clock" | "clock-back":
            return [
                Act(kind, _moment(chance, calls), amount=chance.choice(JUMPS[kind]))
                for _ in range(chance.randint(1, 3))
            ]
        case "cut":
            return [
                Act(
                    kind,
                    Moment(calls=chance.randint(5, calls // 2)),
                    chance.choice(("w1", "w2")),
                    seconds=chance.choice((2.0, 4.0, 25.0)),
                )
            ]
        case _:
            return []


__all__ = ["HAS_ISOLATION", "KINDS", "NEEDS", "Act", "Moment", "Ordeal", "draw", "of_kinds"]
