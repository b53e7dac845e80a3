"""Whether a document is a plan: every mistake at once, each with a JSON pointer and what would be right.

First the shape (types, names, ranges: what the JSON Schema says, too), then what no schema can say: members that
contradict each other, rules that could never be reached, and members that would do nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from ledger.domain.money import EXPONENTS
from ledger.domain.plans import plan, plan_described, plan_hints
from ledger.domain.plans.plan_shape import BAD, Mistake, fitted, inside

SIZE_MAX = 256 * 1024  # bytes, of the canonical form
TEXT_MAX = 512 * 1024  # bytes, as it is written, with white space
MISTAKES_MOST = 1000
BEST_RULES_MOST = 100  # of a list, where every line of a sale is priced by each of its rules
SCHEMA_ID = "urn:commission-ledger:plan:1"

_PAYS = ("rate_bps", "amount", "amount_per_item", "amount_per_click", "tiers")
_STEP_PAYS = ("rate_bps", "amount", "amount_per_item")
_LISTS = ("sku", "product", "category", "country", "channel", "event", "currency", "coupon")
WITH_OTHERWISE = ("coupon_wins", "lifetime")
# member of attribution → by which model alone it is read
READ_BY = {
    "weights": "position_based",
    "spread": "position_based",
    "half_life_days": "time_decay",
    "direct_channels": "last_non_direct",
}

Found = Iterator[Mistake]


def mistakes(document: Any) -> list[Mistake]:
    """Every mistake of a document, in the order of their pointers; none: it may be published. Of one that is too large
    only that is said, and of one with many mistakes the MISTAKES_MOST that are found first.

    document: as JSON is decoded, with its integers as int.
    """
    # the size first: whoever may ask must not keep us busy with a document that could not be published anyway
    if _is_too_large(document):
        return [Mistake("", f"must be at most {SIZE_MAX:,} bytes without white space")]
    if other := plan_hints.not_a_plan(document):
        return [Mistake("", other)]
    found: list[Mistake] = []
    checked = fitted(document, plan.Plan, found, MISTAKES_MOST)
    found = list(plan_hints.with_hints(found, document))
    if checked is not BAD:
        found.extend(islice(_contradictions(checked), MISTAKES_MOST - len(found)))
    return sorted(found, key=_place)


def _is_too_large(document: Any) -> bool:
    try:
        return len(msgspec.json.encode(document)) > SIZE_MAX
    except (OverflowError, ValueError, RecursionError):
        # a number beyond 64 bits, half a character, endless nesting: no plan has those, and the shape says where
        return False


def schema() -> dict[str, Any]:
    """The plan's JSON Schema (2020-12): its shape. It takes 1.0 for 1, as JSON Schema does everywhere; plans do not."""
    made = msgspec.json.schema(plan.Plan)
    plan_described.describe(made)
    few = {"rules": {"maxItems": BEST_RULES_MOST}}
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Commission plan",
        "if": {"properties": {"match": {"const": "best"}}, "required": ["match"]},
        "then": {"properties": {**few, "overrides": {"items": {"properties": few}}}},
    }
    return about | made


def _place(mistake: Mistake) -> list[tuple[int, str]]:
    """Items in the order of their numbers, not of their digits."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in mistake.pointer.split("/")]


# --- looking at what may be wrong or missing -----------------------------------------------------------------


def _obj(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _int(value: Any) -> int | None:
    return value if type(value) is int else None


def _each(owner: Any, member: str, pointer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(pointer, object) of a list of objects; those that are none are left out."""
    for number, one in enumerate(_list(_obj(owner).get(member))):
        if isinstance(one, dict):
            yield inside(inside(pointer, member), number), one


