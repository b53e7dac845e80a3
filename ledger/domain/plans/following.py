"""What a change of counters leads to, in the same commit: retroactive tiers reached or lost, goals reached or lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ledger.domain import conversion, conversion_state, rates
from ledger.domain.conversion import (
    CommissionAccrued,
    CommissionRepriced,
    ConversionRejected,
    ConversionReversed,
)
from ledger.domain.conversion_state import Commission, CommissionKey, ConversionState
from ledger.domain.event import Draft
from ledger.domain.money import round_half_up
from ledger.domain.offer import OfferState, Terms
from ledger.domain.plans import counting, goals, pricing
from ledger.domain.plans.counting import Counted, Counter, CounterKey, kind_of
from ledger.domain.plans.crediting import CAN_EARN
from ledger.domain.plans.evidence import Pricing
from ledger.domain.plans.goals import Source
from ledger.domain.plans.plan import Effective, Tiers
from ledger.domain.view import View

_ALIVE = ("pending", "held", "approved")


class _Changed:
    """The counters and conversions as they are after some drafts."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.by: Counted = {}
        self.sources: dict[CounterKey, Source] = {}
        self.states: dict[str, ConversionState] = {}
        self.accrued: dict[str, None] = {}  # the orders of which a commission accrues among the drafts

    def take(self, drafts: Sequence[Draft]) -> None:
        """Count the next events."""
        for stream, event in drafts:
            if not stream.startswith("conversion:"):
                continue
            state = self.states.get(stream)
            if state is None:
                known: ConversionState | None = self.view.state(stream)
                state = conversion_state.copied(known) if known is not None else ConversionState()
            state = self.states[stream] = conversion_state.fold(state, event)
            if isinstance(event, CommissionAccrued):
                self.accrued[event.order_id] = None
            for key, change in counting.changes(state, event):
                self.by.setdefault(key, Counter()).add(change)
                one = state.commissions.get((key.affiliate_id, 1)) if key.affiliate_id else state.lead
                if one is not None and one.accrued is not None and one.accrued.pricing is not None:
                    accrued, override = one.accrued, one.accrued.pricing.override
                    self.sources.setdefault(key, Source(accrued.terms_version, override, accrued.occurred_at))

    def after(self, key: CounterKey) -> Counter:
        """A counter with what was taken."""
        found = Counter()
        found.add(self.view.counter(key))
        if key in self.by:
            found.add(self.by[key])
        return found

    def conversion(self, order_id: str) -> ConversionState | None:
        """A conversion with what was taken."""
        return self.states.get(conversion.key(order_id)) or self.view.conversion(order_id)


def following(view: View, drafts: Sequence[Draft]) -> list[Draft]:
    """The events that some events of conversions lead to, beyond themselves."""
    if not _may_follow(view, drafts):
        return []
    changed = _Changed(view)
    changed.take(drafts)
    found: list[Draft] = []
    for key in list(changed.by):
        offer = view.offer(key.offer_id)
        if offer is not None:
            found += _retier(offer, key, changed)
    for key in list(changed.by):
        offer = view.offer(key.offer_id)
        source = changed.sources.get(key)
        if offer is not None and source is not None and key.affiliate_id:
            found += goals.following(offer, key, source, changed.after(key), view)
    return found


def _may_follow(view: View, drafts: Sequence[Draft]) -> bool:
    """Whether any of it is of an offer that has a plan with retroactive tiers or goals."""
    for _, event in drafts:
        if isinstance(event, CommissionAccrued):
            offer_id = event.offer_id if event.pricing is not None else ""
        elif isinstance(event, ConversionReversed | ConversionRejected | CommissionRepriced):
            state = view.conversion(event.order_id)
            offer_id = state.recorded.offer_id if state is not None and state.recorded is not None else ""
        else:
            continue
        offer = view.offer(offer_id) if offer_id else None
        if offer is not None and any(terms.plan is not None and terms.plan.follows for terms in offer.terms):
            return True
    return False


# --- retroactive tiers ---------------------------------------------------------------------------------------


def _tables(offer: OfferState, key: CounterKey) -> list[Tiers]:
    """The retroactive tables of any version of the terms that go by a counter."""
    kind, level = kind_of(key.period), "affiliate" if key.affiliate_id else "offer"
    return [
        tiers
        for terms in offer.terms
        if terms.plan is not None and terms.plan.retroactive
        for tiers in terms.plan.tiers
        if tiers.retroactive and (tiers.period, tiers.level) == (kind, level)
    ]


def _retier(offer: OfferState, key: CounterKey, changed: _Changed) -> list[Draft]:
    """A top-up (or what is taken back) for each commission of the period that another step should pay, taken."""
    tables = _tables(offer, key)
    if not tables:
        return []
    found: list[Draft] = []
    before, after = changed.view.counter(key), changed.after(key)
    # what accrues just now may stand otherwise already: a reversal that came first is in the same commit
    order_ids = list(changed.accrued)
    if any(one.step_at(before.standing(one.by)) != one.step_at(after.standing(one.by)) for one in tables):
        order_ids = [*changed.view.counted_orders(key), *order_ids]
    states = [changed.conversion(order_id) for order_id in dict.fromkeys(order_ids)]
    sold = [(one.recorded, list(one.commissions)) for one in states if one is not None and one.recorded is not None]
    # the oldest first, however they came in: a cap may leave room for some of them only
    for sale, whose in sorted(sold, key=lambda one: (one[0].occurred_at, one[0].order_id)):
        if sale.offer_id == key.offer_id:
            for who in whose:
                found += _retiered(offer, key, after, sale.order_id, who, changed)
    return found


