"""A second opinion on prices: what a commission is, what is taken back of it and what is decided about it, written down
once more, on purpose naively, from topics and JSON alone. Rounding is Decimal's, not the ledger's.

Each class reads events in order and reports what cannot be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

from ledger.audit.findings import Findings

State = dict[str, Any]
BOOKS = "books"
EXACT = Context(prec=60)  # digits: more than a product of two amounts has


def at(text: str) -> datetime:
    """An instant from RFC 3339 text."""
    return datetime.fromisoformat(text)


def half_up(exact: Decimal) -> int:
    """To the nearest minor unit, halves away from zero."""
    return int(exact.to_integral_value(ROUND_HALF_UP))


class Version(NamedTuple):
    """A published version of an offer's terms. position: where it was published. Without a rate and an amount a plan
    prices."""

    position: int
    number: int
    effective_from: datetime
    hold_days: int
    rate_bps: int | None
    amount: int | None

    @property
    def is_plan(self) -> bool:
        """Whether a plan prices, instead of one rate or amount."""
        return self.rate_bps is None and self.amount is None


class Terms:
    """What each offer paid, and when it was known."""

    def __init__(self) -> None:
        self._of: dict[str, list[Version]] = defaultdict(list)

    def event(self, position: int, topic: str, e: State) -> None:
        """The next event."""
        if topic == "TermsPublished":
            starts, rate = at(e["effective_from"]), e.get("rate_bps")
            one = Version(position, e["terms_version"], starts, e["hold_days"], rate, e.get("amount"))
            self._of[e["offer_id"]].append(one)

    def in_force(self, offer_id: str, occurred_at: datetime, position: int) -> Version | None:
        """The version for a sale, as far as the log knew at a position: the latest start that is not after the sale;
        of several with one start the last published."""
        found = None
        for one in self._of.get(offer_id, ()):
            fits = one.position < position and one.effective_from <= occurred_at
            if fits and (found is None or one.effective_from >= found.effective_from):
                found = one
        return found


Whose = tuple[str, int]  # (affiliate id, level)


class Commission:
    """One affiliate's commission on an order. is_planned: a plan priced it."""

    __slots__ = ("commission", "currency", "is_planned", "owed", "status")

    def __init__(self, status: str = "", currency: str = "", commission: int = 0, is_planned: bool = False) -> None:
        self.status = status  # '' (nothing accrued), pending, held, approved, rejected, reversed
        self.currency = currency
        self.commission = self.owed = commission  # accrued; of it, not yet taken back
        self.is_planned = is_planned


class Sale:
    """What is known of one order. settled: something became of a commission; waiting: whose commission the last
    reversal, which took reversal_amount of the sale, has not been seen to reach yet."""

    __slots__ = ("commissions", "recorded", "reversal_amount", "reversal_id", "settled", "taken", "waiting")

    def __init__(self) -> None:
        self.recorded: State | None = None
        self.commissions: dict[Whose, Commission] = {}
        self.taken = 0  # of the sale
        self.settled = False
        self.reversal_id = ""
        self.reversal_amount = 0
        self.waiting: set[Whose] = set()

    def left_of(self, commission: int) -> int:
        """What is left of a commission: reversals take it back in the proportion in which they took the sale."""
        if not self.reversal_id or self.recorded is None:
            return commission
        whole = self.recorded["amount"]
        if self.taken == whole:
            return 0
        due = EXACT.divide(EXACT.multiply(Decimal(commission), Decimal(self.taken)), Decimal(whole or 1))
        return commission - half_up(due)


# topic → the statuses it may follow, and the one it leads to
_DECISIONS = {
    "ConversionHeld": (("pending", "held"), "held"),
    "ConversionReleased": (("held",), "pending"),
    "ConversionApproved": (("pending",), "approved"),
    "ConversionRejected": (("pending", "held"), "rejected"),
}
_BUCKET = {"pending": "pending", "held": "held", "approved": "payable"}
_STATUS = {bucket: status for status, bucket in _BUCKET.items()}
_TIER_CAUSES, _SIMULATION = ("tier_reached", "tier_lost"), "simulation"


