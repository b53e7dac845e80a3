"""Sealing a log: its tree goes on to the last committed event, and the root is signed.

Off the append path: nothing here locks a log's head or waits for its writers. Events are read some ten thousand at a
time, each is hashed anew from its export line and must have the hash that stands beside it; tiles are written in short
transactions of their own. A run that is killed leaves complete tiles behind, and the next one goes on from there.
Before anything is signed, the tree must contain the one that was signed last: that of the newest checkpoint in the
database, whose signature must hold, and that of the file in which whoever signs remembers it (kept.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from ledger import sql
from ledger.audit import kept as keeping
from ledger.audit import merkle
from ledger.audit.edge import Edge, WholeTile
from ledger.audit.kept import Kept, OtherRoot
from ledger.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH
from ledger.audit.notes import (
    Checkpoint,
    InvalidNote,
    Signer,
    VerifierKey,
    read_checkpoint,
    read_note,
    sign,
    verified_by,
)
from ledger.audit.tree import QUERIES as TREE
from ledger.audit.tree import SealedCheckpoint, StoredTree, TreeIncomplete, newest_checkpoint, sealing_keys
from ledger.store.log import Rows, last_position, line_maker

QUERIES = sql.load("ledger.audit", "sealing.sql")
BATCH = 128 * TILE_WIDTH  # events between two commits
ROWS_AT_ONCE = 2_000  # that the server sends at a time
ATTEMPTS = 100  # each of which somebody else's checkpoint made void

Progress = Callable[[int, int], None]
"""Called with the position that was reached, and the last one."""


class Books(Protocol):
    """What sealing needs of a ledger: transactions at one program."""

    def reading(self, program: str) -> AbstractContextManager[tuple[Rows, UUID]]:
        """Yields (cursor, program_id)."""

    def writing(self, program: str) -> AbstractContextManager[tuple[Rows, UUID]]:
        """The same, committed at the end."""


Fault = Literal["altered", "missing", "shorter", "forked", "tile", "checkpoint"]
_SAYS: dict[Fault, str] = {
    "altered": "the event is not what was hashed when it was recorded",
    "missing": "the event is not there",
    "shorter": "the log ends before what was sealed",
    "forked": "these events are not those whose checkpoint was signed; sealing with --recheck looks for the first",
    "tile": "the event is not the one of which the sealed tree has the hash",
    "checkpoint": "the newest checkpoint in the database is not what was signed",
}


class SealRefused(Exception):
    """A log that must not be sealed. position: of the event that is wrong; for 'forked' the last one of the checkpoint
    that it contradicts, with since: the first position that may be wrong. expected, found: hexadecimal hashes, or
    positions."""

    def __init__(
        self, fault: Fault, program: str, log: str, position: int, expected: object, found: object, since: int = 0
    ) -> None:
        where = f"position {position}" if not since else f"positions {since} to {position}"
        super().__init__(
            f"program {program}, {log}, {where}: {_SAYS[fault]} (expected {expected}, found {found});"
            " nothing was signed"
        )
        self.fault, self.program, self.log, self.position = fault, program, log, position
        self.expected, self.found = str(expected), str(found)

    @property
    def detail(self) -> dict[str, Any]:
        """What a job's history says of it."""
        return {
            "fault": self.fault, "log": self.log, "position": self.position, "expected": self.expected,
            "found": self.found,
        }  # fmt: skip


class Sealing(NamedTuple):
    """What came of sealing. checkpoint: the newest one, None while the log is empty; events: how many it covers that
    the one before did not, 0 where there was nothing to do."""

    checkpoint: SealedCheckpoint | None
    events: int


def unsealed_since(cur: Rows, program_id: UUID) -> dict[str, datetime]:
    """Of each log that has events behind its newest checkpoint: since when the first of them waits."""
    cur.execute(QUERIES["select_unsealed"], {"program_id": program_id})
    return {log: since for log, last, size, since in cur if last > (size or 0) and since is not None}


def seal(
    books: Books,
    program: str,
    log: str,
    signers: Sequence[Signer],
    now: datetime,
    *,
    recheck: bool = False,
    progress: Progress = lambda *_: None,
    kept: Path | None = None,
) -> Sealing:
    """Seal a log up to its last committed event. Anybody may do so at the same time, any number of times.

    signers: all sign; their names are the log's origin. recheck: begin with the first event and compare everything
    with the stored tree, instead of going on from it. kept: the file in which whoever signs remembers what was signed
    last. Raises SealRefused, TreeIncomplete, StartupRefused (for that file), psycopg.Error, OSError.
    """
    for _ in range(ATTEMPTS):
        sealing = _Sealer(books, program, log, signers, now, progress, kept).run(recheck)
        if sealing is not None:
            return sealing
        recheck = False  # done, and the others' checkpoint is looked at now
    raise RuntimeError(f"{log}: {ATTEMPTS} times somebody else's checkpoint came first")


