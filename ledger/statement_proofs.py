"""Making a statement's proof: one file for whoever wants to check a statement without trusting us.

It is written piece by piece, so that an affiliate of many entries needs little memory; ledger/audit/statement_proof.py
says what is in it, and checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import presenting
from ledger.affiliate_trees import QUERIES, trees
from ledger.application import CommissionLedger
from ledger.audit import merkle
from ledger.audit.affiliate_trees import affiliate_leaf
from ledger.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Node, Tile, tile_width
from ledger.audit.notes import read_note, to_base64
from ledger.audit.statement_proof import FORMAT
from ledger.audit.tree import SealedCheckpoint, StoredTree, checkpoint_over, published_note, sealing_keys
from ledger.domain.errors import WrongState
from ledger.domain.ids import stream_id
from ledger.domain.period import KEY, AffiliateTreesRecorded, PeriodClosed, PeriodReissued
from ledger.presenting import Found, StatementDiffers
from ledger.projections import periods
from ledger.statements.document import canonical
from ledger.store import log
from ledger.store.database import LONG_STATEMENT_TIMEOUT
from ledger.store.log import Rows

LOG = "books"
ENTRIES_AT_ONCE = 1_000
TILES_KEPT = 1_024  # 8 KiB each; entries come in the order of the log, so few are asked for twice
ANY_VERSION = 2**31 - 1
_encode = msgspec.json.Encoder().encode


class Places(NamedTuple):
    """Where in the books the proof's events stand. previous: 0 without a statement before; reissue: 0 for version 1."""

    statement: int
    previous: int
    period: int
    reissue: int
    trees: int

    def all(self) -> list[int]:
        """Those that there are."""
        return sorted({position for position in self if position})


def statement_proof(
    ledger: CommissionLedger,
    program: str,
    affiliate_id: str,
    period: str,
    version: int | None = None,
    timeout: str = LONG_STATEMENT_TIMEOUT,
) -> Iterator[bytes]:
    """The proof's file, in pieces, of a version of a statement, the newest unless said. timeout: of each SQL statement,
    as PostgreSQL writes it.

    Raises, before the first piece, NotFound; StatementDiffers; WrongState when no affiliates' trees were recorded since
    the statement's cut, or when they are not sealed yet; TreeIncomplete.
    """
    found = presenting.find_statement(ledger, program, affiliate_id, period, version)
    with (
        presenting.read_lines(ledger, program, found) as lines,
        ledger.reading(program) as (cur, id_),
    ):
        cur.execute(f"SET LOCAL statement_timeout = '{timeout}'")
        places, recorded = _places(cur, id_, found)
        checkpoint = _checkpoint(cur, id_, max(places))
        writer = _Writer(cur, id_, checkpoint)
        yield _head(cur, id_, found, checkpoint)
        for piece in canonical(found.head, lines()):
            yield _escaped(piece.decode())
        yield b'",' + writer.events(places) + _place(cur, id_, affiliate_id, recorded) + b',"entries":['
        yield from writer.entries(affiliate_id, recorded.cut_position)
        yield b'],"nodes":['
        yield from writer.nodes()
        yield b"]}\n"


def _places(cur: Rows, id_: UUID, found: Found) -> tuple[Places, AffiliateTreesRecorded]:
    head, cut = found.head, found.cut
    closed = reissued = 0
    recorded: tuple[int, AffiliateTreesRecorded] | None = None
    for event in log.select_streams(cur, id_, [stream_id(id_, KEY)]):
        match event.body:
            case PeriodClosed(period=head.period):
                closed = event.position
            case PeriodReissued(period=head.period, version=head.version):
                reissued = event.position
            case AffiliateTreesRecorded() as body if body.cut_position >= cut.position and recorded is None:
                recorded = event.position, body
    if recorded is None:
        raise WrongState(
            f"the statements of {head.period} were issued before entries were recorded: their proof can be made once"
            " the next period is closed"
        )
    before: list[Any] = []
    if head.starts_at is not None:
        before = periods.statements_of(cur, id_, head.affiliate_id, None, head.starts_at, 1, ANY_VERSION)
    places = Places(found.issued.position, before[0].position if before else 0, closed, reissued, recorded[0])
    return places, recorded[1]


def _checkpoint(cur: Rows, id_: UUID, position: int) -> SealedCheckpoint:
    """The first one that covers everything: the same file for everybody who asks."""
    checkpoint = checkpoint_over(cur, id_, LOG, position)
    if checkpoint is None:
        raise WrongState(f"the log is not sealed up to position {position} yet: try again after the next checkpoint")
    return checkpoint


