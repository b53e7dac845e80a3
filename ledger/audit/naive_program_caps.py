"""Caps and the second level of one sale, for the model of a whole program: see naive_program.py."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from ledger.audit.naive_plans import BPS, half_up
from ledger.audit.naive_program_evidence import Expected
from ledger.audit.naive_program_facts import NaiveFacts
from ledger.audit.naive_program_orders import Counters, Order, Part, Plans

State = dict[str, Any]


class Asking(NamedTuple):
    """A sale that asks caps, and what they stand at."""

    order: Order
    plan: State
    counters: Counters
    plans: Plans
    facts: NaiveFacts

    def room(self, cap: State, affiliate_id: str) -> int:
        """What earlier sales left of a cap; below zero where a later version of it has a lower limit."""
        counter = self.plans.counter(self.order, affiliate_id, cap, self.facts.zone)
        return int(cap["limit"]) - self.counters.used(counter, cap)

    def reading(self, cap: State, room: int, asked: int, given: int) -> State:
        """As it stands in evidence."""
        name = self.plans.label(cap["level"], cap["period"], self.order.instant, self.facts.zone)
        said = {"cap": cap["id"], "by": cap["by"], "counter": name}
        return {**said, "room": room, "asked": asked, "given": given}


def limited(asking: Asking, shares: Sequence[Expected]) -> None:
    """Each commission by itself, in the order of the touches: every cap in the plan's order, of what the one before
    left. A conversion takes the room of a cap by conversions once for the offer."""
    said: dict[str, bool] = {}
    for number, share in enumerate(shares):
        part = share.part
        part.clicks = asking.order.clicks if number == 0 and part.given else 0
        for cap in asking.plan.get("caps", []):
            if part.given and (cap["by"] != "clicks" or part.clicks):
                _ask(asking, cap, shares[:number], share, said)


def _ask(asking: Asking, cap: State, before: Sequence[Expected], share: Expected, said: dict[str, bool]) -> None:
    part = share.part
    if cap["by"] == "conversions" and cap["level"] == "offer" and cap["id"] in said:
        if not said[cap["id"]]:
            share.caps.append(asking.reading(cap, 0, 1, 0))
            _unpaid(part, cap)
        return
    asked = {"commission": part.given, "clicks": part.clicks, "conversions": 1}[cap["by"]]
    room = asking.room(cap, part.affiliate_id)
    if cap["by"] == "commission":
        # of the affiliate's own counter nobody else has taken anything
        room = max(0, room) - (sum(one.part.given for one in before) if cap["level"] == "offer" else 0)
    room = max(0, room)
    clamps = cap.get("over", "unpaid") == "clamp" and cap["by"] != "conversions"
    given = asked if asked <= room else (room if clamps else 0)
    share.caps.append(asking.reading(cap, room, asked, given))
    said[cap["id"]] = given > 0
    if not given:
        _unpaid(part, cap)
    elif given < asked and cap["by"] == "clicks":
        part.given, part.clicks = half_up(Fraction(part.given * given, asked)), given
    elif given < asked:
        part.given = given


def _unpaid(part: Part, cap: State) -> None:
    part.given = part.clicks = 0
    part.unpaid = f"cap:{cap['id']}"


def second_level(asking: Asking, shares: Sequence[Expected]) -> list[Expected]:
    """What recruiters earn, once: top-ups of whom they recruited are none of theirs."""
    order, facts = asking.order, asking.facts
    due: dict[str, list[tuple[int, int]]] = {}
    for share in shares:
        part, rule = share.part, share.part.own.get("second_level")
        recruiter = facts.recruiter_at(part.affiliate_id, order.instant)
        if rule is not None and recruiter and part.given:
            base = part.given if rule.get("of", "commission") == "commission" else part.value
            due.setdefault(recruiter, []).append((base, rule["rate_bps"]))
    spent = sum(share.part.given for share in shares)
    found = []
    caps = [cap for cap in asking.plan.get("caps", []) if (cap["level"], cap["by"]) == ("offer", "commission")]
    for recruiter, bases in due.items():
        exact = Fraction(sum(base * bps for base, bps in bases), BPS)
        if not facts.can_earn(recruiter) or not exact:
            continue
        part = Part(recruiter, 2, {})
        part.exact, part.given = exact, half_up(exact)
        counted = sorted({cap["period"] for cap in caps})
        some = [{"level": "offer", "period": period} for period in counted]
        part.counted = sorted(asking.plans.counter(order, "", one, facts.zone) for one in some)
        second = Expected(part, order)
        second.second_level_of = sum(base for base, _ in bases)
        rates = {bps for _, bps in bases}
        second.rate_bps = rates.pop() if len(rates) == 1 else None
        second.model, second.rate = shares[0].model, shares[0].rate
        for cap in caps:
            _ask_second(asking, cap, spent, second)
            if not part.given:
                break
        spent += part.given
        part.first = part.used = part.given
        found.append(second)
    return found


def _ask_second(asking: Asking, cap: State, spent: int, second: Expected) -> None:
    part = second.part
    room, asked = max(0, asking.room(cap, "") - spent), part.given
    clamps = cap.get("over", "unpaid") == "clamp"
    given = asked if asked <= room else (room if clamps else 0)
    second.caps.append(asking.reading(cap, room, asked, given))
    if not given:
        _unpaid(part, cap)
    part.given = given
