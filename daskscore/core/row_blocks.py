"""The frames in which rows stand in a part when an assembled file is more than its rows one after the other.

A mini-batch's rows are one or more blocks, and a block says by itself what its columns are: any blocks can be left out
or put in another order.
"""

from __future__ import annotations

import struct

LENGTHS = struct.Struct("<IQ")
"""Of the head, which tells the columns, and of the body, which has the rows."""


def block(head: bytes, body: bytes) -> bytes:
    return b"".join((LENGTHS.pack(len(head), len(body)), head, body))
