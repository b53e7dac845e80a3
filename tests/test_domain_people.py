"""Programs, affiliates, offers, coupons, adjustments and keys: every command, its retries, and when two are needed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from memory_view import MemoryView, shop
from support import T0, refund, sale

from ledger.domain.access import IssueKey, KeyIssued, KeyRevoked, RevokeKey
from ledger.domain.adjustment import AdjustmentPosted, AdjustmentRejected, DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import (
    AffiliateApproved,
    AffiliateClosed,
    AffiliateEnrolled,
    AffiliateReinstated,
    AffiliateSuspended,
    DecideAffiliate,
    EnrolAffiliate,
)
from ledger.domain.conversion import ConversionReleased
from ledger.domain.coupon import AssignCoupon
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, KeyReused, NotFound, SamePerson, WrongState
from ledger.domain.event import BEGINNING, Event
from ledger.domain.lifecycle import DecideConversion, ReleaseSuspended
from ledger.domain.offer import (
    DecideTerms,
    OfferPublished,
    PublishOffer,
    PublishTerms,
    TermsProposed,
    TermsPublished,
    TermsRejected,
)
from ledger.domain.program import OpenProgram, ProgramOpened

DAY = timedelta(days=1)


def decide(affiliate_id: str, decision: str, reason: str = "") -> DecideAffiliate:
    return DecideAffiliate(affiliate_id=affiliate_id, decision=decision, reason=reason)


def test_a_program_is_opened_once() -> None:
    """The same again is the first answer again; another currency is another program."""
    view = MemoryView()
    view.again(OpenProgram(program="shop", currency="GBP"))
    assert [type(event) for _, event, _ in view.log] == [ProgramOpened]
    assert view.refused(DiffersFromOriginal, OpenProgram(program="shop", currency="EUR")).fields == ["currency"]


def test_personal_fields_of_an_affiliate_are_ciphertext_in_its_event() -> None:
    """Each is sealed under the affiliate's own key, bound to its stream and field; what is empty stays empty."""
    view = MemoryView()
    enrolled = view.one(AffiliateEnrolled, EnrolAffiliate(affiliate_id="eve", email="eve@example.com"))
    assert enrolled.email == "sealed|affiliate:eve|affiliate:eve|email|eve@example.com"
    assert (enrolled.display_name, enrolled.note) == ("", "")


def test_an_application_can_be_sent_again_but_not_changed() -> None:
    """Other content names the fields that differ; after erasure nobody can tell, so it is the same."""
    view = MemoryView()
    view.again(EnrolAffiliate(affiliate_id="eve", email="eve@example.com", note="hello"))
    other = EnrolAffiliate(affiliate_id="eve", email="x@example.com", note="hello", display_name="Eve")
    assert view.refused(DiffersFromOriginal, other).fields == ["display_name", "email"]
    view.erased.add("affiliate:eve")
    answer, events = view.when(EnrolAffiliate(affiliate_id="eve", email="x@example.com", note="hello"))
    assert (answer.outcome, events) == ("unchanged", [])


@pytest.mark.parametrize(
    ("history", "decision", "event"),
    [
        ([], "approve", AffiliateApproved),
        (["approve"], "suspend", AffiliateSuspended),
        (["approve", "suspend"], "reinstate", AffiliateReinstated),
        ([], "close", AffiliateClosed),
        (["approve"], "close", AffiliateClosed),
        (["approve", "suspend"], "close", AffiliateClosed),
    ],
)
def test_what_may_be_decided_of_an_affiliate(history: list[str], decision: str, event: type[Event]) -> None:
    """Each decision from where it may be made, with its retry."""
    view = MemoryView()
    view.when(EnrolAffiliate(affiliate_id="eve"))
    for earlier in history:
        view.when(decide("eve", earlier, "why"))
    view.again(decide("eve", decision, "why"))
    assert type(view.log[-1][1]) is event


@pytest.mark.parametrize(
    ("history", "decision"),
    [
        ([], "suspend"),
        ([], "reinstate"),
        (["approve", "suspend"], "approve"),
        (["close"], "approve"),
        (["close"], "suspend"),
        (["close"], "reinstate"),
    ],
)
def test_what_may_not_be_decided_of_an_affiliate(history: list[str], decision: str) -> None:
    """Refused with the status it is in; a closed affiliate stays closed."""
    view = MemoryView()
    view.when(EnrolAffiliate(affiliate_id="eve"))
    for earlier in history:
        view.when(decide("eve", earlier))
    refusal = view.refused(WrongState, decide("eve", decision))
    assert refusal.details["status"] == view.affiliate("eve").status
    view.refused(NotFound, decide("nobody", decision))


