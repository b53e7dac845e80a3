"""A commission plan: the document that says what an offer pays (docs/plans.md), read, checked and hashed.

The document is data: it is kept as it was published (keys sorted), and read into these types whenever it is used.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.domain.ids import AMOUNT_MAX

Name = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,40}$", description="lower case, digits, _ and -; at most 40")]
Slug = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Text = Annotated[str, Meta(min_length=1, max_length=128)]
Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description="minor units of the plan's currency")]
Rate = Annotated[int, Meta(ge=0, le=100_000, description="basis points: 500 is 5 %")]
Count = Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]
Weight = Annotated[int, Meta(ge=0, le=10_000)]
Texts = Annotated[list[Text], Meta(max_length=1000)]
Period = Literal["day", "week", "month", "quarter", "year", "total"]
Level = Literal["affiliate", "offer"]
Measure = Literal["conversions", "revenue", "commission"]
Model = Literal[
    "last_click", "first_click", "last_non_direct", "linear", "position_based", "time_decay", "coupon_wins", "lifetime"
]


class _Member(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Part of a plan."""


class AttributionRules(_Member, frozen=True):
    """Who is credited: docs/plans.md, 'Attribution'."""

    model: Model = "last_click"
    weights: tuple[Weight, Weight, Weight] = (40, 20, 40)
    spread: Literal["middle", "all"] = "middle"
    half_life_days: Annotated[int, Meta(ge=1, le=3650)] = 7
    direct_channels: Texts = msgspec.field(default_factory=lambda: ["direct"])
    view_window_days: Annotated[int, Meta(ge=0, le=3650)] = 0
    otherwise: Literal["last_click", "first_click", "last_non_direct", "linear", "position_based", "time_decay"] = (
        "last_click"
    )


class When(_Member, frozen=True):
    """The conditions of a rule; all that are given must hold."""

    sku: Texts | None = None
    product: Texts | None = None
    category: Texts | None = None
    country: Texts | None = None
    channel: Texts | None = None
    event: Texts | None = None
    currency: Texts | None = None
    coupon: Texts | None = None
    customer: Literal["new", "returning"] | None = None


class TierStep(_Member, frozen=True):
    """What is paid from a value of the counter on."""

    from_: Annotated[int, Meta(ge=0, le=AMOUNT_MAX)] = msgspec.field(name="from")
    rate_bps: Rate | None = None
    amount: Amount | None = None
    amount_per_item: Amount | None = None


class Tiers(_Member, frozen=True):
    """A table of steps: docs/plans.md, 'Tiers'."""

    by: Measure
    period: Period
    steps: Annotated[list[TierStep], Meta(min_length=1, max_length=100)]
    level: Level = "affiliate"
    method: Literal["whole", "marginal"] = "whole"
    retroactive: bool = False
    on_reversal: Literal["keep", "take_back"] = "keep"

    def step_at(self, value: int) -> int:
        """The number of the step in which a counter's value stands."""
        at = 0
        for number, step in enumerate(self.steps):
            if step.from_ <= value:
                at = number
        return at


class Pay(_Member, frozen=True):
    """What a rule pays: exactly one of these."""

    rate_bps: Rate | None = None
    amount: Amount | None = None
    amount_per_item: Amount | None = None
    amount_per_click: Amount | None = None
    tiers: Tiers | None = None


class Rule(_Member, frozen=True):
    """Whoever fits it is paid by it."""

    id: Name
    pay: Pay
    when: When = When()


class Recurring(_Member, frozen=True):
    """Which of a customer's sales pay: all or the first, or those of some months."""

    sales: Literal["all", "first"] | None = None
    months: Annotated[int, Meta(ge=1, le=1200)] | None = None


class Cap(_Member, frozen=True):
    """A limit: docs/plans.md, 'Caps'."""

    id: Name
    level: Level
    by: Literal["conversions", "clicks", "commission"]
    period: Literal["day", "week", "month", "total"]
    limit: Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]
    over: Literal["unpaid", "clamp"] = "unpaid"
    reversals_free_room: bool = False


class Goal(_Member, frozen=True):
    """A target, and what reaching it earns: docs/plans.md, 'Goals'."""

    id: Name
    by: Measure
    period: Period
    target: Count
    bonus_amount: Amount = 0
    on_reversal: Literal["keep", "take_back"] = "keep"


class SecondLevel(_Member, frozen=True):
    """What the recruiter of a credited affiliate earns."""

    rate_bps: Rate
    of: Literal["commission", "sale"] = "commission"