class Prices:
    """Each commission is its rate of its sale, by the terms in force when it happened; what was taken back of it is
    cumulative; and what is decided is all that is still owed. An order under simple terms has one commission; under a
    plan each affiliate has its own. terms None: the version is not looked up."""

    def __init__(self, findings: Findings, terms: Terms | None = None) -> None:
        self._findings, self._terms = findings, terms
        self._sales: dict[str, Sale] = defaultdict(Sale)
        self._partly: dict[str, int] = {}  # orders of which a reversal has not reached every commission → position
        self._last = 0

    def event(self, position: int, topic: str, e: State) -> None:
        """The next event."""
        self._last = position
        if topic == "ConversionReversed":
            self._reversed(position, e)
            return
        if topic not in _OTHERS:
            return
        sale = self._sales[e["order_id"]]
        self._must_be_reached(position, sale, e)
        if topic == "ConversionRecorded":
            if sale.recorded is not None:
                self._differs("life_differs", position, "one sale of an order", "a second one", e)
            sale.recorded = e
        elif topic == "ConversionAttributed":
            if sale.recorded is None or sale.commissions:
                found = "a commission" if sale.commissions else "none"
                self._differs("life_differs", position, "a sale, and no commission yet, before its credit", found, e)
        elif topic == "CommissionAccrued":
            self._accrued(position, sale, e)
        elif topic == "CommissionRepriced":
            self._repriced(position, sale, e)
        else:
            self._decided(position, topic, sale, e)

    def end(self) -> None:
        """After the last event. A reversal at the very end is left alone: the rest of it may have been cut off."""
        for order_id, position in self._partly.items():
            if self._last > position:
                self._missed(position, self._sales[order_id], {"order_id": order_id})

    def _differs(self, kind: str, position: int, expected: object, found: object, e: State) -> None:
        self._findings.report(kind, BOOKS, position, expected, found, f"order {e['order_id']}")

    def _same(self, position: int, what: str, expected: object, found: object, e: State) -> None:
        if expected != found:
            self._differs("price_differs", position, f"{what} {expected}", found, e)

    # --- accruing ----------------------------------------------------------------------------------------

    def _accrued(self, position: int, sale: Sale, e: State) -> None:
        whose, pricing = (e["affiliate_id"], e.get("level", 1)), e.get("pricing")
        if sale.recorded is None:
            self._differs("life_differs", position, "one sale and then its commissions", "no sale", e)
            return
        others = sale.commissions.values()
        if others and (whose in sale.commissions or sale.settled or pricing is None or not _all_planned(others)):
            expected = "one commission of each affiliate that a plan credits, before anything becomes of them"
            self._differs("life_differs", position, expected, "a second commission", e)
            return
        for ours, its in (("sale_amount", "amount"), ("occurred_at",) * 2, ("offer_id",) * 2):
            self._same(position, ours, sale.recorded[its], e[ours], e)
        self._same(position, "currency", sale.recorded["currency"], e.get("sale_currency", e["currency"]), e)
        if pricing is None:
            self._check_simple(position, e)
        elif self._terms is not None:
            # what a plan pays is checked by a model of its own: see `pricing`
            self._version(position, e)
        status = "held" if e.get("held") else "pending"
        sale.commissions[whose] = Commission(status, e["currency"], e["amount"], pricing is not None)

    def _check_simple(self, position: int, e: State) -> None:
        """One affiliate has all of it, in the sale's currency, by one rate or amount."""
        for field, expected in (("level", 1), ("credited_amount", None), ("sale_currency", None)):
            self._same(position, field, expected, e.get(field, expected), e)
        rate: int | None = e.get("rate_bps")
        if self._terms is not None and (one := self._version(position, e)) is not None:
            self._same(position, "rate_bps", one.rate_bps, rate, e)
            if one.rate_bps is None:
                self._same(position, "a commission of", one.amount, e["amount"], e)
            rate = one.rate_bps
        if rate is not None:
            exact = Decimal(e["sale_amount"]) * rate / 10_000
            self._same(position, "a commission of", half_up(exact), e["amount"], e)
            added = (half_up(exact) - exact) * 10_000
            self._same(position, "rounding_e4", int(added), e.get("rounding_e4", 0), e)

    def _version(self, position: int, e: State) -> Version | None:
        """The terms in force, None where there are none: the event must name them, and mature by them."""
        assert self._terms is not None
        occurred = at(e["occurred_at"])
        one = self._terms.in_force(e["offer_id"], occurred, position)
        if one is None:
            self._differs("price_differs", position, "terms in force when it happened", "none", e)
            return None
        self._same(position, "terms_version", one.number, e["terms_version"], e)
        self._same(position, "matures_at", occurred + timedelta(days=one.hold_days), at(e["matures_at"]), e)
        self._same(position, "priced by a plan:", one.is_plan, e.get("pricing") is not None, e)
        return one

    def _repriced(self, position: int, sale: Sale, e: State) -> None:
        whose, cause = (e["affiliate_id"], e.get("level", 1)), e["cause"]
        one = sale.commissions.get(whose)
        if sale.recorded is None or cause not in (*_TIER_CAUSES, _SIMULATION):
            self._differs("life_differs", position, "a cause to price a recorded sale anew", cause, e)
            return
        if one is None and cause == _SIMULATION:
            one = sale.commissions[whose] = Commission(_STATUS.get(e["bucket"], "rejected"), e["currency"])
        if one is None or (cause in _TIER_CAUSES and not one.is_planned):
            self._differs("life_differs", position, f"a commission that a plan pays before {cause}", "none", e)
            return
        bucket = _BUCKET.get(one.status, "none")
        self._same(position, "in", bucket, e["bucket"], e)
        self._same(position, "currency", one.currency, e["currency"], e)
        left = 0 if bucket == "none" else sale.left_of(e["commission"])
        self._same(position, "a change of", left - one.owed, e["amount"], e)
        one.commission, one.owed = e["commission"], left
        sale.settled = True

    # --- taking back -------------------------------------------------------------------------------------

    def _reversed(self, position: int, e: State) -> None:
        sale = self._sales[e["order_id"]]
        if sale.recorded is None:
            self._differs("life_differs", position, "a sale before its reversal", "none", e)
            return
        whole = sale.recorded["amount"]
        if e["reversal_id"] != sale.reversal_id:
            self._must_be_reached(position, sale, e)
            sale.reversal_id, sale.reversal_amount = e["reversal_id"], e["sale_amount"]
            sale.waiting = set(sale.commissions) or {("", 1)}
            sale.taken += e["sale_amount"]
            if sale.taken > whole:
                self._differs("price_differs", position, f"at most {whole} taken back", sale.taken, e)
        self._same(position, "taken of the sale", sale.reversal_amount, e["sale_amount"], e)
        whose, one = self._found(position, sale, e)
        if whose not in sale.waiting:
            self._differs("life_differs", position, "one event of a reversal for each commission", "another one", e)
            return
        sale.waiting.remove(whose)
        if sale.waiting:
            self._partly[e["order_id"]] = position
        else:
            self._partly.pop(e["order_id"], None)
        sale.settled = sale.settled or bool(sale.commissions)
        self._same(position, "out of", _BUCKET.get(one.status, "none"), e["bucket"], e)
        if one.status not in _BUCKET:
            self._same(position, "taken back", 0, e["amount"], e)
            return
        left = sale.left_of(one.commission)
        self._same(position, "taken back", one.owed - left, e["amount"], e)
        one.owed = left
        if sale.taken == whole:
            one.status = "reversed"

    def _must_be_reached(self, position: int, sale: Sale, e: State) -> None:
        """Before anything else happens to an order, a reversal has reached every commission on it."""
        if sale.waiting:
            self._missed(position, sale, e)
            sale.waiting = set()
            self._partly.pop(e["order_id"], None)

    def _missed(self, position: int, sale: Sale, e: State) -> None:
        missed = ", ".join(f"{affiliate_id} (level {level})" for affiliate_id, level in sorted(sale.waiting))
        expected = f"reversal {sale.reversal_id} of every commission"
        self._differs("life_differs", position, expected, f"none for {missed}", e)

    # --- deciding ----------------------------------------------------------------------------------------

    def _found(self, position: int, sale: Sale, e: State) -> tuple[Whose, Commission]:
        """The commission that an event is about; reports one that is not there."""
        whose = e.get("affiliate_id", ""), e.get("level", 1)
        if whose in sale.commissions:
            return whose, sale.commissions[whose]
        if len(sale.commissions) == 1:
            (known,) = sale.commissions
            self._same(position, "affiliate and level", known, whose, e)
            return known, sale.commissions[known]
        if sale.commissions:
            self._differs("life_differs", position, "a commission that accrued", f"none of {whose[0]}", e)
        return whose, Commission()

    def _decided(self, position: int, topic: str, sale: Sale, e: State) -> None:
        _, one = self._found(position, sale, e)
        before, after = _DECISIONS[topic]
        if one.status not in before:
            found = one.status or "nothing accrued"
            self._differs("life_differs", position, f"{topic} of what is {' or '.join(before)}", found, e)
        owed = one.owed
        if topic == "ConversionHeld" and one.status == "held":
            owed = 0  # a person's hold on top of a suspension's moves nothing
        self._same(position, "all that is owed:", owed, e["amount"], e)
        if topic == "ConversionRejected":
            self._same(position, "was_held", one.status == "held", e.get("was_held", False), e)
            one.owed = 0
        one.status, sale.settled = after, True


_OTHERS = frozenset(
    {"ConversionRecorded", "ConversionAttributed", "CommissionAccrued", "CommissionRepriced", *_DECISIONS}
)


def _all_planned(some: Iterable[Commission]) -> bool:
    return all(one.is_planned for one in some)
