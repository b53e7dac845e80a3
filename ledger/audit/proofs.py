"""Proofs as they are given to others, by the API and the command line: hashes in base64, with the signed checkpoint
that they lead to. Positions count from 1; leaf_index is the position less one."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

from ledger.audit.merkle import TILE_HEIGHT, TILE_WIDTH, Tile
from ledger.audit.notes import read_checkpoint, read_note, to_base64
from ledger.audit.tree import (
    SealedCheckpoint,
    StoredTree,
    checkpoint_of,
    newest_checkpoint,
    published_note,
    sealing_keys,
)
from ledger.domain.errors import InvalidInput, NotFound
from ledger.store.log import Rows, line_maker, select_rows

LONGEST_ENTRY = 65_535  # bytes, of an entry in a bundle: its length is given in two


class EntryTooLong(InvalidInput):
    """An event whose export line no entry bundle can hold. position: of the event."""

    code = "entry_too_long"

    def __init__(self, log: str, position: int, length: int) -> None:
        self.position = position
        super().__init__(
            "tile",
            f"the event at position {position} has an export line of {length} bytes, and an entry bundle holds"
            f" {LONGEST_ENTRY} at most: read it from /events?log={log}&after={position - 1}&limit=1",
        )


def sealed(cur: Rows, program_id: UUID, log: str, size: int | None = None) -> SealedCheckpoint:
    """A log's newest checkpoint, or that of a size. Raises NotFound."""
    found = newest_checkpoint(cur, program_id, log) if size is None else checkpoint_of(cur, program_id, log, size)
    if found is None:
        raise NotFound("Nothing of this log is sealed yet." if size is None else f"No checkpoint has the size {size}.")
    return found


def inclusion(cur: Rows, program_id: UUID, log: str, position: int, size: int | None = None) -> dict[str, Any]:
    """That the event at a position is in the log of a checkpoint, the newest unless said. Raises NotFound."""
    checkpoint = sealed(cur, program_id, log, size)
    if position > checkpoint.size:
        raise NotFound(f"Position {position} is not in the checkpoint of {checkpoint.size} events.")
    tree = StoredTree(cur, program_id, log, checkpoint.size)
    hashes = tree.inclusion_proof(position)
    return {
        "log": log,
        "position": position,
        "leaf_index": position - 1,
        "size": checkpoint.size,
        "leaf_hash": to_base64(tree.leaf(position)),
        "hashes": [to_base64(one) for one in hashes],
        "root": to_base64(checkpoint.root),
        "checkpoint": published_note(cur, program_id, log, checkpoint),
    }


def consistency(cur: Rows, program_id: UUID, log: str, old: int, new: int | None = None) -> dict[str, Any]:
    """That a checkpoint's log, the newest one's unless said, begins with the same `old` events. Raises NotFound,
    InvalidInput."""
    checkpoint = sealed(cur, program_id, log, new)
    if old > checkpoint.size:
        raise InvalidInput("from", f"must not be above the size of the checkpoint, {checkpoint.size}")
    hashes = StoredTree(cur, program_id, log, checkpoint.size).consistency_proof(old)
    return {
        "log": log,
        "from": old,
        "to": checkpoint.size,
        "hashes": [to_base64(one) for one in hashes],
        "root": to_base64(checkpoint.root),
        "checkpoint": published_note(cur, program_id, log, checkpoint),
    }


def keys(cur: Rows, program_id: UUID, log: str) -> dict[str, Any]:
    """The log's name, and every key that ever signed, as verifier keys. Raises NotFound."""
    newest = sealed(cur, program_id, log)
    listed = [
        {
            "verifier_key": str(one.key),
            "line": one.line(),
            "first_size": one.first_size,
            "first_at": one.first_at,
            "last_size": one.last_size,
        }
        for one in sealing_keys(cur, program_id, log)
    ]
    return {"log": log, "origin": read_checkpoint(read_note(newest.note).text).origin, "keys": listed}


def tile(cur: Rows, program_id: UUID, log: str, wanted: Tile) -> bytes:
    """The hashes of a tile that lies within the newest checkpoint. Raises NotFound."""
    checkpoint = sealed(cur, program_id, log)
    _within(checkpoint, wanted)
    return StoredTree(cur, program_id, log, checkpoint.size).tile(wanted)


def entries(cur: Rows, program_id: UUID, log: str, wanted: Tile) -> bytes:
    """The export lines behind a tile of level 0, each with its length before it, in two bytes. Raises NotFound,
    EntryTooLong."""
    _within(sealed(cur, program_id, log), wanted)
    line, found = line_maker(program_id, log), []
    for row in select_rows(cur, program_id, log, wanted.number * TILE_WIDTH, wanted.width):
        entry = line(row)
        if len(entry) > LONGEST_ENTRY:
            raise EntryTooLong(log, row[0], len(entry))
        found += [struct.pack(">H", len(entry)), entry]
    return b"".join(found)


def _within(checkpoint: SealedCheckpoint, wanted: Tile) -> None:
    nodes = checkpoint.size >> TILE_HEIGHT * wanted.level
    if wanted.number * TILE_WIDTH + wanted.width > nodes:
        raise NotFound(f"The newest checkpoint, of {checkpoint.size} events, does not reach so far.")
