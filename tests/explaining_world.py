"""What the tests of explanations share: a shop in memory whose shoes are priced by a plan, and its explanations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from memory_view import MemoryView, shop
from support import T0

from ledger.domain.affiliate import AffiliateApproved, AffiliateEnrolled
from ledger.domain.event import BEGINNING
from ledger.domain.offer import TermsPublished
from ledger.domain.plans.journey import Touch
from ledger.domain.plans.plan import hash_of
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.explaining.adding_up import mistakes
from ledger.explaining.data import ExplainedCommission, Explanation
from ledger.explaining.explain import explain, for_affiliate

STEPS = [{"from": 0, "rate_bps": 400}, {"from": 20000, "rate_bps": 600}, {"from": 40000, "rate_bps": 800}]
ALL = [{"id": "all", "pay": {"rate_bps": 1250}}]


def planned(rules: Any = ALL, others: tuple[str, ...] = (), **plan: Any) -> MemoryView:
    """A shop whose shoes are priced by a plan in GBP; others: approved affiliates besides ada and bob."""
    view, document = shop(), {"plan": 1, "currency": "GBP", "rules": rules, **plan}
    for one in others:
        view.given(f"affiliate:{one}", AffiliateEnrolled(affiliate_id=one), AffiliateApproved(affiliate_id=one))
    view.given(
        "offer:shoes",
        TermsPublished(
            offer_id="shoes",
            terms_version=2,
            effective_from=BEGINNING,
            hold_days=30,
            window_days=30,
            plan=document,
            plan_hash=hash_of(document),
        ),
    )
    return view


def tiered(**more: Any) -> list[dict[str, Any]]:
    """One rule with a table, by revenue of a month unless it says otherwise."""
    return [{"id": "all", "pay": {"tiers": {"by": "revenue", "period": "month", "steps": STEPS} | more}}]


def touched(view: MemoryView, *affiliates: str, customer_id: str = "c1") -> None:
    """A customer's clicks, one a day, the last one a day before T0."""
    for number, affiliate_id in enumerate(affiliates):
        at = T0 - timedelta(days=len(affiliates) - number)
        view.touched(Touch(number + 1, affiliate_id, at), customer_id=customer_id)


def sell(view: MemoryView, order_id: str, amount: int, **more: Any) -> None:
    """A sale of ada's, unless a customer or another affiliate is named."""
    who = {} if "customer_id" in more or "affiliate_id" in more else {"affiliate_id": "ada"}
    view.when(RecordConversion(order_id=order_id, offer_id="shoes", amount=amount, occurred_at=T0, **who, **more))


def reverse(view: MemoryView, order_id: str, amount: int | None = None) -> None:
    """Some or all of a sale is given back."""
    reversal_id = f"r-{len(view.log)}"
    view.when(RecordReversal(reversal_id=reversal_id, order_id=order_id, occurred_at=T0, sale_amount=amount))


def explained(view: MemoryView, order_id: str) -> Explanation:
    """An order's explanation, whose figures add up, for staff and for everybody who is credited."""
    events = [event for key, event, _ in view.log if key == f"conversion:{order_id}"]
    state = view.conversion(order_id)
    recruiters = {who: view.affiliate(who).recruiter_at(T0) for who, _ in state.commissions}
    found = explain(order_id, state, view.offer("shoes"), events, recruiters)
    assert mistakes(found) == []
    for one in found.commissions:
        assert mistakes(for_affiliate(found, one.affiliate_id)) == []
    return found


def only(view: MemoryView, order_id: str) -> ExplainedCommission:
    """Its only commission."""
    (one,) = explained(view, order_id).commissions
    return one


def orders(view: MemoryView) -> list[str]:
    """Every order id, ours included."""
    return list(dict.fromkeys(key.partition(":")[2] for key, _, _ in view.log if key.startswith("conversion:")))
