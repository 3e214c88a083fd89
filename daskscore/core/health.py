"""When a node whose init() keeps failing is set aside, and when there is no hope left for the job."""

from __future__ import annotations

from dataclasses import dataclass, field

JOB_SECONDS = 120.0


@dataclass(slots=True)
class Health:
    """Failures of init() since the last success, by node."""

    slots_per_node: int
    failures: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def init_failed(self, node: str) -> None:
        self.failures[node] = self.failures.get(node, 0) + 1
        self.total += 1

    def initialized(self, node: str) -> None:
        """One scorer of this node is ready: what failed before was not the node."""
        self.failures.pop(node, None)

    def set_aside(self, node: str) -> bool:
        """A node on which every try failed gets no more work."""
        return self.failures.get(node, 0) >= 3 * self.slots_per_node

    def hopeless(self, nodes: set[str], *, seconds: float) -> bool:
        """All nodes are set aside; or all have failed, twice per slot, in more than two minutes. One good node is hope."""
        failures = [self.failures.get(node, 0) for node in nodes]
        if not failures or not all(failures):
            return False
        if all(self.set_aside(node) for node in nodes):
            return True
        return seconds > JOB_SECONDS and sum(failures) >= 2 * len(nodes) * self.slots_per_node
