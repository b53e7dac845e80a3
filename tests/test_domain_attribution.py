"""Who is credited with a conversion, step by step, and what is written down of the steps that failed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from memory_view import MemoryView, seen, shop, terms
from support import T0, refund, sale

from ledger.domain.affiliate import AffiliateApproved, AffiliateClosed, AffiliateEnrolled, AffiliateSuspended
from ledger.domain.click import ClickToken
from ledger.domain.conversion import (
    AttributionDeferred,
    CommissionAccrued,
    ConversionRecorded,
    ConversionUnattributed,
    Step,
)
from ledger.domain.coupon import AssignCoupon
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.offer import OfferPublished, TermsPublished
from ledger.domain.recording import AttributeWaiting, RecordConversion
from ledger.domain.resolution import ResolveException

DAY = timedelta(days=1)


def buy(order_id: str = "A", **claim: Any) -> RecordConversion:
    """A sale a day after T0 that claims just this."""
    return sale(order_id, affiliate_id=claim.pop("affiliate_id", None), occurred_at=T0 + DAY, **claim)


def steps(event: CommissionAccrued | ConversionUnattributed) -> list[tuple[str, str]]:
    """The steps tried and what came of each."""
    return [(step.rule, step.result) for step in event.steps]


def test_a_click_in_the_window_is_credited_and_its_evidence_kept() -> None:
    """The event says which click, when, at which position of the traffic log, with which leaf, under which terms."""
    view = shop()
    view.clicks["k1"] = seen("k1", "bob")
    accrued = view.one(CommissionAccrued, buy(click_id="k1", affiliate_id="ada"))
    assert accrued == CommissionAccrued(
        order_id="A",
        affiliate_id="bob",
        offer_id="shoes",
        amount=100,
        currency="GBP",
        sale_amount=1000,
        occurred_at=T0 + DAY,
        matures_at=T0 + 31 * DAY,
        terms_version=1,
        traffic_position=7,
        steps=[Step("click_id", "matched", "bob")],
        rate_bps=1000,
        click_id="k1",
        clicked_at=T0,
        click_position=5,
        click_leaf="ab" * 32,
    )
    assert view.balances() == {"expense:commission": 100, "liability:bob:pending": -100}


@pytest.mark.parametrize(
    ("clicked_at", "result"),
    [
        (T0 + DAY - 30 * DAY, "matched"),
        (T0 + DAY - 30 * DAY - timedelta(microseconds=1), "expired"),
        (T0 + DAY, "matched"),
        (T0 + DAY + timedelta(microseconds=1), "after_the_conversion"),
    ],
)
def test_the_window_is_exact_at_both_ends(clicked_at: datetime, result: str) -> None:
    """30 days before the sale to the instant of the sale, both included."""
    view = shop()
    view.clicks["k1"] = seen("k1", "bob", at=clicked_at)
    accrued = view.one(CommissionAccrued, buy(click_id="k1", affiliate_id="ada"))
    assert steps(accrued)[0] == ("click_id", result)
    assert accrued.affiliate_id == ("bob" if result == "matched" else "ada")


def test_a_click_of_another_offer_is_written_down_and_the_next_step_tried() -> None:
    """The click is bob's on 'hats': the coupon decides."""
    view = shop()
    view.clicks["k1"] = seen("k1", "bob", offer_id="hats")
    view.when(AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes"))
    accrued = view.one(CommissionAccrued, buy(click_id="k1", coupon="TEN"))
    assert steps(accrued) == [("click_id", "other_offer"), ("coupon", "matched")]
    assert accrued.steps[0].affiliate_id == "bob"
    assert (accrued.affiliate_id, accrued.click_id) == ("ada", None)


def test_a_signed_click_id_is_enough_when_its_click_was_lost() -> None:
    """A token of ours that no log has seen is believed; position 0 says that the signature alone is the evidence."""
    view = shop()
    view.tokens["ck1_good"] = ClickToken("bob", "shoes", T0)
    accrued = view.one(CommissionAccrued, buy(click_id="ck1_good"))
    assert (accrued.affiliate_id, accrued.clicked_at, accrued.click_position, accrued.click_leaf) == (
        "bob",
        T0,
        0,
        None,
    )


def test_a_forged_click_id_or_one_of_another_program_does_not_wait() -> None:
    """It looks like ours and its signature is wrong: no click will ever come, so the next step decides at once."""
    view = shop()
    accrued = view.one(CommissionAccrued, buy(click_id="ck1_forged", affiliate_id="ada"))
    assert steps(accrued) == [("click_id", "bad_signature"), ("affiliate_id", "matched")]


def test_an_unknown_click_waits_72_hours_and_then_the_other_steps_decide() -> None:
    """Nothing is booked while it waits; at the end of the wait the coupon decides."""
    view = shop()
    view.when(AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes"))
    deferred = view.one(AttributionDeferred, buy(click_id="k9", coupon="TEN"))
    assert deferred.until == view.now + timedelta(hours=72)
    assert view.balances() == {}
    early = AttributeWaiting(order_id="A", at=deferred.until - timedelta(microseconds=1))
    answer, events = view.when(early)
    assert (answer.outcome, answer.body["status"], events) == ("unchanged", "waiting", [])
    accrued = view.one(CommissionAccrued, AttributeWaiting(order_id="A", at=deferred.until))
    assert steps(accrued) == [("click_id", "unknown"), ("coupon", "matched")]
    assert accrued.matures_at == T0 + 31 * DAY
    assert view.when(AttributeWaiting(order_id="A", at=deferred.until))[1] == []


def test_a_click_that_comes_during_the_wait_is_credited() -> None:
    """The click arrives late: its affiliate is credited, as if it had been there."""
    view = shop()
    view.when(buy(click_id="k9", affiliate_id="ada"))
    view.clicks["k9"] = seen("k9", "bob")
    accrued = view.one(CommissionAccrued, AttributeWaiting(order_id="A", at=view.now))
    assert (accrued.affiliate_id, steps(accrued)) == ("bob", [("click_id", "matched")])


def test_a_wait_can_end_with_nobody() -> None:
    """No click came and nothing else was said: unattributed, with the reason."""
    view = shop()
    until = view.one(AttributionDeferred, buy(click_id="k9")).until
    nobody = view.one(ConversionUnattributed, AttributeWaiting(order_id="A", at=until))
    assert steps(nobody) == [("click_id", "unknown")]


def test_waiting_for_a_conversion_that_does_not_exist_is_not_found() -> None:
    """There is nothing to attribute."""
    shop().refused(NotFound, AttributeWaiting(order_id="nope", at=T0))


def test_an_affiliate_closed_during_the_wait_makes_an_exception() -> None:
    """The click comes, but its affiliate is closed by now: kept as it would have been without the wait, and not
    tried again by itself; dismissed, nobody is credited."""
    view = shop()
    view.when(buy(click_id="k9"))
    view.clicks["k9"] = seen("k9", "bob")
    view.given("affiliate:bob", AffiliateClosed(affiliate_id="bob"))
    kept = view.one(ExceptionRaised, AttributeWaiting(order_id="A", at=view.now))
    assert (kept.type, kept.affiliate_id) == ("affiliate_closed", "bob")
    assert view.when(AttributeWaiting(order_id="A", at=view.now + 9 * DAY))[1] == []
    view.refused(WrongState, ResolveException(exception_id="conversion:A", action="retry"))
    _, events = view.when(ResolveException(exception_id="conversion:A", action="dismiss", reason="closed"))
    (nobody,) = [e for e in events if isinstance(e, ConversionUnattributed)]
    assert steps(nobody) == [("click_id", "dismissed")]


def test_an_affiliate_approved_after_the_wait_is_credited_on_retry() -> None:
    """The click is of an affiliate not approved yet: an exception, which a retry resolves once it is."""
    view = shop()
    view.given("affiliate:eve", AffiliateEnrolled(affiliate_id="eve"))
    view.when(buy(click_id="k9"))
    view.clicks["k9"] = seen("k9", "eve")
    assert view.one(ExceptionRaised, AttributeWaiting(order_id="A", at=view.now)).type == "affiliate_not_approved"
    view.given("affiliate:eve", AffiliateApproved(affiliate_id="eve"))
    view.when(ResolveException(exception_id="conversion:A", action="retry"))
    assert view.balances() == {"expense:commission": 100, "liability:eve:pending": -100}


def test_a_wait_ends_in_an_exception_when_the_terms_pay_another_currency_by_then() -> None:
    """A flat 500000 JPY must not become 500000 of the sale's currency."""
    view = shop()
    view.when(buy(click_id="k9"))
    terms = TermsPublished(
        offer_id="shoes", terms_version=2, effective_from=T0 - 9 * DAY, hold_days=30, window_days=30,
        amount=500000, currency="JPY",
    )  # fmt: skip
    view.given("offer:shoes", terms)
    view.clicks["k9"] = seen("k9", "bob")
    assert view.one(ExceptionRaised, AttributeWaiting(order_id="A", at=view.now)).type == "currency_mismatch"
    assert view.balances() == {}


def test_reversals_that_come_during_the_wait_are_applied_after_it() -> None:
    """Half refunded while waiting: 100 accrue and 50 go back in the same decision."""
    view = shop()
    view.when(buy(click_id="k9"))
    view.when(refund("r1", "A", 500))
    assert view.balances() == {}
    view.clicks["k9"] = seen("k9", "bob")
    view.when(AttributeWaiting(order_id="A", at=view.now))
    assert view.balances() == {"expense:commission": 50, "liability:bob:pending": -50}


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "result"),
    [
        (None, None, "matched"),
        (T0 + DAY, None, "matched"),
        (T0 + DAY + timedelta(microseconds=1), None, "not_valid_then"),
        (None, T0 + DAY, "not_valid_then"),
        (None, T0 + DAY + timedelta(microseconds=1), "matched"),
    ],
)
def test_a_coupon_counts_from_and_until_before(
    valid_from: datetime | None, valid_until: datetime | None, result: str
) -> None:
    """valid_from is included, valid_until is not."""
    view = shop()
    view.when(
        AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes", valid_from=valid_from, valid_until=valid_until)
    )
    (_, outcome) = view.when(buy(coupon="TEN"))[1]
    assert isinstance(outcome, CommissionAccrued | ConversionUnattributed)
    assert steps(outcome) == [("coupon", result)]


