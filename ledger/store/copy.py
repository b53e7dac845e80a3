"""PostgreSQL's binary COPY format, as far as we write it.

Source: PostgreSQL documentation, COPY, section "Binary Format".
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

BINARY_HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
BINARY_TRAILER = b"\xff\xff"
PG_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_LENGTH = struct.Struct(">i").pack


def text_field(value: str) -> bytes:
    """A text: its length in bytes, and they."""
    raw = value.encode()
    return _LENGTH(len(raw)) + raw
