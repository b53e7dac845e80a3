"""Why a commission would be another: one reason for each, from what both were priced by."""

from __future__ import annotations

from ledger.domain.conversion import RESERVED_PREFIX
from ledger.domain.conversion_state import Commission
from ledger.domain.evidence import Pricing
from ledger.simulating.kept import Kept

REASONS = (
    "attribution", "rule_or_rate", "tier", "cap", "recurring", "bound", "goal", "second_level", "exchange_rate",
    "unattributed",
)  # fmt: skip
_SIMPLE = Pricing()


def why(one: Kept, was: Commission | None, would: Commission | None) -> tuple[str, str]:
    """(reason, the same in words) for one affiliate's commission on an order; one of both may be missing."""
    sale = one.was.recorded or one.would.recorded
    assert sale is not None
    if sale.order_id.startswith(f"{RESERVED_PREFIX}goal-"):
        if was is not None and would is not None:
            return "goal", "the goal's bonus is another"
        return "goal", "the goal would be reached" if was is None else "the goal would not be reached"
    known = was or would
    if known is not None and known.level > 1:
        return "second_level", "what an affiliate that it recruited earns"
    if was is None or would is None:
        return _only_one(one, was, would)
    return _both(was, would)


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


def _both(was: Commission, would: Commission) -> tuple[str, str]:
    old, new = _pricing(was), _pricing(would)
    # of a commission that an earlier simulation made, only the figures are known
    if was.credited_amount != would.credited_amount or (was.accrued is not None and old.weight != new.weight):
        return "attribution", f"is credited with {would.credited_amount} instead of {was.credited_amount} of the sale"
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
        return "tier", f"tier {_tiers(would)} instead of {_tiers(was)}"
    names = [", ".join(_ids(one)) or "the terms" for one in (new, old)]
    same = names[0] == names[1]
    return "rule_or_rate", "the same rule pays otherwise" if same else f"paid by {names[0]} instead of {names[1]}"


def _pricing(one: Commission) -> Pricing:
    return one.accrued.pricing if one.accrued is not None and one.accrued.pricing is not None else _SIMPLE


def _limits(pricing: Pricing) -> str:
    """The caps that left less than was asked."""
    return ", ".join(reading.cap for reading in pricing.caps if reading.given < reading.asked)


def _ids(pricing: Pricing) -> list[str]:
    return [rule.rule for rule in pricing.rules]


def _tiers(one: Commission) -> str:
    return ", ".join(f"{step + 1} of {rule}" for rule, step in one.steps.items()) or "none"
