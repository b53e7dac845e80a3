"""An affiliate: who sends the customers. Applied → approved ⇄ suspended; closed ends it."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from ledger.domain import erasure
from ledger.domain.errors import DiffersFromOriginal, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event
from ledger.domain.ids import check_slug
from ledger.domain.view import Needs, View


class AffiliateEnrolled(Event, frozen=True):
    """An affiliate applied. display_name, email and note are ciphertext under the affiliate's own key."""

    affiliate_id: str
    display_name: str = ""
    email: str = ""
    note: str = ""


class AffiliateApproved(Event, frozen=True):
    """The affiliate earns from now on."""

    affiliate_id: str


class AffiliateSuspended(Event, frozen=True):
    """Commissions are held from now on. reason is ciphertext."""

    affiliate_id: str
    reason: str = ""


class AffiliateReinstated(Event, frozen=True):
    """The suspension is over; what it held is released next (ReleaseSuspended, a few at a time)."""

    affiliate_id: str
    reason: str = ""


class AffiliateClosed(Event, frozen=True):
    """The affiliate earns nothing new. reason is ciphertext."""

    affiliate_id: str
    reason: str = ""


class AffiliateState(Struct):
    """status: applied, approved, suspended or closed."""

    affiliate_id: str
    status: str
    display_name: str = ""
    email: str = ""
    note: str = ""
    decisions: int = 0


_STATUS: dict[type[Event], str] = {
    AffiliateEnrolled: "applied",
    AffiliateApproved: "approved",
    AffiliateSuspended: "suspended",
    AffiliateReinstated: "approved",
    AffiliateClosed: "closed",
}

PERSONAL_FIELDS = ("display_name", "email", "note")


def key(affiliate_id: str) -> str:
    """The stream key, which is also the subject whose data key encrypts the affiliate's personal data."""
    return f"affiliate:{affiliate_id}"


def fold(state: AffiliateState | None, event: Event) -> AffiliateState:
    """AffiliateState after an event."""
    if isinstance(event, AffiliateEnrolled):
        return AffiliateState(event.affiliate_id, "applied", event.display_name, event.email, event.note)
    assert state is not None
    state.decisions += 1
    state.status = _STATUS[type(event)]
    return state


class EnrolAffiliate(Command, frozen=True):
    """Take an application; personal fields arrive as text and are stored as ciphertext."""

    name: ClassVar[str] = "enrol_affiliate"
    affiliate_id: str
    display_name: str = ""
    email: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)

    def needs(self) -> Needs:
        """The affiliate's stream."""
        return Needs([key(self.affiliate_id)])

    def decide(self, view: View) -> Decision:
        """AffiliateEnrolled, once. Raises DiffersFromOriginal, WrongState for an affiliate that was erased."""
        stream = key(self.affiliate_id)
        body = {"affiliate_id": self.affiliate_id, "status": "applied"}
        if (was := view.affiliate(self.affiliate_id)) is not None:
            erasure.refuse_erased(view, self.affiliate_id)
            differs = []
            for field in PERSONAL_FIELDS:
                kept = view.unseal(stream, stream, field, getattr(was, field))
                if kept is not None and kept != getattr(self, field):
                    differs.append(field)
            if differs:
                raise DiffersFromOriginal(f"affiliate {self.affiliate_id}", differs)
            return Decision([], Answer("unchanged", body, view.answered_at(stream, AffiliateEnrolled)))
        sealed = {f: view.seal(stream, stream, f, getattr(self, f)) for f in PERSONAL_FIELDS}
        enrolled = AffiliateEnrolled(affiliate_id=self.affiliate_id, **sealed)
        return Decision([(stream, enrolled)], Answer("recorded", body))


# decision → (event, statuses it may follow, status that makes it a retry)
_DECISIONS: dict[str, tuple[type[Event], tuple[str, ...], str]] = {
    "approve": (AffiliateApproved, ("applied",), "approved"),
    "suspend": (AffiliateSuspended, ("approved",), "suspended"),
    "reinstate": (AffiliateReinstated, ("suspended",), "approved"),
    "close": (AffiliateClosed, ("applied", "approved", "suspended"), "closed"),
}


class DecideAffiliate(Command, frozen=True):
    """approve, suspend, reinstate or close an affiliate; reason is free text, stored as ciphertext."""

    name: ClassVar[str] = "decide_affiliate"
    affiliate_id: str
    decision: str
    reason: str = ""

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        assert self.decision in _DECISIONS

    def needs(self) -> Needs:
        """The affiliate's stream."""
        return Needs([key(self.affiliate_id)])

    def decide(self, view: View) -> Decision:
        """One event. Raises NotFound, WrongState."""
        stream = key(self.affiliate_id)
        state = view.affiliate(self.affiliate_id)
        if state is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        event_type, allowed, after = _DECISIONS[self.decision]
        body = {"affiliate_id": self.affiliate_id, "status": after}
        if state.status == after:
            return Decision([], Answer("unchanged", body, view.answered_at(stream, event_type)))
        if state.status not in allowed:
            raise WrongState(
                f"affiliate {self.affiliate_id} is {state.status}: {self.decision} needs {' or '.join(allowed)}",
                status=state.status,
            )
        drafts: list[Draft] = []
        if event_type is AffiliateApproved:
            drafts.append((stream, AffiliateApproved(affiliate_id=self.affiliate_id)))
        else:
            reason = view.seal(stream, stream, f"reason.{state.decisions + 1}", self.reason)
            drafts.append((stream, event_type(affiliate_id=self.affiliate_id, reason=reason)))
        return Decision(drafts, Answer("recorded", body))
