"""Erasure: a subject's data key is destroyed, and with it whatever is sealed under it, wherever a copy lies.

A subject is an affiliate, or a month of clicks. Proposed → erased or rejected; a rejected one may be proposed again.
Nothing brings an erased subject back, so two people are needed. Events stay, and every hash, proof and total with them.
"""

from __future__ import annotations

import re
from typing import ClassVar

from msgspec import Struct

from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Event
from ledger.domain.ids import same_person
from ledger.domain.view import Needs, View

# A closed list, because the reason of an erasure outlives what it erases: it must not be personal itself.
# request: the person asked (GDPR, article 17); retention: the time for which it was kept is over; mistake: it should
# never have been recorded.
GROUNDS = ("request", "retention", "mistake")
STATUSES = ("proposed", "erased", "rejected")
SUBJECT_PATTERN = r"^(affiliate:[A-Za-z0-9._-]{1,64}|traffic:[0-9]{4}-(0[1-9]|1[0-2]))$"
_SUBJECT = re.compile(SUBJECT_PATTERN.strip("^$"))

# What stands in an event in place of a text that came for an erased subject. No ciphertext is so short.
ERASED = "erased"


class ErasureProposed(Event, frozen=True):
    """A person asks for a subject's key to be destroyed. ground: one of GROUNDS."""

    subject: str
    ground: str
    proposed_by: str


class SubjectErased(Event, frozen=True):
    """A second person approved it: the key was destroyed in the transaction of this event. reapplied: the books were
    restored from a backup that is older than the erasure, and its key was destroyed anew."""

    subject: str
    ground: str
    reapplied: bool = False


class ErasureRejected(Event, frozen=True):
    """A second person refused it."""

    subject: str


class ErasureState(Struct):
    """status: proposed, erased or rejected. proposed_by: '' where an erasure was only reapplied."""

    subject: str
    ground: str
    proposed_by: str = ""
    status: str = "proposed"


def key(subject: str) -> str:
    """The stream key of a subject's erasure. subject: such as affiliate:ada or traffic:2026-01."""
    return f"erasure:{subject}"


def fold(state: ErasureState | None, event: Event) -> ErasureState:
    """ErasureState after an event."""
    if isinstance(event, ErasureProposed):
        return ErasureState(event.subject, event.ground, event.proposed_by)
    if isinstance(event, SubjectErased):
        state = state or ErasureState(event.subject, event.ground)
        state.status = "erased"
        return state
    assert state is not None
    state.status = "rejected"
    return state


def erasure(view: View, subject: str) -> ErasureState | None:
    """What is known of a subject's erasure."""
    state: ErasureState | None = view.state(key(subject))
    return state


def affiliate_key(affiliate_id: str) -> str:
    """The stream key of an affiliate's erasure, for a command's needs."""
    return key(f"affiliate:{affiliate_id}")


def refuse_erased(view: View, affiliate_id: str) -> None:
    """For commands that are about a person's own data, which nothing would keep. Raises WrongState."""
    state = erasure(view, f"affiliate:{affiliate_id}")
    if state is not None and state.status == "erased":
        raise WrongState(
            f"affiliate {affiliate_id} was erased: nothing personal is kept of it any more; whoever comes back enrols"
            " under another id",
            status="erased",
        )


def check_subject(field: str, subject: str) -> str:
    """A subject that can be erased. Raises InvalidInput."""
    if not _SUBJECT.fullmatch(subject):
        raise InvalidInput(field, "must be affiliate:ID, or traffic:YYYY-MM for the clicks of a month")
    return subject


def _check_ready(view: View, subject: str) -> None:
    """Raises NotFound, or WrongState naming what is open."""
    kind, _, id_ = subject.partition(":")
    if kind == "traffic":
        year, _, month = id_.partition("-")
        if (view.now.year, view.now.month) <= (int(year), int(month)):
            raise WrongState(f"{id_} is not over (in UTC): its clicks are still coming", status="running")
        return
    affiliate = view.affiliate(id_)
    if affiliate is None:
        raise NotFound(f"affiliate {id_} does not exist")
    if affiliate.status != "closed":
        raise WrongState(f"affiliate {id_} is {affiliate.status}: close it first", status=affiliate.status)
    if unsettled := view.unsettled(id_):
        listed = "; ".join(f"{what} {which}" for what, which in unsettled)
        raise WrongState(
            f"affiliate {id_} cannot be erased while something is open: {listed}. Settle it, or write it off, first",
            status="unsettled",
        )


