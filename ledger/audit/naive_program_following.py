"""What follows once counters moved, by the model of a whole program (naive_program.py): retroactive tiers that are
reached or lost, and goals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Any

from ledger.audit import naive_plans as plans
from ledger.audit.naive_counters import Counter
from ledger.audit.naive_plans import half_up, step_at
from ledger.audit.naive_program_evidence import is_kind
from ledger.audit.naive_program_facts import NaiveFacts
from ledger.audit.naive_program_orders import Bonus, Counters, Order, Part, Plans

State = dict[str, Any]
Effective = Callable[[State, str, str], tuple[State, str]]
Follows = tuple[str, State]  # topic, what its event says


class _Awarded:
    """The last bonus of a goal in a period. is_open: it is still owed; is_lost: the goal itself took it back; version,
    override: that awarded it, None where a simulation did."""

    __slots__ = ("amount", "attempt", "goal", "is_lost", "is_open", "order_id", "override", "version", "which")

    def __init__(self, which: Bonus, goal: State, attempt: int, version: int | None, override: str) -> None:
        self.which, self.goal, self.attempt, self.version, self.override = which, goal, attempt, version, override
        self.amount, self.is_open, self.is_lost = goal.get("bonus_amount", 0), True, False
        self.order_id = order_id_of(which, attempt)


def order_id_of(which: Bonus, attempt: int) -> str:
    """The id of a bonus."""
    period = which.label.partition("/")[2]
    whole = "\n".join((which.offer_id, which.affiliate_id, which.goal, period, which.currency))
    again = f"-{attempt}" if attempt > 1 else ""
    return f"~goal-{which.goal}-{period}-{sha256(whole.encode()).hexdigest()[:16]}{again}"


class Following:
    """What a command leads to beyond itself."""

    def __init__(self, facts: NaiveFacts, counters: Counters, labels: Plans, effective: Effective) -> None:
        self._facts, self._counters, self._plans, self._effective = facts, counters, labels, effective
        self._bonuses: dict[Bonus, _Awarded] = {}
        self._by_counter: dict[Counter, dict[Bonus, _Awarded]] = defaultdict(dict)
        self._by_order: dict[str, _Awarded] = {}
        self._simulated: set[str] = set()

    def bonuses(self) -> dict[Bonus, int]:
        """What goals earned; 0 for one that was taken back and not reached again."""
        return {which: one.amount if one.is_open else 0 for which, one in self._bonuses.items()}

    def changed(self, topic: str, e: State) -> None:
        """What people or simulations did to a bonus."""
        one = self._by_order.get(e["order_id"])
        if one is None:
            if topic == "CommissionRepriced":
                self._simulated.add(e["order_id"])
        elif topic == "CommissionRepriced":
            one.amount = e["commission"]
        elif topic in ("ConversionReversed", "ConversionRejected"):
            one.is_open = False

    def after(self, accrued: Sequence[Order]) -> Iterator[Follows]:
        """The events, in order; each is taken as soon as it is told."""
        for counter in list(self._counters.before):
            yield from self._retier(counter, accrued)
        for counter in list(self._counters.before):
            if counter.affiliate_id and counter in self._counters.sources:
                yield from self._goals(counter)

    # --- retroactive tiers -------------------------------------------------------------------------------

    def _tables(self, counter: Counter) -> Iterator[State]:
        """The retroactive tables of any version of the terms that go by a counter."""
        level = "affiliate" if counter.affiliate_id else "offer"
        for terms in self._facts.terms(counter.offer_id):
            plan = terms.get("plan", {})
            for one in (plan, *plan.get("overrides", [])):
                for rule in one.get("rules", []):
                    tiers = rule["pay"].get("tiers", {})
                    of_level = tiers.get("retroactive") and tiers.get("level", "affiliate") == level
                    if of_level and is_kind(counter.label, tiers["period"]):
                        yield tiers

    def _retier(self, counter: Counter, accrued: Sequence[Order]) -> Iterator[Follows]:
        counters = self._counters
        followers = counters.followers(counter)
        if not followers:
            return
        moved = any(
            step_at(one, counters.stood(counter, one["by"])) != step_at(one, counters.stands(counter, one["by"]))
            for one in self._tables(counter)
        )
        some = followers if moved else [order for order in accrued if counter in order.stands]
        # the oldest first, however they came in: a cap may leave room for some of them only
        for order in sorted({one.order_id: one for one in some}.values(), key=lambda one: (one.instant, one.order_id)):
            for part in order.parts:
                if part.level == 1 and not part.is_new and counter in part.counted:
                    yield from self._retier_part(counter, order, part)

    def _retier_part(self, counter: Counter, order: Order, part: Part) -> Iterator[Follows]:
        if part.unpaid or part.rejected or order.gone:
            return
        earns = self._facts.can_earn(part.affiliate_id)  # who is closed earns nothing new
        tables = {rule["id"]: rule["pay"].get("tiers", {}) for rule in part.own["rules"]}
        moved = []
        for rule in part.rules:
            tiers = tables[rule.rule]
            if not tiers.get("retroactive") or not rule.reading:
                continue
            if self._plans.counter(order, part.affiliate_id, tiers, self._facts.zone) != counter:
                continue
            counted = self._counters.stands(counter, tiers["by"])
            now, was = step_at(tiers, counted), part.steps[rule.rule]
            if (now > was and earns) or (now < was and tiers.get("on_reversal", "keep") == "take_back"):
                moved.append((rule.rule, now, "tier_reached" if now > was else "tier_lost", counted))
        for rule_id, step, cause, counted in moved:
            told = self._reprice(order, part, rule_id, step)
            if told is not None:
                yield (
                    "CommissionRepriced",
                    {
                        "order_id": order.order_id,
                        "affiliate_id": part.affiliate_id,
                        **told,
                        "currency": order.currency,
                        "cause": cause,
                        "rule": rule_id,
                        "step": step,
                        "counter": counter.label,
                        "counted": counted,
                    },
                )

    def _reprice(self, order: Order, part: Part, rule_id: str, step: int) -> State | None:
        """What a commission is by another step, None where nothing moves."""
        steps, exact = {**part.steps, rule_id: step}, Fraction(0)
        tables = {rule["id"]: rule["pay"].get("tiers") for rule in part.own["rules"]}
        for one in part.rules:
            tiers = tables[one.rule]
            if tiers is None or tiers.get("method", "whole") == "marginal":
                exact += one.exact
            else:
                exact += plans.earned(tiers["steps"][steps[one.rule]], one.amount * order.factor, one.quantity, 0)
        exact, _ = plans.bounded(part.own, exact)
        commission, cap = half_up(exact * part.weight), ""
        if commission > part.given:
            commission, cap = self._fitting(order, part, commission)
        if commission == part.given and not cap:
            return None
        amount = order.left_of(commission) - order.left_of(part.given)
        part.steps = steps
        part.given, part.used = commission, part.used + amount
        self._counters.count(order)
        return {"amount": amount, "commission": commission, "cap": cap}

    def _fitting(self, order: Order, part: Part, commission: int) -> tuple[int, str]:
        """What of a commission the caps by commission let through, and the last one that limited it."""
        limiting = ""
        for cap in part.own.get("caps", []):
            if cap["by"] != "commission":
                continue
            counter = self._plans.counter(order, part.affiliate_id, cap, self._facts.zone)
            room = max(0, cap["limit"] - self._counters.used(counter, cap))
            if commission - part.given > room:
                limiting = cap["id"]
                commission = part.given + (room if cap.get("over", "unpaid") == "clamp" else 0)
        return commission, limiting

    # --- goals -------------------------------------------------------------------------------------------

    def _goals(self, counter: Counter) -> Iterator[Follows]:
        order, part = self._counters.sources[counter]
        for goal in part.own.get("goals", []):
            if not is_kind(counter.label, goal["period"]) or not goal.get("bonus_amount", 0):
                continue
            was, now = self._counters.stood(counter, goal["by"]), self._counters.stands(counter, goal["by"])
            if now >= goal["target"] and now > was:
                yield from self._award(goal, counter, order, part, (was, now))
        for one in self._by_counter.get(counter, {}).values():
            yield from self._lost(counter, one)

    def _award(
        self, goal: State, counter: Counter, order: Order, part: Part, stood: tuple[int, int]
    ) -> Iterator[Follows]:
        which = Bonus(counter.offer_id, counter.affiliate_id, goal["id"], counter.label, counter.currency)
        last = self._bonuses.get(which)
        if not self._facts.can_earn(which.affiliate_id) or (last is not None and not last.is_lost):
            return
        one = _Awarded(which, goal, last.attempt + 1 if last is not None else 1, order.terms_version, part.override)
        if one.order_id in self._simulated:
            return
        self._bonuses[which] = self._by_order[one.order_id] = self._by_counter[counter][which] = one
        occurred_at = order.instant.isoformat()
        yield (
            "ConversionRecorded",
            {
                "order_id": one.order_id,
                "offer_id": which.offer_id,
                "amount": 0,
                "currency": which.currency,
                "occurred_at": occurred_at,
                "affiliate_id": which.affiliate_id,
                "event_id": "goal",
            },
        )
        tier: State = {"by": goal["by"], "counter": counter.label, "before": stood[0], "after": stood[1]}
        rule: State = {"rule": f"goal:{goal['id']}", "amount": 0, "exact": str(one.amount), "flat_amount": one.amount}
        pricing: State = {"rules": [{**rule, "tier": {**tier, "step_before": 0, "step": 0}}], "exact": str(one.amount)}
        if part.override:
            pricing["override"] = part.override
        said: State = {"order_id": one.order_id, "affiliate_id": which.affiliate_id, "offer_id": which.offer_id}
        said |= {"amount": one.amount, "currency": which.currency, "sale_amount": 0, "occurred_at": occurred_at}
        yield "CommissionAccrued", {**said, "terms_version": order.terms_version, "pricing": pricing}

    def _lost(self, counter: Counter, one: _Awarded) -> Iterator[Follows]:
        goal = one.goal
        was, now = self._counters.stood(counter, goal["by"]), self._counters.stands(counter, goal["by"])
        if goal.get("on_reversal", "keep") != "take_back" or not one.is_open or not now < goal["target"] <= was:
            return
        one.is_open, one.is_lost = False, True
        said = {"order_id": one.order_id, "affiliate_id": one.which.affiliate_id, "amount": one.amount}
        yield "ConversionReversed", {**said, "reversal_id": f"{one.order_id}-lost", "currency": one.which.currency}
