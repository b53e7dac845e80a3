"""What every event and decision is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from msgspec import Meta, Struct

from ledger.domain.errors import InvalidInput

if TYPE_CHECKING:
    from ledger.domain.view import Needs, View

AHEAD_MAX = timedelta(days=1)
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339, with a zone")]


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A past-tense fact with primitive fields. Its topic is its class name, stable for ever."""


class Recorded(Struct, frozen=True, gc=False):
    """An event in its place in the log. Satisfies eventsourcing's DomainEventProtocol.

    position is 0 where it is not known (the library's repository does not say it).
    """

    originator_id: UUID
    originator_version: int
    body: Event
    position: int = 0
    recorded_at: datetime | None = None
    actor: str = ""
    key_id: str = ""
    request_id: str = ""
    cause: str = ""


# (stream key "kind:external-id", event): what a decision wants appended, in order.
Draft = tuple[str, Event]


class Answer(Struct, gc=False):
    """What a command's caller is told; the same again for a retry.

    outcome: 'recorded' (new), 'unchanged' (a retry, or nothing to do) or 'exception' (kept, not applied).
    position: of the command's last event, filled in when it is appended.
    """

    outcome: str
    body: dict[str, Any]
    position: int = 0


class Decision(Struct):
    """The events a command leads to (none for a retry), and the answer to its caller."""

    drafts: list[Draft]
    answer: Answer
    # the answer's position is that of the last draft of this stream, '' for the last of all
    own: str = ""


def own_last(drafts: list[Draft], stream: str) -> list[Draft]:
    """Drafts in order, those of other streams first: an answer's position is that of its command's last event, and a
    retry can find it again only as the last one in the command's own stream."""
    return sorted(drafts, key=lambda draft: draft[0] == stream)


State = TypeVar("State")
Fold = Callable[[State | None, Event], State]


def fold_all(fold: Fold[State], bodies: Iterable[Event], state: State | None = None) -> State | None:
    """The state that a stream's events add up to."""
    for body in bodies:
        state = fold(state, body)
    return state


def in_utc(field: str, instant: datetime) -> datetime:
    """The same instant in UTC. Raises InvalidInput when it has no zone."""
    if instant.tzinfo is UTC:
        return instant
    if instant.tzinfo is None:
        raise InvalidInput(field, "must have a zone, such as 2026-01-31T12:00:00Z")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(field, "must be an instant from the years 1 to 9999") from None


def check_not_ahead(field: str, instant: datetime, now: datetime) -> None:
    """Raise InvalidInput for what is said to have happened in the future: a day ahead is a matter of zones and clocks,
    more is a mistake."""
    if instant - now > AHEAD_MAX:
        raise too_far_ahead(field)


def too_far_ahead(field: str) -> InvalidInput:
    """How what lies in the future is refused."""
    return InvalidInput(field, "must not be more than a day in the future")


class Command(Struct, frozen=True, kw_only=True, gc=False):
    """An intention. decide() looks at the truth through a view and returns events; it changes nothing."""

    name: ClassVar[str] = ""

    @property
    def record_count(self) -> int:
        """How many records it decides about: bulk work is given more time."""
        return 1

    def needs(self) -> Needs:
        """What it will look at."""
        raise NotImplementedError

    def decide(self, view: View) -> Decision:
        """The events it leads to, and the answer. Raises Refusal."""
        raise NotImplementedError

    def needs_then(self, view: View) -> Needs | None:
        """What a command finds it needs once its first needs are loaded."""
        return None

    def needs_last(self, view: View) -> Needs | None:
        """What it finds it needs once those are loaded, too."""
        return None


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