def test_a_coupon_given_to_another_affiliate_keeps_its_past() -> None:
    """A sale is judged by the newest assignment that was valid when it occurred."""
    view = shop()
    view.when(AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes"))
    view.refused(
        InvalidInput, AssignCoupon(coupon="TEN", affiliate_id="bob", offer_id="shoes", valid_from=view.now - DAY)
    )
    view.now = T0 + 2 * DAY
    view.when(AssignCoupon(coupon="TEN", affiliate_id="bob", offer_id="shoes"))
    view.again(AssignCoupon(coupon="TEN", affiliate_id="bob", offer_id="shoes"))
    assert view.one(CommissionAccrued, buy("A", coupon="TEN")).affiliate_id == "ada"
    later = sale("B", affiliate_id=None, coupon="TEN", occurred_at=T0 + 2 * DAY)
    assert view.one(CommissionAccrued, later).affiliate_id == "bob"


def test_a_coupon_of_another_offer_or_of_nobody_does_not_count() -> None:
    """Both are written down; nothing else was said, so nobody is credited."""
    view = shop()
    view.when(AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes"))
    view.given("offer:hats", OfferPublished(offer_id="hats"))
    view.when(AssignCoupon(coupon="HAT", affiliate_id="ada", offer_id="hats"))
    assert steps(view.one(ConversionUnattributed, buy("A", coupon="HAT"))) == [("coupon", "other_offer")]
    assert steps(view.one(ConversionUnattributed, buy("B", coupon="NONE"))) == [("coupon", "unknown")]


def test_the_customers_last_click_is_the_last_resort() -> None:
    """The explicit affiliate is unknown; the customer's last click inside the window decides."""
    view = shop()
    view.last_clicks["c1", "shoes"] = seen("k1", "bob")
    accrued = view.one(CommissionAccrued, buy(affiliate_id="nobody", customer_id="c1"))
    assert steps(accrued) == [("affiliate_id", "unknown_affiliate"), ("last_click", "matched")]
    assert (accrued.click_id, accrued.click_position) == ("k1", 5)
    view.last_clicks["c2", "shoes"] = seen("k2", "bob", at=T0 - 30 * DAY)
    assert steps(view.one(ConversionUnattributed, buy("B", customer_id="c2"))) == [("last_click", "expired")]
    assert steps(view.one(ConversionUnattributed, buy("C", customer_id="c3"))) == [("last_click", "none")]


def test_a_conversion_that_claims_nothing_is_recorded_as_unattributed() -> None:
    """The sale is kept, nothing is booked."""
    view = shop()
    recorded = view.one(ConversionRecorded, buy())
    assert recorded.amount == 1000
    assert view.conversion("A").status == "unattributed"
    assert view.balances() == {}


def test_a_suspended_affiliate_accrues_to_held() -> None:
    """What it earns now is owed, and held back."""
    view = shop()
    view.given("affiliate:ada", AffiliateSuspended(affiliate_id="ada"))
    accrued = view.one(CommissionAccrued, sale("A"))
    assert accrued.held
    assert view.balances() == {"expense:commission": 100, "liability:ada:held": -100}


def test_terms_are_those_in_force_when_the_sale_occurred() -> None:
    """effective_from is included; among equals the newest counts; the window and the hold days are that version's."""
    view = shop()
    view.given("offer:shoes", terms(2, 2000, hold_days=10, window_days=1, effective_from=T0))
    view.given("offer:shoes", terms(3, 500, hold_days=0, window_days=0, effective_from=T0))
    before = view.one(CommissionAccrued, sale("A", occurred_at=T0 - timedelta(microseconds=1)))
    assert (before.terms_version, before.amount) == (1, 100)
    at = view.one(CommissionAccrued, sale("B", occurred_at=T0))
    assert (at.terms_version, at.amount, at.matures_at) == (3, 50, T0)
    view.clicks["k1"] = seen("k1", "bob", at=T0 - timedelta(seconds=1))
    assert steps(view.one(ConversionUnattributed, sale("C", affiliate_id=None, click_id="k1"))) == [
        ("click_id", "expired")
    ]


def test_an_instant_beyond_the_calendar_is_refused_by_name() -> None:
    """A sale in the year 9999 cannot mature 30 days later; the field is named, nothing is stored."""
    late = sale("A", occurred_at=datetime(9999, 12, 31, tzinfo=T0.tzinfo))
    assert shop().refused(InvalidInput, late).field == "occurred_at"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("order_id", ""),
        ("order_id", "x" * 129),
        ("order_id", "a\nb"),
        ("amount", -1),
        ("amount", 10**13 + 1),
        ("currency", "XXY"),
        ("occurred_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("affiliate_id", "a b"),
        ("customer_id", "someone@example.com"),
        ("click_id", "\x00"),
        ("coupon", ""),
    ],
)
def test_malformed_fields_are_refused_by_name(field: str, value: object) -> None:
    """What is not well formed never becomes a command."""
    fields: dict[str, Any] = {"order_id": "A", "offer_id": "shoes", "amount": 1, "occurred_at": T0, field: value}
    with pytest.raises(InvalidInput) as caught:
        RecordConversion(**fields)
    assert caught.value.field == field


def test_order_ids_are_compared_in_normal_form() -> None:
    """'é' as one character and as two is one order."""
    view = shop()
    view.when(sale("caf\u00e9"))
    answer, events = view.when(sale("cafe\u0301"))
    assert (answer.outcome, events) == ("unchanged", [])


def test_a_view_that_was_made_for_tests_behaves() -> None:
    """The stand-in of this suite folds anew each time: reading it changes nothing."""
    view: MemoryView = shop()
    view.when(sale("A"))
    assert view.conversion("A") == view.conversion("A")
