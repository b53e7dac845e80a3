"""The read models and statements against a replay of the logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from ledger import sql
from ledger.checking.findings import Findings
from ledger.checking.logs import Row
from ledger.closing import Tally, head_of
from ledger.domain.statement import Section
from ledger.projections import periods, programs
from ledger.projections.periods import Cut
from ledger.projections.shadow import PROJECTIONS, Shadow
from ledger.statements.document import StatementLine, digest, encoded
from ledger.store.log import Rows, UnknownProgram

QUERIES = sql.load("ledger.checking", "checking.sql")
FEW = 20  # statements of a version that are computed one by one
_SECTIONS = msgspec.json.Decoder(list[Section]).decode


class ModelsCheck:
    """Replays both logs into shadows and compares every row. cur: not binary, of the check's transaction."""

    def __init__(self, cur: Rows, program_id: UUID, program: str, findings: Findings) -> None:
        self._cur, self._program_id, self._program, self._findings = cur, program_id, program, findings
        self._shadow = Shadow(cur, program_id)
        self._failed = False

    def begin(self) -> None:
        """Make the shadows."""
        self._shadow.begin()

    def read(self, log: str, rows: Sequence[Row]) -> None:
        """The next rows of a log; nothing more once they could not be followed."""
        events = [row.event for row in rows if row.event is not None]
        if self._failed or not events:
            return
        try:
            # A failed statement must not end the transaction in which everything else is checked.
            with self._cur.connection.transaction():
                self._shadow.books(events) if log == "books" else self._shadow.traffic(events)
        except (psycopg.Error, AssertionError, LookupError, AttributeError, TypeError, ValueError) as problem:
            if isinstance(problem, psycopg.OperationalError):
                raise
            self._failed = True
            where = f"{log} {events[0].position} to {events[-1].position}"
            found = f"{type(problem).__name__}: {problem}"
            self._findings.add("replay_failed", where, events[0].position, "events that can be replayed", found)

    def end(self) -> None:
        """Compare."""
        if self._failed:
            return
        self._shadow.settle()
        for name in PROJECTIONS:
            self._findings.checked[name] = self._shadow.count(name)
            count, some = self._shadow.differences(name, max(1, self._findings.room("projection_differs")))
            for index, one in enumerate(some):
                stands_for = count - len(some) + 1 if index == len(some) - 1 else 1
                self._findings.add("projection_differs", one.subject, one.position, one.expected, one.found, stands_for)
        self._check_statements()

    # --- statements --------------------------------------------------------------------------------------

    def _check_statements(self) -> None:
        """Every statement ever issued: its lines as they stand in the books now. Cuts and statements are the log's,
        by the shadows; the lines are the live journal's."""
        try:
            zone = programs.state(self._cur, self._program_id, self._program).zone
        except UnknownProgram:
            return  # a finding already: the program's own row is not what its log says
        cuts = self._cur.execute(QUERIES["select_cuts"], {"program_id": self._program_id}).fetchall()
        for period, version in cuts:
            cut = periods.cut(self._cur, self._program_id, period, version)
            assert cut is not None
            params = {"program_id": self._program_id, "period": period, "version": version}
            issued = {
                who: (_SECTIONS(sections), hash_, position)
                for who, sections, hash_, position in self._cur.execute(QUERIES["select_issued"], params)
            }
            self._check_cut(zone, cut, issued)

    def _check_cut(self, zone: str, cut: Cut, issued: dict[str, Any]) -> None:
        openings = periods.openings(self._cur, self._program_id, cut.starts_at)
        for who, lines in self._lines(cut, issued):
            if who not in issued:
                if cut.version == 1 and cut.status == "closed":
                    what = f"statement {who} {cut.period} 1"
                    self._findings.add("statement_missing", what, cut.position, "a statement", None)
                continue
            sections, hash_, position = issued.pop(who)
            tally = Tally(openings.get(who, {}))
            made = digest(head_of(self._program, zone, cut, who, sections), encoded(tally.count(lines)))
            self._findings.checked["statement hashes"] += 1
            what = f"statement {who} {cut.period} {cut.version}"
            if made != hash_:
                self._findings.add("statement_differs", f"{what}: hash of its lines", position, made, hash_)
            if (should := tally.sections()) != sections:
                expected, found = msgspec.to_builtins(should), msgspec.to_builtins(sections)
                self._findings.add("statement_differs", f"{what}: figures", position, expected, found)

    def _lines(self, cut: Cut, issued: dict[str, Any]) -> Iterator[tuple[str, Iterable[StatementLine]]]:
        """(affiliate id, its lines) of everybody who has a statement or should."""
        bounds, late_before = periods.bounds(cut), cut.late_before
        left = sorted(issued)
        if cut.version == 1 or len(left) > FEW:
            seen: set[str] = set()
            for who, lines in periods.lines_by_affiliate(self._cur, self._program_id, bounds, late_before):
                seen.add(who)
                if cut.version == 1 or who in issued:
                    yield who, lines
            left = [who for who in left if who not in seen]
            for who in left:
                yield who, ()
            return
        for who in left:
            yield who, periods.lines_of(self._cur, self._program_id, who, bounds, late_before)
