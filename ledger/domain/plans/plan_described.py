"""What each member of a plan means, for editors that know its JSON Schema. docs/plans.md says it at length."""

from __future__ import annotations

from typing import Any

_MONEY = "minor units of the plan's currency: 500 is 5.00 EUR"
_RATE = "basis points: 500 is 5 %, 1250 is 12.5 %"
_PERIOD = "in which it counts, by the program's calendar; total: since the beginning"
_NAME = "unique name: lower case, digits, _ and -; at most 40 characters"
_KEEP = "keep: what was earned stays when reversals undo it; take_back: it is taken back"
_LIST = "one of these must be met"
_AS_IN_PLAN = "for these affiliates in place of the plan's; left out: as in the plan"

DESCRIPTIONS: dict[str, dict[str, str]] = {
    "Plan": {
        "plan": "the version of this format",
        "rules": "what is paid for: each line of a sale earns by one of them",
        "currency": "of all commissions and amounts (ISO 4217); without it: each sale's own, and no amounts of money",
        "match": "first: a line earns by the first rule that fits; best: by the one that pays most for it",
        "attribution": "who is credited; default: the last click",
        "min_amount": f"the least that a conversion earns, where it earns anything; {_MONEY}",
        "max_amount": f"the most that a conversion earns; {_MONEY}",
        "recurring": "which of a customer's sales pay; default: all of them",
        "caps": "limits of what is paid",
        "goals": "targets that earn a bonus",
        "second_level": "what the recruiter of a credited affiliate earns",
        "overrides": "what is otherwise for some affiliates or groups; the first that names an affiliate counts",
    },
    "Rule": {"id": _NAME, "pay": "exactly one way to pay", "when": "conditions, all must hold; none: always"},
    "Pay": {
        "rate_bps": f"of the lines' amount; {_RATE}",
        "amount": f"once a conversion; {_MONEY}",
        "amount_per_item": f"for each item; {_MONEY}",
        "amount_per_click": f"for each click of a bundle (CPC); {_MONEY}",
        "tiers": "as the tier that is reached says",
    },
    "Tiers": {
        "by": "what is counted",
        "period": _PERIOD,
        "steps": "in rising order, the first from 0, all paying in the same way",
        "level": "whose conversions are counted: the affiliate's, or all of the offer",
        "method": "whole: the sale is paid by one tier; marginal: each part of it by the tier in which it lies",
        "retroactive": "whether a tier that is reached tops up the period's earlier conversions",
        "on_reversal": _KEEP,
    },
    "TierStep": {
        "from": "the value of the counter at which the tier begins: a number, or minor units of revenue or commission",
        "rate_bps": _RATE,
        "amount": f"once a conversion; {_MONEY}",
        "amount_per_item": f"for each item; {_MONEY}",
    },
    "When": {
        "sku": f"of a line: {_LIST}",
        "product": f"of a line: {_LIST}",
        "category": f"of a line: {_LIST}",
        "country": f"two upper-case letters (ISO 3166) such as DE: {_LIST}",
        "channel": f"the sale's, else its click's: {_LIST}",
        "event": f"the conversion's event_id, such as lead: {_LIST}",
        "currency": f"the sale's (ISO 4217): {_LIST}",
        "coupon": f"{_LIST}; an empty list: any coupon",
        "customer": "whether an earlier sale to the customer on this offer is known",
    },
    "AttributionRules": {
        "model": "which touches of the customer's journey are credited",
        "weights": "of the first, the middle and the last touch (position_based): whole numbers such as 40, 20, 40",
        "spread": "whether the middle weight is shared by the touches between, or by all (position_based)",
        "half_life_days": "days after which a touch counts half as much (time_decay)",
        "direct_channels": "channels that are passed over (last_non_direct)",
        "view_window_days": "days for which impressions count where there is no click; 0: they do not",
        "otherwise": "the model where there is no coupon, or no first sale (coupon_wins, lifetime)",
    },
    "Recurring": {
        "sales": "all of a customer's sales pay, or the first only",
        "months": "sales pay until so many months after the customer's first sale",
    },
    "Cap": {
        "id": _NAME,
        "level": "of each affiliate, or of the offer as a whole",
        "by": "what is limited",
        "period": _PERIOD,
        "limit": "a number, or minor units of commission",
        "over": "unpaid: what does not fit whole earns nothing; clamp: it earns what fits",
        "reversals_free_room": "whether what is reversed may be used again",
    },
    "Goal": {
        "id": _NAME,
        "by": "what is counted, of each affiliate",
        "period": _PERIOD,
        "target": "a number, or minor units of revenue or commission",
        "bonus_amount": f"earned once a period; 0: progress is only shown; {_MONEY}",
        "on_reversal": _KEEP,
    },
    "SecondLevel": {"rate_bps": _RATE, "of": "the credited affiliate's commission, or its part of the sale"},
    "Override": {
        "id": _NAME,
        "affiliates": "ids of those whom it is for",
        "groups": "names of groups whom it is for",
        "rules": f"all rules {_AS_IN_PLAN}",
        "min_amount": f"{_AS_IN_PLAN}; null: none; {_MONEY}",
        "max_amount": f"{_AS_IN_PLAN}; null: none; {_MONEY}",
        "recurring": _AS_IN_PLAN,
        "second_level": f"{_AS_IN_PLAN}; null: none",
        "goals": f"all goals {_AS_IN_PLAN}",
    },
}


def describe(schema: dict[str, Any]) -> None:
    """Write the descriptions into a plan's JSON Schema. Raises KeyError for a member that nobody described."""
    for name, struct in schema["$defs"].items():
        for member, said in struct["properties"].items():
            said["description"] = DESCRIPTIONS[name][member]