class _Sealer:
    """One attempt."""

    def __init__(
        self,
        books: Books,
        program: str,
        log: str,
        signers: Sequence[Signer],
        now: datetime,
        progress: Progress,
        file: Path | None,
    ) -> None:
        self._books, self._program, self._log, self._signers = books, program, log, signers
        self._now, self._progress, self._end, self._file = now, progress, 0, file
        self._name = signers[0].key.name
        self._kept = keeping.read(file).logs.get(self._name)

    def run(self, recheck: bool) -> Sealing | None:
        """None when somebody else's checkpoint came first, so that it has to be looked at again."""
        with self._books.reading(self._program) as (cur, id_):
            last = newest_checkpoint(cur, id_, self._log)
            self._end = last_position(cur, id_, self._log)
            sealed = last.size if last else 0
            if last is not None:
                self._check_note(last)
            edge = Edge() if recheck or self._end == sealed else self._edge(cur, id_)
            known = max(sealed, edge.size, self._kept.size if self._kept else 0)
            if self._end < known:
                raise self._refused("shorter", self._end, known, self._end)
            if self._end == sealed and not recheck:
                return self._nothing_new(last)
            # tiles that an interrupted run left behind may reach further than the last checkpoint
            stored = StoredTree(cur, id_, self._log, sealed).root() if edge.size > sealed else b""
        if last is not None:
            self._grow(edge, sealed)
            self._goes_on(last, stored or edge.root(), recheck)
        if self._end == sealed:
            return self._nothing_new(last)
        self._grow(edge, self._end)
        self._contains_kept(self._end, edge.root())
        return self._sign(last, edge)

    def _check_note(self, last: SealedCheckpoint) -> None:
        """The stored note must say what stands beside it, and hold if one of our keys signed it: another key may have
        been retired without an overlap."""
        try:
            note = read_note(last.note)
            said = read_checkpoint(note.text)
            verified_by(note, [signer.key for signer in self._signers])
        except InvalidNote as problem:
            raise self._refused("checkpoint", last.size, "a note that its key signed", problem) from None
        if (said.size, said.root) != (last.size, last.root):
            raise self._refused("checkpoint", last.size, f"size {last.size} and root {last.root.hex()}",
                                f"size {said.size} and root {said.root.hex()}")  # fmt: skip

    def _nothing_new(self, last: SealedCheckpoint | None) -> Sealing:
        """The end of the log is sealed; perhaps by somebody who does not remember it in our file."""
        if last is not None:
            self._contains_kept(last.size, last.root)
            self._keep(last)
        return Sealing(last, 0)

    def _contains_kept(self, size: int, root: bytes) -> None:
        """The tree must go on from what was signed last, whatever the database says that this was."""
        kept = self._kept
        if kept is None or (kept.size, kept.root) == (size, root.hex()):
            return
        try:
            with self._books.reading(self._program) as (cur, id_):
                proof = StoredTree(cur, id_, self._log, size).consistency_proof(kept.size)
            merkle.verify_consistency(kept.size, size, proof, bytes.fromhex(kept.root), root)
        except merkle.InvalidProof:
            with self._books.reading(self._program) as (cur, id_):
                found = StoredTree(cur, id_, self._log, kept.size).root().hex()
            raise self._refused("forked", kept.size, kept.root, found, 1) from None

    def _keep(self, made: SealedCheckpoint) -> None:
        if self._file is None or (self._kept is not None and self._kept.size >= made.size):
            return
        try:
            keeping.keep(self._file, self._name, Kept(made.size, made.root.hex(), made.sealed_at))
        except OtherRoot as other:
            raise self._refused("forked", made.size, other.kept.root, made.root.hex(), 1) from None

    def _edge(self, cur: Rows, id_: UUID) -> Edge:
        """The tree of all complete tiles of leaves."""
        params: dict[str, Any] = {"program_id": id_, "log": self._log}
        cur.execute(QUERIES["select_last_leaf_tile"], params)
        row = cur.fetchone()
        count = row[0] + 1 if row else 0
        size, behind = count * TILE_WIDTH, [b""]
        while count:
            first = count // TILE_WIDTH * TILE_WIDTH
            span = {"level": len(behind) - 1, "first": first, "end": count}
            cur.execute(TREE["select_tile_roots"], params | span)
            behind.append(b"".join(bytes(root) for (root,) in cur))
            count //= TILE_WIDTH
        try:
            return Edge(size, behind)
        except ValueError as problem:
            raise TreeIncomplete(f"program {self._program}, {self._log}: tiles are missing: {problem}") from None

    def _goes_on(self, last: SealedCheckpoint, root: bytes, recheck: bool) -> None:
        if root != last.root:
            # all complete tiles were compared: it is behind them
            since = last.size // TILE_WIDTH * TILE_WIDTH + 1 if recheck else 1
            raise self._refused("forked", last.size, last.root.hex(), root.hex(), since)

    def _grow(self, edge: Edge, until: int) -> None:
        while edge.size < until:
            leaves = self._leaves(edge.size, min(until, edge.size + BATCH))
            tiles = edge.extend(leaves)
            if tiles:
                with self._books.writing(self._program) as (cur, id_):
                    if _insert_tiles(cur, id_, self._log, tiles) < len(tiles):
                        self._compare(cur, id_, tiles)
            self._progress(edge.size, self._end)

    def _leaves(self, after: int, until: int) -> bytes:
        """The leaf hashes of some events, each computed from its export line and compared with the stored one."""
        hashes, position = [], after
        with self._books.reading(self._program) as (cur, id_):
            line, sha = line_maker(id_, self._log), sha256
            with cur.connection.cursor(name="sealing") as rows:
                span = {"program_id": id_, "after": after, "until": until}
                rows.execute(QUERIES[f"select_rows_of_{self._log}"], span)
                while some := rows.fetchmany(ROWS_AT_ONCE):
                    for row in some:
                        position += 1
                        if row[0] != position:
                            raise self._refused("missing", position, position, row[0])
                        leaf = sha(b"\x00" + line(row)).digest()
                        if leaf != row[10]:
                            raise self._refused("altered", position, bytes(row[10]).hex(), leaf.hex())
                        hashes.append(leaf)
        if position < until:
            raise self._refused("missing", position + 1, position + 1, "the end of the log")
        return b"".join(hashes)

    def _compare(self, cur: Rows, id_: UUID, tiles: Sequence[WholeTile]) -> None:
        """Somebody else wrote some of these tiles: they must be the same."""
        for level in sorted({tile.level for tile in tiles}):
            ours = {tile.number: tile for tile in tiles if tile.level == level}
            span = {"level": level, "first": min(ours), "last": max(ours)}
            cur.execute(QUERIES["select_tiles"], {"program_id": id_, "log": self._log, **span})
            for number, hashes, root in cur:
                tile = ours[number]
                if bytes(hashes) != tile.hashes or bytes(root) != tile.root:
                    self._tile_differs(tile, bytes(hashes), bytes(root))

    def _tile_differs(self, tile: WholeTile, hashes: bytes, root: bytes) -> None:
        pairs = [(at, hashes[at : at + HASH_BYTES], tile.hashes[at : at + HASH_BYTES]) for at in _OFFSETS]
        at, expected, found = next((pair for pair in pairs if pair[1] != pair[2]), (0, root, tile.root))
        position = ((tile.number * TILE_WIDTH + at // HASH_BYTES) << TILE_HEIGHT * tile.level) + 1
        raise self._refused("tile", position, expected.hex(), found.hex())

    def _sign(self, last: SealedCheckpoint | None, edge: Edge) -> Sealing | None:
        root, before = edge.root(), last.size if last else 0
        text = Checkpoint(self._name, edge.size, root).text()
        sealed_at = max(self._now, last.sealed_at) if last else self._now
        made = SealedCheckpoint(edge.size, root, sign(text, self._signers), sealed_at)
        self._keep(made)  # before anybody can see it; killed here, the next run signs what goes on from it
        with self._books.writing(self._program) as (cur, id_):
            if newest_checkpoint(cur, id_, self._log) != last:
                return None
            params = {"program_id": id_, "log": self._log, **made._asdict()}
            cur.execute(QUERIES["insert_checkpoint"], params)
            if not cur.rowcount:
                return None
            signing = {str(signer.key) for signer in self._signers}
            if last is not None:
                for key in sealing_keys(cur, id_, self._log):
                    if _signed(last, key.key) and str(key.key) not in signing:
                        retired = params | {"verifier_key": str(key.key), "size": last.size}
                        cur.execute(QUERIES["insert_retired_key"], retired)
            for verifier_key in sorted(signing):
                cur.execute(QUERIES["insert_sealing_key"], params | {"verifier_key": verifier_key})
        return Sealing(made, made.size - before)

    def _refused(self, fault: Fault, position: int, expected: object, found: object, since: int = 0) -> SealRefused:
        return SealRefused(fault, self._program, self._log, position, expected, found, since)


_OFFSETS = range(0, TILE_WIDTH * HASH_BYTES, HASH_BYTES)


def _signed(checkpoint: SealedCheckpoint, key: VerifierKey) -> bool:
    return (key.name, key.key_id) in {(one.name, one.key_id) for one in read_note(checkpoint.note).signatures}


def _insert_tiles(cur: Rows, id_: UUID, log: str, tiles: Sequence[WholeTile]) -> int:
    """Write tiles that nobody else has written. Returns how many those were."""
    values = ", ".join(["(%s, %s, %s, %s, %b, %b)"] * len(tiles))
    params: list[Any] = []
    for tile in tiles:
        params += (id_, log, tile.level, tile.number, tile.hashes, tile.root)
    cur.execute(
        f"INSERT INTO tiles (program_id, log, level, tile_index, hashes, root) VALUES {values} ON CONFLICT DO NOTHING",  # noqa: S608
        params,
    )
    return cur.rowcount
