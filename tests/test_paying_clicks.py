"""Clicks that are paid: counted once, bundled, priced in turn; and what nobody outside may say of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from memory_view import MemoryView, shop
from naive_books import check_by_witness
from support import (
    PROGRAM,
    T0,
    Clock,
    Logged,
    balance,
    by,
    open_ledger,
    open_shop,
    read_log,
    refund,
    sale,
)

from ledger import paying_clicks
from ledger.application import CommissionLedger
from ledger.audit.findings import Findings
from ledger.audit.naive_clicks import PaidClicks
from ledger.audit.naive_commissions import Terms
from ledger.audit.naive_plan_facts import PlanFacts
from ledger.domain import click_tally
from ledger.domain.affiliate import AffiliateClosed, DecideAffiliate, EnrolAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.click_tally import Bundle, ClicksTallied, TallyClicks
from ledger.domain.conversion import CommissionAccrued, ConversionRecorded
from ledger.domain.errors import InvalidInput
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.offer import OfferState, PublishTerms, TermsPublished
from ledger.domain.recording import RecordConversion
from ledger.domain.resolution import ResolveException
from ledger.store.database import Database

DAY = timedelta(days=1)
PLAN: dict[str, Any] = {
    "plan": 1,
    "currency": "GBP",
    "rules": [
        {"id": "search", "when": {"event": ["click"], "channel": ["search"]}, "pay": {"amount_per_click": 7}},
        {"id": "click", "when": {"event": ["click"]}, "pay": {"amount_per_click": 5}},
        {"id": "lead", "when": {"event": ["lead"]}, "pay": {"amount": 500}},
        {"id": "all", "pay": {"rate_bps": 1000}},
    ],
}


def pays_clicks(view: MemoryView, **more: Any) -> MemoryView:
    view.when(PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=PLAN | more))
    view.now += DAY
    return view


def bundle(view: MemoryView, click_count: int, affiliate_id: str = "ada", channel: str = "", **more: Any) -> Bundle:
    version = view.offer("shoes").terms[-1].version
    at = view.now.isoformat()[:10]
    return Bundle("shoes", affiliate_id, at, channel, **{
        "terms_version": version, "occurred_at": view.now, "click_count": click_count} | more)  # fmt: skip


# --- the decision ------------------------------------------------------------------------------------------


def test_bundles_are_paid_by_their_channel_and_the_stretch_is_counted_once() -> None:
    """Three by search at 7, ten others at 5; the same stretch again, or one that overlaps, records nothing."""
    view = pays_clicks(shop())
    tally = TallyClicks(after=0, until=20, bundles=[bundle(view, 3, channel="search"), bundle(view, 10)])
    answer, events = view.when(tally)
    paid = [event.amount for event in events if isinstance(event, CommissionAccrued)]
    (recorded, _) = (event for event in events if isinstance(event, ConversionRecorded))
    assert paid == [21, 50]
    assert (recorded.event_id, recorded.channel, recorded.click_count) == ("click", "search", 3)
    assert (recorded.clicks_after, recorded.clicks_until) == (0, 20)
    assert events[-1] == ClicksTallied(after=0, until=20, click_count=13, bundle_count=2, terms_position=0)
    again, nothing = view.when(tally)
    assert (nothing, again.outcome, again.body, again.position) == ([], "unchanged", answer.body, answer.position)
    for overlapping in ((0, 25), (10, 30), (21, 30)):
        other, nothing = view.when(TallyClicks(after=overlapping[0], until=overlapping[1], bundles=tally.bundles))
        assert (nothing, other.body) == ([], {"status": "moved", "tallied_until": 20})
    assert view.when(TallyClicks(after=20, until=30))[1] == [
        ClicksTallied(after=20, until=30, click_count=0, bundle_count=0, terms_position=0)
    ]


def test_within_a_command_each_bundle_counts_for_the_next() -> None:
    """A cap of 12 clicks a day pays 10 of the first and 2 of the second bundle; a goal of two is reached once."""
    cap = {"id": "c", "level": "offer", "by": "clicks", "period": "day", "limit": 12, "over": "clamp"}
    goal = {"id": "g", "by": "conversions", "period": "month", "target": 2, "bonus_amount": 900}
    view = pays_clicks(shop(), caps=[cap], goals=[goal])
    some = [bundle(view, 10), bundle(view, 10, channel="mail"), bundle(view, 10, channel="tv")]
    _, events = view.when(TallyClicks(after=0, until=99, bundles=some))
    paid = [event.amount for event in events if isinstance(event, CommissionAccrued)]
    assert sorted(paid) == [0, 10, 50, 900]


def test_an_affiliate_that_cannot_earn_holds_up_nobody() -> None:
    """Its bundle is kept as an exception; so is one that is dated beyond the calendar."""
    view = pays_clicks(shop())
    view.given("affiliate:ada", AffiliateClosed(affiliate_id="ada"))
    far = view.now.replace(year=9999, month=12, day=30)
    some = [bundle(view, 3), bundle(view, 10, "bob"), bundle(view, 1, "bob", "tv", occurred_at=far)]
    answer, events = view.when(TallyClicks(after=0, until=20, bundles=some))
    assert answer.body["status"] == "tallied"
    assert [event.amount for event in events if isinstance(event, CommissionAccrued)] == [50]
    kept = [event.type for event in events if isinstance(event, ExceptionRaised)]
    assert kept == ["affiliate_closed", "not_recordable"]


def test_terms_that_changed_since_the_count_are_counted_again() -> None:
    """Nothing is recorded, and nothing is said to be counted."""
    view = pays_clicks(shop())
    tally = TallyClicks(after=0, until=20, bundles=[bundle(view, 3)])
    view.given("offer:shoes", msgspec.structs.replace(_terms(view), terms_version=3))
    answer, events = view.when(tally)
    assert (events, answer.body) == ([], {"status": "terms_changed", "tallied_until": 0})


def _terms(view: MemoryView) -> TermsPublished:
    return next(event for _, event, _ in reversed(view.log) if isinstance(event, TermsPublished))


def test_an_offer_pays_for_clicks_from_when_to_when_its_terms_do() -> None:
    """Also where only an override does; not while simple terms or a plan without a price of clicks is in force."""
    view = shop()
    plain = PLAN | {"rules": PLAN["rules"][2:]}
    override = {"id": "o", "affiliates": ["bob"], "rules": [{"id": "c", "pay": {"amount_per_click": 1}}]}
    for days, plan in ((1, PLAN), (2, plain), (3, plain | {"overrides": [override]})):
        starts = view.now + days * DAY
        view.when(PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=plan, effective_from=starts))
    state: OfferState = view.offer("shoes")
    spans = [(span.terms_version, span.since, span.until) for span in click_tally.paying_spans(state)]
    assert spans == [(2, view.now + DAY, view.now + 2 * DAY), (4, view.now + 3 * DAY, None)]


def test_a_lead_is_paid_by_its_event() -> None:
    """CPL: a conversion of nothing with the event 'lead'."""
    view = pays_clicks(shop())
    paid = view.one(CommissionAccrued, sale("l1", 0, event_id="lead", occurred_at=view.now))
    assert (paid.amount, paid.pricing.rules[0].rule if paid.pricing else "") == (500, "lead")


@pytest.mark.parametrize("fields", [{"order_id": "~clicks-1"}, {"order_id": "o", "click_count": 3}])
def test_an_id_of_the_ledgers_own_belongs_to_bundles_only(fields: dict[str, Any]) -> None:
    """Imports and postbacks make sales, and no sale has such an id."""
    with pytest.raises(InvalidInput, match="the ledger's own"):
        RecordConversion(**{"offer_id": "shoes", "amount": 0, "occurred_at": T0} | fields)


# --- the log -------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(database: Database) -> Iterator[CommissionLedger]:
    """A shop whose terms pay for clicks from the second day on; it is the eleventh."""
    with open_ledger(database, Clock(), max_size=8) as one:
        open_shop(one)
        plan = PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=PLAN, effective_from=T0 + DAY)
        one.execute(PROGRAM, plan, by())
        assert isinstance(one.clock, Clock)
        one.clock.advance(days=10)
        yield one


def clicked(n: int, days: float, affiliate_id: str = "ada", **more: Any) -> RecordClick:
    fields = {"offer_id": "shoes", "occurred_at": T0 + days * DAY, **more}
    return RecordClick(click_id=f"k{n}", affiliate_id=affiliate_id, **fields)


def pay(ledger: CommissionLedger, at_once: int = paying_clicks.POSITIONS_AT_ONCE) -> int:
    paid = 0
    for step in paying_clicks.pay_clicks(ledger, PROGRAM, ledger.clock(), by("job"), at_once):
        paid = step.done
    return paid


def counts(ledger: CommissionLedger) -> dict[tuple[str, str, str | None], int]:
    """(affiliate, day, channel) → clicks recorded."""
    found: dict[tuple[str, str, str | None], int] = {}
    for one in read_log(ledger):
        if one.topic == "ConversionRecorded" and one.state.get("event_id") == "click":
            place = one.state["affiliate_id"], one.state["occurred_at"][:10], one.state.get("channel")
            found[place] = found.get(place, 0) + one.state["click_count"]
    return found


def test_clicks_are_paid_once_by_affiliate_day_and_channel(ledger: CommissionLedger) -> None:
    """Not duplicates, not those before the terms paid for them; later ones with the next count; nothing twice."""
    many = [clicked(n, 1 + n / 10, ("ada", "bob")[n % 2], channel=("search", None)[n % 3 == 0]) for n in range(20)]
    ledger.record_clicks(PROGRAM, [clicked(90, 0.5), clicked(91, 1.5, duplicate=True), *many], by())
    assert pay(ledger) == 20
    expected: dict[tuple[str, str, str | None], int] = {}
    for one in many:
        place = one.affiliate_id, one.occurred_at.isoformat()[:10], one.channel
        expected[place] = expected.get(place, 0) + 1
    assert counts(ledger) == expected
    by_channel = sum((7 if channel else 5) * count for (who, _, channel), count in expected.items() if who == "ada")
    assert balance(ledger, "ada") == {"pending": by_channel}
    assert (pay(ledger), len(read_log(ledger))) == (0, len(read_log(ledger)))
    ledger.record_clicks(PROGRAM, [clicked(50, 1.05)], by())
    assert pay(ledger) == 1
    assert counts(ledger)["ada", "2026-01-02", None] == expected["ada", "2026-01-02", None] + 1
    tallied = [one.state for one in read_log(ledger) if one.topic == "ClicksTallied"]
    assert [(one["after"], one["until"], one["click_count"]) for one in tallied] == [(0, 22, 20), (22, 23, 1)]
    check_by_witness(ledger)


def test_many_counters_at_once_pay_each_click_once(ledger: CommissionLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four, in stretches and commands too small for what there is, while clicks go on coming."""
    monkeypatch.setattr(paying_clicks, "BUNDLES_MAX", 3)
    ledger.record_clicks(PROGRAM, [clicked(n, 1 + n % 7, ("ada", "bob")[n % 2]) for n in range(60)], by())
    threads = [threading.Thread(target=pay, args=(ledger, 9)) for _ in range(4)]
    for thread in threads:
        thread.start()
    ledger.record_clicks(PROGRAM, [clicked(100 + n, 2, "ada") for n in range(40)], by())
    for thread in threads:
        thread.join()
    pay(ledger)
    assert sum(counts(ledger).values()) == 100
    assert balance(ledger, "ada") == {"pending": 70 * 5}
    tallied = [(one.state["after"], one.state["until"]) for one in read_log(ledger) if one.topic == "ClicksTallied"]
    assert [after for after, _ in tallied[1:]] == [until for _, until in tallied[:-1]]
    check_by_witness(ledger)


