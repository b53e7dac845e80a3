"""What is the same for all who are credited with a sale under a plan, and what each of them is to get."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct

from ledger.domain import rates
from ledger.domain.affiliate import AffiliateState
from ledger.domain.conversion import ConversionRecorded
from ledger.domain.errors import InvalidInput
from ledger.domain.ids import AMOUNT_MAX
from ledger.domain.money import round_half_up
from ledger.domain.plans import counting, pricing
from ledger.domain.plans.counting import CounterKey
from ledger.domain.plans.crediting import Credited
from ledger.domain.plans.evidence import CapReading, FrozenRate, PricedRule
from ledger.domain.plans.plan import Effective, ReadPlan
from ledger.domain.plans.pricing import Exact
from ledger.domain.view import View


class CannotPrice(Exception):
    """A sale is kept as an exception of a type, and never priced."""

    def __init__(self, type_: str, detail: str) -> None:
        self.type = type_
        super().__init__(detail)


class Context(NamedTuple):
    """What is the same for all who are credited with a sale. local: when it happened, on the program's clock."""

    fact: ConversionRecorded
    plan: ReadPlan
    credited: Credited
    currency: str
    local: datetime
    rate: FrozenRate | None
    factor: Exact
    whole_value: int
    lines: Sequence[pricing.Line]

    def key(self, level: str, kind: str, affiliate_id: str) -> CounterKey:
        """The counter of a kind of period in which the sale lies."""
        whose = "" if level == "offer" else affiliate_id
        return CounterKey(self.fact.offer_id, whose, counting.period_of(kind, self.local), self.currency)

    def label(self, level: str, kind: str) -> str:
        """How evidence names that counter: 'affiliate/2026-11'."""
        return f"{level}/{counting.period_of(kind, self.local)}"

    @property
    def sale_currency(self) -> str | None:
        """The sale's, where it is another than the commission's."""
        return self.fact.currency if self.fact.currency != self.currency else None


class Share(Struct):
    """One affiliate's part of it. exact: what the whole sale would earn it; amount: its commission."""

    affiliate: AffiliateState
    effective: Effective
    weight: int
    credited_amount: int
    value: int
    exact: Exact
    rules: list[PricedRule]
    bound: str
    unpaid: str
    customer: str
    first_order_id: str
    amount: int = 0
    caps: list[CapReading] = []
    paid_clicks: int = 0


def in_calendar(instant: datetime) -> bool:
    """Whether the periods around an instant are all in the calendar, in any zone."""
    return 2 <= instant.year <= 9998


def check_amount(amount: int) -> None:
    """Raise CannotPrice for more than an amount may be: what would overflow later is kept for somebody to look at."""
    if amount > AMOUNT_MAX:
        raise CannotPrice("amount_too_large", f"it comes to more than {AMOUNT_MAX} minor units")


def context_of(fact: ConversionRecorded, plan: ReadPlan, credited: Credited, view: View) -> Context:
    """Put it together. Raises CannotPrice, InvalidInput."""
    program = view.program
    assert program is not None
    if not in_calendar(fact.occurred_at):
        raise InvalidInput("occurred_at", "must lie in the years 2 to 9998")
    currency = plan.plan.currency or fact.currency
    rate, factor, value = None, (1, 1), fact.amount
    if currency != fact.currency and (fact.amount or any(item.amount for item in fact.items)):
        found = rates.at(view, fact.currency, currency, fact.occurred_at)
        if found is None:
            detail = f"no rate from {fact.currency} to {currency} is known for {fact.occurred_at.isoformat()}"
            raise CannotPrice("rate_missing", detail)
        rate = FrozenRate(base=found.base, quote=found.quote, rate=found.rate, as_of=found.as_of, source=found.source)
        factor = rates.factor(found.rate, found.base, found.quote)
        value = round_half_up(fact.amount * factor[0], factor[1])
        check_amount(value)
    local = counting.local(fact.occurred_at, program.zone)
    return Context(fact, plan, credited, currency, local, rate, factor, value, pricing.lines_of(fact))
