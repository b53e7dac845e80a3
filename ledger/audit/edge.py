"""The right edge of a growing Merkle tree: leaf hashes in, complete tiles and roots out, in little memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, CompactRange, parents

TILE_BYTES = TILE_WIDTH * HASH_BYTES


class WholeTile(NamedTuple):
    """A complete tile. root: over its 256 hashes."""

    level: int
    number: int
    hashes: bytes
    root: bytes


class Edge:
    """A tree of `size` leaves, of which all complete tiles are elsewhere. behind: for each tile level from 0 on, the
    hashes behind its last complete tile, side by side."""

    def __init__(self, size: int = 0, behind: Sequence[bytes] = ()) -> None:
        self.size = size
        self._behind = [bytearray(hashes) for hashes in behind]
        for level, hashes in enumerate(self._behind):
            wanted = (size >> TILE_HEIGHT * level) % TILE_WIDTH
            if len(hashes) != wanted * HASH_BYTES:
                raise ValueError(f"at level {level}, {wanted} hashes are behind the complete tiles of {size} leaves")
        if size >> TILE_HEIGHT * len(self._behind):
            raise ValueError(f"{len(self._behind)} tile levels are too few for {size} leaves")

    def extend(self, leaves: bytes) -> list[WholeTile]:
        """Add leaf hashes, side by side. Returns the tiles that became complete, lower levels first."""
        made: list[WholeTile] = []
        before, level, hashes = self.size, 0, leaves
        self.size += len(leaves) // HASH_BYTES
        while hashes:
            if level == len(self._behind):
                self._behind.append(bytearray())
            edge = self._behind[level]
            edge += hashes
            first = before >> TILE_HEIGHT * (level + 1)
            whole = [bytes(edge[at : at + TILE_BYTES]) for at in range(0, len(edge) - TILE_BYTES + 1, TILE_BYTES)]
            tiles = [WholeTile(level, first + n, one, _root(one)) for n, one in enumerate(whole)]
            del edge[: len(tiles) * TILE_BYTES]
            made += tiles
            level, hashes = level + 1, b"".join(tile.root for tile in tiles)
        return made

    def root(self) -> bytes:
        """The root over the leaves so far."""
        roots: list[bytes] = []
        for edge in reversed(self._behind):
            at = 0
            for power in reversed(range(TILE_HEIGHT)):
                if len(edge) // HASH_BYTES >> power & 1:
                    roots.append(_root(bytes(edge[at : at + (HASH_BYTES << power)])))
                    at += HASH_BYTES << power
        return CompactRange(self.size, roots).root()


def _root(hashes: bytes) -> bytes:
    """The node over some that lie side by side, a power of two of them."""
    while len(hashes) > HASH_BYTES:
        hashes = parents(hashes)
    return hashes
