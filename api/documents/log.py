"""Sealed logs, as the OpenAPI document describes them. Hashes are base64 of 32 bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from api.documents.problems import Position

Log = Literal["books", "traffic"]


class VerifierKeyDocument(Struct):
    """A key that ever signed: name+hash+base64 (C2SP signed-note). line: as `ledger verify --keys` reads it, with
    ` until SIZE` behind a retired key; first_size: of the first checkpoint that it signed; last_size: of the last one,
    null while it signs."""

    verifier_key: str
    line: str
    first_size: int
    first_at: datetime
    last_size: int | None


class VerifierKeys(Struct):
    """The log's name, which is the origin of its checkpoints, and its keys, the oldest first."""

    log: Log
    origin: str
    keys: list[VerifierKeyDocument]


class InclusionProof(Struct):
    """That an event is in the log (RFC 9162, 2.1.3). leaf_index: the position less one; leaf_hash: SHA-256 of 0x00 and
    the event's export line; checkpoint: the signed note that has this size and root."""

    log: Log
    position: Position
    leaf_index: int
    size: int
    leaf_hash: str
    hashes: list[str]
    root: str
    checkpoint: str


class ConsistencyProof(Struct, rename={"from_size": "from", "to_size": "to"}):
    """That the log of size `to` begins with all of the log of size `from` (RFC 9162, 2.1.4)."""

    log: Log
    from_size: int
    to_size: int
    hashes: list[str]
    root: str
    checkpoint: str
