"""What a check finds: typed, counted, and kept up to a bound of each kind."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec import Struct

from ledger.audit import findings as audit_findings

MOST_OF_A_KIND = 100
# kind → what it says. Programs may rely on these names; those that an export's audit uses, too, say the same there.
_AS_IN_AN_EXPORT = (
    "position_gap", "leaf_differs", "time_falls", "topic_unknown", "event_unreadable", "stream_id_differs",
    "stream_version_gap", "size_differs", "root_differs", "checkpoint_invalid", "balance_differs", "not_balanced",
    "trees_differ", "statement_differs", "statement_missing",
)  # fmt: skip
KINDS: dict[str, str] = {
    **{kind: audit_findings.KINDS[kind] for kind in _AS_IN_AN_EXPORT},
    "head_differs": "a log's head, or the program's own row, is not what the log leads to",
    "follower_ahead": "a follower says that it has read further than the log goes",
    "tile_differs": "a stored tile of the Merkle tree is not what the events lead to",
    "journal_differs": "a journal line is not what the log leads to by the second set of rules",
    "projection_differs": "a read model's row is not what the log leads to",
    "replay_failed": "the read models cannot be replayed from the log",
}


class Finding(Struct, frozen=True):
    """subject: what it is about, such as 'books 17' or 'conversions o1'; position: in the log, None where it has none;
    expected: what the log leads to; found: what is stored. None: nothing."""

    kind: str
    subject: str
    position: int | None
    expected: Any
    found: Any


class CheckReport(Struct):
    """positions: how far each log was when the check looked; counts: findings by kind, of which findings holds the
    first hundred each; checked: how many of what were looked at."""

    program: str
    positions: dict[str, int]
    checked: dict[str, int]
    counts: dict[str, int]
    findings: list[Finding]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts


class Findings:
    """Collects them. checked: how many of what were looked at."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self.kept: list[Finding] = []

    def add(self, kind: str, subject: str, position: int | None, expected: Any, found: Any, count: int = 1) -> None:
        """Note one. count: more than one for a finding that stands for others of its kind as well."""
        assert kind in KINDS, kind
        if self.counts[kind] < MOST_OF_A_KIND:
            self.kept.append(Finding(kind, subject, position, expected, found))
        self.counts[kind] += count

    def room(self, kind: str) -> int:
        """How many more of a kind are kept."""
        return max(0, MOST_OF_A_KIND - self.counts[kind])
