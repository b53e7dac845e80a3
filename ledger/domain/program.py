"""A program: one merchant's or network's affiliate program, the unit of everything."""

from __future__ import annotations

from typing import ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from ledger.domain import money
from ledger.domain.errors import DiffersFromOriginal, InvalidInput
from ledger.domain.event import Answer, Command, Decision, Event
from ledger.domain.ids import check_slug
from ledger.domain.view import Needs, View

CLICK_WAIT_HOURS = 72
PAYOUT_METHOD_WAIT_HOURS = 72


class ProgramOpened(Event, frozen=True):
    """The first event of a program's books."""

    program: str
    currency: str
    zone: str = "UTC"
    click_wait_hours: int = CLICK_WAIT_HOURS
    payout_method_wait_hours: int = PAYOUT_METHOD_WAIT_HOURS


class ProgramState(Struct):
    """currency: where none is named; zone: of its days; click_wait_hours: for a click not seen yet;
    payout_method_wait_hours: from the approval of a payout method until it is in force."""

    program: str
    currency: str
    zone: str
    click_wait_hours: int
    payout_method_wait_hours: int


def key(program: str) -> str:
    """The stream key of the program itself."""
    return f"program:{program}"


def fold(state: ProgramState | None, event: Event) -> ProgramState:
    """ProgramState after an event."""
    assert isinstance(event, ProgramOpened)
    return ProgramState(
        event.program, event.currency, event.zone, event.click_wait_hours, event.payout_method_wait_hours
    )


class OpenProgram(Command, frozen=True):
    """Open a program's books."""

    name: ClassVar[str] = "open_program"
    program: str
    currency: str
    zone: str = "UTC"
    click_wait_hours: int = CLICK_WAIT_HOURS
    payout_method_wait_hours: int = PAYOUT_METHOD_WAIT_HOURS

    def __post_init__(self) -> None:
        check_slug("program", self.program)
        money.exponent("currency", self.currency)
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise InvalidInput("zone", "must be a time zone's name such as Europe/London") from None
        if not 0 <= self.payout_method_wait_hours <= 720:
            raise InvalidInput("payout_method_wait_hours", "must be from 0 to 720 hours")

    def needs(self) -> Needs:
        """The program's own stream."""
        return Needs([key(self.program)])

    def decide(self, view: View) -> Decision:
        """ProgramOpened, once. Raises DiffersFromOriginal."""
        body = {"program": self.program, "currency": self.currency, "zone": self.zone}
        if (was := view.program) is not None:
            settings = ("currency", "zone", "click_wait_hours", "payout_method_wait_hours")
            differs = [f for f in settings if getattr(was, f) != getattr(self, f)]
            if differs:
                raise DiffersFromOriginal(f"program {self.program}", differs)
            return Decision([], Answer("unchanged", body, view.answered_at(key(self.program), ProgramOpened)))
        opened = ProgramOpened(
            program=self.program,
            currency=self.currency,
            zone=self.zone,
            click_wait_hours=self.click_wait_hours,
            payout_method_wait_hours=self.payout_method_wait_hours,
        )
        return Decision([(key(self.program), opened)], Answer("recorded", body))
