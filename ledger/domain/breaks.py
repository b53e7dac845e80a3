"""Breaks: differences between our books and what somebody else says, each with a name, an age and an owner.

A break's id is derived from what differs, so that finding it again finds the same break. It is open until it is
resolved; one that comes back is opened again, unless somebody accepted exactly this difference.
"""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import money
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event
from ledger.domain.ids import BIGINT_MAX, check_external_id, check_slug, fitted
from ledger.domain.view import Needs, View

BANK_TYPES = (
    "unknown_line", "wrong_amount", "partial", "duplicate", "return_before_settlement", "currency_differs", "fee",
)  # fmt: skip
ORDER_TYPES = ("missing", "extra", "amount_differs", "currency_differs", "refunded_there", "refunded_here")
PAYOUT_FILE_TYPES = ("missing", "extra", "amount_differs", "currency_differs")
TYPES: dict[str, tuple[str, ...]] = {"bank": BANK_TYPES, "orders": ORDER_TYPES, "payout_file": PAYOUT_FILE_TYPES}
SOURCES = tuple(TYPES)
ALL_TYPES = tuple(sorted({type_ for types in TYPES.values() for type_ in types}))
# vanished is what a reconciliation says that does not find the difference any more; the others are a person's.
RESOLUTIONS = ("corrected", "matched", "accepted", "vanished")
PERSONS_RESOLUTIONS = tuple(one for one in RESOLUTIONS if one != "vanished")
CAUSES = ("timing", "merchant", "affiliate", "bank", "ledger", "other")
STATUSES = ("open", "resolved")
SUBJECT = "program"  # whose key seals a break's free text
DETAIL_MAX = 500
TEXT_MAX = 2000


class BreakOpened(Event, frozen=True):
    """A difference was found. source: bank, orders or payout_file; type: see TYPES; detail: one sentence without
    personal data; reference: an order's or payout's id; amounts: minor units; text is ciphertext, such as a bank
    line's own words."""

    break_id: str
    source: str
    type: str
    detail: str
    affiliate_id: str = ""
    reference: str = ""
    expected_amount: int | None = None
    found_amount: int | None = None
    currency: str = ""
    text: str = ""
    occurred_on: date | None = None


class BreakChanged(Event, frozen=True):
    """The break is still open, with other figures."""

    break_id: str
    detail: str
    expected_amount: int | None = None
    found_amount: int | None = None
    currency: str = ""


class BreakAssigned(Event, frozen=True):
    """owner looks after it from now on."""

    break_id: str
    owner: str


class BreakResolved(Event, frozen=True):
    """resolution: see RESOLUTIONS; cause: see CAUSES; reason is ciphertext."""

    break_id: str
    resolution: str
    cause: str
    reason: str = ""


class BreakReopened(Event, frozen=True):
    """The difference is back, or what was accepted has other figures now."""

    break_id: str
    detail: str
    expected_amount: int | None = None
    found_amount: int | None = None
    currency: str = ""


class BreakState(Struct):
    """opened: its first event; detail, amounts and currency: as of the newest. status: open or resolved.

    owner '': nobody. openings and resolutions count how often; resolution, cause and reason are the newest ones,
    '' while it is open.
    """

    opened: BreakOpened
    detail: str
    expected_amount: int | None
    found_amount: int | None
    currency: str
    status: str = "open"
    owner: str = ""
    openings: int = 1
    resolutions: int = 0
    resolution: str = ""
    cause: str = ""
    reason: str = ""


_OPENING = (BreakOpened, BreakReopened)
_FIGURES = ("expected_amount", "found_amount", "currency")


def key(break_id: str) -> str:
    """The stream key of a break."""
    return f"break:{break_id}"


def id_of(source: str, type_: str, reference: str) -> str:
    """A break's id, from what differs: source:type:reference, shortened where it is too long for an id."""
    return fitted(f"{source}:{type_}:{reference}")


def reason_field(resolutions: int) -> str:
    """The field to which the reason of the n-th resolution (from 1) is sealed."""
    return f"reason.{resolutions}"


