"""When a node where init(), or each attempt, keeps failing is set aside, and when there is no hope left for the job."""

from __future__ import annotations

from dataclasses import dataclass, field

JOB_SECONDS = 120.0


@dataclass(slots=True)
class Health:
    """Failures of init() since the last success, by node."""

    slots_per_node: int
    failures: dict[str, int] = field(default_factory=dict)
    total: int = 0
    _streaks: dict[str, int] = field(default_factory=dict)
    """Of nodes that have been tried: how many attempts have failed there since the last that went well."""

    def init_failed(self, node: str) -> None:
        self.failures[node] = self.failures.get(node, 0) + 1
        self.total += 1

    def initialized(self, node: str) -> None:
        """One scorer of this node is ready: what failed before was not the node."""
        self.failures.pop(node, None)

    def set_aside(self, node: str) -> bool:
        """A node on which every try failed gets no more work."""
        return self.failures.get(node, 0) >= 3 * self.slots_per_node or self._fails_alone(node)

    def tried(self, node: str, *, scored: int, failed: int) -> None:
        """Attempts at mini-batches, or at groups of them."""
        self._streaks[node] = 0 if scored else self._streaks.get(node, 0) + failed

    def _fails_alone(self, node: str) -> bool:
        """Every attempt fails there, and goes well elsewhere."""
        if self._streaks.get(node, 0) < 3 * self.slots_per_node + 3:
            return False
        return any(not streak for other, streak in self._streaks.items() if other != node)

    def hopeless(self, nodes: set[str], *, seconds: float) -> bool:
        """All nodes are set aside; or all have failed, twice per slot, in more than two minutes. One good node is hope."""
        failures = [self.failures.get(node, 0) for node in nodes]
        if not failures or not all(failures):
            return False
        if all(self.set_aside(node) for node in nodes):
            return True
        return seconds > JOB_SECONDS and sum(failures) >= 2 * len(nodes) * self.slots_per_node
