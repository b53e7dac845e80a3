"""A program's truth in memory: given events, when a command, then events or a refusal. No database, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from support import T0

from ledger.domain import conversion_state, exceptions, postings
from ledger.domain.affiliate import AffiliateApproved, AffiliateEnrolled
from ledger.domain.click import ClickSeen, ClickToken
from ledger.domain.erasure import ERASED, SubjectErased
from ledger.domain.errors import Refusal
from ledger.domain.event import BEGINNING, Answer, Command, Event, fold_all
from ledger.domain.offer import OfferPublished, TermsPublished
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counter, CounterKey
from ledger.domain.plans.journey import MOST_TOUCHES, JourneyKey, Touch
from ledger.domain.program import ProgramOpened
from ledger.domain.topics import FOLDS
from ledger.domain.view import FirstSale

R = TypeVar("R", bound=Refusal)
E = TypeVar("E", bound=Event)


class MemoryView:
    """Implements View over plain lists. Every command is an append of its own, at the next instant that `now` says."""

    def __init__(self) -> None:
        self.now: datetime = T0 + timedelta(days=100)
        self.actor = "ana"
        self.traffic_position = 7
        self.log: list[tuple[str, Event, int]] = []  # (stream key, event, number of the command that appended it)
        self.clicks: dict[str, ClickSeen] = {}
        self.tokens: dict[str, ClickToken] = {}
        self.last_clicks: dict[tuple[str, str], ClickSeen] = {}
        self.touches: list[tuple[str | None, str | None, str, Touch]] = []  # (customer_id, visitor_id, offer_id, touch)
        self.erased: set[str] = set()
        self.open: list[tuple[str, str]] = []  # what is unsettled, with whomever
        self._commands = 0

    # --- the View ----------------------------------------------------------------------------------------

    def state(self, key: str) -> Any:
        """What a stream adds up to, folded anew each time."""
        fold = FOLDS.get(key.partition(":")[0], exceptions.fold)
        return fold_all(fold, [event for k, event, _ in self.log if k == key])

    @property
    def program(self) -> Any:
        return self.state("program:shop")

    def offer(self, offer_id: str) -> Any:
        return self.state(f"offer:{offer_id}")

    def affiliate(self, affiliate_id: str) -> Any:
        return self.state(f"affiliate:{affiliate_id}")

    def coupon(self, code: str) -> Any:
        return self.state(f"coupon:{code}")

    def conversion(self, order_id: str) -> Any:
        return self.state(f"conversion:{order_id}")

    def reversal(self, reversal_id: str) -> Any:
        return self.state(f"reversal:{reversal_id}")

    def adjustment(self, adjustment_id: str) -> Any:
        return self.state(f"adjustment:{adjustment_id}")

    def access_key(self, access_key_id: str) -> Any:
        return self.state(f"key:{access_key_id}")

    def exception(self, exception_id: str) -> Any:
        return fold_all(exceptions.fold, [event for k, event, _ in self.log if k == exception_id])

    def click(self, click_id: str) -> ClickSeen | None:
        return self.clicks.get(click_id)

    def token(self, click_id: str) -> ClickToken | None:
        return self.tokens.get(click_id)

    def last_click(self, customer_id: str, offer_id: str, until: datetime) -> ClickSeen | None:
        seen = self.last_clicks.get((customer_id, offer_id))
        return seen if seen is not None and seen.occurred_at <= until else None

    def journey(self, key: JourneyKey) -> list[Touch]:
        found: list[Touch] = []
        for kind, since in (("click", key.clicks_since), ("impression", key.impressions_since)):
            some = [
                touch
                for customer_id, visitor_id, offer_id, touch in self.touches
                if since is not None
                and since <= touch.occurred_at <= key.until
                and (offer_id, touch.kind) == (key.offer_id, kind)
                and (customer_id == key.customer_id is not None or visitor_id == key.visitor_id is not None)
            ]
            found += sorted(some, key=lambda t: (t.occurred_at, t.position))[-MOST_TOUCHES:]
        return sorted(found, key=lambda t: (t.occurred_at, t.position))

    def _sales(self, customer_id: str, offer_id: str, until: datetime, but: str) -> list[FirstSale]:
        found = []
        for key in dict.fromkeys(k for k, _, _ in self.log if k.startswith("conversion:")):
            state = self.state(key)
            sale = state.recorded
            if sale is None or sale.amount <= 0 or sale.order_id == but or sale.occurred_at > until:
                continue
            if (sale.customer_id, sale.offer_id) == (customer_id, offer_id):
                found.append(FirstSale(sale.order_id, sale.occurred_at, state.affiliate_id))
        return sorted(found, key=lambda sale: sale.occurred_at)

    def first_sale(self, customer_id: str, offer_id: str, until: datetime, but: str) -> FirstSale | None:
        return next(iter(self._sales(customer_id, offer_id, until, but)), None)

    def referrer(self, customer_id: str, offer_id: str, until: datetime, but: str) -> str | None:
        credited = (sale.affiliate_id for sale in self._sales(customer_id, offer_id, until, but))
        return next((affiliate_id for affiliate_id in credited if affiliate_id), None)

    def counter(self, key: CounterKey) -> Counter:
        """Counted anew each time, over the whole log."""
        found, states = Counter(), {}
        for stream, event, _ in self.log:
            if stream.startswith("conversion:"):
                states[stream] = conversion_state.fold(states.get(stream), event)
                for one, change in counting.changes(states[stream], event):
                    if one == key:
                        found.add(change)
        return found

    def counted_orders(self, key: CounterKey) -> list[str]:
        return list(dict.fromkeys(k.partition(":")[2] for k, _, _ in self.log if k.startswith("conversion:")))

    def payable(self, affiliate_id: str, currency: str) -> int:
        return -sum(
            line.amount * ((line.debit == account) - (line.credit == account))
            for _, event, _ in self.log
            for line in postings.postings(event)
            if line.currency == currency and (account := f"liability:{affiliate_id}:payable")
        )

    def proposed_payouts(self, affiliate_id: str, currency: str) -> list[tuple[str, str]]:
        states = {key: self.state(key) for key, _, _ in self.log if key.startswith("payout:")}
        return [
            (s.proposed.payout_id, s.proposed.run_id)
            for s in states.values()
            if s.status == "proposed" and (s.proposed.affiliate_id, s.proposed.currency) == (affiliate_id, currency)
        ]

    def decided_payouts(self, run_id: str) -> int:
        states = [self.state(key) for key in dict.fromkeys(k for k, _, _ in self.log if k.startswith("payout:"))]
        return sum(s.proposed.run_id == run_id and s.status in ("settled", "failed", "returned") for s in states)

    def answered_at(self, key: str, *types: type[Event], **having: Any) -> int:
        found = [
            command
            for k, event, command in self.log
            if k == key and isinstance(event, types) and all(getattr(event, f) == v for f, v in having.items())
        ]
        return max((at for at, (k, _, c) in enumerate(self.log, 1) if found and k == key and c == found[-1]), default=0)

    def unsettled(self, affiliate_id: str) -> list[tuple[str, str]]:
        return list(self.open)

    def seal(self, subject: str, key: str, field: str, text: str) -> str:
        if text and subject in self.erased:
            return ERASED
        return f"sealed|{subject}|{key}|{field}|{text}" if text else ""

    def unseal(self, subject: str, key: str, field: str, sealed: str) -> str | None:
        if not sealed:
            return ""
        prefix = f"sealed|{subject}|{key}|{field}|"
        return sealed.removeprefix(prefix) if sealed.startswith(prefix) and subject not in self.erased else None

    # --- given, when, then -------------------------------------------------------------------------------

    def given(self, key: str, *events: Event) -> None:
        """Events that happened."""
        self._commands += 1
        self.log += [(key, event, self._commands) for event in events]

    def touched(
        self, touch: Touch, customer_id: str | None = None, visitor_id: str | None = None, offer_id: str = "shoes"
    ) -> None:
        """A click or an impression in the traffic log, of a customer, a visitor or both."""
        self.touches.append((customer_id, visitor_id, offer_id, touch))

    def when(self, command: Command, actor: str = "ana") -> tuple[Answer, list[Event]]:
        """Decide and append. Returns the answer, its position filled in, and the events in order."""
        self.actor = actor
        decision = command.decide(self)
        self._commands += 1
        self.log += [(key, event, self._commands) for key, event in decision.drafts]
        self.erased |= {event.subject for _, event in decision.drafts if isinstance(event, SubjectErased)}
        if decision.drafts:
            before = len(self.log) - len(decision.drafts)
            own = [at for at, (key, _) in enumerate(decision.drafts, before + 1) if key == decision.own]
            decision.answer.position = own[-1] if own else len(self.log)
        return decision.answer, [event for _, event in decision.drafts]

    def one(self, type_: type[E], command: Command, actor: str = "ana") -> E:
        """Decide, append, and return the one event of a type among those it led to."""
        (found,) = [event for event in self.when(command, actor)[1] if isinstance(event, type_)]
        return found

    def refused(self, kind: type[R], command: Command, actor: str = "ana") -> R:
        """Decide, see it refused, and see that nothing was appended."""
        before = len(self.log)
        with pytest.raises(kind) as caught:
            self.when(command, actor)
        assert len(self.log) == before
        return caught.value

    def again(self, command: Command, actor: str = "ana") -> Answer:
        """Decide, append, decide once more: the same answer at the same position, and nothing new."""
        first, _ = self.when(command, actor)
        second, events = self.when(command, actor)
        assert events == []
        assert (second.body, second.position) == (first.body, first.position)
        assert second.outcome == ("exception" if first.outcome == "exception" else "unchanged")
        return first

    # --- what follows ------------------------------------------------------------------------------------

    def balances(self) -> dict[str, int]:
        """What each account holds, without the empty ones."""
        return balances(event for _, event, _ in self.log)


def balances(events: Iterable[Event]) -> dict[str, int]:
    """The books of some events in one currency, without the empty accounts."""
    held: dict[str, int] = {}
    for event in events:
        for line in postings.postings(event):
            held[line.debit] = held.get(line.debit, 0) + line.amount
            held[line.credit] = held.get(line.credit, 0) - line.amount
    return {account: amount for account, amount in held.items() if amount}


def shop(rate_bps: int = 1000, hold_days: int = 30, window_days: int = 30) -> MemoryView:
    """A program in GBP with the approved affiliates ada and bob and the offer 'shoes'."""
    view = MemoryView()
    view.given("program:shop", ProgramOpened(program="shop", currency="GBP"))
    for affiliate_id in ("ada", "bob"):
        view.given(
            f"affiliate:{affiliate_id}",
            AffiliateEnrolled(affiliate_id=affiliate_id),
            AffiliateApproved(affiliate_id=affiliate_id),
        )
    view.given("offer:shoes", OfferPublished(offer_id="shoes"), terms(1, rate_bps, hold_days, window_days))
    return view


def terms(
    version: int,
    rate_bps: int | None,
    hold_days: int = 30,
    window_days: int = 30,
    effective_from: datetime = BEGINNING,
    amount: int | None = None,
    currency: str | None = None,
) -> TermsPublished:
    """A version of the terms of 'shoes'."""
    return TermsPublished(
        offer_id="shoes",
        terms_version=version,
        effective_from=effective_from,
        hold_days=hold_days,
        window_days=window_days,
        rate_bps=rate_bps,
        amount=amount,
        currency=currency,
    )


def seen(click_id: str, affiliate_id: str = "ada", offer_id: str = "shoes", at: datetime = T0) -> ClickSeen:
    """A click in the traffic log."""
    return ClickSeen(click_id, affiliate_id, offer_id, at, position=5, leaf_hash="ab" * 32)
