"""A simulation's way into the books: proposed with its lines, approved by a second person, applied order by order.

Each line says what an affiliate's commission on an order was and would be; what is approved is exactly these lines, by
their hash. An order that is no longer as its lines say is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import affiliate, conversion
from ledger.domain.conversion import RESERVED_PREFIX, CommissionRepriced, ConversionRecorded
from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.errors import KeyReused, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event
from ledger.domain.ids import check_external_id, same_person
from ledger.domain.view import Needs, View

ORDERS_AT_ONCE = 500
GOAL_PREFIX = f"{RESERVED_PREFIX}goal-"


class SimulatedTotal(Struct, frozen=True, gc=False):
    """Of all affiliates, in minor units: what was owed, and what would be, less what was taken back."""

    currency: str
    was: int
    would: int


class SimulationProposed(Event, frozen=True):
    """A simulation is to be applied. terms: as they would be published, None for those in force; model: of attribution,
    None for that of the terms; since and until bound occurred_at; as_of_position: up to where the books were read;
    lines_hash: SHA-256 of the lines, hex; over_earlier: orders that an earlier simulation changed, which it undoes."""

    simulation_id: str
    offer_id: str
    as_of_position: int
    line_count: int
    totals: list[SimulatedTotal]
    lines_hash: str
    proposed_by: str
    terms: dict[str, Any] | None = None
    terms_hash: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    over_earlier: int = 0


class SimulationApproved(Event, frozen=True):
    """A second person approved exactly these lines."""

    simulation_id: str
    lines_hash: str


class SimulationRejected(Event, frozen=True):
    """A second person refused it."""

    simulation_id: str


class SimulationApplied(Event, frozen=True):
    """Every line was looked at. applied, skipped: how many orders were changed, and left as they are."""

    simulation_id: str
    applied: int
    skipped: int


class SimulationState(Struct):
    """status: proposed, approved, rejected or applied."""

    proposed: SimulationProposed
    status: str = "proposed"
    applied: SimulationApplied | None = None


class Line(Struct, array_like=True, frozen=True, gc=False):
    """An affiliate's commission on an order: was and would are the whole of it, minor units, whatever was taken back.
    credited_amount, occurred_at and matures_at: of a commission that is new."""

    order_id: str
    affiliate_id: str
    level: int
    was: int
    would: int
    credited_amount: int
    currency: str
    reason: str
    occurred_at: datetime
    matures_at: datetime


def hash_of_lines(lines: Iterable[Line]) -> tuple[int, str]:
    """(how many there are, SHA-256 of each as a JSON array on a line of its own, hex)."""
    encode, count, digest = msgspec.json.Encoder().encode, 0, hashlib.sha256()
    for line in lines:
        count += 1
        digest.update(encode(line) + b"\n")
    return count, digest.hexdigest()


def key(simulation_id: str) -> str:
    """The stream key of a simulation."""
    return f"simulation:{simulation_id}"


def state_of(view: View, simulation_id: str) -> SimulationState | None:
    """A simulation that was proposed, or None."""
    state: SimulationState | None = view.state(key(simulation_id))
    return state


_STATUS: dict[type[Event], str] = {
    SimulationApproved: "approved",
    SimulationRejected: "rejected",
    SimulationApplied: "applied",
}


def fold(state: SimulationState | None, event: Event) -> SimulationState:
    """SimulationState after an event."""
    if isinstance(event, SimulationProposed):
        return SimulationState(event)
    assert state is not None
    state.status = _STATUS[type(event)]
    if isinstance(event, SimulationApplied):
        state.applied = event
    return state


def _must(view: View, simulation_id: str) -> SimulationState:
    state = state_of(view, simulation_id)
    if state is None:
        raise NotFound(f"simulation {simulation_id} was not proposed")
    return state


class ProposeSimulation(Command, frozen=True):
    """Propose what a simulation found. The lines are kept beside the log; lines_hash says what they are."""

    name: ClassVar[str] = "propose_simulation"
    simulation_id: str
    offer_id: str
    as_of_position: int
    line_count: int
    totals: list[SimulatedTotal]
    lines_hash: str
    terms: dict[str, Any] | None = None
    terms_hash: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    over_earlier: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "simulation_id", check_external_id("simulation_id", self.simulation_id))

    def needs(self) -> Needs:
        """The simulation."""
        return Needs([key(self.simulation_id)])

    def decide(self, view: View) -> Decision:
        """SimulationProposed, once. Raises KeyReused, WrongState where nothing differs."""
        stream, state = key(self.simulation_id), state_of(view, self.simulation_id)
        body = {"simulation_id": self.simulation_id, "status": "proposed", "lines_hash": self.lines_hash}
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        if state is not None:
            differs = [name for name, value in said.items() if getattr(state.proposed, name) != value]
            if differs:
                raise KeyReused(f"simulation {self.simulation_id} was proposed otherwise", fields=differs)
            return Decision([], Answer("unchanged", body, view.answered_at(stream, SimulationProposed)))
        if not self.line_count:
            raise WrongState(f"simulation {self.simulation_id} differs from the books in nothing")
        proposed = SimulationProposed(**said, proposed_by=view.actor)
        return Decision([(stream, proposed)], Answer("recorded", body))


class DecideSimulation(Command, frozen=True):
    """A second person approves or rejects a simulation. lines_hash: what they saw, '' where they do not say."""

    name: ClassVar[str] = "decide_simulation"
    simulation_id: str
    approve: bool
    lines_hash: str = ""

    def needs(self) -> Needs:
        """The simulation."""
        return Needs([key(self.simulation_id)])

    def decide(self, view: View) -> Decision:
        """SimulationApproved or SimulationRejected. Raises NotFound, SamePerson, WrongState."""
        stream, state = key(self.simulation_id), _must(view, self.simulation_id)
        after = "approved" if self.approve else "rejected"
        body = {"simulation_id": self.simulation_id, "status": after}
        if self.lines_hash and self.lines_hash != state.proposed.lines_hash:
            raise WrongState(f"the lines that were proposed have the hash {state.proposed.lines_hash}")
        if state.status == after or (self.approve and state.status == "applied"):
            at = view.answered_at(stream, SimulationApproved, SimulationRejected)
            return Decision([], Answer("unchanged", body, at))
        if state.status != "proposed":
            raise WrongState(f"simulation {self.simulation_id} is {state.status} already", status=state.status)
        if same_person(state.proposed.proposed_by, view.actor):
            raise SamePerson()
        event: Event = (
            SimulationApproved(simulation_id=self.simulation_id, lines_hash=state.proposed.lines_hash)
            if self.approve
            else SimulationRejected(simulation_id=self.simulation_id)
        )
        return Decision([(stream, event)], Answer("recorded", body))


class ApplyLines(Command, frozen=True):
    """Apply some lines of an approved simulation: whole orders, at most ORDERS_AT_ONCE. The caller has seen that all
    lines have the hash that was approved. The answer names the orders that were left as they are, with the reason."""

    name: ClassVar[str] = "apply_simulation"
    simulation_id: str
    lines: list[Line]

    @property
    def record_count(self) -> int:
        """How many lines it decides about."""
        return len(self.lines)

    def needs(self) -> Needs:
        """The simulation, the orders and the affiliates."""
        orders = {conversion.key(line.order_id) for line in self.lines}
        whose = {affiliate.key(line.affiliate_id) for line in self.lines}
        return Needs([key(self.simulation_id), *orders, *whose])

    def decide(self, view: View) -> Decision:
        """CommissionRepriced for each commission that moves. Raises NotFound, WrongState."""
        state = _must(view, self.simulation_id)
        if state.status != "approved":
            raise WrongState(
                f"simulation {self.simulation_id} is {state.status}: it must be approved, and not applied yet",
                status=state.status,
            )
        drafts: list[Draft] = []
        skipped: dict[str, str] = {}
        for order_id, some in groupby(self.lines, key=attrgetter("order_id")):
            lines = list(some)
            why = _why_not(order_id, lines, self.simulation_id, view)
            if why:
                skipped[order_id] = why
            else:
                drafts += _apply(order_id, lines, self.simulation_id, view)
        return Decision(drafts, Answer("recorded" if drafts else "unchanged", {"skipped": skipped}))


def _was_applied(order_id: str, simulation_id: str, view: View) -> bool:
    return view.answered_at(conversion.key(order_id), CommissionRepriced, simulation_id=simulation_id) > 0


def _why_not(order_id: str, lines: Sequence[Line], simulation_id: str, view: View) -> str:
    """Why an order is left as it is, '' where it is not."""
    if _was_applied(order_id, simulation_id, view):
        return ""
    state = view.conversion(order_id)
    if state is None or state.recorded is None:
        new_bonus = order_id.startswith(GOAL_PREFIX) and all(line.was == 0 for line in lines)
        if not new_bonus:
            return "changed"
    for line in lines:
        one = state.commissions.get((line.affiliate_id, line.level)) if state is not None else None
        if (one.commission if one is not None else 0) != line.was:
            return "changed"
        if one is not None and one.currency != line.currency:
            return "other_currency"
        whose = view.affiliate(line.affiliate_id)
        if whose is None or whose.status not in ("approved", "suspended"):
            return "affiliate_closed"
    return ""


def _apply(order_id: str, lines: Sequence[Line], simulation_id: str, view: View) -> list[Draft]:
    if _was_applied(order_id, simulation_id, view):
        return []
    stream, state = conversion.key(order_id), view.conversion(order_id)
    drafts: list[Draft] = []
    if state is None or state.recorded is None:
        # the bonus of a goal that is reached only now: one line
        sale = _bonus(order_id, lines[0], _must(view, simulation_id).proposed.offer_id)
        drafts.append((stream, sale))
        state = ConversionState(recorded=sale)
    for line in lines:
        one = state.commissions.get((line.affiliate_id, line.level))
        event = _new(line, state, simulation_id, view) if one is None else _moved(line, one, state, simulation_id, view)
        if event is not None:
            drafts.append((stream, event))
    return drafts


def _bonus(order_id: str, line: Line, offer_id: str) -> ConversionRecorded:
    return ConversionRecorded(
        order_id=order_id,
        offer_id=offer_id,
        amount=0,
        currency=line.currency,
        occurred_at=line.occurred_at,
        affiliate_id=line.affiliate_id,
        event_id="goal",
    )


def _moved(
    line: Line, one: Commission, state: ConversionState, simulation_id: str, view: View
) -> CommissionRepriced | None:
    if one.bucket == "none":
        return None  # rejected, or taken back whole: nothing moves any more
    return CommissionRepriced(
        order_id=line.order_id,
        affiliate_id=line.affiliate_id,
        amount=state.kept(line.would) - one.outstanding,
        commission=line.would,
        currency=line.currency,
        bucket=one.bucket,
        effective_at=view.now,
        cause="simulation",
        level=line.level,
        simulation_id=simulation_id,
        credited_amount=line.credited_amount,
    )


def _new(line: Line, state: ConversionState, simulation_id: str, view: View) -> CommissionRepriced | None:
    lead, whose = state.lead, view.affiliate(line.affiliate_id)
    assert whose is not None
    bucket = lead.bucket if lead is not None else "pending"
    if bucket == "none" or state.status == "reversed":
        return None
    return CommissionRepriced(
        order_id=line.order_id,
        affiliate_id=line.affiliate_id,
        amount=state.kept(line.would),
        commission=line.would,
        currency=line.currency,
        bucket="held" if whose.status == "suspended" else bucket,
        effective_at=view.now,
        cause="simulation",
        level=line.level,
        simulation_id=simulation_id,
        credited_amount=line.credited_amount,
        matures_at=lead.matures_at if lead is not None else line.matures_at,
        suspended=whose.status == "suspended",
    )


class FinishSimulation(Command, frozen=True):
    """Every line was looked at. applied, skipped: orders."""

    name: ClassVar[str] = "finish_simulation"
    simulation_id: str
    applied: int
    skipped: int

    def needs(self) -> Needs:
        """The simulation."""
        return Needs([key(self.simulation_id)])

    def decide(self, view: View) -> Decision:
        """SimulationApplied, once. Raises NotFound, WrongState."""
        stream, state = key(self.simulation_id), _must(view, self.simulation_id)
        body: dict[str, Any] = {"simulation_id": self.simulation_id, "status": "applied"}
        if state.applied is not None:
            body |= {"applied": state.applied.applied, "skipped": state.applied.skipped}
            return Decision([], Answer("unchanged", body, view.answered_at(stream, SimulationApplied)))
        if state.status != "approved":
            raise WrongState(f"simulation {self.simulation_id} is {state.status}", status=state.status)
        applied = SimulationApplied(simulation_id=self.simulation_id, applied=self.applied, skipped=self.skipped)
        answer = Answer("recorded", {**body, "applied": self.applied, "skipped": self.skipped})
        return Decision([(stream, applied)], answer)