class Override(_Member, frozen=True):
    """What is otherwise for some affiliates; a member that is not given is as in the plan, null takes it away."""

    id: Name
    affiliates: Annotated[list[Slug], Meta(max_length=10_000)] = []
    groups: Annotated[list[Name], Meta(max_length=1000)] = []
    rules: Annotated[list[Rule], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    min_amount: Amount | UnsetType | None = UNSET
    max_amount: Amount | UnsetType | None = UNSET
    recurring: Recurring | UnsetType = UNSET
    second_level: SecondLevel | UnsetType | None = UNSET
    goals: Annotated[list[Goal], Meta(max_length=100)] | UnsetType = UNSET


class Plan(_Member, frozen=True):
    """The whole document."""

    plan: Literal[1]
    rules: Annotated[list[Rule], Meta(min_length=1, max_length=1000)]
    currency: str | None = None
    match: Literal["first", "best"] = "first"
    attribution: AttributionRules = AttributionRules()
    min_amount: Amount | None = None
    max_amount: Amount | None = None
    recurring: Recurring = Recurring()
    caps: Annotated[list[Cap], Meta(max_length=100)] = []
    goals: Annotated[list[Goal], Meta(max_length=100)] = []
    second_level: SecondLevel | None = None
    overrides: Annotated[list[Override], Meta(max_length=1000)] = []


class Effective(NamedTuple):
    """What a plan says to one affiliate. labels: of the counters that its conversions count in: (level, period)."""

    override: str
    rules: list[Rule]
    min_amount: int | None
    max_amount: int | None
    recurring: Recurring
    second_level: SecondLevel | None
    goals: list[Goal]
    counters: list[tuple[str, str]]
    asks_customer: bool


class ReadPlan:
    """A plan that is ready for use: what it says to each affiliate is put together once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # what is counted of the whole offer is counted whoever is credited, by whichever rules
        everybodys: set[tuple[str, str]] = {("offer", cap.period) for cap in plan.caps if cap.level == "offer"}
        for rules in (plan.rules, *(one.rules for one in plan.overrides if one.rules is not UNSET)):
            everybodys |= {(level, period) for level, period in _tiers(rules) if level == "offer"}
        self._plain = _effective(plan, None, everybodys)
        self._overrides = [_effective(plan, one, everybodys) for one in plan.overrides]
        self._by_affiliate: dict[str, int] = {}
        self._by_group: dict[str, int] = {}
        for number, override in enumerate(plan.overrides):
            for affiliate_id in override.affiliates:
                self._by_affiliate.setdefault(affiliate_id, number)
            for group in override.groups:
                self._by_group.setdefault(group, number)
        self.tiers: list[Tiers] = [
            rule.pay.tiers
            for one in (self._plain, *self._overrides)
            for rule in one.rules
            if rule.pay.tiers is not None
        ]
        everyone = (self._plain, *self._overrides)
        self.retroactive = any(one.retroactive for one in self.tiers)
        # (override, goal) of those that earn something
        self.goals = [(one.override, goal) for one in everyone for goal in one.goals if goal.bonus_amount]
        # whether what a conversion changes may change others: most plans need not look
        self.follows = self.retroactive or bool(self.goals)
        self.asks_customer = any(one.asks_customer for one in everyone)
        self.counts = any(one.counters for one in everyone)

    def for_affiliate(self, affiliate_id: str, group: str) -> Effective:
        """What it says to an affiliate that is in a group ('' for none)."""
        number = self._by_affiliate.get(affiliate_id)
        if number is None and group:
            number = self._by_group.get(group)
        return self._plain if number is None else self._overrides[number]

    def by_override(self, override: str) -> Effective:
        """What an override says, '' for none of them."""
        return next((one for one in self._overrides if one.override == override), self._plain)


def _tiers(rules: list[Rule]) -> set[tuple[str, str]]:
    """The levels and periods of the tables of some rules."""
    return {(rule.pay.tiers.level, rule.pay.tiers.period) for rule in rules if rule.pay.tiers is not None}


def _effective(plan: Plan, override: Override | None, everybodys: set[tuple[str, str]]) -> Effective:
    def said(member: str) -> Any:
        value = getattr(override, member) if override is not None else UNSET
        return getattr(plan, member) if value is UNSET else value

    rules, goals = said("rules"), said("goals")
    counters = everybodys | {(one.level, one.period) for one in plan.caps} | _tiers(rules)
    counters |= {("affiliate", goal.period) for goal in goals}
    recurring: Recurring = said("recurring")
    limited = recurring.sales == "first" or recurring.months is not None
    return Effective(
        override.id if override is not None else "",
        rules,
        said("min_amount"),
        said("max_amount"),
        recurring,
        said("second_level"),
        goals,
        sorted(counters),
        limited or any(rule.when.customer is not None for rule in rules),
    )


def canonical(document: dict[str, Any]) -> bytes:
    """The one form that is hashed: UTF-8 JSON, keys sorted, no spaces."""
    return msgspec.json.encode(document, order="deterministic")


def hash_of(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical(document)).hexdigest()


def read(document: dict[str, Any]) -> ReadPlan:
    """A plan for use. Raises msgspec.ValidationError where it is none: what was published was checked."""
    return _read(canonical(document))


@lru_cache(maxsize=1000)
def _read(text: bytes) -> ReadPlan:
    return ReadPlan(msgspec.json.decode(text, type=Plan))
