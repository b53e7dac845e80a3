"""An explanation, as data. Amounts are minor units; `exact` is a fraction of minor units, such as '197/2'."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from ledger.domain.conversion import Step
from ledger.domain.plans.evidence import FrozenRate
from ledger.domain.plans.plan import TierStep


class _Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Part of an explanation."""


# --- who is credited -----------------------------------------------------------------------------------------


class ExplainedTouch(_Part, frozen=True):
    """A touch of the customer's journey. number: its place in it, from 1; weight: its part of the credit. Affiliates
    see their own touches only, without both. position: in the traffic log, 0 where a signature alone proves it."""

    affiliate_id: str
    occurred_at: datetime
    kind: str
    position: int
    channel: str | None = None
    number: int | None = None
    weight: int | None = None


class Journey(_Part, frozen=True):
    """All touches that a model of attribution weighed. whole: the sum of their weights; traffic_position: how far the
    traffic log was seen. Not shown to affiliates."""

    model: str
    whole: int
    touches: list[ExplainedTouch]
    traffic_position: int


class ExplainedClick(_Part, frozen=True):
    """The click that decided, with its evidence. traffic_position 0: known by its signature alone.
    traffic_position_seen: how far the traffic log was seen; not shown to affiliates."""

    click_id: str
    clicked_at: datetime | None
    traffic_position: int | None
    leaf_hash: str | None
    traffic_position_seen: int | None = None


class Credit(_Part, frozen=True):
    """Why this affiliate is credited. share: its part of the sale, a fraction ('3/10', '1' for all of it); weight and
    whole: what that comes from, not shown to affiliates; credited_amount: its part of the sale's amount, in the sale's
    currency; value: the same in the commission's, which counts for tiers and goals."""

    model: str
    share: str
    credited_amount: int
    value: int
    steps: list[Step]
    weight: int | None = None
    whole: int | None = None
    touches: list[ExplainedTouch] = []
    click: ExplainedClick | None = None


# --- what it is paid for -------------------------------------------------------------------------------------


class UsedTerms(_Part, frozen=True):
    """The version of the terms that prices it. override: of the plan, that is this affiliate's; rate_bps, or amount
    with currency: of simple terms; min_amount, max_amount: of the plan, as they hold for this affiliate."""

    offer_id: str
    terms_version: int
    effective_from: datetime | None = None
    hold_days: int | None = None
    window_days: int | None = None
    plan_hash: str | None = None
    override: str = ""
    rate_bps: int | None = None
    amount: int | None = None
    currency: str | None = None
    min_amount: int | None = None
    max_amount: int | None = None


class PaidPart(_Part, frozen=True):
    """What one step of a marginal table paid. step: its number, from 0; counted: how much of what was counted lies in
    it; paid_for: how much of the rule's lines that is (a fraction of minor units of the commission's currency)."""

    step: int
    rate_bps: int
    counted: int
    paid_for: str
    exact: str


class ExplainedTier(_Part, frozen=True):
    """Where a tier table's counter stood. counter: 'affiliate/2026-11' or 'offer/total'; before, after: what it counted
    without and with this conversion; step_before, step: numbers of steps, from 0; step_now: the one that pays since it
    was topped up or taken back; steps: the table itself; parts: of a marginal one."""

    by: str
    counter: str
    before: int
    after: int
    step_before: int
    step: int
    step_now: int
    method: str = "whole"
    retroactive: bool = False
    on_reversal: str = "keep"
    steps: list[TierStep] = []
    parts: list[PaidPart] = []


class ExplainedRule(_Part, frozen=True):
    """What one rule paid. rule: '' for simple terms; when: its conditions in words; amount, quantity: of its lines, in
    the sale's currency (quantity of clicks: of the bundle); exact: what it earns for the whole sale; one of rate_bps,
    flat_amount, amount_per_item, amount_per_click, tier: its price."""

    rule: str
    amount: int
    exact: str
    when: str = ""
    quantity: int = 0
    rate_bps: int | None = None
    flat_amount: int | None = None
    amount_per_item: int | None = None
    amount_per_click: int | None = None
    tier: ExplainedTier | None = None


class Remainder(_Part, frozen=True):
    """What is beyond whole minor units in an affiliate's share: a fraction of one."""

    affiliate_id: str
    remainder: str


class Rounding(_Part, frozen=True):
    """How the exact commission became whole minor units. method: half_up, or largest_remainder where shares of a sale
    are rounded together; added: rounded less exact, a fraction.

    Of shares: remainder: what is beyond whole minor units; together: the sum of all shares; left: how many minor units
    that is, rounded half up, beyond all shares rounded down; they go, one each, to the first of remainders. reason:
    larger or earlier_touch (it got one), smaller, later_touch or none_left (it got none), or whole (it has no
    remainder). Affiliates see neither together, left nor remainders."""

    method: str
    exact: str
    rounded: int
    added: str
    remainder: str = "0"
    reason: str = ""
    together: str | None = None
    left: int | None = None
    remainders: list[Remainder] = []


class ExplainedCap(_Part, frozen=True):
    """A cap that was asked, in units of what it is by (conversions, clicks, or minor units of commission). room: what
    was left of it; asked, given: what this conversion wanted and got; fits: whether it got all of that. Affiliates do
    not see room and asked of a cap for the whole offer where others earn by the same sale: it would say how much."""

    cap: str
    by: str
    counter: str
    given: int
    fits: bool
    room: int | None = None
    asked: int | None = None
    limit: int | None = None
    over: str = ""


