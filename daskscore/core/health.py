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
        """All nodes are set aside; or it has gone on for two minutes and failed twice per slot."""
        if not nodes:
            return False
        if all(self.set_aside(node) for node in nodes):
            return True
        limit = 2 * len(nodes) * self.slots_per_node
        return seconds > JOB_SECONDS and sum(self.failures.get(node, 0) for node in nodes) >= limit
