"""The sizes of the files of each user and season, added up."""

import os


def run(mini_batch, mini_batch_context):
    print(mini_batch_context.partition_key_value, mini_batch_context.dataset)  # noqa: T201 - as scripts do
    values = ",".join(mini_batch_context.partition_key_value.values())
    total = sum(os.path.getsize(path) for path in mini_batch)
    return [f"{values},{os.path.basename(path)},{total}" for path in mini_batch]