def fold(state: BreakState | None, event: Event) -> BreakState:
    """BreakState after an event."""
    if isinstance(event, BreakOpened):
        return BreakState(event, event.detail, event.expected_amount, event.found_amount, event.currency)
    assert state is not None
    if isinstance(event, BreakAssigned):
        state.owner = event.owner
    elif isinstance(event, BreakResolved):
        state.status, state.resolutions = "resolved", state.resolutions + 1
        state.resolution, state.cause, state.reason = event.resolution, event.cause, event.reason
    elif isinstance(event, BreakChanged | BreakReopened):
        state.detail, state.currency = event.detail, event.currency
        state.expected_amount, state.found_amount = event.expected_amount, event.found_amount
        if isinstance(event, BreakReopened):
            state.status, state.openings = "open", state.openings + 1
            state.resolution = state.cause = state.reason = ""
    return state


def break_(view: View, break_id: str) -> BreakState | None:
    """What is known of a break."""
    state: BreakState | None = view.state(key(break_id))
    return state


def open_break(
    view: View,
    *,
    break_id: str,
    source: str,
    type: str,
    detail: str,
    affiliate_id: str = "",
    reference: str = "",
    expected_amount: int | None = None,
    found_amount: int | None = None,
    currency: str = "",
    text: str = "",
    occurred_on: date | None = None,
) -> Draft | None:
    """The event that a difference leads to, for any command's decision; None when there is nothing new to say.

    BreakOpened for a new one; BreakChanged for an open one with other figures; BreakReopened for one that was
    resolved, unless exactly these figures were accepted. text is sealed. Raises InvalidInput, and DiffersFromOriginal
    when the id stands for another kind of difference.
    """
    wanted = OpenBreak(
        break_id=break_id, source=source, type=type, detail=detail, affiliate_id=affiliate_id, reference=reference,
        expected_amount=expected_amount, found_amount=found_amount, currency=currency, text=text,
        occurred_on=occurred_on,
    )  # fmt: skip
    return wanted.draft(view)


def close_break(view: View, break_id: str, resolution: str = "vanished", cause: str = "timing") -> Draft | None:
    """BreakResolved for another command's decision; None when there is no such break or it is resolved already."""
    state = break_(view, break_id)
    if state is None or state.status == "resolved":
        return None
    return key(break_id), BreakResolved(break_id=break_id, resolution=resolution, cause=cause)


class OpenBreak(Command, frozen=True):
    """A difference was found; finding it again changes nothing. text: free text, stored as ciphertext."""

    name: ClassVar[str] = "open_break"
    break_id: str
    source: str
    type: str
    detail: str
    affiliate_id: str = ""
    reference: str = ""
    expected_amount: int | None = None
    found_amount: int | None = None
    currency: str = ""
    text: str = ""
    occurred_on: date | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "break_id", check_external_id("break_id", self.break_id))
        if self.source not in TYPES:
            raise InvalidInput("source", f"must be one of {', '.join(SOURCES)}")
        if self.type not in TYPES[self.source]:
            raise InvalidInput("type", f"must be one of {', '.join(TYPES[self.source])} for source {self.source}")
        if not self.detail.strip() or len(self.detail) > DETAIL_MAX:
            raise InvalidInput("detail", f"is required, at most {DETAIL_MAX} characters")
        if self.affiliate_id:
            check_slug("affiliate_id", self.affiliate_id)
        if self.reference:
            force_setattr(self, "reference", check_external_id("reference", self.reference))
        for field in ("expected_amount", "found_amount"):
            value = getattr(self, field)
            if value is not None and abs(value) > BIGINT_MAX:
                raise InvalidInput(field, "must be minor units in 64 bits")
        if self.currency:
            money.exponent("currency", self.currency)
        if len(self.text) > TEXT_MAX:
            raise InvalidInput("text", f"must be at most {TEXT_MAX} characters")

    def needs(self) -> Needs:
        """The break."""
        return Needs([key(self.break_id)])

    def decide(self, view: View) -> Decision:
        """BreakOpened, BreakChanged, BreakReopened or nothing. Raises DiffersFromOriginal."""
        stream, draft = key(self.break_id), self.draft(view)
        if draft is None:
            was = break_(view, self.break_id)
            assert was is not None
            at = view.answered_at(stream, BreakOpened, BreakReopened, BreakChanged)
            return Decision([], Answer("unchanged", _body(self.break_id, was.status), at))
        return Decision([draft], Answer("recorded", _body(self.break_id, "open")))

    def draft(self, view: View) -> Draft | None:
        """See open_break."""
        stream, was = key(self.break_id), break_(view, self.break_id)
        if was is None:
            text = view.seal(SUBJECT, stream, "text", self.text)
            given = {field: getattr(self, field) for field in BreakOpened.__struct_fields__}
            return stream, BreakOpened(**given | {"text": text})
        differs = [f for f in ("source", "type", "reference") if getattr(was.opened, f) != getattr(self, f)]
        if differs:
            raise DiffersFromOriginal(f"break {self.break_id}", differs)
        figures: dict[str, Any] = {field: getattr(self, field) for field in _FIGURES}
        same = all(getattr(was, field) == value for field, value in figures.items())
        if same and (was.status == "open" or was.resolution == "accepted"):
            return None
        event = BreakChanged if was.status == "open" else BreakReopened
        return stream, event(break_id=self.break_id, detail=self.detail, **figures)


