"""What stands beside a statement's hashed content when it is shown, and a closed period's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from ledger import sql
from ledger.domain.dispute import UNDECIDED
from ledger.domain.ids import stream_id
from ledger.domain.period import KEY, StatementsIssued
from ledger.domain.statement import Section
from ledger.projections import disputes, invoices, payouts, periods
from ledger.projections.periods import Cut, Issued
from ledger.statements.presentation import OpenDispute, StatementPayout, YearMonth, owed
from ledger.store import log
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "presented.sql")
YEAR_PERIODS = 12
_AT_ONCE = 1000
_VERSIONS = 200  # of the last twelve periods: nobody reissues more often
_EVER = datetime(1, 1, 2, tzinfo=UTC)


def open_disputes(cur: Rows, program_id: UUID, affiliate_id: str, period: str) -> list[OpenDispute]:
    """The lines of an affiliate's statement of a period that are disputed and not decided, in the order of lines."""
    found: list[OpenDispute] = []
    for status in UNDECIDED:
        after, more = "", True
        while more:
            page = disputes.of_affiliate(
                cur, program_id, affiliate_id, after=after, limit=_AT_ONCE, status=status, period=period
            )
            for one in page:
                opened = one.state.opened
                found.append(OpenDispute(line_no=opened.line_no, position=opened.position, status=one.state.status))
            more = len(page) == _AT_ONCE
            after = page[-1].dispute_id if page else after
    return sorted(found, key=lambda one: (one.position, one.line_no))


def payouts_of(
    cur: Rows, program_id: UUID, affiliate_id: str, cut: Cut, zone: str, now: datetime
) -> list[StatementPayout]:
    """The payouts that were initiated in a statement's period, as they stand now."""
    rows = payouts.initiated_between(cur, program_id, affiliate_id, cut.starts_at or _EVER, cut.ends_at)
    days = ZoneInfo(zone)
    issued = invoices.credit_notes(cur, program_id, ((row.payout_id, row.initiated_at) for row in rows), now)
    # a payout that was settled after all has a newer invoice, which nothing cancels
    notes = {note.cancels: note.number for some in issued.values() for note in some}
    return [
        StatementPayout(
            amount=row.amount,
            currency=row.currency,
            initiated_on=row.initiated_at.astimezone(days).date(),
            payout_id=row.payout_id,
            status=row.status,
            invoice_number=row.invoice_number,
            credit_note_number=notes.get(row.invoice_number, ""),
            vat_amount=row.vat_amount,
            withholding_amount=row.withholding_amount,
        )
        for row in rows
        if row.initiated_at is not None
    ]


# --- the year ------------------------------------------------------------------------------------------


def year(cur: Rows, program_id: UUID, affiliate_id: str, cut: Cut, issued: Issued) -> list[YearMonth]:
    """What was earned and paid in each of the last twelve periods up to a statement's, by currency, oldest first.

    earned: commission and adjustments, net of what was taken back; without the taxes on payouts.
    """
    just_behind = cut.ends_at + datetime.resolution
    cuts = _newest_of_each(periods.periods(cur, program_id, just_behind, _VERSIONS), cut)
    statements = {issued.period: issued}
    for one in periods.statements_of(cur, program_id, affiliate_id, before=just_behind, limit=_VERSIONS):
        statements.setdefault(one.period, one)
    sections: dict[tuple[str, str], Section] = {}
    for past in cuts:
        if past.period in statements:
            sections |= {(past.period, s.currency): s for s in statements[past.period].sections}
    taxes = _taxes(cur, program_id, affiliate_id, cuts)
    made = []
    for currency in sorted({currency for _, currency in sections}):
        for past in cuts:
            place = (past.period, currency)
            earned, paid = _moved(sections.get(place))
            made.append(
                YearMonth(currency=currency, earned=earned - taxes.get(place, 0), paid=paid, period=past.period)
            )
    return made


def _newest_of_each(cuts: Sequence[Cut], shown: Cut) -> list[Cut]:
    """The last twelve periods, oldest first, each in its newest version; the one that is shown in the version shown."""
    found = {shown.period: shown}
    for one in cuts:
        found.setdefault(one.period, one)
    return sorted(found.values(), key=lambda one: one.ends_at)[-YEAR_PERIODS:]


def _moved(section: Section | None) -> tuple[int, int]:
    """(what came to the affiliate, taxes included; what was paid), minor units."""
    if section is None:
        return 0, 0
    paid = section.closing.paid - section.opening.paid
    return owed(section.closing) - owed(section.opening) + paid, paid


def _taxes(cur: Rows, program_id: UUID, affiliate_id: str, cuts: Sequence[Cut]) -> dict[tuple[str, str], int]:
    """(period, currency) → VAT added less withholding, by the statement on which the line stands."""
    last, first = cuts[-1], cuts[0]
    params = {"program_id": program_id, "affiliate_id": affiliate_id, "position": last.position}
    cur.execute(QUERIES["select_tax_lines"], params)
    found: dict[tuple[str, str], int] = {}
    for position, effective_at, currency, amount in cur:
        if position <= first.previous_position and first.starts_at is not None and effective_at < first.starts_at:
            continue  # on an earlier statement
        cut = next((one for one in cuts if position <= one.position and effective_at < one.ends_at), None)
        if cut is not None:
            found[cut.period, currency] = found.get((cut.period, currency), 0) + amount
    return found


# --- periods -------------------------------------------------------------------------------------------


class PeriodFigures(NamedTuple):
    """A version of a closed period. issued: None while its statements are being issued; late_count: lines of what
    happened before the period began; position: of the version's last event in the calendar."""

    cut: Cut
    issued: StatementsIssued | None
    late_count: int
    position: int


def period_figures(cur: Rows, program_id: UUID, period: str, version: int | None = None) -> PeriodFigures | None:
    """What a version of a period's statements (the newest unless said) add up to; None when there is none."""
    cut = periods.cut(cur, program_id, period, version)
    if cut is None:
        return None
    issued: StatementsIssued | None = None
    position = 0
    for event in log.select_streams(cur, program_id, [stream_id(program_id, KEY)]):
        body: Any = event.body
        if (body.period, getattr(body, "version", 1)) == (cut.period, cut.version):
            position = event.position
            issued = body if isinstance(body, StatementsIssued) else issued
    params = {"program_id": program_id, "period": period, "version": cut.version}
    row = cur.execute(QUERIES["select_late_count"], params).fetchone()
    return PeriodFigures(cut, issued, row[0] if row else 0, position)


def statements_of_period(cur: Rows, program_id: UUID, period: str) -> Iterator[tuple[str, int]]:
    """(affiliate id, newest version) of a period's statements, in the order of ids."""
    after = ""
    while True:
        params = {"program_id": program_id, "period": period, "after": after, "limit": _AT_ONCE}
        page = cur.execute(QUERIES["select_newest_versions"], params).fetchall()
        yield from page
        if len(page) < _AT_ONCE:
            return
        after = page[-1][0]