def test_reinstating_releases_only_what_the_suspension_held() -> None:
    """A was held by hand before, B accrued while suspended, C accrued and was held by hand after a release."""
    view = shop()
    view.when(sale("A"))
    view.when(DecideConversion(order_id="A", decision="hold", reason="checking"))
    view.when(decide("ada", "suspend"))
    view.when(sale("B", 2000))
    view.when(sale("C", 4000))
    view.when(DecideConversion(order_id="C", decision="release"))
    view.when(DecideConversion(order_id="C", decision="hold", reason="checking again"))
    view.when(sale("D", 8000, affiliate_id="bob"))
    view.when(sale("E", 16000))
    view.when(DecideConversion(order_id="E", decision="hold", reason="on top of the suspension's"))
    release = [ReleaseSuspended(order_id=order_id, affiliate_id="ada") for order_id in "ABCE"]
    assert all(view.when(one)[1] == [] for one in release)
    _, events = view.when(decide("ada", "reinstate"))
    assert [type(e) for e in events] == [AffiliateReinstated]
    events = [event for one in release for event in view.when(one)[1]]
    assert [(type(e), getattr(e, "order_id", "")) for e in events] == [(ConversionReleased, "B")]
    assert view.balances() == {
        "expense:commission": 3100,
        "liability:ada:held": -2100,
        "liability:ada:pending": -200,
        "liability:bob:pending": -800,
    }
    answer, events = view.when(decide("ada", "reinstate"))
    assert (answer.outcome, answer.position, events) == ("unchanged", len(view.log) - 1, [])


def test_what_is_left_of_a_held_commission_is_released() -> None:
    """Half of it was reversed while it was held: the other half moves."""
    view = shop()
    view.when(decide("ada", "suspend"))
    view.when(sale("A", 1970))
    view.when(refund("r1", "A", 985))
    view.when(decide("ada", "reinstate"))
    view.when(ReleaseSuspended(order_id="A", affiliate_id="ada"))
    assert view.balances() == {"expense:commission": 98, "liability:ada:pending": -98}


def test_an_offer_is_published_and_changed() -> None:
    """The same again changes nothing; another name is another event."""
    view = shop()
    view.again(PublishOffer(offer_id="hats", offer_name="Hats", landing_url="https://example.com/hats"))
    assert view.one(OfferPublished, PublishOffer(offer_id="hats", offer_name="More hats")).offer_name == "More hats"


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "//example.com", "http:///x", "https://user@example.com/", "https://a b/", "http://x:99999/",
     "https://example.com\\@evil.example"],
)  # fmt: skip
def test_a_landing_page_is_an_absolute_address(url: str) -> None:
    """Nothing else can become the target of a redirect."""
    with pytest.raises(InvalidInput) as caught:
        PublishOffer(offer_id="hats", landing_url=url)
    assert caught.value.field == "landing_url"


def terms_of(offer_id: str = "shoes", **more: Any) -> PublishTerms:
    fields = {"hold_days": 30, "window_days": 30, "rate_bps": 1000, **more}
    return PublishTerms(offer_id=offer_id, **fields)


def test_the_first_terms_reach_back_to_the_beginning_and_later_ones_begin_now() -> None:
    """The first version needs one person, whatever it says; a later one begins now unless it says a later day."""
    view = shop()
    view.when(PublishOffer(offer_id="hats"))
    assert view.one(TermsPublished, terms_of("hats")).effective_from == BEGINNING
    second = view.one(TermsPublished, terms_of("hats", rate_bps=1500))
    assert (second.terms_version, second.effective_from) == (2, view.now)
    later = view.one(TermsPublished, terms_of("hats", rate_bps=1, effective_from=view.now + DAY))
    assert (later.terms_version, later.effective_from) == (3, view.now + DAY)
    view.refused(NotFound, terms_of("gloves"))


def test_the_same_terms_again_are_the_same_version() -> None:
    """A retry makes no second version; another currency of a flat amount does."""
    view = shop()
    view.again(terms_of(rate_bps=None, amount=500, currency="GBP"))
    euros = view.one(TermsPublished, terms_of(rate_bps=None, amount=500, currency="EUR"))
    assert (euros.terms_version, euros.currency) == (3, "EUR")