class ReachedGoal(_Part, frozen=True):
    """The goal whose bonus this is. counted: what the counter stood at when it was reached, where that is known."""

    goal: str
    period: str
    by: str = ""
    target: int | None = None
    counted: int | None = None


class Recruited(_Part, frozen=True):
    """Somebody who was recruited and is credited with the sale. of: commission or sale; base: that, minor units."""

    affiliate_id: str
    of: str
    base: int
    rate_bps: int


class RecruitersPart(_Part, frozen=True):
    """What a recruiter's commission is a part of. of: commission or sale, '' where it is some of both; base: the sum
    of those, minor units; rate_bps: null where the recruited are paid for by different rates; recruited: whose they
    are, where that is known; not shown to affiliates."""

    of: str
    base: int
    rate_bps: int | None = None
    recruited: list[Recruited] = []


class PaidClicks(_Part, frozen=True):
    """A bundle of clicks. count: of it; paid: those of them that are paid; after, until: the positions of the traffic
    log behind which and up to which they stand, not shown to affiliates."""

    count: int
    paid: int
    after: int | None = None
    until: int | None = None


# --- what became of it ---------------------------------------------------------------------------------------


class RepricedRule(_Part, frozen=True):
    """What a rule earns for the whole sale from then on. step: of its table; null where no step changes that."""

    rule: str
    exact: str
    step: int | None = None


class TopUpCap(_Part, frozen=True):
    """The cap that a top-up did not fit into, minor units. asked: how much more it would have been; room: what of it
    the cap let through; null where the cap is one that refuses what does not fit whole (over: unpaid), and, for
    affiliates, where others earn by the same sale."""

    cap: str
    asked: int
    level: str = ""
    over: str = ""
    room: int | None = None


class Repricing(_Part, frozen=True):
    """The sum behind a top-up, or behind what is taken back of one. rules: what each earns for the whole sale; exact:
    all of them, within the minimum and the maximum (bound: which of them held); share_exact: this affiliate's share of
    that; rounded: that in whole minor units, which is the commission from then on, or would be but for the limit."""

    rules: list[RepricedRule]
    exact: str
    share_exact: str
    rounded: int
    bound: str = ""
    limit: TopUpCap | None = None


class Change(_Part, frozen=True):
    """Something that happened to a commission after it accrued. what: repriced, reversed, held, released, approved or
    rejected; amount: what it added to the commission that stands (below zero: took away); commission: accrued for the
    conversion from then on; outstanding: what stands from then on.

    Of repriced: was (the commission before), cause (tier_reached, tier_lost, simulation), rule, step, counter, counted,
    repricing (how it comes to that), simulation_id, cap. Of reversed: reversal_id, sale_amount (of this reversal),
    reversed_amount (of all so far)."""

    what: str
    effective_at: datetime
    amount: int
    commission: int
    outstanding: int
    cause: str = ""
    rule: str = ""
    step: int | None = None
    counter: str = ""
    counted: int | None = None
    simulation_id: str = ""
    cap: str = ""
    was: int | None = None
    repricing: Repricing | None = None
    reversal_id: str = ""
    sale_amount: int | None = None
    reversed_amount: int | None = None
    by_hand: bool = False


class ExplainedCommission(_Part, frozen=True):
    """One commission. sentence: all of it in words; bound: min_amount or max_amount, where it held; exact: what the
    whole sale would earn the affiliate, within these; unpaid: why nothing is paid (no_rule, recurring, cap:<id>), ''
    when it is; customer: new or returning, where the plan asked; accrued: what it was at first; commission: accrued
    with what was topped up; taken_back: of that, by reversals and rejection; outstanding: what is left."""

    affiliate_id: str
    level: int
    sentence: str
    status: str
    currency: str
    accrued: int
    commission: int
    taken_back: int
    outstanding: int
    matures_at: datetime
    exact: str = "0"
    credit: Credit | None = None
    terms: UsedTerms | None = None
    rate: FrozenRate | None = None
    customer: str = ""
    first_order_id: str = ""
    rules: list[ExplainedRule] = []
    bound: str = ""
    rounding: Rounding | None = None
    caps: list[ExplainedCap] = []
    unpaid: str = ""
    held: bool = False
    second_level: RecruitersPart | None = None
    goal: ReachedGoal | None = None
    clicks: PaidClicks | None = None
    changes: list[Change] = []


class ExplainedSale(_Part, frozen=True):
    """The sale, and how much of it was given back. Amounts are in its currency."""

    offer_id: str
    amount: int
    currency: str
    occurred_at: datetime
    reversed_amount: int
    event_id: str | None = None


class KeptException(_Part, frozen=True):
    """Why it could not be applied."""

    type: str
    detail: str
    open: bool


class Explanation(_Part, frozen=True):
    """Why an order's commissions are what they are. sentence: all of it in words; steps: what attribution tried;
    waits_until: when it stops waiting for the click."""

    order_id: str
    status: str
    sentence: str
    sale: ExplainedSale | None = None
    steps: list[Step] = []
    journey: Journey | None = None
    commissions: list[ExplainedCommission] = []
    waits_until: datetime | None = None
    exception: KeptException | None = None