def _said(owner: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Which members are given. One that is wrong was meant to be."""
    return [name for name in names if owner.get(name) is not None]


def _contradictions(document: dict[str, Any]) -> Found:
    yield from _attribution(_obj(document.get("attribution")))
    yield from _terms(document, document, "")
    yield from _ids(document, "caps", "")
    for pointer, cap in _each(document, "caps"):
        if (cap.get("by"), cap.get("over")) == ("conversions", "clamp"):
            detail = "is for caps by commission or clicks: a conversion is paid as one, or not at all"
            yield Mistake(inside(pointer, "over"), detail)
    yield from _ids(document, "overrides", "")
    named: dict[tuple[str, str], str] = {}
    for pointer, override in _each(document, "overrides"):
        yield from _names(override, pointer, named)
        yield from _terms(override, document, pointer)
    yield from _currencies(document)


def _terms(owner: dict[str, Any], document: dict[str, Any], pointer: str) -> Found:
    """What a plan and an override have in common."""
    yield from _ids(owner, "rules", pointer)
    yield from _ids(owner, "goals", pointer)
    for at, rule in _each(owner, "rules", pointer):
        yield from _when(_obj(rule.get("when")), inside(at, "when"))
        if isinstance(rule.get("pay"), dict):
            yield from _pay(rule["pay"], inside(at, "pay"))
    if document.get("match", "first") == "first":
        yield from _unreachable(owner, pointer)
    elif (count := len(_list(owner.get("rules")))) > BEST_RULES_MOST and document["match"] == "best":
        detail = f'must have at most {BEST_RULES_MOST} items where match is "best", it has {count:,}'
        yield Mistake(inside(pointer, "rules"), detail)
    yield from _bounds(owner, document, pointer)
    recurring = owner.get("recurring")
    if isinstance(recurring, dict) and len(_said(recurring, ("sales", "months"))) != 1:
        yield Mistake(inside(pointer, "recurring"), "must have either sales or months")


def _ids(owner: dict[str, Any], member: str, pointer: str) -> Found:
    seen: dict[str, str] = {}
    for at, one in _each(owner, member, pointer):
        name = one.get("id")
        if isinstance(name, str) and seen.setdefault(name, at) != at:
            yield Mistake(inside(at, "id"), f'must differ from the others: "{name}" is the id of {seen[name]}')


def _bounds(owner: dict[str, Any], document: dict[str, Any], pointer: str) -> Found:
    """The minimum may not lie above the maximum, wherever the two come from."""
    own = [name for name in ("min_amount", "max_amount") if name in owner]
    if not own:
        return
    least, most = (_int((owner if name in owner else document).get(name)) for name in ("min_amount", "max_amount"))
    if least is not None and most is not None and least > most:
        where = "" if len(own) == 2 or not pointer else " of the plan"
        other, value = ("max_amount", most) if own[0] == "min_amount" else ("min_amount", least)
        relation = "at most" if other == "max_amount" else "at least"
        yield Mistake(inside(pointer, own[0]), f"must be {relation} {other}{where}, which is {value}")


# --- who is credited -----------------------------------------------------------------------------------------


def _attribution(said: dict[str, Any]) -> Found:
    at = "/attribution"
    model = said.get("model", "last_click")
    if model is BAD:
        return
    if "otherwise" in said and model not in WITH_OTHERWISE:
        yield Mistake(inside(at, "otherwise"), f"does nothing: only {' and '.join(WITH_OTHERWISE)} fall back to it")
    used = said.get("otherwise", "last_click") if model in WITH_OTHERWISE else model
    for member, reader in READ_BY.items():
        if member in said and used is not BAD and used != reader:
            yield Mistake(inside(at, member), f"does nothing: only the model {reader} reads it, not {used}")
    weights = _list(said.get("weights"))
    if weights and all(_int(one) == 0 for one in weights):
        yield Mistake(inside(at, "weights"), "must not all be 0")
    yield from _texts(said, "direct_channels", at)


def _texts(owner: dict[str, Any], member: str, pointer: str) -> Found:
    """What ids are compared with is kept as ids are: printable and in one form."""
    for number, one in enumerate(_list(owner.get(member))):
        if not isinstance(one, str) or (one.isascii() and one.isprintable()):
            continue
        at = inside(inside(pointer, member), number)
        if not one.isprintable():
            yield Mistake(at, "must be printable characters")
        elif unicodedata.normalize("NFC", one) != one:
            yield Mistake(at, "must be in Unicode's composed form (NFC), in which ids are kept")


# --- rules -----------------------------------------------------------------------------------------------------


def _when(when: dict[str, Any], pointer: str) -> Found:
    for member in _LISTS:
        if when.get(member) == [] and member != "coupon":
            yield Mistake(inside(pointer, member), "must have at least one item: an empty list can never be met")
        yield from _texts(when, member, pointer)
    for number, one in enumerate(_list(when.get("currency"))):
        if isinstance(one, str) and one not in EXPONENTS:
            at = inside(inside(pointer, "currency"), number)
            yield Mistake(at, "must be an ISO 4217 currency code such as EUR")
    for number, one in enumerate(_list(when.get("country"))):
        if isinstance(one, str) and (wrong := plan_hints.country(one)):
            yield Mistake(inside(inside(pointer, "country"), number), wrong)


def _unreachable(owner: dict[str, Any], pointer: str) -> Found:
    last = ""
    for at, rule in _each(owner, "rules", pointer):
        if last:
            yield Mistake(at, f"can never be reached: {last} has no conditions, so it must stand last")
        elif isinstance(rule.get("when", {}), dict) and not _said(_obj(rule.get("when")), (*_LISTS, "customer")):
            last = at


def _pay(pay: dict[str, Any], pointer: str) -> Found:
    if wrong := _not_one(pay, _PAYS):
        yield Mistake(pointer, wrong)
    if isinstance(pay.get("tiers"), dict):
        yield from _tiers(pay["tiers"], inside(pointer, "tiers"))


def _not_one(owner: dict[str, Any], names: tuple[str, ...]) -> str:
    said = _said(owner, names)
    if len(said) == 1:
        return ""
    return f"must have exactly one of {', '.join(names)}; it has {' and '.join(said) or 'none'}"


def _tiers(tiers: dict[str, Any], pointer: str) -> Found:
    yield from _steps(tiers, inside(pointer, "steps"))
    method, by = tiers.get("method", "whole"), tiers.get("by")
    if method == "marginal":
        if by in ("conversions", "commission"):
            yield Mistake(inside(pointer, "by"), 'must be "revenue" where method is "marginal"')
        for at, step in _each(tiers, "steps", pointer):
            for name in _said(step, ("amount", "amount_per_item")):
                yield Mistake(inside(at, name), 'must be rate_bps where method is "marginal"')
    if tiers.get("retroactive") is True:
        if method == "marginal":
            yield Mistake(inside(pointer, "retroactive"), 'goes with the method "whole" only')
        if by == "commission":
            yield Mistake(
                inside(pointer, "retroactive"), "cannot be with tiers by commission: top-ups would feed on themselves"
            )
    elif tiers.get("on_reversal") == "take_back" and tiers.get("retroactive") is not BAD:
        yield Mistake(inside(pointer, "on_reversal"), "does nothing: only retroactive tiers are taken back")


def _steps(tiers: dict[str, Any], pointer: str) -> Found:
    before: int | None = None
    kind = ""
    for number, step in enumerate(_list(tiers.get("steps"))):
        if not isinstance(step, dict):
            continue
        at = inside(pointer, number)
        start = _int(step.get("from"))
        if number == 0 and start:
            yield Mistake(inside(at, "from"), "must be 0 in the first step")
        elif start is not None and before is not None and start <= before:
            yield Mistake(inside(at, "from"), f"must be above {before}, where the step before begins")
        before = before if start is None else start
        if wrong := _not_one(step, _STEP_PAYS):
            yield Mistake(at, wrong)
            continue
        (said,) = _said(step, _STEP_PAYS)
        kind = kind or said
        if said != kind:
            yield Mistake(inside(at, said), f"must be {kind}, in which the steps before pay")


# --- overrides -------------------------------------------------------------------------------------------------


def _names(override: dict[str, Any], pointer: str, named: dict[tuple[str, str], str]) -> Found:
    """named: whom earlier overrides name → the first of them; added to."""
    lists = [override.get(member, []) for member in ("affiliates", "groups")]
    if not any(lists):
        yield Mistake(pointer, "must name whom it is for: affiliates or groups")
    for member in ("affiliates", "groups"):
        for number, name in enumerate(_list(override.get(member))):
            if not isinstance(name, str):
                continue
            at = inside(inside(pointer, member), number)
            first = named.setdefault((member, name), at)
            if first != at:
                yield Mistake(at, f'does nothing: "{name}" is named at {first} already, and the first counts')


# --- money -----------------------------------------------------------------------------------------------------


def _currencies(document: dict[str, Any]) -> Found:
    said = document.get("currency")
    if isinstance(said, str) and said not in EXPONENTS:
        yield Mistake("/currency", "must be an ISO 4217 currency code such as EUR")
    if said is not None:
        return
    for at in _money(document, ""):
        yield Mistake(at, "is money: the plan must name its currency")
    for pointer, cap in _each(document, "caps"):
        if cap.get("by") == "commission":
            yield Mistake(inside(pointer, "by"), "limits money: the plan must name its currency")


def _money(document: dict[str, Any], pointer: str) -> Iterator[str]:
    """The pointers of what is an amount of money, in a plan and its overrides."""
    for name in ("min_amount", "max_amount"):
        if document.get(name) is not None:
            yield inside(pointer, name)
    for at, rule in _each(document, "rules", pointer):
        pay, here = _obj(rule.get("pay")), inside(at, "pay")
        yield from (inside(here, name) for name in _said(pay, _PAYS[1:4]))
        tiers = _obj(pay.get("tiers"))
        if tiers.get("by") in ("revenue", "commission"):
            yield inside(inside(here, "tiers"), "by")
        for step_at, step in _each(tiers, "steps", inside(here, "tiers")):
            yield from (inside(step_at, name) for name in _said(step, _STEP_PAYS[1:]))
    for at, goal in _each(document, "goals", pointer):
        if goal.get("by") in ("revenue", "commission"):
            yield inside(at, "by")
        if goal.get("bonus_amount"):
            yield inside(at, "bonus_amount")
    for at, override in _each(document, "overrides", pointer):
        yield from _money(override, at)
