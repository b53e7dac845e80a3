"""An independent, deliberately naive model of a whole program under commission plans (docs/plans.md): fed with a log's
facts, it says what every order earns. Everything is kept, and every counter is counted anew from all orders each time.

When an order was decided, and up to where the traffic log was seen, is taken from the log; nothing else of the engine's
answers is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any, NamedTuple

from naive_facts import NaiveFacts

from ledger.audit import naive_plans as plans
from ledger.audit.naive_counters import Counter, counter_of, label, labels
from ledger.audit.naive_plans import Asked, Paid, at, half_up, largest_remainder, step_at

State = dict[str, Any]
OURS = ("~goal-",)  # orders that the engine makes, and this model foresees
DECIDED = ("ConversionAttributed", "CommissionAccrued", "ConversionUnattributed")
BY = ("conversions", "revenue", "commission")


@dataclass
class Part:
    """One credited affiliate's part of an order. nominal: before caps; given: accrued; used: of caps by commission, 0
    until all caps were asked."""

    affiliate_id: str
    own: State
    weight: Fraction
    credited: int
    value: int
    counted: list[Counter]
    rules: list[Paid]
    unpaid: str
    exact: Fraction
    nominal: int = 0
    given: int = 0
    used: int = 0
    clicks: int = 0
    capped: bool = False
    rejected: bool = False
    steps: dict[str, int] = field(default_factory=dict)


@dataclass
class Order:
    """A sale, and what became of it. second: by recruiter, what it earns."""

    fact: State
    position: int
    currency: str = ""
    factor: Fraction = Fraction(1)
    parts: list[Part] = field(default_factory=list)
    second: dict[str, int] = field(default_factory=dict)
    second_used: int = 0
    decided: bool = False
    credited: list[str] = field(default_factory=list)
    reversals: set[str] = field(default_factory=set)
    reversed_amount: int = 0

    @property
    def instant(self) -> datetime:
        return at(self.fact["occurred_at"])

    @property
    def gone(self) -> bool:
        """All of it was reversed."""
        return bool(self.reversals) and self.reversed_amount == self.fact["amount"]

    def left_of(self, amount: int) -> int:
        """What reversals left of an amount."""
        if self.gone or not self.reversed_amount:
            return 0 if self.gone else amount
        return amount - half_up(Fraction(amount * self.reversed_amount, self.fact["amount"]))


class Bonus(NamedTuple):
    """A goal in one period."""

    offer_id: str
    affiliate_id: str
    goal: str
    label: str
    currency: str


class NaiveProgram:
    """The model. at_once: a sale is decided as it is recorded, with the traffic so far, as a test without an engine
    wants it."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.facts = NaiveFacts()
        self.orders: dict[str, Order] = {}
        self._bonuses: dict[Bonus, tuple[State, int]] = {}
        self._at_once, self._traffic_seen = at_once, 0

    # --- what goes in and out --------------------------------------------------------------------------------

    def feed(self, log: str, position: int, topic: str, e: State) -> None:
        """The next event of a log ('books' or 'traffic'), as JSON."""
        self.facts.feed(position, topic, e)
        if log == "traffic":
            self._traffic_seen = position
            return
        order_id = str(e.get("order_id", ""))
        if not order_id or order_id.startswith(OURS):
            return
        if topic == "ConversionRecorded":
            self.orders[order_id] = Order(e, position)
            if self._at_once:
                self._decide(self.orders[order_id], self._traffic_seen)
        order = self.orders.get(order_id)
        if order is None:
            return
        if topic in DECIDED and not order.decided:
            self._decide(order, e["traffic_position"])
        elif topic == "ConversionReversed" and e["reversal_id"] not in order.reversals:
            order.reversals.add(e["reversal_id"])
            order.reversed_amount += e["sale_amount"]
            self._settle([order])
        elif topic == "ConversionRejected":
            for part in order.parts:
                if e.get("level", 1) == 1 and part.affiliate_id == e["affiliate_id"] and not order.gone:
                    part.rejected = True
            self._settle([order])

    def commissions(self, order_id: str) -> dict[tuple[str, int], int]:
        """What is accrued for an order by (affiliate, level), with all top-ups so far, before reversals. Whom it is
        credited to without earning anything is there with 0; the second level only with more."""
        order = self.orders[order_id]
        found = {(part.affiliate_id, 1): part.given for part in order.parts}
        return found | {(who, 2): amount for who, amount in order.second.items() if amount}

    def outstanding(self, order_id: str) -> dict[str, int]:
        """By affiliate, what reversals and rejections left of the first level."""
        order = self.orders[order_id]
        return {part.affiliate_id: 0 if part.rejected else order.left_of(part.given) for part in order.parts}

    def bonuses(self) -> dict[Bonus, int]:
        """What goals earned; 0 for one that was taken back and not reached again."""
        return {which: amount for which, (_, amount) in self._bonuses.items()}

    # --- counting ------------------------------------------------------------------------------------------------

    def counted(self, counter: Counter, by: str) -> int:
        """Where a counter stands."""
        total = 0
        for order in self.orders.values():
            counting = [part for part in order.parts if counter in part.counted]
            if counting and not counter.affiliate_id:
                counting = order.parts  # once, and whole, for the offer
            alive = [part for part in counting if not part.rejected and not order.gone]
            if by == "conversions":
                total += 1 if alive else 0
            elif by == "revenue":
                total += sum(order.left_of(part.value) for part in alive)
            else:
                total += sum(order.left_of(part.given) for part in alive)
        return total

    def room(self, cap: State, counter: Counter) -> int:
        """What is left of a cap."""
        used, frees = 0, cap.get("reversals_free_room", False)
        for order in self.orders.values():
            parts = [part for part in order.parts if counter in part.counted]
            if frees:
                parts = [part for part in parts if not part.rejected and not order.gone]
            second = bool(parts) and self._caps_offer(order, counter)
            if cap["by"] == "conversions":
                used += 1 if any(part.used for part in parts) else 0
            elif cap["by"] == "clicks":
                used += sum(part.clicks for part in parts if part.used)
            elif frees:
                used += sum(order.left_of(part.given) for part in parts if part.used)
                used += sum(map(order.left_of, order.second.values())) if second else 0
            else:
                used += sum(part.used for part in parts)
                used += order.second_used if second else 0
        return max(0, int(cap["limit"]) - used)

    def _caps_offer(self, order: Order, counter: Counter) -> bool:
        """Whether the order's own plan has an offer cap by this counter: only then its second level counts."""
        caps = [cap for cap in order.parts[0].own.get("caps", []) if cap["level"] == "offer"]
        return any(self._counter(order, "", cap) == counter for cap in caps)

    def _counter(self, order: Order, affiliate_id: str, one: State) -> Counter:
        """The counter that a tier table, cap or goal means for an order."""
        name = label(one.get("level", "affiliate"), one["period"], order.instant, self.facts.zone)
        return counter_of(order.fact["offer_id"], affiliate_id, name, order.currency)

    # --- deciding --------------------------------------------------------------------------------------------

    def _earlier(self, order: Order) -> list[Order]:
        """Sales of the customer on the offer that are known and lie before this one, the first one first."""
        fact = order.fact
        found = [
            one
            for one in self.orders.values()
            if one is not order
            and fact.get("customer_id") is not None
            and (one.fact.get("customer_id"), one.fact["offer_id"]) == (fact["customer_id"], fact["offer_id"])
            and one.fact["amount"] > 0
            and (one.instant, one.position) < (order.instant, order.position)
        ]
        return sorted(found, key=lambda one: (one.instant, one.position))

    def _decide(self, order: Order, traffic_position: int) -> None:
        order.decided, fact = True, order.fact
        terms = self.facts.terms_at(fact["offer_id"], order.instant)
        if not terms:
            return
        plan, earlier = plans.plan_of(terms), self._earlier(order)
        order.currency = plan.get("currency", fact["currency"])
        factor = self.facts.factor(fact["currency"], order.currency, order.instant)
        first = next((one.credited for one in earlier if one.credited), [])
        credits = self.facts.credits(fact, terms, first, traffic_position)
        if factor is None or not credits:
            return
        order.factor, order.credited = factor, [who for who, _, _ in credits]
        parts = largest_remainder(fact["amount"], [weight for _, weight, _ in credits])
        values = largest_remainder(half_up(fact["amount"] * factor), [weight for _, weight, _ in credits])
        order.parts = [
            self._part(order, plan, credit, amount, (value, sum(values)), earlier)
            for credit, amount, value in zip(credits, parts, values, strict=True)
        ]
        exact = [part.exact * part.weight for part in order.parts]
        for part, amount in zip(order.parts, plans.rounded_once(exact), strict=True):
            part.nominal = part.given = amount
        self._cap(order, plan)
        self._second_level(order)
        self._settle([order])

    def _part(
        self, order: Order, plan: State, credit: Any, credited: int, values: tuple[int, int], earlier: list[Order]
    ) -> Part:
        who, weight, channel = credit
        own, _ = plans.for_affiliate(plan, who, group := self.facts.group_at(who, order.instant))

        def stands(tiers: State) -> tuple[int, int]:
            # the order itself has no parts yet, so it is not counted
            before = self.counted(self._counter(order, who, tiers), tiers["by"])
            adds = {"conversions": 1, "revenue": values[tiers.get("level") == "offer"], "commission": 0}
            return before, before + adds[tiers["by"]]

        asked = Asked(
            stands,
            "returning" if earlier else "new",
            earlier[0].instant if earlier else None,
            order.factor,
            channel,
            self.facts.zone,
        )
        priced = plans.price(plan, order.fact, asked, who, group)
        names = labels(own, order.instant, self.facts.zone)
        counted = [counter_of(order.fact["offer_id"], who, name, order.currency) for name in names]
        steps = {rule["id"]: step_at(rule["pay"]["tiers"], one.reading[1])
                 for one in priced.rules if one.reading
                 for rule in own["rules"] if rule["id"] == one.rule}  # fmt: skip
        return Part(
            who, own, weight, credited, values[0], counted, priced.rules, priced.unpaid, priced.exact, steps=steps
        )

    def _cap(self, order: Order, plan: State) -> None:
        """Each commission by itself, in the order of the touches: every cap in the plan's order, of what the one before
        left. A conversion takes the room of a cap by conversions once for the offer."""
        clicks = order.fact.get("click_count", 0)
        for part in order.parts:
            part.clicks = clicks
            for cap in plan.get("caps", []) if not part.unpaid else []:
                first = cap["level"] == "affiliate" or not any(one.used for one in order.parts)
                asked = {
                    "conversions": int(part.given > 0 and first), "clicks": part.clicks, "commission": part.given,
                }[cap["by"]]  # fmt: skip
                room = self.room(cap, self._counter(order, part.affiliate_id, cap))
                if asked > room:
                    self._cap_part(cap, part, asked, room)
            part.used, part.capped = part.given, part.nominal > 0 and part.given == 0

    def _cap_part(self, cap: State, part: Part, asked: int, room: int) -> None:
        fits = room if cap.get("over", "unpaid") == "clamp" and cap["by"] != "conversions" else 0
        part.given = fits if cap["by"] == "commission" else half_up(Fraction(part.given * fits, asked))
        part.clicks = min(part.clicks, fits) if cap["by"] == "clicks" else part.clicks

    # --- afterwards ------------------------------------------------------------------------------------------

    def _settle(self, touched: list[Order]) -> None:
        """What follows once a counter moved: tiers that were reached or lost, and goals."""
        for order in self.orders.values():
            if self._retier(order) and order not in touched:
                touched.append(order)
        for order in touched:
            self._goals(order)
        for which, (goal, amount) in self._bonuses.items():
            counter = Counter(which.offer_id, which.affiliate_id, which.label, which.currency)
            falls = (
                goal.get("on_reversal", "keep") == "take_back" and self.counted(counter, goal["by"]) < goal["target"]
            )
            self._bonuses[which] = goal, 0 if falls else amount

    def _retier(self, order: Order) -> bool:
        """Whether a part of an order is paid by another step from now on."""
        moved = False
        for part in order.parts:
            if part.rejected or order.gone or part.unpaid:
                continue
            steps = [self._restep(order, part, rule) for rule in part.own["rules"] if rule["id"] in part.steps]
            if any(steps):
                moved = True
                self._reprice(order, part, half_up(part.exact * part.weight))
        return moved

    def _restep(self, order: Order, part: Part, rule: State) -> bool:
        tiers, was = rule["pay"]["tiers"], part.steps[rule["id"]]
        if tiers.get("method", "whole") != "whole":
            return False
        now = step_at(tiers, self.counted(self._counter(order, part.affiliate_id, tiers), tiers["by"]))
        up = now > was and tiers.get("retroactive", False) and self.facts.can_earn(part.affiliate_id)
        down = now < was and tiers.get("on_reversal", "keep") == "take_back"
        if not up and not down:
            return False
        part.steps[rule["id"]] = now
        part.rules = [
            one._replace(exact=plans.earned(tiers["steps"][now], one.amount * order.factor, one.quantity, 0))
            if one.rule == rule["id"]
            else one
            for one in part.rules
        ]
        part.exact, _ = plans.bounded(part.own, sum((one.exact for one in part.rules), Fraction(0)))
        return True

    def _reprice(self, order: Order, part: Part, amount: int) -> None:
        """amount: what it would be without caps."""
        if part.capped:
            return
        more = amount - part.given
        if more > 0:
            more = self._fitting(order, part, more, ("affiliate", "offer"))
        part.used += order.left_of(part.given + more) - order.left_of(part.given)
        part.given += more

    def _fitting(self, order: Order, part: Part, more: int, levels: tuple[str, ...]) -> int:
        """What of a further amount the caps by commission let through."""
        for cap in part.own.get("caps", []):
            if cap["by"] == "commission" and cap["level"] in levels:
                room = self.room(cap, self._counter(order, part.affiliate_id, cap))
                if more > room:
                    more = room if cap.get("over", "unpaid") == "clamp" else 0
        return more

    def _second_level(self, order: Order) -> None:
        """What recruiters earn, once: top-ups of whom they recruited are none of theirs."""
        due: dict[str, Fraction] = {}
        by_recruiter: dict[str, Part] = {}
        for part in order.parts:
            recruiter, rule = self.facts.recruiter_at(part.affiliate_id, order.instant), part.own.get("second_level")
            if rule is None or not self.facts.can_earn(recruiter) or not part.given:
                continue
            base = part.given if rule.get("of", "commission") == "commission" else part.value
            due[recruiter] = due.get(recruiter, Fraction(0)) + Fraction(base * rule["rate_bps"], 10_000)
            by_recruiter[recruiter] = part
        for recruiter, exact in due.items():
            order.second[recruiter] = self._fitting(order, by_recruiter[recruiter], half_up(exact), ("offer",))
            order.second_used += order.second[recruiter]

    def _goals(self, order: Order) -> None:
        for part in order.parts:
            for goal in part.own.get("goals", []):
                counter = self._counter(order, part.affiliate_id, goal)
                which = Bonus(counter.offer_id, part.affiliate_id, goal["id"], counter.label, counter.currency)
                reached = self.counted(counter, goal["by"]) >= goal["target"] and counter in part.counted
                reached = reached and self.facts.can_earn(part.affiliate_id)
                if reached and goal.get("bonus_amount", 0) and not self._bonuses.get(which, (goal, 0))[1]:
                    self._bonuses[which] = goal, goal["bonus_amount"]
