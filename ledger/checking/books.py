"""The live books against a second bookkeeping: the audit's own posting rules, which share no code with the ledger's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ledger import sql
from ledger.audit import affiliate_trees, naive
from ledger.checking.findings import Findings
from ledger.checking.logs import Row
from ledger.projections import book_lines, rebuild
from ledger.projections.book_lines import LineWriter
from ledger.store.copy import BINARY_HEADER, BINARY_TRAILER
from ledger.store.log import Rows

QUERIES = sql.load("ledger.checking", "checking.sql")
TREE_TOPICS = frozenset({*affiliate_trees.CUTS, affiliate_trees.RECORDED, affiliate_trees.ISSUED})
MOST = 2**56  # minor units: no event moves so much, and 64 bits hold the sum of many such
_decode = msgspec.json.Decoder().decode


class BooksCheck:
    """Follows the books' log and compares journal, balances and the affiliates' trees. cur: of the same transaction."""

    def __init__(self, cur: Rows, program_id: UUID, generation: int, findings: Findings) -> None:
        self._cur, self._program_id, self._generation, self._findings = cur, program_id, generation, findings
        self._lines = LineWriter(program_id, generation, self._transfers)
        self._trees: affiliate_trees.AffiliateTrees | None = affiliate_trees.AffiliateTrees()
        self._after = rebuild.BEGINNING
        self._rows: dict[int, Row] = {}

    def read(self, rows: Sequence[Row]) -> None:
        """The next rows of the log."""
        wanted = [row for row in rows if row.topic in naive.MOVING or row.topic in TREE_TOPICS]
        self._rows = {row.position: row for row in wanted}
        made = self._lines.rows((row.position, row.topic, row.state, row.recorded_at) for row in wanted)
        self._compare(made, rows[-1].position)

    def _transfers(self, position: int, topic: str, state: str) -> Iterator[Any]:
        """What an event moves by the audit's rules, as LineWriter wants it."""
        try:
            fields = _decode(state)
            moved = naive.transfers(topic, fields)
            transfers = [_typed(line) for line in moved]
        except (msgspec.DecodeError, LookupError, ValueError, TypeError) as problem:
            found = f"{type(problem).__name__}: {problem}"
            self._findings.add(
                "event_unreadable", f"books {position}", position, f"a {topic} that can be posted", found
            )
            return iter(())
        self._grow(position, topic, fields, moved)
        return iter(transfers)

    def _grow(self, position: int, topic: str, fields: dict[str, Any], moved: Sequence[naive.Transfer]) -> None:
        if self._trees is None:
            return
        try:
            self._trees.event(position, self._rows[position].leaf_hash, topic, fields, moved)
        except affiliate_trees.TreesDiffer as differs:
            self._findings.add("trees_differ", differs.what, differs.position, differs.expected, differs.found)
        except LookupError:
            self._trees = None  # a cut that cannot be read, which is a finding already

    def _compare(self, made: bytes, upto: int) -> None:
        span = {"program_id": self._program_id, "live": self._generation, "built": self._generation}
        with self._cur.copy(rebuild.QUERIES["copy_live_lines"], span | {"after": self._after, "upto": upto}) as copy:
            live = b"".join(copy)[len(BINARY_HEADER) : -len(BINARY_TRAILER)]
        self._after = upto
        if made == live:
            return
        for one in book_lines.differences(made, live):
            what = f"journal {one['position']} line {one['line_no']}"
            self._findings.add("journal_differs", what, one["position"], one["expected"], one["found"])

    def end(self) -> None:
        """Lines behind the last event; the accounts; the sums."""
        self._compare(b"", rebuild.END)
        self._findings.checked["journal lines"] = self._lines.lines
        expected = dict(self._lines.running.amounts)
        sums: dict[str, int] = defaultdict(int)
        params = {"program_id": self._program_id, "generation": self._generation}
        for account, currency, affiliate_id, amount, position in self._cur.execute(QUERIES["select_balances"], params):
            sums[currency] += amount
            self._findings.checked["balances"] += 1
            key = (account, currency)
            moved = self._lines.running.moved.get(key)
            should = (expected.pop(key, None), moved, _owner(account))
            if should != (amount, position, affiliate_id):
                said = {"amount": should[0], "position": should[1], "affiliate_id": should[2]} if moved else None
                found = {"amount": amount, "position": position, "affiliate_id": affiliate_id}
                self._findings.add("balance_differs", f"balance {account} {currency}", moved or position, said, found)
        for (account, currency), amount in sorted(expected.items()):
            moved = self._lines.running.moved[account, currency]
            said = {"amount": amount, "position": moved, "affiliate_id": _owner(account)}
            self._findings.add("balance_differs", f"balance {account} {currency}", moved, said, None)
        for currency, total in sorted(sums.items()):
            if total:
                self._findings.add("not_balanced", f"balances {currency}", None, 0, total)


def _typed(line: naive.Transfer) -> tuple[str, str, int, str, datetime, str]:
    """The same, as a journal line has it. Raises ValueError for what no journal line could hold."""
    debit, credit, amount, currency, effective_at, affiliate_id = line
    at = datetime.fromisoformat(effective_at)
    texts = (debit, credit, currency, affiliate_id)
    if type(amount) is not int or not 0 < amount < MOST or at.tzinfo is None or {*map(type, texts)} != {str}:
        raise ValueError(f"no journal line holds {line}")
    return debit, credit, amount, currency, at, affiliate_id


def _owner(account: str) -> str:
    """Whose account it is, by the audit's own reading: asset:bank:ID and liability:ID:bucket."""
    kind, _, rest = account.partition(":")
    if kind == "liability":
        return rest.rpartition(":")[0]
    return rest[len("bank:") :] if kind == "asset" and rest.startswith("bank:") else ""
