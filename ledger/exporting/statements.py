"""statements.ndjson: every version of every statement as its canonical JSON, as it was hashed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import chain
from uuid import UUID

import msgspec

from ledger import sql
from ledger.application import CommissionLedger
from ledger.audit.exporting_place import Draft, ExportRefused
from ledger.closing import head_of
from ledger.domain.statement import Section
from ledger.exporting.reading import in_parts, reading
from ledger.projections import periods, programs
from ledger.projections.periods import Cut
from ledger.statements.document import CLOSING, StatementLine, encoded, opening
from ledger.store.log import Rows

QUERIES = sql.load("ledger.exporting", "exporting.sql")
_encode = msgspec.json.Encoder().encode
_sections = msgspec.json.Decoder(list[Section]).decode


def write_statements(
    ledger: CommissionLedger, program: str, until: int, draft: Draft, written: Callable[[int], None]
) -> None:
    """Every version issued up to a position, in the order in which the log issued them. Raises ExportRefused for one
    whose lines do not lead to its hash.

    It is the order of lines_by_affiliate for a first version: so its lines come in one stream. The others are few, and
    are read one by one.
    """
    with reading(ledger, program) as (cur, id_):
        zone = programs.state(cur, id_, program).zone
        cuts: dict[tuple[str, int], Cut] = {}
        stream = _PeriodLines(cur, id_)
        params = {"program_id": id_, "position": until}
        for rows in in_parts(cur, "export_statements", QUERIES["select_statements_in_order"], params):
            for affiliate_id, period, version, line_count, hash_, sections in rows:
                cut = cuts.get((period, version)) or periods.cut(cur, id_, period, version)
                assert cut is not None
                cuts[period, version] = cut
                head = head_of(program, zone, cut, affiliate_id, _sections(sections))
                with _lines_of(ledger, program, stream, cut, affiliate_id, line_count) as lines:
                    _write_statement(draft, cut, affiliate_id, hash_, chain([opening(head)], encoded(lines), [CLOSING]))
            written(draft.lines)


class _PeriodLines:
    """The lines of a period's statements in the order of affiliates, one period at a time."""

    def __init__(self, cur: Rows, id_: UUID) -> None:
        self._cur, self._id = cur, id_
        self._cut: Cut | None = None
        self._groups: Iterator[tuple[str, Iterator[StatementLine]]] = iter(())
        self._next: tuple[str, Iterator[StatementLine]] | None = None

    def of(self, cut: Cut, affiliate_id: str) -> Iterator[StatementLine] | None:
        """Its lines, if they are what comes next; None: read them on their own."""
        if self._cut != cut:
            self._cut = cut
            self._next, self._groups = None, iter(())  # the cursor before is closed by that
            self._groups = periods.lines_by_affiliate(self._cur, self._id, periods.bounds(cut), cut.late_before)
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != affiliate_id:
            return None
        return self._take()

    def _take(self) -> Iterator[StatementLine]:
        assert self._next is not None
        yield from self._next[1]
        self._next = next(self._groups, None)


@contextmanager
def _lines_of(
    ledger: CommissionLedger, program: str, stream: _PeriodLines, cut: Cut, affiliate_id: str, line_count: int
) -> Iterator[Iterable[StatementLine]]:
    if not line_count:
        yield ()
        return
    lines = stream.of(cut, affiliate_id) if cut.version == 1 else None
    if lines is not None:
        yield lines
        return
    with reading(ledger, program) as (cur, id_):
        yield periods.lines_of(cur, id_, affiliate_id, periods.bounds(cut), cut.late_before)


def _write_statement(draft: Draft, cut: Cut, affiliate_id: str, hash_: str, document: Iterable[bytes]) -> None:
    """A line of statements.ndjson, piece by piece: a statement may have a million lines."""
    head = {"affiliate_id": affiliate_id, "period": cut.period, "version": cut.version, "hash": hash_, "document": ""}
    draft.write(_encode(head)[:-2])
    made = sha256()
    for piece in document:
        made.update(piece)
        draft.write(_encode(piece.decode())[1:-1])
    draft.write(b'"}\n')
    draft.lines += 1
    if made.hexdigest() != hash_:
        raise ExportRefused(
            f"the statement of {affiliate_id} for {cut.period}, version {cut.version}, has the hash {hash_}, but the"
            f" lines in the books lead to {made.hexdigest()}: one of the two was changed"
        )