def _needs(subject: str) -> Needs:
    return Needs([key(subject), *([subject] if subject.startswith("affiliate:") else [])])


def _body(subject: str, ground: str, status: str) -> dict[str, str]:
    return {"subject": subject, "ground": ground, "status": status}


class ProposeErasure(Command, frozen=True):
    """Ask for a subject's key to be destroyed. To be decided in a batch of its own: see View.unsettled."""

    name: ClassVar[str] = "propose_erasure"
    subject: str
    ground: str

    def __post_init__(self) -> None:
        check_subject("subject", self.subject)
        if self.ground not in GROUNDS:
            raise InvalidInput("ground", f"must be one of {', '.join(GROUNDS)}")

    def needs(self) -> Needs:
        """The erasure and its subject."""
        return _needs(self.subject)

    def decide(self, view: View) -> Decision:
        """ErasureProposed. Raises NotFound, WrongState while something is open or once it is erased on another ground,
        DiffersFromOriginal while it is proposed on another."""
        stream, state = key(self.subject), erasure(view, self.subject)
        body = _body(self.subject, self.ground, "proposed")
        if state is not None and state.status != "rejected":
            if state.ground == self.ground and state.proposed_by:
                return Decision([], Answer("unchanged", body, view.answered_at(stream, ErasureProposed)))
            if state.status == "erased":
                raise WrongState(f"{self.subject} is erased already", status="erased")
            raise DiffersFromOriginal(f"the erasure of {self.subject}", ["ground"])
        _check_ready(view, self.subject)
        proposed = ErasureProposed(subject=self.subject, ground=self.ground, proposed_by=view.actor)
        return Decision([(stream, proposed)], Answer("recorded", body))


class DecideErasure(Command, frozen=True):
    """A second person approves or rejects an erasure. Approving is final. To be decided in a batch of its own."""

    name: ClassVar[str] = "decide_erasure"
    subject: str
    approve: bool

    def __post_init__(self) -> None:
        check_subject("subject", self.subject)

    def needs(self) -> Needs:
        """The erasure and its subject."""
        return _needs(self.subject)

    def decide(self, view: View) -> Decision:
        """SubjectErased or ErasureRejected. Raises NotFound, SamePerson, WrongState."""
        stream, state = key(self.subject), erasure(view, self.subject)
        if state is None:
            raise NotFound(f"the erasure of {self.subject} was not proposed")
        after = "erased" if self.approve else "rejected"
        body = _body(self.subject, state.ground, after)
        if state.status == after:
            at = view.answered_at(stream, SubjectErased if self.approve else ErasureRejected)
            return Decision([], Answer("unchanged", body, at))
        if state.status != "proposed":
            raise WrongState(f"the erasure of {self.subject} is {state.status} already", status=state.status)
        if same_person(state.proposed_by, view.actor):
            raise SamePerson()
        if not self.approve:
            return Decision([(stream, ErasureRejected(subject=self.subject))], Answer("recorded", body))
        _check_ready(view, self.subject)  # once more: what was settled may be open again
        erased = SubjectErased(subject=self.subject, ground=state.ground)
        return Decision([(stream, erased)], Answer("recorded", body))


class ReapplyErasure(Command, frozen=True):
    """Say in restored books what two people decided behind the end of the backup. Only a restore sends it: it asks
    for nobody's approval, and for nothing to be settled, because the person is erased whatever these books say."""

    name: ClassVar[str] = "reapply_erasure"
    subject: str
    ground: str

    def __post_init__(self) -> None:
        check_subject("subject", self.subject)

    def needs(self) -> Needs:
        """The erasure."""
        return Needs([key(self.subject)])

    def decide(self, view: View) -> Decision:
        """SubjectErased, unless the books have it."""
        stream, state = key(self.subject), erasure(view, self.subject)
        body = _body(self.subject, self.ground, "erased")
        if state is not None and state.status == "erased":
            return Decision([], Answer("unchanged", body, view.answered_at(stream, SubjectErased)))
        erased = SubjectErased(subject=self.subject, ground=self.ground, reapplied=True)
        return Decision([(stream, erased)], Answer("recorded", body))
