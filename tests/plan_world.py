"""A program in memory whose offer 'shoes' is paid by a plan: what is sold on it, and what that comes to."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from memory_view import MemoryView

from ledger.domain import conversion_state
from ledger.domain.affiliate import AffiliateApproved, AffiliateClosed, AffiliateEnrolled, AffiliateSuspended
from ledger.domain.click import ClickSeen
from ledger.domain.conversion import CommissionRepriced
from ledger.domain.event import BEGINNING, Event
from ledger.domain.offer import OfferPublished, TermsPublished, check_plan
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counted
from ledger.domain.plans.journey import Touch
from ledger.domain.plans.plan import canonical, hash_of
from ledger.domain.program import ProgramOpened
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)  # a Monday
STEPS = [{"from": 0, "rate_bps": 400}, {"from": 20_000, "rate_bps": 600}, {"from": 40_000, "rate_bps": 800}]
Document = dict[str, Any]


def plan(pay: Document | None = None, **more: Any) -> Document:
    """A plan in GBP with the one rule 'all', which pays 10 % unless said otherwise."""
    rules = [{"id": "all", "pay": {"rate_bps": 1_000} if pay is None else pay}]
    return {"plan": 1, "currency": "GBP", "rules": rules, **more}


def tiered(steps: list[Document] = STEPS, **more: Any) -> Document:
    """A pay by 4, 6 and 8 % of the month's revenue, from nothing, 200 and 400 pounds on."""
    return {"tiers": {"by": "revenue", "period": "month", "steps": steps, **more}}


def instant(day: float) -> datetime:
    """So many days after noon of Monday, 2 November 2026."""
    return NOON + timedelta(days=day)


class TouchedView(MemoryView):
    """A customer's last click is the last of the touches."""

    def last_click(self, customer_id: str, offer_id: str, until: datetime) -> ClickSeen | None:
        """See View."""
        mine = [
            touch
            for whose, _, where, touch in self.touches
            if (whose, where, touch.kind) == (customer_id, offer_id, "click") and touch.occurred_at <= until
        ]
        last = max(mine, key=lambda touch: (touch.occurred_at, touch.position), default=None)
        if last is None:
            return None
        return ClickSeen(
            f"k{last.position}", last.affiliate_id, offer_id, last.occurred_at, last.position, "ab" * 32, last.channel
        )


class PlanShop:
    """The program, its affiliates (approved) and its sales, which are called o1, o2 … unless they are named."""

    def __init__(self, document: Document | None, *affiliates: str, currency: str = "GBP", zone: str = "UTC") -> None:
        self.view = TouchedView()
        self.view.now = instant(100)
        self._orders, self._reversals, self._positions = itertools.count(1), itertools.count(1), itertools.count(1)
        self.view.given("program:shop", ProgramOpened(program="shop", currency=currency, zone=zone))
        self.view.given("offer:shoes", OfferPublished(offer_id="shoes"))
        for affiliate_id in affiliates or ("ada", "bob", "cy", "dot", "eve"):
            enrolled, approved = (
                AffiliateEnrolled(affiliate_id=affiliate_id),
                AffiliateApproved(affiliate_id=affiliate_id),
            )
            self.view.given(f"affiliate:{affiliate_id}", enrolled, approved)
        if document is not None:
            self.publish(document)

    def publish(self, document: Document, effective_from: datetime = BEGINNING, **more: Any) -> None:
        """The next version of the terms."""
        check_plan(document)
        known = self.view.offer("shoes").last_terms_version
        stored = msgspec.json.decode(canonical(document))
        days = {"hold_days": 30, "window_days": 30, **more}
        terms = TermsPublished(
            offer_id="shoes", terms_version=known + 1, effective_from=effective_from, plan=stored,
            plan_hash=hash_of(document), **days,
        )  # fmt: skip
        self.view.given("offer:shoes", terms)

    def sell(
        self, amount: int, who: str | None = "ada", day: float = 0, order_id: str = "", **more: Any
    ) -> list[Event]:
        """Record a sale. Returns its events."""
        command = RecordConversion(
            order_id=order_id or f"o{next(self._orders)}", offer_id="shoes", amount=amount, affiliate_id=who,
            **{"occurred_at": instant(day), **more},
        )  # fmt: skip
        return self.view.when(command)[1]

    def refund(self, order_id: str, amount: int | None = None, day: float = 1) -> list[Event]:
        """Take some of a sale back, or all that is left of it. Returns the events."""
        reversal_id = f"r{next(self._reversals)}"
        command = RecordReversal(
            reversal_id=reversal_id, order_id=order_id, sale_amount=amount, occurred_at=instant(day)
        )
        return self.view.when(command)[1]

    def touch(self, who: str, day: float, channel: str | None = None, kind: str = "click") -> None:
        """A click or an impression of the customer 'carl'."""
        self.view.touched(Touch(next(self._positions), who, instant(day), kind, channel), customer_id="carl")

    def suspend(self, who: str) -> None:
        """Its commissions are held from now on."""
        self.view.given(f"affiliate:{who}", AffiliateSuspended(affiliate_id=who))

    def close(self, who: str) -> None:
        """It can earn no more."""
        self.view.given(f"affiliate:{who}", AffiliateClosed(affiliate_id=who))

    # --- what it came to ---------------------------------------------------------------------------------

    def shares(self, order_id: str, *, left: bool = False) -> dict[str, int]:
        """What each earns by an order, with all top-ups; left: less what was taken back. Second level: 'who/2'."""
        state = self.view.conversion(order_id)
        return {
            who if level == 1 else f"{who}/{level}": one.outstanding if left else one.commission
            for (who, level), one in state.commissions.items()
        }

    def earned(self, *order_ids: str) -> list[int]:
        """What each order earns for all, with all top-ups, before reversals."""
        return [sum(self.shares(order_id).values()) for order_id in order_ids]

    def owed(self) -> dict[str, int]:
        """By the books, what is owed to each affiliate, whether it may be paid yet or not."""
        found: dict[str, int] = {}
        for account, amount in self.view.balances().items():
            if account.startswith("liability:"):
                who = account.split(":")[1]
                found[who] = found.get(who, 0) - amount
        return found

    def pricing(self, order_id: str) -> Any:
        """The evidence of an order's first commission."""
        return self.view.conversion(order_id).accrued.pricing

    def counters(self) -> Counted:
        """Every counter, counted from the whole log."""
        found: Counted = {}
        states: dict[str, Any] = {}
        for stream, event, _ in self.view.log:
            if stream.startswith("conversion:"):
                states[stream] = conversion_state.fold(states.get(stream), event)
                counting.add_up(found, counting.changes(states[stream], event))
        return found


def top_ups(events: list[Event]) -> list[tuple[str, int]]:
    """(order, what was moved) of each commission that was priced anew."""
    return [(event.order_id, event.amount) for event in events if isinstance(event, CommissionRepriced)]