def _retiered(
    offer: OfferState, key: CounterKey, after: Counter, order_id: str, who: CommissionKey, changed: _Changed
) -> Iterator[Draft]:
    """One for each rule of a commission that pays by another step now, taken."""
    state = changed.conversion(order_id)
    one = state.commissions[who] if state is not None else None
    if one is None or one.accrued is None or one.accrued.pricing is None or one.accrued.pricing.unpaid:
        return
    if one.status not in _ALIVE or one.level != 1 or key not in set(counting.keys_of(one.accrued)):
        return
    terms = offer.version(one.accrued.terms_version)
    if terms is None or terms.plan is None:
        return
    effective = terms.plan.by_override(one.accrued.pricing.override)
    whose = changed.view.affiliate(one.affiliate_id)
    earns = whose is not None and whose.status in CAN_EARN  # who is closed earns nothing new
    for moved in _moved_rules(effective, one.accrued.pricing, key, after, one, earns):
        event = _repriced(terms, effective, moved, key, order_id, who, changed)
        if event is not None:
            draft = (conversion.key(order_id), event)
            changed.take([draft])
            yield draft


class _Moved(NamedTuple):
    """A rule whose table pays by another step now. counted: what its counter stands at; up: by a higher step."""

    rule: str
    step: int
    up: bool
    counted: int


def _moved_rules(
    effective: Effective, priced: Pricing, key: CounterKey, after: Counter, one: Commission, earns: bool
) -> list[_Moved]:
    label = f"{'affiliate' if key.affiliate_id else 'offer'}/{key.period}"
    tables = {rule.id: rule.pay.tiers for rule in effective.rules}
    found = []
    for rule in priced.rules:
        tiers = tables.get(rule.rule)
        if tiers is None or not tiers.retroactive or rule.tier is None or rule.tier.counter != label:
            continue
        counted = after.standing(tiers.by)
        step, was = tiers.step_at(counted), one.steps[rule.rule]
        if (step > was and earns) or (step < was and tiers.on_reversal == "take_back"):
            found.append(_Moved(rule.rule, step, step > was, counted))
    return found


def _repriced(
    terms: Terms,
    effective: Effective,
    moved: _Moved,
    key: CounterKey,
    order_id: str,
    who: CommissionKey,
    changed: _Changed,
) -> CommissionRepriced | None:
    state = changed.conversion(order_id)
    assert state is not None
    one = state.commissions[who]
    assert one.accrued is not None
    commission = _reprice(effective, one.accrued, {**one.steps, moved.rule: moved.step})
    cap = ""
    if commission > one.commission:
        commission, cap = _within_caps(terms, one.accrued, one, commission, changed)
    if commission == one.commission and not cap:
        return None
    return CommissionRepriced(
        order_id=order_id,
        affiliate_id=one.affiliate_id,
        amount=state.kept(commission) - one.outstanding,
        commission=commission,
        currency=one.currency,
        bucket=one.bucket,
        effective_at=changed.view.now,
        cause="tier_reached" if moved.up else "tier_lost",
        level=one.level,
        rule=moved.rule,
        step=moved.step,
        counter=f"{'affiliate' if key.affiliate_id else 'offer'}/{key.period}",
        counted=moved.counted,
        cap=cap,
    )


def _reprice(effective: Effective, accrued: CommissionAccrued, steps: dict[str, int]) -> int:
    """A commission by other steps, rounded by itself where it is shared."""
    assert accrued.pricing is not None
    rate = accrued.pricing.rate
    factor = rates.factor(rate.rate, rate.base, rate.quote) if rate is not None else (1, 1)
    numerator, denominator = pricing.repriced(effective, accrued.pricing.rules, steps, factor)
    own, whole = accrued.pricing.weight or (1, 1)
    return round_half_up(numerator * own, denominator * whole)


def _within_caps(
    terms: Terms,
    accrued: CommissionAccrued,
    one: Commission,
    commission: int,
    changed: _Changed,
) -> tuple[int, str]:
    """A commission that is topped up, as far as the caps by commission let it; and the cap that did not."""
    assert terms.plan is not None
    limiting = ""
    keys = {(("offer" if not key.affiliate_id else "affiliate"), kind_of(key.period)): key
            for key in counting.keys_of(accrued)}  # fmt: skip
    for cap in terms.plan.plan.caps:
        key = keys.get((cap.level, cap.period))
        if cap.by != "commission" or key is None:
            continue
        used = changed.after(key).used("commission", cap.reversals_free_room)
        wanted, room = commission - one.commission, max(0, cap.limit - used)
        if wanted > room:
            limiting, commission = cap.id, one.commission + (room if cap.over == "clamp" else 0)
    return commission, limiting
