"""A log's Merkle tree as it was sealed, against the one that its events lead to now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ledger import sql
from ledger.audit import tree
from ledger.audit.edge import Edge, WholeTile
from ledger.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH
from ledger.audit.notes import InvalidNote, open_checkpoint
from ledger.checking.findings import Findings
from ledger.store.log import Rows

QUERIES = sql.load("ledger.checking", "checking.sql")
CHECKPOINTS_AT_ONCE = 1_000


class TreeCheck:
    """Grows a log's tree anew and compares every checkpoint and every stored tile on the way."""

    def __init__(self, cur: Rows, program_id: UUID, log: str, findings: Findings) -> None:
        self._cur, self._log, self._findings = cur, log, findings
        self._params: dict[str, Any] = {"program_id": program_id, "log": log}
        self._edge = Edge()
        self._tiles: dict[int, int] = {}  # level → how many are complete
        newest = tree.newest_checkpoint(cur, program_id, log)
        # Tiles are written as the tree is sealed: behind the last checkpoint there may be none yet.
        self._sealed = newest.size if newest else 0
        self._keys = [one.key for one in tree.sealing_keys(cur, program_id, log)]
        self._checkpoints: list[Any] = []
        self._load(0)

    def _load(self, after: int) -> None:
        params = self._params | {"after": after, "limit": CHECKPOINTS_AT_ONCE}
        self._checkpoints = self._cur.execute(QUERIES["select_checkpoints"], params).fetchall()[::-1]

    def extend(self, leaves: Sequence[bytes]) -> None:
        """The next leaf hashes."""
        done, made = 0, []
        first = self._edge.size
        while self._checkpoints and self._checkpoints[-1][0] <= first + len(leaves):
            size, root, note = self._checkpoints.pop()
            made += self._edge.extend(b"".join(leaves[done : size - first]))
            done = size - first
            self._checkpoint(size, bytes(root), note)
            if not self._checkpoints:
                self._load(size)
        made += self._edge.extend(b"".join(leaves[done:]))
        for level in sorted({one.level for one in made}):
            self._compare([one for one in made if one.level == level])

    def _checkpoint(self, size: int, root: bytes, note: str) -> None:
        what = f"checkpoint of {self._log} at {size}"
        self._findings.checked["checkpoints"] += 1
        if (made := self._edge.root()) != root:
            self._findings.add("root_differs", what, size, root.hex(), made.hex())
        try:
            said = open_checkpoint(note, self._keys)
        except InvalidNote as problem:
            self._findings.add("checkpoint_invalid", what, size, "a note signed by a key of the log", str(problem))
            return
        if (said.size, said.root) != (size, root):
            expected, found = {"size": size, "root": root.hex()}, {"size": said.size, "root": said.root.hex()}
            self._findings.add("checkpoint_invalid", what, size, expected, found)

    def _compare(self, made: Sequence[WholeTile]) -> None:
        level = made[0].level
        self._tiles[level] = made[-1].number + 1
        span = {"level": level, "first": made[0].number, "last": made[-1].number}
        rows = self._cur.execute(QUERIES["select_tiles"], self._params | span)
        stored = {number: (bytes(hashes), bytes(root)) for number, hashes, root in rows}
        for one in made:
            self._findings.checked["tiles"] += one.number in stored
            found = stored.get(one.number)
            end = (one.number + 1) * TILE_WIDTH << TILE_HEIGHT * level
            if found != (one.hashes, one.root) and (found is not None or end <= self._sealed):
                self._differs(one, found)

    def _differs(self, made: WholeTile, found: tuple[bytes, bytes] | None) -> None:
        what = f"tile {made.level}/{made.number} of {self._log}"
        at = 0
        if found is not None:
            pairs = range(0, len(made.hashes), HASH_BYTES)
            at = next((n for n in pairs if found[0][n : n + HASH_BYTES] != made.hashes[n : n + HASH_BYTES]), -1)
        position = ((made.number * TILE_WIDTH + max(at, 0) // HASH_BYTES) << TILE_HEIGHT * made.level) + 1
        if found is None:
            self._findings.add("tile_differs", what, position, "a tile", None)
        elif at < 0:
            self._findings.add("tile_differs", f"{what}: root", position, made.root.hex(), found[1].hex())
        else:
            expected = made.hashes[at : at + HASH_BYTES].hex()
            self._findings.add("tile_differs", what, position, expected, found[0][at : at + HASH_BYTES].hex())

    def end(self) -> None:
        """What was sealed and is not there."""
        size = self._edge.size
        if self._checkpoints:
            what = f"checkpoint of {self._log} at {self._sealed}"
            self._findings.add("size_differs", what, size, f"{self._sealed} events, which were sealed", size)
        for level in range(8):
            params = self._params | {"level": level, "first": self._tiles.get(level, 0)}
            for number, _, root in self._cur.execute(QUERIES["select_tiles_beyond"], params):
                position = (number * TILE_WIDTH << TILE_HEIGHT * level) + 1
                what = f"tile {level}/{number} of {self._log}"
                self._findings.add("tile_differs", what, position, f"a log of {size} events", bytes(root).hex())
