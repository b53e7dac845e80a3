"""Terms that carry a plan: published once, hashed, decided by two people where they reach back."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from export_rows_plans import PLANNED
from memory_view import shop

from ledger.domain import offer
from ledger.domain.errors import InvalidInput, WrongState
from ledger.domain.offer import DecideTerms, PublishTerms, TermsProposed, TermsPublished
from ledger.domain.plans import plan
from ledger.store.codec import decode_state, encode_state

DAY = timedelta(days=1)
MARGINAL = json.loads((Path(__file__).parent.parent / "examples" / "plans" / "marginal-tiers.json").read_text())
SIMPLE = {"rules": [{"pay": {"rate_bps": 1000}, "id": "all"}], "plan": 1}


def planned(document: Any, **more: Any) -> PublishTerms:
    return PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=document, **more)


def test_terms_carry_a_plan_with_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event has the document, its keys sorted, and the hash of its canonical form; the terms in force read it."""
    view = shop()
    published = view.one(TermsPublished, planned(SIMPLE))
    assert json.dumps(published.plan) == '{"plan": 1, "rules": [{"id": "all", "pay": {"rate_bps": 1000}}]}'
    assert published.plan_hash == plan.hash_of(SIMPLE)
    assert (published.rate_bps, published.amount, published.currency) == (None, None, None)
    terms = view.offer("shoes").terms_at(view.now)
    assert (terms.version, terms.document, terms.plan_hash) == (2, published.plan, published.plan_hash)
    read = terms.plan
    assert read.for_affiliate("ada", "").rules[0].pay.rate_bps == 1000
    monkeypatch.setattr(plan, "canonical", lambda _: pytest.fail("read once more"))
    assert terms.plan is read


def test_simple_terms_have_no_plan_and_are_written_as_ever() -> None:
    """Nothing new stands in the event of terms without a plan."""
    view = shop()
    simple = PublishTerms(offer_id="shoes", hold_days=1, window_days=1, rate_bps=700)
    assert b"plan" not in encode_state(view.one(TermsPublished, simple))
    terms = view.offer("shoes").terms_at(view.now)
    assert (terms.plan, terms.document, terms.plan_hash) == (None, None, None)


def test_the_same_plan_again_is_the_same_version() -> None:
    """Also with its members in another order; another rate, or other days, make a new version. A plan that says what
    simple terms say is a plan nevertheless."""
    view = shop()
    view.one(
        TermsPublished,
        PublishTerms(offer_id="shoes", hold_days=30, window_days=30, rate_bps=1000, effective_from=view.now + DAY),
    )
    view.one(TermsPublished, planned(SIMPLE, effective_from=view.now + DAY))
    again = planned({"plan": 1, "rules": [{"id": "all", "pay": {"rate_bps": 1000}}]}, effective_from=view.now + DAY)
    answer = view.again(again)
    assert (answer.body["terms_version"], answer.body["status"]) == (3, "in_force")
    other = {"plan": 1, "rules": [{"id": "all", "pay": {"rate_bps": 1001}}]}
    assert view.one(TermsPublished, planned(other, effective_from=view.now + DAY)).terms_version == 4


def test_a_plan_that_reaches_back_needs_a_second_person() -> None:
    """It is proposed with its document, pays nothing until somebody else approves it, and a retry finds it again."""
    view = shop()
    back = planned(MARGINAL, effective_from=view.now - DAY)
    proposed = view.one(TermsProposed, back)
    assert proposed.terms.plan == MARGINAL
    assert view.again(back).body["status"] == "waiting"
    view.refused(WrongState, planned(SIMPLE, effective_from=view.now - DAY))
    assert view.offer("shoes").terms_at(view.now).plan is None
    view.one(TermsPublished, DecideTerms(offer_id="shoes", terms_version=2, approve=True), actor="cyd")
    terms = view.offer("shoes").terms_at(view.now)
    assert [step.rate_bps for step in terms.plan.tiers[0].steps] == [400, 600, 800]


@pytest.mark.parametrize("more", [{"rate_bps": 5}, {"amount": 5, "currency": "EUR"}])
def test_terms_have_one_price(more: dict[str, Any]) -> None:
    """A plan and another price contradict each other, and a plan names its currency itself."""
    with pytest.raises(InvalidInput, match="give one of"):
        planned(SIMPLE, **more)
    with pytest.raises(InvalidInput) as caught:
        planned(SIMPLE, currency="EUR")
    assert caught.value.field == "currency"


def test_a_wrong_plan_is_refused_with_every_mistake() -> None:
    """The refusal names the first by its field and has all of them for whoever shows them."""
    wrong = {"plan": 1, "rules": [{"id": "all", "pay": {}}], "min_amount": 1.5}
    with pytest.raises(InvalidInput) as caught:
        planned(wrong)
    assert caught.value.field == "plan/min_amount"
    assert caught.value.message.endswith("(and 2 more mistakes)")
    assert [one["pointer"] for one in caught.value.details["mistakes"]] == [
        "/min_amount",
        "/min_amount",
        "/rules/0/pay",
    ]


def test_history_is_taken_whatever_it_says() -> None:
    """A fold reads no plan: one that today's rules would refuse loads, and only whoever asks for it is told."""
    event = TermsPublished(
        offer_id="shoes", terms_version=9, effective_from=datetime.fromisoformat("2026-01-01T00:00:00Z"),
        hold_days=1, window_days=1, plan={"plan": 7}, plan_hash="00",
    )  # fmt: skip
    state = offer.fold(offer.OfferState("shoes", "", "", []), event)
    assert state.terms[0].document == {"plan": 7}
    with pytest.raises(msgspec.ValidationError):
        _ = state.terms[0].plan


def test_the_row_of_a_plan_reads_back() -> None:
    """The hand-made row is what the log holds: its hash is that of its plan, and it decodes to itself."""
    assert PLANNED.plan is not None
    assert plan.hash_of(PLANNED.plan) == PLANNED.plan_hash
    assert decode_state("TermsPublished", encode_state(PLANNED)) == PLANNED
