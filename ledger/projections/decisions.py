"""Who proposed and who decided: what auditors read to see that two people did it, from the events themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from ledger import sql
from ledger.domain.adjustment import AdjustmentPosted, AdjustmentProposed, AdjustmentRejected
from ledger.domain.dispute import DisputeAccepted, DisputeAnswered, DisputeOpened, DisputeRejected
from ledger.domain.erasure import ErasureProposed, ErasureRejected, SubjectErased
from ledger.domain.event import Event
from ledger.domain.ids import same_person, stream_id
from ledger.domain.offer import TermsProposed, TermsPublished, TermsRejected
from ledger.domain.payout_method import PayoutMethodApproved, PayoutMethodProposed, PayoutMethodRejected
from ledger.domain.payout_run import PayoutRunApproved, PayoutRunBegun, PayoutRunRejected
from ledger.domain.simulation import SimulationApproved, SimulationProposed, SimulationRejected
from ledger.domain.tax import TaxRulesProposed, TaxRulesPublished, TaxRulesRejected
from ledger.domain.topics import TOPIC_OF
from ledger.store import codec
from ledger.store.log import Rows, uuid_array

QUERIES = sql.load("ledger.projections", "decisions.sql")
_AT_ONCE = 1000

# kind → (what proposes, what approves, what rejects, the field of the record's id, the field of its version)
_KINDS: dict[str, tuple[type[Event], type[Event], type[Event], tuple[str, ...], str]] = {
    "adjustment": (AdjustmentProposed, AdjustmentPosted, AdjustmentRejected, ("adjustment_id",), ""),
    "dispute": (DisputeOpened, DisputeAccepted, DisputeRejected, ("dispute_id",), ""),
    "erasure": (ErasureProposed, SubjectErased, ErasureRejected, ("subject",), ""),
    "payout_method": (
        PayoutMethodProposed, PayoutMethodApproved, PayoutMethodRejected, ("affiliate_id", "currency"),
        "method_version",
    ),
    "payout_run": (PayoutRunBegun, PayoutRunApproved, PayoutRunRejected, ("run_id",), ""),
    "simulation": (SimulationProposed, SimulationApproved, SimulationRejected, ("simulation_id",), ""),
    "tax_rules": (TaxRulesProposed, TaxRulesPublished, TaxRulesRejected, (), "rules_version"),
    "terms": (TermsProposed, TermsPublished, TermsRejected, ("offer_id",), "terms_version"),
}  # fmt: skip
KINDS = tuple(_KINDS)
_KIND_OF = {event: kind for kind, events in _KINDS.items() for event in events[:3]}
_TOPICS = [*(TOPIC_OF[event] for event in _KIND_OF), TOPIC_OF[DisputeAnswered]]


class Trail(Struct):
    """Something that one person proposed and another decides. kind: adjustment, dispute, erasure, payout_method,
    payout_run, simulation, tax_rules or terms; record_id: '' for the program's tax rules; version: of a payout method,
    tax rules or terms. decision: approved or rejected, and the position of its event; '' and 0 while nobody has
    decided. proposed_by: who opened it, of a dispute. answered_by: who wrote back last, of a dispute."""

    kind: str
    record_id: str
    version: int | None
    proposed_by: str
    proposed_at: datetime
    proposed_position: int
    decision: str = ""
    decided_by: str | None = None
    decided_at: datetime | None = None
    position: int = 0
    answered_by: str | None = None
    answered_at: datetime | None = None

    @property
    def same_person(self) -> bool:
        """Whether one person did both, which the ledger refuses."""
        return self.decided_by is not None and same_person(self.proposed_by, self.decided_by)

    def document(self) -> dict[str, Any]:
        """A decision as it is listed."""
        fields = (
            "position", "kind", "record_id", "version", "decision", "proposed_by", "proposed_at", "proposed_position",
            "decided_by", "decided_at",
        )  # fmt: skip
        return {field: getattr(self, field) for field in fields} | {"same_person": self.same_person}


def of_records(cur: Rows, program_id: UUID, keys: Sequence[str]) -> dict[str, list[Trail]]:
    """Stream key → what was proposed in that stream, oldest first."""
    ids = {stream_id(program_id, key): key for key in keys}
    found = _trails(cur, program_id, ids)
    return {key: found.get(id_, []) for id_, key in ids.items()}


def published(cur: Rows, program_id: UUID, offers: Sequence[str]) -> dict[str, dict[int, tuple[str, datetime]]]:
    """Stream key of an offer → version of its terms → (by whom, when) it was published: of two people by the second."""
    ids = {stream_id(program_id, key): key for key in offers}
    params = {"program_id": program_id, "ids": uuid_array(ids), "topics": [TOPIC_OF[TermsPublished]]}
    found: dict[str, dict[int, tuple[str, datetime]]] = {key: {} for key in offers}
    cur.execute(QUERIES["select_steps"], params)
    for originator_id, topic, state, _, recorded_at, actor in cur:
        body = codec.decode_state(topic, state)
        assert isinstance(body, TermsPublished)
        found[ids[originator_id]][body.terms_version] = (actor, recorded_at)
    return found


def who(trails: Sequence[Trail], version: int | None = None) -> dict[str, Any]:
    """proposed_by, decided_by and decided_at of a record (of a version of it), null where nobody did."""
    trail = next((one for one in reversed(trails) if one.version == version), None)
    return {
        "proposed_by": trail.proposed_by if trail else None,
        "decided_by": trail.decided_by if trail else None,
        "decided_at": trail.decided_at if trail else None,
    }


def page(cur: Rows, program_id: UUID, after: int = 0, limit: int = 1000) -> list[Trail]:
    """What was decided behind a position, in the order of the log. What needed one person only is not among it."""
    found: list[Trail] = []
    while len(found) < limit:
        params = {"program_id": program_id, "after": after, "limit": min(_AT_ONCE, limit - len(found))}
        rows = cur.execute(QUERIES["select_decided"], params).fetchall()
        if not rows:
            break
        trails = _trails(cur, program_id, {originator_id for _, originator_id in rows})
        at = {trail.position: trail for of_stream in trails.values() for trail in of_stream}
        found += [at[position] for position, _ in rows if position in at]
        after = rows[-1][0]
    return found


def _trails(cur: Rows, program_id: UUID, streams: Iterable[UUID]) -> dict[UUID, list[Trail]]:
    params = {"program_id": program_id, "ids": uuid_array(streams), "topics": _TOPICS}
    cur.execute(QUERIES["select_steps"], params)
    found: dict[UUID, list[Trail]] = {}
    for originator_id, topic, state, position, recorded_at, actor in cur:
        _step(found.setdefault(originator_id, []), codec.decode_state(topic, state), position, recorded_at, actor)
    return found


def _step(trails: list[Trail], body: Event, position: int, at: datetime, actor: str) -> None:
    """Take an event of a stream into its trails."""
    if isinstance(body, DisputeAnswered):
        trails[-1].answered_by, trails[-1].answered_at = actor, at
        return
    kind = _KIND_OF[type(body)]
    proposes, approves, _, id_fields, version_field = _KINDS[kind]
    said: Any = body.terms if isinstance(body, TermsProposed) else body
    version: int | None = getattr(said, version_field) if version_field else None
    if isinstance(body, proposes):
        record_id = "/".join(getattr(said, field) for field in id_fields)
        trails.append(Trail(kind, record_id, version, getattr(body, "proposed_by", actor), at, position))
        return
    run_id = getattr(body, "run_id", None)  # a stream of runs has several
    for trail in trails:
        if not trail.decision and trail.version == version and run_id in (None, trail.record_id):
            trail.decision = "approved" if isinstance(body, approves) else "rejected"
            trail.decided_by, trail.decided_at, trail.position = actor, at, position
            return