def test_only_clicks_recorded_by_then_are_paid(ledger: CommissionLedger) -> None:
    """`until` is an instant of recording, as the job's due time is; a bundle is reversed like any conversion."""
    clock = ledger.clock
    assert isinstance(clock, Clock)
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="bob", decision="close"), by())
    ledger.record_clicks(PROGRAM, [clicked(n, 1, ("ada", "bob")[n % 2]) for n in range(4)], by())
    until = clock.now
    clock.advance(hours=2)
    ledger.record_clicks(PROGRAM, [clicked(9, 1)], by())
    assert paying_clicks.pay(ledger, PROGRAM, until, by("job.pay-clicks")) == {"clicks": 2, "kept": 2}
    assert counts(ledger) == {("ada", "2026-01-02", None): 2}
    assert balance(ledger, "ada") == {"pending": 10}
    order_id = next(one.state["order_id"] for one in read_log(ledger) if one.topic == "ConversionRecorded")
    ledger.execute(PROGRAM, refund("r1", order_id), by())
    assert balance(ledger, "ada") == {}
    check_by_witness(ledger)


@pytest.fixture
def paid(ledger: CommissionLedger) -> dict[str, list[Logged]]:
    """Both logs after two counts, of which the first kept bob's clicks back until he was approved."""
    ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id="new"), by())
    ledger.record_clicks(PROGRAM, [clicked(n, 1 + n / 9, ("ada", "new")[n % 2]) for n in range(12)], by())
    pay(ledger)
    ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="new", decision="approve"), by())
    kept = [one.state["exception_id"] for one in read_log(ledger) if one.topic == "ExceptionRaised"]
    for exception_id in kept:
        ledger.execute(PROGRAM, ResolveException(exception_id=exception_id, action="retry"), by())
    ledger.record_clicks(PROGRAM, [clicked(50 + n, 2) for n in range(3)], by())
    pay(ledger)
    assert len(kept) == 2
    return {name: read_log(ledger, name=name) for name in ("books", "traffic")}


