"""Affiliates' trees: for each affiliate the RFC 9162 tree over its entries, and over all of them one root.

An entry is an event that moved the affiliate's money. When a period is closed, the root over every affiliate's tree is
recorded in the log, which is sealed: from then on nobody can be shown a list of entries that lacks one. Trees grow: a
period's pass reads only what came since the one before. docs/statement-proofs.md says what this proves, and to whom.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from ledger import sql
from ledger.audit.affiliate_trees import affiliate_leaf
from ledger.audit.merkle import HASH_BYTES, CompactRange
from ledger.domain.period import AffiliateTreesRecorded
from ledger.projections.periods import Cut
from ledger.store.log import Rows

QUERIES = sql.load("ledger", "affiliate_trees.sql")
ENTRIES_AT_ONCE = 10_000
TREES_AT_ONCE = 1_000


class Tree(NamedTuple):
    """An affiliate's tree as of a cut: how many entries, and the root over their leaf hashes."""

    affiliate_id: str
    size: int
    root: bytes


def grow(cur: Rows, program_id: UUID, cut: Cut) -> AffiliateTreesRecorded:
    """Bring every affiliate's tree up to a cut, and say what is to be recorded about it. One pass over the journal
    since the last recorded cut, flat in memory; done again, it changes nothing. The caller's transaction keeps it
    whole."""
    params = {"program_id": program_id, "position": cut.position}
    row = cur.execute(QUERIES["select_recorded_before"], params).fetchone()
    assert row is not None
    previous = int(row[0])
    every, entry_count = CompactRange(), 0
    grown: list[tuple[str, CompactRange]] = []
    for affiliate_id, tree, is_new in _merged(
        _known(cur, program_id, previous), _new(cur, program_id, previous, cut.position)
    ):
        every.add(affiliate_leaf(affiliate_id, tree.size, tree.root()))
        entry_count += tree.size
        if is_new:
            grown.append((affiliate_id, tree))
            if len(grown) >= TREES_AT_ONCE:
                _store(cur, params, grown)
    _store(cur, params, grown)
    return AffiliateTreesRecorded(
        period=cut.period,
        version=cut.version,
        cut_position=cut.position,
        affiliate_count=every.size,
        entry_count=entry_count,
        root=every.root().hex(),
    )


def _known(cur: Rows, program_id: UUID, position: int) -> Iterator[tuple[str, CompactRange]]:
    """Each affiliate's tree as of an earlier cut."""
    with cur.connection.cursor(name="known_trees", binary=True) as rows:
        rows.itersize = TREES_AT_ONCE
        for affiliate_id, size, _, roots in rows.execute(
            QUERIES["select_trees"], {"program_id": program_id, "position": position}
        ):
            subtrees = [bytes(roots[at : at + HASH_BYTES]) for at in range(0, len(roots), HASH_BYTES)]
            yield affiliate_id, CompactRange(size, subtrees)


def _new(cur: Rows, program_id: UUID, previous: int, position: int) -> Iterator[tuple[str, bytes]]:
    """(affiliate id, leaf hash) of every new entry, each once, by affiliate and position."""
    params = {"program_id": program_id, "previous": previous, "position": position}
    last: tuple[str, int] = ("", 0)
    with cur.connection.cursor(name="new_entries", binary=True) as rows:
        rows.itersize = ENTRIES_AT_ONCE
        for affiliate_id, at, leaf in rows.execute(QUERIES["select_new_entries"], params):
            if (affiliate_id, at) != last:
                last = affiliate_id, at
                yield affiliate_id, leaf


def _merged(
    known: Iterator[tuple[str, CompactRange]], new: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, CompactRange, bool]]:
    """(affiliate id, its tree with the new entries, whether there were any) of everybody, in the order of ids' bytes.
    Both come in that order; ids are ASCII, so it is also that of text."""
    before, entry = next(known, None), next(new, None)
    while before or entry:
        if before is not None and (entry is None or before[0] <= entry[0]):
            (affiliate_id, tree), before = before, next(known, None)
        else:
            assert entry is not None
            affiliate_id, tree = entry[0], CompactRange()
        is_new = entry is not None and entry[0] == affiliate_id
        while entry is not None and entry[0] == affiliate_id:
            tree.add(entry[1])
            entry = next(new, None)
        yield affiliate_id, tree, is_new


def _store(cur: Rows, params: dict[str, Any], grown: list[tuple[str, CompactRange]]) -> None:
    if grown:
        rows = {
            "affiliates": [affiliate_id for affiliate_id, _ in grown],
            "sizes": [tree.size for _, tree in grown],
            "roots": [tree.root() for _, tree in grown],
            "subtrees": [b"".join(tree.roots) for _, tree in grown],
        }
        cur.execute(QUERIES["insert_trees"], params | rows)
        grown.clear()


def trees(cur: Rows, program_id: UUID, position: int) -> list[Tree]:
    """Every affiliate's tree as of a recorded cut, in the order of ids."""
    cur.execute(QUERIES["select_trees"], {"program_id": program_id, "position": position})
    return [Tree(affiliate_id, size, bytes(root)) for affiliate_id, size, root, _ in cur]
