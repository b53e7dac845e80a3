"""The affiliates' trees as an auditor makes them: from the log's lines alone, naively.

An AffiliateTreesRecorded commits to the list of each affiliate's entries, the events up to a cut that moved its money;
an affiliate that was shown its statement's proof holds the list that leads there. Whoever has the whole log can say
whether that list is complete: this page does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ledger.audit.merkle import CompactRange, leaf_hash, root_of
from ledger.audit.naive import Transfer

CUTS = ("PeriodClosed", "PeriodReissued")
RECORDED, ISSUED = "AffiliateTreesRecorded", "StatementsIssued"


def affiliate_leaf(affiliate_id: str, size: int, root: bytes) -> bytes:
    """An affiliate's leaf in the tree of affiliates. size: its entries; root: over their leaf hashes."""
    return leaf_hash(f"{affiliate_id}\n{size}\n{root.hex()}\n".encode())


class Recorded(NamedTuple):
    """What an AffiliateTreesRecorded says, or should."""

    cut_position: int
    affiliate_count: int
    entry_count: int
    root: str


class TreesDiffer(Exception):
    """A recorded root, or its absence, that the log does not lead to."""

    def __init__(self, position: int, what: str, expected: object, found: object) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")
        self.position, self.what, self.expected, self.found = position, what, expected, found


class AffiliateTrees:
    """Reads a books log from its first position on, and compares every recorded root with its own."""

    def __init__(self) -> None:
        self._trees: dict[str, CompactRange] = {}
        self._cuts: dict[tuple[str, int], Recorded] = {}
        self._checked: set[tuple[str, int]] = set()
        self.checked = 0

    def event(self, position: int, leaf: bytes, topic: str, state: dict[str, Any], moved: Iterable[Transfer]) -> None:
        """The next event. leaf: its line's leaf hash; moved: its transfers by naive rules. Raises TreesDiffer."""
        for affiliate_id in {line.affiliate_id for line in moved if line.affiliate_id}:
            self._trees.setdefault(affiliate_id, CompactRange()).add(leaf)
        if topic in CUTS:
            self._cuts[state["period"], state.get("version", 1)] = self._as_of(position)
        elif topic == RECORDED:
            self._check(position, state)
        elif topic == ISSUED and self._checked and (state["period"], state["version"]) not in self._checked:
            raise TreesDiffer(position, f"the trees of affiliates of period {state['period']}", RECORDED, "none")

    def _as_of(self, position: int) -> Recorded:
        leaves = (affiliate_leaf(who, tree.size, tree.root()) for who, tree in sorted(self._trees.items()))
        sizes = sum(tree.size for tree in self._trees.values())
        return Recorded(position, len(self._trees), sizes, root_of(leaves).hex())

    def _check(self, position: int, state: dict[str, Any]) -> None:
        what = f"the trees of affiliates of period {state['period']}"
        name = state["period"], state["version"]
        expected = self._cuts.get(name)
        if expected is None:
            raise TreesDiffer(position, what, "a cut of that period before it", "none")
        for field in Recorded._fields:
            if state[field] != getattr(expected, field):
                raise TreesDiffer(position, f"{what}: {field}", getattr(expected, field), state[field])
        self._checked.add(name)
        self.checked += 1