def test_terms_that_reach_back_need_a_second_person() -> None:
    """Proposed by one, decided by another; until then, and when rejected, nothing changes."""
    view = shop()
    back = terms_of(rate_bps=1500, effective_from=view.now - DAY)
    proposed = view.one(TermsProposed, back)
    assert (proposed.proposed_by, proposed.terms.terms_version) == ("ana", 2)
    assert view.again(back).body["status"] == "waiting"
    view.refused(WrongState, terms_of(rate_bps=1))
    approve = DecideTerms(offer_id="shoes", terms_version=2, approve=True)
    view.refused(SamePerson, approve)
    assert view.offer("shoes").terms_at(view.now).version == 1
    assert view.one(TermsPublished, approve, actor="cyd") == proposed.terms
    assert view.offer("shoes").terms_at(view.now - DAY).version == 2
    answer, events = view.when(approve, actor="cyd")
    assert (answer.outcome, answer.position, events) == ("unchanged", len(view.log), [])
    view.refused(WrongState, DecideTerms(offer_id="shoes", terms_version=2, approve=False), actor="cyd")
    view.refused(NotFound, DecideTerms(offer_id="shoes", terms_version=3, approve=True), actor="cyd")


def test_rejected_terms_free_the_next_version() -> None:
    """The number is used up, and the next proposal can be made."""
    view = shop()
    view.when(terms_of(rate_bps=1500, effective_from=view.now - DAY))
    view.one(TermsRejected, DecideTerms(offer_id="shoes", terms_version=2, approve=False), actor="cyd")
    again = view.one(TermsProposed, terms_of(rate_bps=1500, effective_from=view.now - 2 * DAY))
    assert again.terms.terms_version == 3
    view.refused(WrongState, DecideTerms(offer_id="shoes", terms_version=2, approve=True), actor="cyd")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("hold_days", {"hold_days": -1}),
        ("window_days", {"window_days": 3651}),
        ("rate_bps", {"rate_bps": None}),
        ("rate_bps", {"amount": 5, "currency": "GBP"}),
        ("rate_bps", {"rate_bps": 100_001}),
        ("amount", {"rate_bps": None, "amount": -1, "currency": "GBP"}),
        ("currency", {"rate_bps": None, "amount": 5}),
        ("currency", {"currency": "pounds"}),
    ],
)
def test_malformed_terms_are_refused_by_name(field: str, wrong: dict[str, Any]) -> None:
    """Either a percentage or a flat amount with its currency, and days in range."""
    with pytest.raises(InvalidInput) as caught:
        terms_of(**wrong)
    assert caught.value.field == field


def test_a_coupon_needs_its_affiliate_and_its_offer() -> None:
    """It is given to who exists; the same again changes nothing."""
    view = shop()
    view.refused(NotFound, AssignCoupon(coupon="TEN", affiliate_id="nobody", offer_id="shoes"))
    view.refused(NotFound, AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="nothing"))
    view.again(AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes"))
    with pytest.raises(InvalidInput) as caught:
        AssignCoupon(coupon="TEN", affiliate_id="ada", offer_id="shoes", valid_from=T0, valid_until=T0)
    assert caught.value.field == "valid_until"


def adjust(**more: Any) -> ProposeAdjustment:
    fields = {"adjustment_id": "j1", "affiliate_id": "ada", "kind": "bonus", "amount": 500, "reason": "thanks", **more}
    return ProposeAdjustment(**fields)


def test_an_adjustment_needs_two_people() -> None:
    """Proposed by one: no money moves; posted by another: it is owed, and stays so."""
    view = shop()
    view.again(adjust())
    approve = DecideAdjustment(adjustment_id="j1", approve=True)
    view.refused(SamePerson, approve)
    view.refused(SamePerson, DecideAdjustment(adjustment_id="j1", approve=False))
    assert view.balances() == {}
    posted = view.one(AdjustmentPosted, approve, actor="cyd")
    assert (posted.amount, posted.currency, posted.effective_at) == (500, "GBP", view.now)
    assert view.balances() == {"expense:adjustment": 500, "liability:ada:payable": -500}
    assert view.when(approve, actor="cyd")[1] == []
    view.refused(WrongState, DecideAdjustment(adjustment_id="j1", approve=False), actor="cyd")
    view.refused(NotFound, DecideAdjustment(adjustment_id="j2", approve=True))


def test_a_correction_may_take_and_say_when() -> None:
    """Below zero it goes the other way, at the instant that was stated; rejected it goes nowhere."""
    view = shop()
    view.when(adjust(kind="correction", amount=-300, effective_at=T0))
    posted = view.one(AdjustmentPosted, DecideAdjustment(adjustment_id="j1", approve=True), actor="cyd")
    assert (posted.amount, posted.effective_at) == (-300, T0)
    assert view.balances() == {"expense:adjustment": -300, "liability:ada:payable": 300}
    view.when(adjust(adjustment_id="j2"))
    view.one(AdjustmentRejected, DecideAdjustment(adjustment_id="j2", approve=False), actor="cyd")
    assert view.balances() == {"expense:adjustment": -300, "liability:ada:payable": 300}


def test_an_idempotency_key_belongs_to_one_body() -> None:
    """Another body names every field that differs, the reason too as long as anybody can read it."""
    view = shop()
    view.when(adjust())
    other = adjust(affiliate_id="bob", amount=1, currency="EUR", reason="other", effective_at=T0, kind="correction")
    assert sorted(view.refused(KeyReused, other).details["fields"]) == [
        "affiliate_id", "amount", "currency", "effective_at", "kind", "reason",
    ]  # fmt: skip
    view.erased.add("affiliate:ada")
    assert view.when(adjust(reason="other"))[1] == []
    view.refused(NotFound, adjust(adjustment_id="j2", affiliate_id="nobody"))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("amount", {"amount": 0}), ("amount", {"amount": -5}), ("kind", {"kind": "gift"}), ("reason", {"reason": " "})],
)
def test_malformed_adjustments_are_refused_by_name(field: str, wrong: dict[str, Any]) -> None:
    """A bonus is above zero, and every adjustment has a reason."""
    with pytest.raises(InvalidInput) as caught:
        adjust(**wrong)
    assert caught.value.field == field