def _body(break_id: str, status: str, **more: str) -> dict[str, Any]:
    return {"break_id": break_id, "status": status, **more}


def _known(view: View, break_id: str) -> BreakState:
    state = break_(view, break_id)
    if state is None:
        raise NotFound(f"break {break_id} does not exist")
    return state


class AssignBreak(Command, frozen=True):
    """Give an open break an owner: the staff id of whoever looks after it."""

    name: ClassVar[str] = "assign_break"
    break_id: str
    owner: str

    def __post_init__(self) -> None:
        force_setattr(self, "break_id", check_external_id("break_id", self.break_id))
        check_slug("owner", self.owner)

    def needs(self) -> Needs:
        """The break."""
        return Needs([key(self.break_id)])

    def decide(self, view: View) -> Decision:
        """BreakAssigned. Raises NotFound, and WrongState once it is resolved."""
        stream, state = key(self.break_id), _known(view, self.break_id)
        body = _body(self.break_id, state.status, owner=self.owner)
        if state.owner == self.owner:
            return Decision([], Answer("unchanged", body, view.answered_at(stream, BreakAssigned)))
        if state.status != "open":
            raise WrongState(f"break {self.break_id} is resolved already", status=state.status)
        return Decision([(stream, BreakAssigned(break_id=self.break_id, owner=self.owner))], Answer("recorded", body))


class ResolveBreak(Command, frozen=True):
    """Settle a break: resolution, cause, and for what a person decides a reason (stored as ciphertext)."""

    name: ClassVar[str] = "resolve_break"
    break_id: str
    resolution: str
    cause: str
    reason: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "break_id", check_external_id("break_id", self.break_id))
        if self.resolution not in RESOLUTIONS:
            raise InvalidInput("resolution", f"must be one of {', '.join(RESOLUTIONS)}")
        if self.cause not in CAUSES:
            raise InvalidInput("cause", f"must be one of {', '.join(CAUSES)}")
        if self.resolution != "vanished" and not self.reason.strip():
            raise InvalidInput("reason", f"is required to resolve a break as {self.resolution}")
        if len(self.reason) > TEXT_MAX:
            raise InvalidInput("reason", f"must be at most {TEXT_MAX} characters")

    def needs(self) -> Needs:
        """The break."""
        return Needs([key(self.break_id)])

    def decide(self, view: View) -> Decision:
        """BreakResolved. Raises NotFound, and WrongState when it was resolved otherwise."""
        stream, state = key(self.break_id), _known(view, self.break_id)
        body = _body(self.break_id, "resolved", resolution=self.resolution, cause=self.cause)
        if state.status == "resolved":
            if (state.resolution, state.cause) != (self.resolution, self.cause):
                raise WrongState(f"break {self.break_id} was resolved otherwise", resolution=state.resolution)
            return Decision([], Answer("unchanged", body, view.answered_at(stream, BreakResolved)))
        sealed = view.seal(SUBJECT, stream, reason_field(state.resolutions + 1), self.reason)
        resolved = BreakResolved(break_id=self.break_id, resolution=self.resolution, cause=self.cause, reason=sealed)
        return Decision([(stream, resolved)], Answer("recorded", body))