def _head(cur: Rows, id_: UUID, found: Found, checkpoint: SealedCheckpoint) -> bytes:
    """The file up to its statement."""
    signed = {(one.name, one.key_id) for one in read_note(checkpoint.note).signatures}
    keys = [one.key for one in sealing_keys(cur, id_, LOG)]
    head = {
        "format": FORMAT,
        "program": found.head.program,
        "affiliate_id": found.head.affiliate_id,
        "period": found.head.period,
        "version": found.head.version,
        "keys": [str(key) for key in keys if (key.name, key.key_id) in signed],
        "checkpoint": published_note(cur, id_, LOG, checkpoint),
    }
    return _encode(head).removesuffix(b"}") + b',"statement":"'


def _escaped(text: str) -> bytes:
    """A piece of a JSON string, without its quotes."""
    return _encode(text)[1:-1]


def _place(cur: Rows, id_: UUID, affiliate_id: str, recorded: AffiliateTreesRecorded) -> bytes:
    """The affiliate's place among the affiliates."""
    every = trees(cur, id_, recorded.cut_position)
    leaves = [affiliate_leaf(*tree) for tree in every]
    index = next((n for n, tree in enumerate(every) if tree.affiliate_id == affiliate_id), None)
    if index is None or merkle.root_of(leaves).hex() != recorded.root:
        raise StatementDiffers(f"the affiliates' trees up to position {recorded.cut_position} are not those recorded")
    proof = merkle.inclusion_proof(index, len(leaves), merkle.nodes_from_leaves(leaves))
    return b',"tree":' + _encode({"index": index, "proof": [to_base64(one) for one in proof]})


class _Writer:
    """Writes lines with their proofs; a node that several proofs have is written once."""

    def __init__(self, cur: Rows, id_: UUID, checkpoint: SealedCheckpoint) -> None:
        self._cur, self._id, self._size = cur, id_, checkpoint.size
        self._node = _nodes(StoredTree(cur, id_, LOG, checkpoint.size))
        self._line = log.line_maker(id_, LOG)
        self._numbers: dict[tuple[int, int], int] = {}
        self._hashes: list[bytes] = []

    def events(self, places: Places) -> bytes:
        """The members that hold one event each."""
        self._cur.execute(QUERIES["select_rows_at"], {"program_id": self._id, "positions": places.all()})
        proven = {row[0]: self._proven(row) for row in self._cur.fetchall()}
        members = {
            "statement_event": places.statement,
            "previous_statement_event": places.previous,
            "period_event": places.period,
            "reissue_event": places.reissue,
            "trees_event": places.trees,
        }
        return b",".join(b'"%s":%s' % (name.encode(), proven.get(at, b"null")) for name, at in members.items())

    def entries(self, affiliate_id: str, position: int) -> Iterator[bytes]:
        """The entries up to a position, with commas between them."""
        params = {"program_id": self._id, "affiliate_id": affiliate_id, "position": position}
        separator = b""
        with self._cur.connection.cursor(name="proof_entries") as rows:
            rows.itersize = ENTRIES_AT_ONCE
            for row in rows.execute(QUERIES["select_entry_rows"], params):
                yield separator + self._proven(row)
                separator = b","

    def nodes(self) -> Iterator[bytes]:
        """What the proofs name by number, with commas between them."""
        for start in range(0, len(self._hashes), ENTRIES_AT_ONCE):
            some = self._hashes[start : start + ENTRIES_AT_ONCE]
            yield (b"," if start else b"") + _encode([to_base64(one) for one in some])[1:-1]

    def _proven(self, row: Any) -> bytes:
        return _encode({"line": self._line(row).decode(), "proof": self._proof(row[0] - 1)})

    def _proof(self, index: int) -> list[int]:
        proof = []
        for start, end in merkle.inclusion_ranges(index, self._size):
            number = self._numbers.get((start, end))
            if number is None:
                number = self._numbers[start, end] = len(self._hashes)
                self._hashes.append(merkle.range_root(start, end, self._node))
            proof.append(number)
        return proof


def _nodes(tree: StoredTree) -> Node:
    """A reader of the tree's nodes that remembers some tiles and nothing else: entries are strewn over the whole log,
    and StoredTree.node would remember all of it."""

    @lru_cache(TILES_KEPT)
    def hashes_of(level: int, number: int) -> bytes:
        return tree.tile(Tile(level, number, tile_width(level, number, tree.size)))

    def node(level: int, index: int) -> bytes:
        row, above = divmod(level, TILE_HEIGHT)
        number, first = divmod(index << above, TILE_WIDTH)
        hashes = hashes_of(row, number)[first * HASH_BYTES : (first + (1 << above)) * HASH_BYTES]
        while len(hashes) > HASH_BYTES:
            hashes = merkle.parents(hashes)
        return hashes

    return node
