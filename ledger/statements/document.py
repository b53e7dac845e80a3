"""A statement: what an affiliate was owed when a period began, every line that moved it, and what is owed at its end.

The canonical form is RFC 8785 (JCS) JSON: no spaces, keys in order, integers only. Its SHA-256 is the statement's hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256

import msgspec
from msgspec import Struct

from ledger.domain.statement import Buckets, Section

BUCKETS = Buckets.__struct_fields__


class StatementLine(Struct, frozen=True, kw_only=True):
    """A journal line. (position, line_no) names it for ever. amount: minor units above zero, moved from one bucket
    to another ('commission', 'adjustment', 'tax' … where the other side is the program's own account). event: the
    topic of the event at that position; reference: its order, adjustment or payout. late: it happened before the
    period began, and stands on no earlier statement."""

    amount: int
    currency: str
    effective_at: datetime
    event: str
    late: bool
    line_no: int
    position: int
    recorded_at: datetime
    reference: str
    source: str
    target: str


class StatementHead(Struct, frozen=True, kw_only=True):
    """A statement without its lines. position: the last of the log that it knows; starts_at None: the first one."""

    affiliate_id: str
    ends_at: datetime
    period: str
    position: int
    program: str
    sections: list[Section]
    starts_at: datetime | None
    version: int
    zone: str


_encode = msgspec.json.Encoder(order="sorted").encode


def opening(head: StatementHead) -> bytes:
    """The canonical JSON up to its first line."""
    return b'{"head":' + _encode(head) + b',"lines":['


def encoded(lines: Iterable[StatementLine]) -> Iterator[bytes]:
    """The lines of the canonical JSON, with the commas between them, in pieces of a few hundred."""
    separator = b""
    pieces: list[bytes] = []
    for line in lines:
        pieces.append(separator + _encode(line))
        separator = b","
        if len(pieces) >= 500:
            yield b"".join(pieces)
            pieces.clear()
    if pieces:
        yield b"".join(pieces)


CLOSING = b"]}"  # the canonical JSON behind its last line


def canonical(head: StatementHead, lines: Iterable[StatementLine]) -> Iterator[bytes]:
    """The canonical JSON in pieces: {"head": …, "lines": [ … ]}. Lines in the order of (position, line_no)."""
    yield opening(head)
    yield from encoded(lines)
    yield CLOSING


def digest(head: StatementHead, encoded_lines: Iterable[bytes]) -> str:
    """The statement's hash: SHA-256 (hex) of its canonical JSON, from its head and its encoded lines."""
    made = sha256(opening(head))
    for piece in encoded_lines:
        made.update(piece)
    made.update(CLOSING)
    return made.hexdigest()