def audited(logs: dict[str, list[Logged]]) -> list[str]:
    """What an auditor finds wrong with the counts."""
    findings, terms, facts = Findings(), Terms(), PlanFacts()
    clicks = PaidClicks(findings, terms, facts)
    for row in logs["traffic"]:
        clicks.clicked(row.topic, msgspec.Raw(msgspec.json.encode(row.state)))
    for row in logs["books"]:
        terms.event(row.position, row.topic, row.state)
        facts.event(row.position, row.topic, row.state)
        if row.topic in PaidClicks.TOPICS:
            clicks.event(row.position, row.topic, row.state)
    clicks.check(len(logs["traffic"]))
    clicks.close()
    return [one.kind for one in findings.in_order()]


def test_an_auditor_counts_every_bundle_again(paid: dict[str, list[Logged]]) -> None:
    """A click too many or too few, on another day or of another channel, a stretch counted twice, a bundle of none."""
    assert audited(paid) == []
    (first, *_, last) = [row for row in paid["books"] if row.state.get("click_count") and row.topic[0] == "C"][:-1]
    tally = next(row for row in paid["books"] if row.topic == "ClicksTallied")
    for log, row, change, found in (
        ("books", first, {"click_count": first.state["click_count"] + 1}, "clicks_differ"),
        ("books", first, {"channel": "mail"}, "clicks_differ"),
        ("books", first, {"affiliate_id": "bob"}, "clicks_differ"),
        ("books", last, {"occurred_at": "2026-01-09T00:00:00Z"}, "clicks_differ"),
        ("books", last, {"clicks_after": 3}, "clicks_differ"),
        ("books", tally, {"click_count": 2}, "clicks_differ"),
        ("books", tally, {"terms_position": 1}, "clicks_differ"),
        ("traffic", paid["traffic"][0], {"duplicate": True}, "clicks_differ"),
        ("books", tally, {"after": 1}, "life_differs"),
    ):
        wrong = msgspec.structs.replace(row, state=row.state | change)
        changed = paid | {log: [wrong if one is row else one for one in paid[log]]}
        assert found in audited(changed), change
