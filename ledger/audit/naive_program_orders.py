"""Orders of a program under plans, what each of them counts, and where every counter stands. See naive_program.py.

A counter is the sum of what its orders count now; an order's part of it is taken off and put on again whenever the
order changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple

from ledger.audit.naive_counters import Counter, counter_of, label
from ledger.audit.naive_plans import Paid, half_up

State = dict[str, Any]
Stand = tuple[int, ...]  # see _FIELDS
_FIELDS = ("conversions", "revenue", "commission", "conversions used", "conversions left", "clicks used",
           "commission used")  # fmt: skip
_CONVERSIONS, _REVENUE, _COMMISSION, _CONVERSIONS_USED, _CONVERSIONS_LEFT, _CLICKS_USED, _COMMISSION_USED = range(7)
_NOTHING: Stand = (0,) * len(_FIELDS)


class Part:
    """One commission of an order. level 2: of who recruited; nominal: before caps; first: accrued; given: with top-ups;
    used: of caps by commission; clicks: that are paid; steps: of the tables that pay it, by rule; counted: in the order
    of levels and periods; is_new: by a simulation, counted nowhere."""

    __slots__ = (
        "affiliate_id",
        "clicks",
        "counted",
        "credited",
        "exact",
        "first",
        "given",
        "is_new",
        "level",
        "override",
        "own",
        "rejected",
        "rules",
        "steps",
        "unpaid",
        "used",
        "value",
        "weight",
    )  # fmt: skip

    def __init__(self, affiliate_id: str, level: int, own: State, override: str = "") -> None:
        self.affiliate_id, self.level, self.own, self.override = affiliate_id, level, own, override
        self.weight, self.credited, self.value = Fraction(1), 0, 0
        self.counted: list[Counter] = []
        self.rules: list[Paid] = []
        self.exact = Fraction(0)
        self.unpaid = ""
        self.first = self.given = self.used = self.clicks = 0
        self.steps: dict[str, int] = {}
        self.rejected = self.is_new = False


class Order:
    """A sale, and what became of it. fact: until it is decided; terms_version: that priced it."""

    __slots__ = (
        "amount", "clicks", "credited", "currency", "decided", "fact", "factor", "instant", "is_waiting", "offer_id",
        "order_id", "parts", "position", "reversals", "reversed_amount", "stands", "terms_version",
    )  # fmt: skip

    def __init__(self, fact: State, position: int, instant: datetime) -> None:
        self.fact: State | None = fact
        self.order_id, self.offer_id = fact["order_id"], fact["offer_id"]
        self.amount, self.clicks, self.instant = fact["amount"], fact.get("click_count", 0), instant
        self.position = position
        self.currency, self.factor, self.terms_version = "", Fraction(1), 0
        self.parts: list[Part] = []
        self.credited = ""
        self.decided = self.is_waiting = False
        self.reversals: set[str] | None = None
        self.reversed_amount = 0
        self.stands: dict[Counter, Stand] = {}

    @property
    def gone(self) -> bool:
        """All of it was reversed."""
        return self.reversals is not None and self.reversed_amount == self.amount

    def left_of(self, amount: int) -> int:
        """What reversals left of an amount."""
        if not self.reversals:
            return amount
        if self.gone:
            return 0
        return amount - half_up(Fraction(amount * self.reversed_amount, self.amount))

    def part(self, affiliate_id: str, level: int) -> Part | None:
        """An affiliate's commission."""
        return next((one for one in self.parts if (one.affiliate_id, one.level) == (affiliate_id, level)), None)


