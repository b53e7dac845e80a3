"""An independent, deliberately naive model of a whole program under commission plans (docs/plans.md): fed with a log's
facts, it says what every order earns and why, what is topped up, and which goals are reached.

When an order was decided, and up to where the traffic log was seen, is taken from the log, and so is what a simulation
changed; nothing else of the engine's answers is. What one command recorded belongs together: its facts are taken first,
then what follows from them (naive_program_following.py) is compared with what the log says.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from fractions import Fraction
from operator import attrgetter
from typing import Any

from ledger.audit import naive_plans as plans
from ledger.audit import naive_program_evidence as evidence
from ledger.audit.naive_plans import Asked, Reading, at, half_up, largest_remainder, step_at
from ledger.audit.naive_program_caps import Asking, limited, second_level
from ledger.audit.naive_program_evidence import Expected
from ledger.audit.naive_program_facts import Credit, Credited, NaiveFacts
from ledger.audit.naive_program_following import Following
from ledger.audit.naive_program_orders import Bonus, Counters, Order, Part, Plans
from ledger.audit.naive_program_told import GOAL, Group, Silent, Told

State = dict[str, Any]
_DECIDED = ("ConversionAttributed", "CommissionAccrued", "ConversionUnattributed")
_CONVERSION = frozenset(
    {*_DECIDED, "ConversionRecorded", "ConversionReversed", "ConversionRejected", "CommissionRepriced",
     "AttributionDeferred"}
)  # fmt: skip
_in_time = attrgetter("instant", "position")


class NaiveProgram:
    """The model. at_once: a sale is decided as it is recorded, with the traffic so far, as a test without an engine
    wants it. told: is told what is expected of each command, and what was found; offers: those that are looked at, None
    for all; traffic_size: up to where the traffic log is known, None for all of it."""

    def __init__(
        self,
        *,
        at_once: bool = False,
        told: Told | None = None,
        offers: frozenset[str] | None = None,
        traffic_size: int | None = None,
    ) -> None:
        self.facts = NaiveFacts()
        self._told = told if told is not None else Silent()
        self._offers, self._traffic_size = offers, traffic_size
        self._orders: dict[str, Order] = {}
        self._sales: dict[tuple[str, str], list[Order]] = defaultdict(list)  # by customer and offer, in order of time
        self._counters, self._plans = Counters(), Plans()
        self._own: dict[tuple[int, str, str], tuple[State, str]] = {}  # by override where there is one
        self._by_override: dict[tuple[int, str], tuple[State, str]] = {}
        self._following = Following(self.facts, self._counters, self._plans, self._effective)
        self._at_once, self._traffic_seen = at_once, 0
        self._group: Group | None = None

    # --- what goes in and out --------------------------------------------------------------------------------

    def feed(self, log: str, position: int, topic: str, e: State, command: str = "") -> None:
        """The next event of a log ('books' or 'traffic'), as JSON. command: whatever tells the command that recorded it
        from the ones before and after it."""
        if log == "traffic":
            self.flush()
            self._traffic_seen = position
            self.facts.feed(position, topic, e)
            return
        if topic not in _CONVERSION:
            if topic in self.FACTS:
                self.flush()
                self.facts.feed(position, topic, e)
            return
        if self._offers is not None and not self._concerns(topic, e):
            return
        if self._group is None or not self._group.takes(topic, e, command):
            self.flush()
            self._group = Group(command)
        self._group.add(position, topic, e)

    FACTS = frozenset(
        {"ProgramOpened", "AffiliateEnrolled", "AffiliateApproved", "AffiliateSuspended", "AffiliateReinstated",
         "AffiliateClosed", "AffiliateGrouped", "AffiliateRecruited", "TermsPublished", "CouponAssigned",
         "RateRecorded", "SimulationProposed", "SimulationApproved", "SimulationRejected", "SimulationApplied"}
    )  # fmt: skip
    TOPICS = FACTS | _CONVERSION

    def _concerns(self, topic: str, e: State) -> bool:
        assert self._offers is not None
        if topic in ("ConversionRecorded", "CommissionAccrued"):
            return e["offer_id"] in self._offers
        known = self._group is not None and self._group.order_id == e["order_id"]
        return known or e["order_id"] in self._orders or e["order_id"].startswith(GOAL)

    @property
    def orders(self) -> dict[str, Order]:
        """By id."""
        self.flush()
        return self._orders

    def commissions(self, order_id: str) -> dict[tuple[str, int], int]:
        """What is accrued for an order by (affiliate, level), with all top-ups so far, before reversals. Whom it is
        credited to without earning anything is there with 0; the second level only with more."""
        parts = self.orders[order_id].parts
        return {(one.affiliate_id, one.level): one.given for one in parts if one.level == 1 or one.given}

    def outstanding(self, order_id: str) -> dict[str, int]:
        """By affiliate, what reversals and rejections left of the first level."""
        order = self.orders[order_id]
        firsts = [part for part in order.parts if part.level == 1]
        return {part.affiliate_id: 0 if part.rejected else order.left_of(part.given) for part in firsts}

    def bonuses(self) -> dict[Bonus, int]:
        """What goals earned; 0 for one that was taken back and not reached again."""
        self.flush()
        return self._following.bonuses()

    # --- one command -----------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Take the last command: what it said first, then what follows from it."""
        group, self._group = self._group, None
        if group is None:
            return
        self._counters.begin()
        self._told.begin(group)
        accrued: list[Order] = []
        for position, topic, e in group.facts:
            self._fact(group, position, topic, e, accrued)
            if topic == "ConversionRecorded" and group.command and not group.decides:
                self._told.same(position, e["order_id"], "what became of the sale:", "an event", "none")
        if self._at_once:
            for order in [self._orders[e["order_id"]] for _, topic, e in group.facts if topic == "ConversionRecorded"]:
                self._decide(order, self._traffic_seen, Group(""))
                accrued.append(order)
        for expected in self._following.after(accrued):
            self._told.follows(expected)
        self._told.end()

    def _fact(self, group: Group, position: int, topic: str, e: State, accrued: list[Order]) -> None:
        order_id = e["order_id"]
        if order_id.startswith(GOAL):
            self._following.changed(topic, e)
            return
        if topic == "ConversionRecorded":
            self._recorded(position, e)
        order = self._orders.get(order_id)
        if order is None:
            return
        if topic in _DECIDED and not order.decided:
            self._decide(order, e["traffic_position"], group)
            accrued.append(order)
        elif topic == "AttributionDeferred":
            order.is_waiting = True
        elif topic == "ConversionReversed":
            order.reversals = order.reversals or set()
            if e["reversal_id"] not in order.reversals:
                order.reversals.add(e["reversal_id"])
                order.reversed_amount += e["sale_amount"]
                self._counters.count(order)
        elif topic == "ConversionRejected":
            part = order.part(e.get("affiliate_id", ""), e.get("level", 1))
            if part is not None and not order.gone:
                part.rejected = True
                self._counters.count(order)
        elif topic == "CommissionRepriced":
            self._simulated(order, position, e)

    def _recorded(self, position: int, e: State) -> None:
        order = self._orders[e["order_id"]] = Order(e, position, at(e["occurred_at"]))
        if e.get("customer_id") is not None and e["amount"] > 0:
            insort(self._sales[e["customer_id"], e["offer_id"]], order, key=_in_time)

    def _simulated(self, order: Order, position: int, e: State) -> None:
        """What a simulation changed is a fact, once somebody approved it."""
        said = self.facts.simulations.get(e.get("simulation_id", ""), "none of that id")
        self._told.same(position, order.order_id, "a simulation that is", "SimulationApproved", said)
        part = order.part(e["affiliate_id"], e.get("level", 1))
        if part is None:
            part = Part(e["affiliate_id"], e.get("level", 1), {"rules": []})
            part.is_new = True
            order.parts.append(part)
            order.credited = order.credited or part.affiliate_id
        part.given, part.used = e["commission"], part.used + e["amount"]
        self._counters.count(order)

    # --- deciding --------------------------------------------------------------------------------------------

    def _earlier(self, order: Order, fact: State) -> list[Order]:
        """Sales of the customer on the offer that are known and lie before this one, the first one first."""
        if fact.get("customer_id") is None:
            return []
        some = self._sales.get((fact["customer_id"], fact["offer_id"]), [])
        return some[: bisect_left(some, _in_time(order), key=_in_time)]

    def _effective(self, terms: State, affiliate_id: str, group: str) -> tuple[State, str]:
        """(a version's plan as it holds for an affiliate, the override that makes it so)."""
        key = id(terms), affiliate_id, group
        found = self._own.get(key)
        if found is None:
            plan = plans.plan_of(terms)
            own, override = plans.for_affiliate(plan, affiliate_id, group)
            found = self._own[key] = self._by_override.setdefault((id(terms), override), (own, override))
        return found

    def _decide(self, order: Order, traffic_position: int, group: Group) -> None:
        fact, order.fact, order.decided = order.fact, None, True
        assert fact is not None
        terms = self.facts.terms_at(order.offer_id, order.instant)
        if group.is_dismissed or not terms:
            self._told.decided(order, fact, [], None, {})
            return
        plan, earlier = plans.plan_of(terms), self._earlier(order, fact)
        order.currency = str(plan.get("currency", fact["currency"]))
        order.terms_version = terms.get("terms_version", 0)
        rate = None
        # a sale of nothing needs no rate
        worth = fact["amount"] > 0 or any(one.get("amount", 0) for one in fact.get("items", []))
        if order.currency != fact["currency"] and worth:
            rate = self.facts.rate(fact["currency"], order.currency, order.instant)
            if rate is None:
                self._told.decided(order, fact, [], None, terms)
                return
            order.factor = plans.rate_factor(fact["currency"], order.currency, rate["rate"])
        credited = self._credited(order, fact, terms, earlier, traffic_position, group)
        if credited.credits:
            order.credited = credited.credits[0].affiliate_id
            expected = self._priced(order, fact, terms, credited, earlier, rate)
            for part in order.parts:
                if any(rule.steps and rule.reading for rule in part.rules) and _follows(part.own):
                    self._watch(order, part)
                else:
                    part.rules = []
            self._counters.count(order)
        else:
            expected = []
        self._told.decided(order, fact, expected, credited, terms)

    def _credited(
        self, order: Order, fact: State, terms: State, earlier: list[Order], traffic_position: int, group: Group
    ) -> Credited:
        if self._traffic_size is not None and traffic_position > self._traffic_size:
            return group.credited(order.order_id)
        referrer = next((one.credited for one in earlier if one.credited), "")
        signed = None
        if fact.get("click_id") and self.facts.knows_click(fact["click_id"], traffic_position) is None:
            signed = group.signed_click(order.order_id, fact)
        return self.facts.credited(fact, terms, referrer, traffic_position, signed)

    def _priced(
        self, order: Order, fact: State, terms: State, credited: Credited, earlier: list[Order], rate: State | None
    ) -> list[Expected]:
        credits = credited.credits
        weights = [one.weight for one in credits]
        whole = half_up(fact["amount"] * order.factor)
        amounts = largest_remainder(fact["amount"], weights)
        values = largest_remainder(whole, weights)
        shares = [
            self._share(order, fact, terms, credit, (value, whole), earlier)
            for credit, value in zip(credits, values, strict=True)
        ]
        every = sum(one.weight for one in credits)
        for share, credit in zip(shares, credits, strict=True):
            share.weight, share.part.weight = (credit.weight, every), Fraction(credit.weight, every)
        exact = [share.part.exact * share.part.weight for share in shares]
        for share, amount, due in zip(shares, amounts, plans.rounded_once(exact), strict=True):
            share.part.credited, share.part.given = amount, due
        plan = plans.plan_of(terms)
        asking = Asking(order, plan, self._counters, self._plans, self.facts)
        limited(asking, shares)
        for share in shares:
            share.part.first = share.part.used = share.part.given
            share.model, share.rate, share.count = credited.model, rate, len(shares)
        seconds = second_level(asking, shares)
        order.parts = [share.part for share in (*shares, *seconds)]
        if "plan" not in terms:
            for part in order.parts:
                part.counted = []
        return [evidence.expected(share, self.facts) for share in (*shares, *seconds)]

    def _share(
        self, order: Order, fact: State, terms: State, credit: Credit, values: tuple[int, int], earlier: list[Order]
    ) -> Expected:
        who = credit.affiliate_id
        group = self.facts.group_at(who, order.instant)
        own, override = self._effective(terms, who, group)
        zone, plan = self.facts.zone, plans.plan_of(terms)

        def stands(tiers: State) -> Reading:
            # the order itself has no parts yet, so it is not counted
            before = self._counters.stands(self._plans.counter(order, who, tiers, zone), tiers["by"])
            adds = {"conversions": 1, "revenue": values[tiers.get("level") == "offer"], "commission": 0}
            return before, before + adds[tiers["by"]]

        customer = "returning" if earlier else "new"
        first_at = earlier[0].instant if earlier else None
        asked = Asked(stands, customer, first_at, order.factor, credit.channel, zone)
        priced = plans.price_by(own, override, fact, asked)
        part = Part(who, 1, own, override)
        part.value, part.unpaid = values[0], priced.unpaid
        part.exact, part.rules = priced.exact, priced.rules
        pairs = self._plans.counted(own, plan)
        some = [{"level": level, "period": period} for level, period in pairs]
        part.counted = [self._plans.counter(order, who, one, zone) for one in some]
        tables = {rule["id"]: rule["pay"]["tiers"] for rule in own["rules"] if "tiers" in rule["pay"]}
        part.steps = {one.rule: step_at(tables[one.rule], one.reading[1]) for one in priced.rules if one.reading}
        first_order_id = earlier[0].order_id if earlier else ""
        return Expected(part, order, priced.bound, tables, customer, first_order_id)

    def _watch(self, order: Order, part: Part) -> None:
        """Retroactive tables that pay a part by counters."""
        retroactive = [rule["pay"]["tiers"] for rule in part.own["rules"] if rule["id"] in part.steps]
        for tiers in retroactive:
            if tiers.get("retroactive"):
                self._counters.follow(self._plans.counter(order, part.affiliate_id, tiers, self.facts.zone), order)


def _follows(own: State) -> bool:
    return any(rule["pay"].get("tiers", {}).get("retroactive") for rule in own["rules"])
