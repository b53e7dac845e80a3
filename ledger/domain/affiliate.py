"""An affiliate: who sends the customers. Applied → approved ⇄ suspended; closed ends it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import erasure
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState
from ledger.domain.event import BEGINNING, Answer, Command, Decision, Draft, Event, in_utc
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


class AffiliateGrouped(Event, frozen=True):
    """From effective_from on the affiliate is in this group, by which plans may pay it otherwise; '': in none."""

    affiliate_id: str
    group: str
    effective_from: datetime


class AffiliateRecruited(Event, frozen=True):
    """recruiter_id brought the affiliate into the program, and may earn with it, by sales from effective_from on. Said
    once and for ever."""

    affiliate_id: str
    recruiter_id: str
    effective_from: datetime = BEGINNING


class Membership(Struct, frozen=True):
    """In which group an affiliate is, from when; group '': in none."""

    group: str
    effective_from: datetime


class AffiliateState(Struct):
    """status: applied, approved, suspended or closed. groups: as they were recorded; recruiter_id '': nobody's."""

    affiliate_id: str
    status: str
    display_name: str = ""
    email: str = ""
    note: str = ""
    decisions: int = 0
    groups: list[Membership] = []
    recruiter_id: str = ""
    recruited_at: datetime | None = None

    def membership_at(self, instant: datetime) -> Membership:
        """The one with the latest effective_from that is not after instant; among equals the last recorded."""
        best = _NO_GROUP
        for one in self.groups:
            if best.effective_from <= one.effective_from <= instant:
                best = one
        return best

    def recruiter_at(self, instant: datetime) -> str:
        """Who may earn by a sale of an instant, '' for nobody."""
        return self.recruiter_id if self.recruited_at is not None and self.recruited_at <= instant else ""

    def group_at(self, instant: datetime) -> str:
        """The group that the affiliate is in at an instant, '' for none."""
        return self.membership_at(instant).group


_NO_GROUP = Membership("", BEGINNING)

_STATUS: dict[type[Event], str] = {
    AffiliateEnrolled: "applied",
    AffiliateApproved: "approved",
    AffiliateSuspended: "suspended",
    AffiliateReinstated: "approved",
    AffiliateClosed: "closed",
}

PERSONAL_FIELDS = ("display_name", "email", "note")
GROUP_PATTERN = r"^[a-z0-9_-]{0,40}$"
_GROUP = re.compile(r"[a-z0-9_-]{0,40}")
RECRUITERS_MOST = 50  # how long a chain of recruiters may be


def key(affiliate_id: str) -> str:
    """The stream key, which is also the subject whose data key encrypts the affiliate's personal data."""
    return f"affiliate:{affiliate_id}"


def fold(state: AffiliateState | None, event: Event) -> AffiliateState:
    """AffiliateState after an event."""
    if isinstance(event, AffiliateEnrolled):
        return AffiliateState(event.affiliate_id, "applied", event.display_name, event.email, event.note)
    assert state is not None
    match event:
        case AffiliateGrouped():
            state.groups.append(Membership(event.group, event.effective_from))
        case AffiliateRecruited():
            state.recruiter_id, state.recruited_at = event.recruiter_id, event.effective_from
        case _:
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
        state = _known(view, self.affiliate_id)
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


# --- what plans look at ------------------------------------------------------------------------------------


class GroupAffiliate(Command, frozen=True):
    """Put an affiliate into a group ('': into none), from now on unless effective_from says later."""

    name: ClassVar[str] = "group_affiliate"
    affiliate_id: str
    group: str
    effective_from: datetime | None = None

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        if not _GROUP.fullmatch(self.group):
            raise InvalidInput("group", "must be 1-40 characters of a-z 0-9 _ -, or empty for none")
        if self.effective_from is not None:
            force_setattr(self, "effective_from", in_utc("effective_from", self.effective_from))

    def needs(self) -> Needs:
        """The affiliate's stream."""
        return Needs([key(self.affiliate_id)])

    def decide(self, view: View) -> Decision:
        """AffiliateGrouped, unless it is so already. Raises NotFound, InvalidInput."""
        state = _known(view, self.affiliate_id)
        stream, starts = key(self.affiliate_id), self.effective_from
        then = state.membership_at(view.now if starts is None else starts)
        if then.group == self.group and starts in (None, then.effective_from):
            of: dict[str, Any] = {"group": then.group, "effective_from": then.effective_from}
            # who was never in a group is in none since it was enrolled
            at = view.answered_at(stream, AffiliateGrouped, **of) or view.answered_at(stream, AffiliateEnrolled)
            return Decision([], Answer("unchanged", {"affiliate_id": self.affiliate_id, **of}, at))
        # what was sold so far stays as it was priced
        if starts is not None and starts < view.now:
            raise InvalidInput("effective_from", "must not lie behind now: what was sold stays as it was priced")
        of = {"group": self.group, "effective_from": starts or view.now}
        grouped = AffiliateGrouped(affiliate_id=self.affiliate_id, **of)
        return Decision([(stream, grouped)], Answer("recorded", {"affiliate_id": self.affiliate_id, **of}))


class RecruitAffiliate(Command, frozen=True):
    """Say who recruited an affiliate, once and for ever: it may earn by sales from now on."""

    name: ClassVar[str] = "recruit_affiliate"
    affiliate_id: str
    recruiter_id: str

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        check_slug("recruiter_id", self.recruiter_id)
        if self.affiliate_id == self.recruiter_id:
            raise InvalidInput("recruiter_id", "must be another affiliate: nobody recruits themselves")

    def needs(self) -> Needs:
        """Both affiliates' streams."""
        return Needs([key(self.affiliate_id), key(self.recruiter_id)])

    def decide(self, view: View) -> Decision:
        """AffiliateRecruited. Raises NotFound, WrongState for an affiliate that has another recruiter, InvalidInput
        where the recruiter was recruited, over others perhaps, by this affiliate."""
        state = _known(view, self.affiliate_id)
        stream = key(self.affiliate_id)
        body = {"affiliate_id": self.affiliate_id, "recruiter_id": self.recruiter_id}
        if state.recruiter_id == self.recruiter_id:
            return Decision([], Answer("unchanged", body, view.answered_at(stream, AffiliateRecruited)))
        if state.recruiter_id:
            raise WrongState(
                f"affiliate {self.affiliate_id} was recruited by {state.recruiter_id}, and that stays so",
                recruiter_id=state.recruiter_id,
            )
        above = _known(view, self.recruiter_id)
        for _ in range(RECRUITERS_MOST):
            if not above.recruiter_id:
                recruited = AffiliateRecruited(**body, effective_from=view.now)
                return Decision([(stream, recruited)], Answer("recorded", body))
            if above.recruiter_id == self.affiliate_id:
                raise InvalidInput("recruiter_id", f"was recruited by {self.affiliate_id}, itself or over others")
            above = _known(view, above.recruiter_id)
        raise InvalidInput("recruiter_id", f"would make a chain of more than {RECRUITERS_MOST} recruiters")


def _known(view: View, affiliate_id: str) -> AffiliateState:
    state = view.affiliate(affiliate_id)
    if state is None:
        raise NotFound(f"affiliate {affiliate_id} does not exist")
    return state
