"""A log's tree as the database has it: nodes, tiles and proofs; the checkpoints that were signed, and by which keys.

Nothing here needs a private key. Positions count from 1, leaves from 0: the event at position p is leaf p - 1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from ledger import sql
from ledger.audit import merkle
from ledger.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile
from ledger.audit.notes import VerifierKey, read_note, read_verifier_key
from ledger.store.log import Rows

QUERIES = sql.load("ledger.audit", "tree.sql")


class TreeIncomplete(LookupError):
    """The database lacks a part of a tree that was sealed; the message says which."""


class SealedCheckpoint(NamedTuple):
    """A checkpoint that was signed. note: the signed note, without cosignatures of witnesses."""

    size: int
    root: bytes
    note: str
    sealed_at: datetime


class SealingKey(NamedTuple):
    """A key that ever signed. first_size: of the first checkpoint that it signed; last_size: of the last one, None
    while it signs."""

    key: VerifierKey
    first_size: int
    first_at: datetime
    last_size: int | None

    def line(self) -> str:
        """The key as a file of keys has it: `VKEY`, once it is retired `VKEY until SIZE`. Whoever reads it believes
        the key no larger checkpoint."""
        return str(self.key) if self.last_size is None else f"{self.key} until {self.last_size}"


def newest_checkpoint(cur: Rows, program_id: UUID, log: str) -> SealedCheckpoint | None:
    """A log's newest checkpoint, None before the first."""
    return _checkpoint(cur, "select_newest_checkpoint", program_id, log)


def checkpoint_of(cur: Rows, program_id: UUID, log: str, size: int) -> SealedCheckpoint | None:
    """The checkpoint of exactly so many events, if one was signed."""
    return _checkpoint(cur, "select_checkpoint", program_id, log, size)


def checkpoint_over(cur: Rows, program_id: UUID, log: str, position: int) -> SealedCheckpoint | None:
    """The first checkpoint that covers a position."""
    return _checkpoint(cur, "select_checkpoint_over", program_id, log, position)


def _checkpoint(cur: Rows, query: str, program_id: UUID, log: str, size: int = 0) -> SealedCheckpoint | None:
    cur.execute(QUERIES[query], {"program_id": program_id, "log": log, "size": size})
    row = cur.fetchone()
    return SealedCheckpoint(row[0], bytes(row[1]), row[2], row[3].astimezone(UTC)) if row else None


def published_note(cur: Rows, program_id: UUID, log: str, checkpoint: SealedCheckpoint) -> str:
    """A checkpoint's note with what witnesses have signed under it so far."""
    params = {"program_id": program_id, "log": log, "size": checkpoint.size}
    cur.execute(QUERIES["select_cosignatures"], params)
    return checkpoint.note + "".join(lines for (lines,) in cur)


def sealing_keys(cur: Rows, program_id: UUID, log: str) -> list[SealingKey]:
    """Every key that ever signed a checkpoint of a log, the oldest first."""
    newest = newest_checkpoint(cur, program_id, log)
    signing = {(one.name, one.key_id) for one in read_note(newest.note).signatures} if newest else set()
    cur.execute(QUERIES["select_sealing_keys"], {"program_id": program_id, "log": log})
    found = []
    for text, first_size, first_at, last_size in cur:
        key = read_verifier_key(text)
        ended = None if (key.name, key.key_id) in signing else last_size
        found.append(SealingKey(key, first_size, first_at.astimezone(UTC), ended))
    return found


class StoredTree:
    """The tree of a log's first `size` events, of which a checkpoint was signed; reads what it needs, and remembers
    it. Raises TreeIncomplete where rows or tiles are missing."""

    def __init__(self, cur: Rows, program_id: UUID, log: str, size: int) -> None:
        self.size, self._cur, self._log = size, cur, log
        self._params: dict[str, Any] = {"program_id": program_id, "log": log}
        self.node = merkle.nodes_from_tiles(self.tile, size)

    def root(self) -> bytes:
        """The root over all its leaves."""
        return merkle.range_root(0, self.size, self.node) if self.size else merkle.EMPTY_ROOT

    def leaf(self, position: int) -> bytes:
        """The leaf hash of the event at a position."""
        return self.node(0, position - 1)

    def inclusion_proof(self, position: int) -> list[bytes]:
        """That the event at a position is in this tree. Raises ValueError for one that is not."""
        return merkle.inclusion_proof(position - 1, self.size, self.node)

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """That this tree goes on from that of the first `old_size` events. Raises ValueError."""
        return merkle.consistency_proof(old_size, self.size, self.node)

    def tile(self, tile: Tile) -> bytes:
        """The hashes of a tile, complete or not."""
        stored = self._stored(tile)
        if stored is not None:
            return stored[: tile.width * HASH_BYTES]
        first = tile.number * TILE_WIDTH
        if tile.level:
            below = {"level": tile.level - 1, "first": first, "end": first + tile.width}
            self._cur.execute(QUERIES["select_tile_roots"], self._params | below)
        else:
            span = {"after": first, "until": first + tile.width}
            self._cur.execute(QUERIES[f"select_leaves_of_{self._log}"], self._params | span)
        hashes = b"".join(bytes(one) for (one,) in self._cur)
        if len(hashes) != tile.width * HASH_BYTES:
            start = (first << TILE_HEIGHT * tile.level) + 1
            raise TreeIncomplete(f"{self._log}: the tree has {len(hashes) // HASH_BYTES} of the {tile.width} hashes of"
                                 f" tile {tile.path()}, which begins at position {start}")  # fmt: skip
        return hashes

    def _stored(self, tile: Tile) -> bytes | None:
        self._cur.execute(QUERIES["select_tile"], self._params | {"level": tile.level, "tile_index": tile.number})
        row = self._cur.fetchone()
        return bytes(row[0]) if row else None
