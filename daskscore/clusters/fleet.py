"""Which jobs a run has in a queue, and which it should have: decisions, from what queue and scheduler say. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from daskscore.clusters.queues import Phase, Standing

REJOIN_SECONDS = 60.0
"""How long the worker of a running job may be away: its nanny starts a new one meanwhile."""

GROW_SECONDS = 10.0
"""Where all workers have been busy for so long, more are asked for."""

IDLE_SECONDS = 60.0
"""A worker beyond the fewest that has had nothing to do for so long is sent home."""

MOST_PAUSE_SECONDS = 60.0
"""Between two jobs that fail, at most."""

SPARE_FAILURES = 3
"""So many jobs may fail in a row, besides all that were asked for at first."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has to do."""

    bundles: int
    slots: int


@dataclass(slots=True)
class Asked:
    """A job that stands in the queue, or runs, as far as we know."""

    number: str
    """The queue's own."""
    worker: str
    """The name of its worker."""
    since: float
    """When it was asked for."""
    came: bool = False
    """Its worker has been there since the job began."""
    here: bool = False
    away_since: float | None = None
    idle_since: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is to be cancelled, in case it is still there, and forgotten."""

    job: Asked
    failed: bool = False
    """No worker ever came from it."""
    why: str = ""
    surplus: bool = False
    """Its worker is there and has nothing to do."""


@dataclass(slots=True)
class Fleet:
    """The jobs of one run."""

    fewest: int
    most: int
    settles_seconds: float
    """For so long a job that was asked for may not be listed yet."""
    asked: dict[str, Asked] = field(default_factory=dict)
    wanted: int = 0
    """How many jobs there should be now."""
    failures: int = 0
    """Jobs in a row that ended before their worker came."""
    trouble: str = ""
    """Why the queue, or the last submission, gave no good answer."""
    _standings: Mapping[str, Standing] = field(default_factory=dict)
    _busy_since: float | None = None
    _short_since: float | None = None
    _pause_until: float = 0.0

    def __post_init__(self) -> None:
        self.wanted = self.fewest

    def missing(self, now: float) -> int:
        """How many jobs are to be asked for."""
        return max(0, self.wanted - len(self.asked)) if now >= self._pause_until else 0

    def submitted(self, number: str, worker: str, now: float) -> None:
        self.asked[number] = Asked(number, worker, now)

    def refused(self, why: str, now: float) -> None:
        """A job could not be asked for."""
        self.trouble = why
        self._pause(now)

    @property
    def hopeless(self) -> bool:
        """Job after job fails, and nobody works."""
        return self.failures >= self.fewest + SPARE_FAILURES and not any(job.here for job in self.asked.values())

    def look(self, now: float, standings: Mapping[str, Standing] | None, loads: Mapping[str, Load]) -> list[Ended]:
        """Take in what the queue says (None: nothing) and which workers are there; which jobs are over."""
        self._standings = standings or {}
        over = [ended for job in list(self.asked.values()) if (ended := self._judge(job, now, standings, loads))]
        for ended in over:
            del self.asked[ended.job.number]
            if ended.failed:
                self.failures += 1
                self._pause(now)
        self._resize(now, loads)
        over += self._send_home(now)
        short = sum(job.here for job in self.asked.values()) < self.wanted
        self._short_since = (self._short_since or now) if short else None
        return over

    def _judge(
        self, job: Asked, now: float, standings: Mapping[str, Standing] | None, loads: Mapping[str, Load]
    ) -> Ended | None:
        load = loads.get(job.worker)
        job.here = load is not None
        if load is not None:  # whatever the queue says
            job.came, job.away_since, self.failures = True, None, 0
            job.idle_since = None if load.bundles else (job.idle_since or now)
            return None
        standing = standings.get(job.number) if standings is not None else None
        if standings is not None and standing is None:
            return Ended(job, failed=not job.came) if now - job.since > self.settles_seconds else None
        if standing is not None and standing.phase is Phase.STUCK:
            return Ended(job, failed=True, why=standing.reason)
        if standing is not None and standing.phase is Phase.PENDING:
            job.came, job.away_since = False, None  # the queue itself starts it again
        elif job.came:
            job.away_since = job.away_since or now
            if now - job.away_since > REJOIN_SECONDS:
                return Ended(job)
        return None

    def _resize(self, now: float, loads: Mapping[str, Load]) -> None:
        if self.fewest == self.most:
            return
        ours = [loads[job.worker] for job in self.asked.values() if job.here]
        if not ours or any(load.bundles <= load.slots for load in ours):
            self._busy_since = None
            return
        self._busy_since = self._busy_since or now
        if now - self._busy_since > GROW_SECONDS and self.wanted < self.most:
            self.wanted = min(self.most, 2 * self.wanted)
            self._busy_since = now

    def _send_home(self, now: float) -> list[Ended]:
        """What nobody needs: first those that wait in the queue."""
        idle = [job for job in self.asked.values() if job.idle_since and now - job.idle_since > IDLE_SECONDS]
        if not idle or self.wanted <= self.fewest:
            return []
        waiting = [job for job in self.asked.values() if not job.came]
        home = [*waiting, *idle][: self.wanted - self.fewest]
        self.wanted -= len(home)
        for job in home:
            del self.asked[job.number]
        return [Ended(job, surplus=True) for job in home]

    def _pause(self, now: float) -> None:
        self._pause_until = now + min(MOST_PAUSE_SECONDS, 2.0 ** min(self.failures, 10))

    def sentence(self, now: float) -> str:
        """What is not there yet of what was asked for; nothing, where all is."""
        here = sum(job.here for job in self.asked.values())
        if here >= self.wanted:
            return ""
        absent = [job for job in self.asked.values() if not job.here]
        pending = [job for job in absent if self._phase(job) is not Phase.RUNNING]
        reasons = Counter(self._standings[job.number].reason for job in pending if job.number in self._standings)
        named = ", ".join(reason for reason, _ in reasons.most_common() if reason)
        parts = [_count(here, "runs", "run"), _count(len(absent) - len(pending), "starts", "start")]
        if pending:
            since = f" since {_duration(now - (self._short_since or now))}"
            parts.append(_count(len(pending), "is pending", "are pending") + (f" ({named})" if named else "") + since)
        if missing := self.wanted - len(self.asked):
            parts.append(_count(missing, "will be asked for again", "will be asked for again"))
        told = f"{_count(self.wanted, 'job asked for', 'jobs asked for')}: {', '.join(filter(None, parts))}"
        failed = f"; {self.failures} in a row ended before their worker came" if self.failures else ""
        return f"{told}{failed}{f'; {self.trouble}' if self.trouble else ''}"

    def _phase(self, job: Asked) -> Phase:
        standing = self._standings.get(job.number)
        return standing.phase if standing else Phase.PENDING


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}" if number else ""


def _duration(seconds: float) -> str:
    """Coarser as it grows, so that a sentence with it in it is not another one each time."""
    if seconds < 60:
        return f"{seconds // 10 * 10:.0f} s" if seconds >= 10 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 600 * 10:.0f} min"
