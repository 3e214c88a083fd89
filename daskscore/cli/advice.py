"""What to do about a kind of failure that names no line of the script."""

from __future__ import annotations

ADVICE = {
    "timeout": "raise run_invocation_timeout, or make mini_batch_size smaller",
    "memory": "raise memory_limit_per_process, or make mini_batch_size smaller",
    "crash": "logs/user/stderr has the stack of a segfault; if the machine was out of memory, make process_count_per_node "
    "or mini_batch_size smaller",
    "input": "failed_items.jsonl says of each item why it could not be read",
    "lost": "the machines that were lost may be out of memory: see logs/sys/node",
}
