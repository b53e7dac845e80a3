"""Simulations, as the OpenAPI document describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from api.documents.problems import Position

Status = Literal["queued", "running", "done", "failed", "proposed", "approved", "rejected", "applying", "applied"]


class SimulationAnswer(Struct):
    """The simulation's status after the command. lines_hash: of what was proposed."""

    simulation_id: str
    status: Status
    position: Position
    lines_hash: str | None = None


class SimulationRequest(Struct):
    """What is tried. terms: null for those in force; model: null for that of the terms."""

    offer_id: str
    terms: dict[str, Any] | None
    model: str | None
    from_: datetime | None = msgspec.field(name="from")
    to: datetime | None


class SimulatedReason(Struct):
    """How many commissions differ for a reason, and by how much (minor units): 0 where only credit moves."""

    count: int
    amount: int


class SimulatedFigures(Struct):
    """In one currency: credited conversions, and commissions less what was taken back (minor units), as they were and
    as they would be. The amounts of the reasons add up to the difference."""

    currency: str
    conversions_was: int
    conversions_would: int
    commission_was: int
    commission_would: int
    difference: int
    reasons: dict[str, SimulatedReason]


class SimulatedAffiliate(SimulatedFigures):
    """An affiliate's."""

    affiliate_id: str


class SimulatedOrder(Struct):
    """One of the first orders that differ, in words (amounts in major units)."""

    order_id: str
    sentence: str


class SimulatedConversions(Struct):
    """seen: sales of the offer; decided: by what is tried, and the figures are of these; exceptions: those of them that
    could not be applied, by type; over_earlier: orders whose commission an earlier simulation decided, which would be
    undone."""

    seen: int
    decided: int
    differing: int
    unattributed_was: int
    unattributed_would: int
    exceptions: dict[str, int]
    over_earlier: int = 0


class SimulationReport(Struct):
    """What it found. as_of: the position of the books up to which it looked; line_count, lines_hash: of what an
    application would change."""

    program: str
    offer_id: str
    terms: dict[str, Any] | None
    terms_hash: str | None
    model: str | None
    from_: datetime | None = msgspec.field(name="from")
    to: datetime | None
    as_of: int
    events: int
    conversions: SimulatedConversions
    affiliates: list[SimulatedAffiliate]
    totals: list[SimulatedFigures]
    orders: list[SimulatedOrder]
    line_count: int
    lines_hash: str


class SkippedOrder(Struct):
    """An order that was left as it is. why: changed (since the simulation), affiliate_closed or other_currency."""

    order_id: str
    why: str


class SimulationApplication(Struct):
    """Orders that were applied, left as they are (the first of them are named), and still to come."""

    applied: int
    skipped: int
    left: int
    skipped_orders: list[SkippedOrder]


class SimulationListed(Struct):
    """A simulation in a list. progress: the position that its run has come to, of as_of; failure: why it failed."""

    simulation_id: str
    status: Status
    requested_by: str
    requested_at: datetime
    changed_at: datetime
    request: SimulationRequest
    progress: int
    as_of: int | None
    line_count: int
    lines_hash: str
    failure: str


class SimulationDocument(SimulationListed):
    """A simulation with what it found, once it is done, and how far its application has come, once that has begun."""

    report: SimulationReport | None
    application: SimulationApplication | None


class Simulations(Struct):
    """A page of simulations."""

    items: list[SimulationListed]
    next: str | None
