"""Closing a period: freeze the cut in one small command, then issue every affiliate's statement from it.

Whatever is recorded after the cut cannot change what it says, so the long part needs no lock, can be interrupted
anywhere, and comes out the same when it is run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from uuid import UUID

from ledger import affiliate_trees
from ledger.application import CommissionLedger, Progress
from ledger.desk import Meta
from ledger.domain.errors import NotFound, Refusal
from ledger.domain.event import Answer
from ledger.domain.period import ClosePeriod, FinishClose, RecordAffiliateTrees, ReissuePeriod, StatementTotal
from ledger.domain.statement import Buckets, IssueStatement, Section, StatementIssued
from ledger.projections import periods, programs
from ledger.projections.periods import Cut, Totals
from ledger.statements.document import StatementHead, StatementLine, digest, encoded
from ledger.store.database import allow_long
from ledger.store.log import Rows

STATEMENTS_AT_ONCE = 1000
SPOOL_BYTES = 4 << 20  # of one affiliate's lines are held in memory


class DoesNotAddUp(Exception):
    """The statements and the journal say different sums: nothing was stated. The message names the first one."""


def close_period(
    ledger: CommissionLedger, program: str, period: str, meta: Meta, ends_at: datetime | None = None
) -> Iterator[Progress]:
    """Close a period and issue its statements. Yields after each commit; run again it goes on, and once all is done
    it changes nothing. Raises Refusal, DoesNotAddUp."""
    ledger.execute(program, ClosePeriod(period=period, ends_at=ends_at), meta)
    yield from issue_statements(ledger, program, period, meta)


def reissue_period(
    ledger: CommissionLedger, program: str, period: str, version: int, reason: str, meta: Meta
) -> Iterator[Progress]:
    """Issue a new version of the statements of those who have new lines. Raises Refusal, DoesNotAddUp."""
    ledger.execute(program, ReissuePeriod(period=period, version=version, reason=reason), meta)
    yield from issue_statements(ledger, program, period, meta)


def issue_statements(ledger: CommissionLedger, program: str, period: str, meta: Meta) -> Iterator[Progress]:
    """Issue what is missing of the newest version of a closed period."""
    with ledger.reading(program) as (cur, id_):
        cut = periods.cut(cur, id_, period)
    if cut is None:
        raise NotFound(f"period {period} is not closed")
    if cut.status == "closed":
        return
    # Long pieces of work, but finite ones; no connection waits for another's meanwhile.
    with ledger.writing(program) as (cur, id_):
        allow_long(cur)
        periods.carry(cur, id_, cut)
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        done = 0
        batch: list[IssueStatement] = []
        for statement in _statements(cur, id_, program, cut):
            batch.append(IssueStatement(statement=statement))
            if len(batch) >= STATEMENTS_AT_ONCE:
                done += _issue(ledger, program, batch, meta)
                yield Progress(done, None)
        done += _issue(ledger, program, batch, meta)
    yield Progress(done, None)
    _record_trees(ledger, program, cut, meta)
    _finish(ledger, program, cut, meta)


def _issue(ledger: CommissionLedger, program: str, batch: list[IssueStatement], meta: Meta) -> int:
    for outcome in ledger.execute_many(program, batch, meta):
        if isinstance(outcome, Refusal):
            raise outcome
    issued = len(batch)
    batch.clear()
    return issued


def _statements(cur: Rows, id_: UUID, program: str, cut: Cut) -> Iterator[StatementIssued]:
    """The statements that a version lacks, in the order of affiliate ids."""
    zone = programs.state(cur, id_, program).zone
    openings = periods.openings(cur, id_, cut.starts_at)
    issued = periods.issued_to(cur, id_, cut.period, cut.version)
    if cut.version > 1:
        before = periods.cut(cur, id_, cut.period, cut.version - 1)
        assert before is not None
        for affiliate_id in sorted(set(periods.changed_since(cur, id_, before.position, cut)) - issued):
            lines = periods.lines_of(cur, id_, affiliate_id, periods.bounds(cut), cut.late_before)
            yield _statement(program, zone, cut, affiliate_id, openings.get(affiliate_id, {}), lines)
        return
    owed = {who for who, opening in openings.items() if any(_owes(one) for one in opening.values())}
    for affiliate_id, lines in periods.lines_by_affiliate(cur, id_, periods.bounds(cut), cut.late_before):
        owed.discard(affiliate_id)
        if affiliate_id not in issued:
            yield _statement(program, zone, cut, affiliate_id, openings.get(affiliate_id, {}), lines)
    for affiliate_id in sorted(owed - issued):
        yield _statement(program, zone, cut, affiliate_id, openings[affiliate_id], iter(()))


def _owes(closing: Buckets) -> bool:
    """Whether anything is still owed either way: who was only paid once needs no statement of it every month."""
    return bool(closing.pending or closing.held or closing.payable or closing.in_transit)


def _statement(
    program: str,
    zone: str,
    cut: Cut,
    affiliate_id: str,
    opening: dict[str, Buckets],
    lines: Iterator[StatementLine],
) -> StatementIssued:
    """The head stands before the lines and says what they add up to: so they wait, encoded and on disk once they are
    many, until their last is known."""
    tally = Tally(opening)
    with SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        for piece in encoded(tally.count(lines)):
            spool.write(piece)
        sections = tally.sections()
        spool.seek(0)
        hash_ = digest(head_of(program, zone, cut, affiliate_id, sections), iter(lambda: spool.read(1 << 20), b""))
    return StatementIssued(
        affiliate_id=affiliate_id,
        period=cut.period,
        version=cut.version,
        cut_position=cut.position,
        starts_at=cut.starts_at,
        ends_at=cut.ends_at,
        sections=sections,
        hash=hash_,
    )


def head_of(program: str, zone: str, cut: Cut, affiliate_id: str, sections: list[Section]) -> StatementHead:
    """A statement's head."""
    return StatementHead(
        affiliate_id=affiliate_id,
        ends_at=cut.ends_at,
        period=cut.period,
        position=cut.position,
        program=program,
        sections=sections,
        starts_at=cut.starts_at,
        version=cut.version,
        zone=zone,
    )


