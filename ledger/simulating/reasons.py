"""Why a commission would be another: one reason for each, from what both were priced by."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import money
from ledger.domain.conversion import RESERVED_PREFIX
from ledger.domain.conversion_state import Commission
from ledger.domain.plans.evidence import PricedRule, Pricing
from ledger.plan_words import percent
from ledger.simulating.kept import Kept

EARLIER = "earlier_simulation"
REASONS = {
    "attribution": "other credit",
    "rule_or_rate": "another rule or price",
    "tier": "another tier",
    "cap": "caps",
    "recurring": "returning customers",
    "bound": "minimum or maximum",
    "goal": "goals",
    "second_level": "second level",
    "exchange_rate": "exchange rates",
    "unattributed": "credited to nobody",
    EARLIER: "undoes an earlier simulation",
}
_SIMPLE = Pricing()


def in_words(reason: str) -> str:
    """A reason for people."""
    return REASONS.get(reason, reason)


def why(one: Kept, was: Commission | None, would: Commission | None) -> tuple[str, str]:
    """(reason, the same in words) for one affiliate's commission on an order; one of both may be missing."""
    sale = one.was.recorded or one.would.recorded
    assert sale is not None
    if one.earlier:
        return EARLIER, "a simulation that was applied to this order would be undone"
    if sale.order_id.startswith(f"{RESERVED_PREFIX}goal-"):
        if was is not None and would is not None:
            return "goal", "the goal's bonus is another"
        return "goal", "the goal would be reached" if was is None else "the goal would not be reached"
    known = was or would
    if known is not None and known.level > 1:
        return "second_level", "what an affiliate that it recruited earns"
    if was is None or would is None:
        return _only_one(one, was, would)
    return _both(was, would, sale.currency)


def _only_one(one: Kept, was: Commission | None, would: Commission | None) -> tuple[str, str]:
    if one.exception == "rate_missing":
        return "exchange_rate", "there is no exchange rate for the sale"
    if one.exception:
        return "unattributed", f"the sale would be kept as an exception ({one.exception})"
    if not one.would.commissions:
        return "unattributed", "nobody would be credited"
    if not one.was.commissions:
        return "unattributed", "nobody was credited"
    if was is not None and would is None and any(x.affiliate_id == was.affiliate_id for x in _first(one.would)):
        return "exchange_rate", "the commission would be in another currency"
    if would is not None and was is None and any(x.affiliate_id == would.affiliate_id for x in _first(one.was)):
        return "exchange_rate", "the commission was in another currency"
    return "attribution", "is credited with the sale" if was is None else "is not credited with the sale"


def _first(state: object) -> list[Commission]:
    return [x for x in state.commissions.values() if x.level == 1]  # type: ignore[attr-defined]


def _both(was: Commission, would: Commission, currency: str) -> tuple[str, str]:
    old, new = _pricing(was), _pricing(would)
    # of a commission that an earlier simulation made, only the figures are known
    if was.credited_amount != would.credited_amount or (was.accrued is not None and old.weight != new.weight):
        parts = [money.major_units(x.credited_amount, currency) for x in (would, was)]
        return "attribution", f"is credited with {parts[0]} instead of {parts[1]} {currency} of the sale"
    if "recurring" in (old.unpaid, new.unpaid) and old.unpaid != new.unpaid:
        return "recurring", f"a returning customer's sale {'is not paid' if new.unpaid == 'recurring' else 'is paid'}"
    before, after = _limits(old), _limits(new)
    if before != after:
        return "cap", f"limited by {after or 'no cap'} instead of {before or 'no cap'}"
    if old.bound != new.bound:
        return "bound", f"held by {new.bound or 'no bound'} instead of {old.bound or 'no bound'}"
    if old.rate != new.rate:
        said = [rate.rate if rate is not None else "none" for rate in (new.rate, old.rate)]
        return "exchange_rate", f"rate {said[0]} instead of {said[1]}"
    return _by_rule(was, would, old, new)


def _by_rule(was: Commission, would: Commission, old: Pricing, new: Pricing) -> tuple[str, str]:
    if was.steps != would.steps and _ids(old) == _ids(new) if was.steps else any(would.steps.values()):
        return "tier", f"{_tiers(would)} instead of {_tiers(was)}"
    price, before = _paid(would, new), _paid(was, old)
    if price == before:
        return "rule_or_rate", f"{_said(price, ' pays ')}, of another part of the sale"
    return "rule_or_rate", f"{_said(price, ' pays ')} instead of {_said(before, ' ')}"


def _paid(one: Commission, pricing: Pricing) -> list[tuple[str, str]]:
    """(who pays, its price): [('rule shoes', '8 %')]."""
    if pricing.rules:
        return [(f"rule {rule.rule}", _price(rule, one)) for rule in pricing.rules]
    if pricing.unpaid:
        return [("no rule", "anything")]
    if one.accrued is not None and one.accrued.rate_bps is not None:
        return [("the plain rate", percent(one.accrued.rate_bps))]
    return [("the flat amount", f"{money.major_units(one.commission, one.currency)} {one.currency}")]


def _said(paid: Sequence[tuple[str, str]], verb: str) -> str:
    return " and ".join(f"{who}{verb}{price}" for who, price in paid)


def _price(rule: PricedRule, one: Commission) -> str:
    if rule.tier is not None and (step := one.steps.get(rule.rule, rule.tier.step)) != rule.tier.step:
        return f"by tier {step + 1}"  # which was reached later
    if rule.rate_bps is not None:
        return percent(rule.rate_bps)
    each = ((rule.flat_amount, ""), (rule.amount_per_item, " an item"), (rule.amount_per_click, " a click"))
    for amount, of in each:
        if amount is not None:
            return f"{money.major_units(amount, one.currency)} {one.currency}{of}"
    return "by tiers"


def _pricing(one: Commission) -> Pricing:
    return one.accrued.pricing if one.accrued is not None and one.accrued.pricing is not None else _SIMPLE


def _limits(pricing: Pricing) -> str:
    """The caps that left less than was asked."""
    return ", ".join(reading.cap for reading in pricing.caps if reading.given < reading.asked)


def _ids(pricing: Pricing) -> list[str]:
    return [rule.rule for rule in pricing.rules]


def _tiers(one: Commission) -> str:
    return ", ".join(f"tier {step + 1} of rule {rule}" for rule, step in one.steps.items()) or "no tier"
