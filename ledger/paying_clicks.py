"""Paying for clicks: the traffic log counted on from where it was counted last, in stretches, and recorded as
conversions. The decision what is counted once is the domain's (ledger.domain.click_tally)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import plan_offers, reads, sql
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain import conversion
from ledger.domain.click_tally import BUNDLES_MAX, KEY, Bundle, PayingSpan, TallyClicks, paying_spans
from ledger.domain.event import in_utc
from ledger.projections import programs
from ledger.reads import Look
from ledger.store import log
from ledger.store.log import Rows

NAME = "pay-clicks"
QUERIES = sql.load("ledger", "paying_clicks.sql")
POSITIONS_AT_ONCE = 100_000  # of the traffic log, counted by one statement


class Paid(NamedTuple):
    """How many clicks were recorded so far: done as conversions, kept in exceptions for somebody to look into."""

    done: int
    kept: int


def pay_clicks(
    ledger: CommissionLedger, program: str, until: datetime, meta: Meta, at_once: int = POSITIONS_AT_ONCE
) -> Iterator[Paid]:
    """Pay the clicks recorded by an instant that are not paid yet, where an offer's terms say so. Yields how many after
    each commit; stopping in between loses nothing, and running again goes on. Raises UnknownProgram."""
    until = in_utc("until", until)
    paid, size = Paid(0, 0), at_once
    paying: _Paying | None = None
    while True:
        with reads.reading(ledger, program) as look:
            # before the terms: whatever is clicked from now on is counted by terms that are read later
            last = log.position_at(look.cur, look.program_id, "traffic", until)
            paying = _as_known(look, paying)
            if not paying.spans:
                return
            zone = programs.state(look.cur, look.program_id, program).zone
            command, size = _next(
                look.cur, look.program_id, (_tallied(look), last), paying, zone, min(at_once, 2 * size)
            )
        if command is None:
            return
        answer = ledger.execute(program, command, meta)
        if answer.outcome == "recorded":
            clicks = sum(bundle.click_count for bundle in command.bundles)
            kept = _kept(ledger, program, command)
            paid = Paid(paid.done + clicks - kept, paid.kept + kept)
            yield paid
        # otherwise somebody else has counted on, or terms changed meanwhile: look again


def _kept(ledger: CommissionLedger, program: str, recorded: TallyClicks) -> int:
    """The clicks of the bundles that could not be applied."""
    count_of = {conversion.key(one.order_id(recorded.after)): one.click_count for one in recorded.bundles}
    if not count_of:
        return 0
    with ledger.reading(program) as (cur, id_):
        cur.execute(QUERIES["select_kept"], {"program_id": id_, "streams": list(count_of)})
        return sum(count_of[stream] for (stream,) in cur)


class _Paying(NamedTuple):
    """What pays for clicks, as the books say up to a position."""

    position: int
    spans: list[PayingSpan]


def _as_known(look: Look, known: _Paying | None) -> _Paying:
    """What pays for clicks now; read anew where master data changed, until nothing changes while it is read."""
    while known is None or known.position != log.master_position(look.cur, look.program_id):
        position = log.master_position(look.cur, look.program_id)
        offers = plan_offers.offers_with(look, "amount_per_click")
        known = _Paying(position, [span for offer in offers for span in paying_spans(offer)])
    return known


def _tallied(look: Look) -> int:
    found = look.record(KEY)
    return found.state.until if found is not None else 0


def _next(
    cur: Rows, program_id: UUID, behind: tuple[int, int], paying: _Paying, zone: str, size: int
) -> tuple[TallyClicks | None, int]:
    """The next stretch with clicks that are paid, as far as one command takes it, and how many positions were counted
    at once; None where nothing is left to count. behind: (counted up to, the last position). Stretches without such
    clicks are put to it, so that they make no events of their own."""
    after, last = behind
    start = until = after
    rows = msgspec.json.encode([span._asdict() for span in paying.spans]).decode()
    asked = {"program_id": program_id, "zone": zone, "spans": rows, "limit": BUNDLES_MAX + 1}
    while start < last:
        until = min(last, start + size)
        cur.execute(QUERIES["count_clicks"], asked | {"after": start, "until": until})
        bundles = [
            Bundle(offer_id, affiliate_id, day, channel, terms_version, last_at.astimezone(UTC), click_count)
            for offer_id, affiliate_id, day, channel, terms_version, last_at, click_count in cur.fetchall()
        ]
        if len(bundles) > BUNDLES_MAX:
            size = max(1, (until - start) // 2)
            continue
        if bundles:
            tally = TallyClicks(after=after, until=until, bundles=bundles, terms_position=paying.position)
            return tally, size
        start = until
    if until == after:
        return None, size
    return TallyClicks(after=after, until=until, terms_position=paying.position), size


def pay(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """The job: pay the clicks that were recorded by the due time."""
    paid = Paid(0, 0)
    for step in pay_clicks(ledger, program, due_at, meta):
        paid = step
    return {"clicks": paid.done, "kept": paid.kept}