def issue(**more: Any) -> IssueKey:
    fields = {"access_key_id": "k1", "role": "auditor", "holder": "eve", "holder_kind": "person",
              "expires_at": T0 + 365 * DAY, **more}  # fmt: skip
    return IssueKey(**fields)


def test_nobody_issues_a_key_to_themselves() -> None:
    """Another does; the same command again, after a lost reply, is the same key."""
    view = shop()
    view.refused(SamePerson, issue(holder="ana"))
    view.again(issue())
    assert [type(event) for key, event, _ in view.log if key == "key:k1"] == [KeyIssued]
    view.refused(NotFound, issue(access_key_id="k2", role="affiliate", affiliate_id="nobody"))
    view.refused(InvalidInput, issue(access_key_id="k2", expires_at=view.now))


def test_a_key_is_revoked_once() -> None:
    """And a key that does not exist is not found."""
    view = shop()
    view.when(issue())
    view.again(RevokeKey(access_key_id="k1"))
    assert sum(isinstance(event, KeyRevoked) for _, event, _ in view.log) == 1
    view.refused(NotFound, RevokeKey(access_key_id="k2"))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("role", {"role": "root"}),
        ("holder_kind", {"holder_kind": "cat"}),
        ("affiliate_id", {"role": "affiliate"}),
        ("affiliate_id", {"affiliate_id": "ada"}),
        ("holder", {"holder": "Eve E."}),
    ],
)
def test_malformed_keys_are_refused_by_name(field: str, wrong: dict[str, Any]) -> None:
    """A role on the list, bound to an affiliate only if it is an affiliate's."""
    with pytest.raises(InvalidInput) as caught:
        issue(**wrong)
    assert caught.value.field == field


def test_a_rotation_gives_its_holder_nothing_new() -> None:
    """One may replace one's own key by one of the same role, but not by rotating a key that is another's or gone."""
    view = shop()
    view.when(issue())
    rotated = issue(access_key_id="k2", rotates="k1")
    assert view.one(KeyIssued, rotated, actor="eve").rotates == "k1"
    more = issue(access_key_id="k3", rotates="k1", role="admin")
    assert view.refused(InvalidInput, more, actor="eve").field == "role"
    others = issue(access_key_id="k3", rotates="k1", holder="mallory")
    view.refused(SamePerson, others, actor="mallory")
    view.refused(SamePerson, issue(access_key_id="k3", rotates="k1"), actor="admin")
    view.refused(NotFound, issue(access_key_id="k3", rotates="made-up"), actor="eve")
    view.when(RevokeKey(access_key_id="k1"))
    view.refused(WrongState, issue(access_key_id="k3", rotates="k1"), actor="eve")