class Counters:
    """Where every counter stands. before: of those that changed since `begin`, in the order in which they did."""

    def __init__(self) -> None:
        self._stands: dict[Counter, Stand] = {}
        self._orders: dict[Counter, list[Order]] = defaultdict(list)
        self.before: dict[Counter, Stand] = {}
        self.sources: dict[Counter, tuple[Order, Part]] = {}

    def begin(self) -> None:
        """Forget what changed."""
        self.before, self.sources = {}, {}

    def count(self, order: Order) -> None:
        """An order changed."""
        stands = _stands(order)
        for part in order.parts:
            for counter in part.counted:
                stood = self._stands.get(counter, _NOTHING)
                self.before.setdefault(counter, stood)
                if counter.affiliate_id:
                    self.sources.setdefault(counter, (order, part))
        for counter, stand in stands.items():
            was = order.stands.get(counter, _NOTHING)
            if stand != was:
                stood = self._stands.get(counter, _NOTHING)
                self._stands[counter] = tuple(a + b - c for a, b, c in zip(stood, stand, was, strict=True))
        order.stands = stands

    def follow(self, counter: Counter, order: Order) -> None:
        """A retroactive table of an order goes by a counter."""
        self._orders[counter].append(order)

    def followers(self, counter: Counter) -> list[Order]:
        """Orders that a retroactive table pays by a counter."""
        return self._orders.get(counter, [])

    def stood(self, counter: Counter, by: str) -> int:
        """Before what changed last."""
        stand = self.before.get(counter)
        return self.stands(counter, by) if stand is None else stand[_FIELDS.index(by)]

    def stands(self, counter: Counter, by: str) -> int:
        """by: conversions, revenue or commission, less what was taken back."""
        return self._stands.get(counter, _NOTHING)[_FIELDS.index(by)]

    def used(self, counter: Counter, cap: State) -> int:
        """What a cap that goes by it has used up."""
        stand = self._stands.get(counter, _NOTHING)
        if cap["by"] == "clicks":
            return stand[_CLICKS_USED]
        if cap["by"] == "conversions":
            return stand[_CONVERSIONS_LEFT if cap.get("reversals_free_room") else _CONVERSIONS_USED]
        return stand[_COMMISSION if cap.get("reversals_free_room") else _COMMISSION_USED]


def _stands(order: Order) -> dict[Counter, Stand]:
    """What an order counts now: for each affiliate its own part, and for the offer once, and whole."""
    found: dict[Counter, list[int]] = {}
    for number, part in enumerate(order.parts):
        if not part.counted:
            continue
        alive = not part.rejected and not order.gone
        left = order.left_of(part.given) if alive else 0
        revenue = order.left_of(part.value) if alive and part.level == 1 else 0
        for counter in part.counted:
            stand = found.get(counter)
            if stand is None:
                stand = found[counter] = [0] * len(_FIELDS)
            stand[_COMMISSION] += left
            stand[_COMMISSION_USED] += part.used
            if part.level == 1:
                stand[_REVENUE] += revenue
                if not number:
                    stand[_CLICKS_USED] = part.clicks
                if alive:
                    stand[_CONVERSIONS] = 1
                if part.first:
                    stand[_CONVERSIONS_USED] = 1
                    if alive:
                        stand[_CONVERSIONS_LEFT] = 1
    return {counter: tuple(stand) for counter, stand in found.items()}


class Plans:
    """Plans as they hold for an affiliate, put together once; and the labels of counters."""

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[State, list[tuple[str, str]]]] = {}
        self._labels: dict[tuple[Any, str, str], str] = {}
        self._day: tuple[Any, Any] = (None, None)  # an instant, and which day it is in the program's zone

    def counted(self, own: State, plan: State) -> list[tuple[str, str]]:
        """(level, period) of everything that a conversion counts in by a plan as it holds for an affiliate: what its
        tiers, caps and goals use, and what anybody's tiers use of the whole offer."""
        known = self._pairs.get(id(own))
        if known is None:
            pairs = {(one["level"], one["period"]) for one in plan.get("caps", [])}
            pairs |= {("affiliate", one["period"]) for one in own.get("goals", [])}
            pairs |= set(_tables(own["rules"]))
            pairs |= {one for one in _tables(own.get("everybodys", [])) if one[0] == "offer"}
            known = self._pairs[id(own)] = own, sorted(pairs)
        return known[1]

    def label(self, level: str, period: str, instant: datetime, zone: Any) -> str:
        """See naive_counters.label."""
        if instant != self._day[0]:  # one sale asks for many
            self._day = instant, instant.astimezone(zone).date()
        key = self._day[1], level, period
        found = self._labels.get(key)
        if found is None:
            if len(self._labels) > 100_000:
                self._labels.clear()
            found = self._labels[key] = label(level, period, instant, zone)
        return found

    def counter(self, order: Order, affiliate_id: str, one: State, zone: Any) -> Counter:
        """The counter that a tier table, cap or goal means for an order."""
        name = self.label(one.get("level", "affiliate"), one["period"], order.instant, zone)
        return counter_of(order.offer_id, affiliate_id, name, order.currency)


def _tables(rules: list[State]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        if tiers := rule["pay"].get("tiers"):
            yield tiers.get("level", "affiliate"), tiers["period"]


class Bonus(NamedTuple):
    """A goal in one period."""

    offer_id: str
    affiliate_id: str
    goal: str
    label: str
    currency: str
