"""The clicks that commissions quote, held against the traffic log: the same line, and a click that says the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from struct import Struct as Packed
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from ledger.audit.findings import Findings
from ledger.audit.merkle import HASH_BYTES

SPOOL_BYTES = 8 << 20
_QUOTED = Packed(">q32s32sq")
_NOTHING = bytes(HASH_BYTES)  # of a line that is no click


class Quoted(NamedTuple):
    """A click that a commission quotes, and where the commission stands. said: see digest_of."""

    traffic_position: int
    leaf: bytes
    said: bytes
    position: int


class _Click(Struct, gc=False):
    """What of a click a commission says again."""

    click_id: str
    affiliate_id: str
    offer_id: str
    occurred_at: datetime


_decode = msgspec.json.Decoder(_Click).decode


def digest_of(click_id: str, affiliate_id: str, offer_id: str, occurred_at: datetime) -> bytes:
    """One value for what a click and a commission must agree in; instants count, not how they are written."""
    said = (click_id, affiliate_id, offer_id, occurred_at.astimezone(UTC).isoformat())
    return sha256("\0".join(said).encode()).digest()


class Clicks:
    """The traffic log's leaf hashes, and what each click says. Close it."""

    def __init__(self) -> None:
        self._leaves = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  (closed by close())
        self._said = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        self._quoted = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115

    def close(self) -> None:
        """Give back what lies on disk."""
        for file in (self._leaves, self._said, self._quoted):
            file.close()

    def leaves(self, some: bytes) -> None:
        """The leaf hashes of the next lines."""
        self._leaves.write(some)

    def clicked(self, state: msgspec.Raw | None) -> None:
        """The next line's state; None of one that cannot be read."""
        try:
            click = _decode(state) if state is not None else None
            said = digest_of(click.click_id, click.affiliate_id, click.offer_id, click.occurred_at) if click else None
        except (msgspec.DecodeError, UnicodeError, ValueError, OverflowError, RecursionError):
            said = None  # told where the stream is folded
        self._said.write(said or _NOTHING)

    def quote(self, position: int, e: dict[str, Any]) -> None:
        """A commission at a position of the books. Raises ValueError, TypeError, KeyError for evidence that is none."""
        at, leaf = e.get("click_position"), e.get("click_leaf")
        if not at and leaf is None:
            return  # no click, or one that is known by its signature alone
        if not isinstance(at, int) or not 0 < at < 1 << 63 or leaf is None or len(leaf) != 2 * HASH_BYTES:
            raise ValueError("click_leaf is no hash, or click_position no position")
        said = digest_of(e["click_id"], e["affiliate_id"], e["offer_id"], datetime.fromisoformat(e["clicked_at"]))
        self._quoted.write(_QUOTED.pack(at, bytes.fromhex(leaf), said, position))

    def _all_quoted(self) -> Iterator[Quoted]:
        self._quoted.seek(0)
        while record := self._quoted.read(_QUOTED.size):
            yield Quoted(*_QUOTED.unpack(record))

    def check(self, size: int, findings: Findings) -> tuple[int, int]:
        """Each quoted click stands in the traffic log of a size. (how many were compared, how many stand behind what
        was read of that log: it may be sealed a moment earlier than the books)"""
        compared = behind = 0
        for one in self._all_quoted():
            if one.traffic_position > size:
                behind += 1
                continue
            compared += 1
            self._leaves.seek((one.traffic_position - 1) * HASH_BYTES)
            self._said.seek((one.traffic_position - 1) * HASH_BYTES)
            leaf, said = self._leaves.read(HASH_BYTES), self._said.read(HASH_BYTES)
            subject = f"traffic position {one.traffic_position}"
            if leaf != one.leaf:
                expected = f"a click with leaf hash {one.leaf.hex()}"
                findings.report("evidence_differs", "books", one.position, expected, leaf.hex(), subject)
            elif said != one.said:
                expected = "the click_id, affiliate_id, offer_id and instant that the click there has"
                findings.report("evidence_differs", "books", one.position, expected, "others", subject)
        return compared, behind