class Tally:
    """Adds up a statement's lines as they pass."""

    def __init__(self, opening: dict[str, Buckets]) -> None:
        self._opening = opening
        self._moved: dict[str, dict[str, int]] = {currency: {} for currency in opening}
        self._lines: dict[str, int] = {}
        self._late: dict[str, int] = {}

    def count(self, lines: Iterable[StatementLine]) -> Iterator[StatementLine]:
        """The same lines, counted."""
        for line in lines:
            currency, amount = line.currency, line.amount
            buckets = self._moved.setdefault(currency, {})
            buckets[line.source] = buckets.get(line.source, 0) - amount
            buckets[line.target] = buckets.get(line.target, 0) + amount
            self._lines[currency] = self._lines.get(currency, 0) + 1
            if line.late:
                self._late[currency] = self._late.get(currency, 0) + 1
            yield line

    def sections(self) -> list[Section]:
        """A section a currency, in the order of codes: what was there, what the lines moved, what is there."""
        return [self._section(currency) for currency in sorted(self._moved)]

    def _section(self, currency: str) -> Section:
        before, moved = self._opening.get(currency, Buckets()), self._moved[currency]
        after = {bucket: getattr(before, bucket) + moved.get(bucket, 0) for bucket in Buckets.__struct_fields__}
        return Section(
            currency=currency,
            opening=before,
            closing=Buckets(**after),
            line_count=self._lines.get(currency, 0),
            late_count=self._late.get(currency, 0),
        )


def _record_trees(ledger: CommissionLedger, program: str, cut: Cut, meta: Meta) -> None:
    """Commit to every affiliate's list of entries up to the cut, before anybody is told that all is issued."""
    with ledger.writing(program) as (cur, id_):
        allow_long(cur)
        trees = affiliate_trees.grow(cur, id_, cut)
    ledger.execute(program, RecordAffiliateTrees(trees=trees), meta)


def _finish(ledger: CommissionLedger, program: str, cut: Cut, meta: Meta) -> Answer:
    """Compare the sum of the statements with the journal's, then state it."""
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        found = periods.newest_hashes(cur, id_, cut.period, cut.version)
        opening = periods.closing_totals(cur, id_, cut.starts_at) if cut.starts_at is not None else {}
        closing = periods.closing_totals(cur, id_, cut.ends_at)
        control = periods.control_totals(cur, id_, cut)
    _must_add_up(cut, closing, control)
    hashes = sha256()
    for _, _, hash_ in found:
        hashes.update(f"{hash_}\n".encode())
    places = sorted(opening.keys() | closing.keys())
    totals = [
        StatementTotal(currency=c, bucket=b, opening=opening.get((c, b), 0), closing=closing.get((c, b), 0))
        for c, b in places
    ]
    command = FinishClose(
        period=cut.period,
        version=cut.version,
        statement_count=len(found),
        line_count=sum(lines for _, lines, _ in found),
        totals=totals,
        digest=hashes.hexdigest(),
    )
    return ledger.execute(program, command, meta)


def _must_add_up(cut: Cut, statements: Totals, journal: Totals) -> None:
    for place in sorted(statements.keys() | journal.keys()):
        said, expected = statements.get(place, 0), journal.get(place, 0)
        if said != expected:
            currency, bucket = place
            raise DoesNotAddUp(
                f"period {cut.period}: the statements close with {said} {currency} {bucket} in minor units,"
                f" the journal with {expected}"
            )
