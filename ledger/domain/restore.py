"""Restores: books that came from a backup say so, and pay nobody until a person has compared them with the bank.

What was paid after the backup was taken is not in the restored books: paying from them at once could pay twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain.errors import DiffersFromOriginal, InvalidInput, WrongState
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.view import Needs, View

KEY = "restores:books"
LOGS = ("books", "traffic")
# Who restores or confirms is no affiliate: the reason is sealed under the program's own key.
SUBJECT = "program"


class Loss(Struct, frozen=True, gc=False):
    """Positions of a log, first to last, that were known outside the database and are in no backup that was used."""

    log: str
    first: int
    last: int


class BooksRestored(Event, frozen=True):
    """The program was restored from a backup. position, traffic_position: the last ones of the two logs that the
    backup held (0: an empty log); lost: what somebody accepted to lose."""

    position: int
    traffic_position: int
    backup_created_at: datetime
    lost: list[Loss] = []


class BankMatched(Event, frozen=True):
    """A person compared the restored books with the bank: payouts may go on. position: that of the restore it
    confirms; reason (what was compared, and what it showed) is ciphertext."""

    position: int
    reason: str


class RestoreState(Struct):
    """The newest restore, and its confirmation once there is one."""

    restored: BooksRestored
    matched: BankMatched | None = None


def fold(state: RestoreState | None, event: Event) -> RestoreState:
    """RestoreState after an event."""
    if isinstance(event, BooksRestored):
        return RestoreState(event)
    assert state is not None
    assert isinstance(event, BankMatched)
    state.matched = event
    return state


def restore_state(view: View) -> RestoreState | None:
    """The program's newest restore, None if its books were never restored. Name KEY in a command's needs."""
    state: RestoreState | None = view.state(KEY)
    return state


def payouts_blocked(view: View) -> bool:
    """Whether payouts may neither be initiated nor rendered: the books were restored, and nobody has confirmed yet
    that they agree with the bank. Name KEY in a command's needs."""
    state = restore_state(view)
    return state is not None and state.matched is None


def reason_field(position: int) -> str:
    """The field that a confirmation's reason is sealed for."""
    return f"reason.{position}"


class RecordRestore(Command, frozen=True):
    """Say in the books that they came from a backup. position: the restored books' last one, before this event."""

    name: ClassVar[str] = "record_restore"
    position: int
    backup_created_at: datetime
    traffic_position: int = 0
    lost: list[Loss] = []

    def __post_init__(self) -> None:
        if self.position < 1:
            raise InvalidInput("position", "must be 1 or more: books that were opened have an event")
        if self.traffic_position < 0:
            raise InvalidInput("traffic_position", "must be 0 or more")
        force_setattr(self, "backup_created_at", in_utc("backup_created_at", self.backup_created_at))
        ends = {"books": self.position, "traffic": self.traffic_position}
        for loss in self.lost:
            if loss.log not in LOGS or loss.first != ends[loss.log] + 1 or loss.last < loss.first:
                raise InvalidInput("lost", "must name books or traffic, and positions that follow the restored ones")

    def needs(self) -> Needs:
        """Earlier restores."""
        return Needs([KEY])

    def decide(self, view: View) -> Decision:
        """BooksRestored. Raises DiffersFromOriginal for the same position with other content, WrongState for one
        behind which these books were restored already."""
        body = {"restored_position": self.position, "payouts": "blocked until the bank is matched"}
        event = BooksRestored(
            position=self.position,
            traffic_position=self.traffic_position,
            backup_created_at=self.backup_created_at,
            lost=self.lost,
        )
        if (state := restore_state(view)) is not None:
            was = state.restored
            if was == event:
                return Decision([], Answer("unchanged", body, view.answered_at(KEY, BooksRestored)))
            if was.position == self.position:
                fields = ("traffic_position", "backup_created_at", "lost")
                differs = [f for f in fields if getattr(was, f) != getattr(event, f)]
                raise DiffersFromOriginal(f"the restore at position {self.position}", differs)
            if was.position > self.position:
                raise WrongState(f"these books were restored at position {was.position}, after {self.position}")
        return Decision([(KEY, event)], Answer("recorded", body))


class ConfirmBankMatched(Command, frozen=True):
    """A person has compared the restored books with the bank: payouts may go on."""

    name: ClassVar[str] = "confirm_bank_matched"
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip() or len(self.reason) > 2000:
            raise InvalidInput("reason", "is required, at most 2000 characters: what was compared, and what it showed")

    def needs(self) -> Needs:
        """The restore."""
        return Needs([KEY])

    def decide(self, view: View) -> Decision:
        """BankMatched. Raises WrongState when nothing was restored, DiffersFromOriginal when it was confirmed with
        another reason."""
        state = restore_state(view)
        if state is None:
            raise WrongState("these books were never restored from a backup: there is nothing to confirm")
        position = state.restored.position
        body = {"restored_position": position, "payouts": "allowed"}
        if state.matched is not None:
            kept = view.unseal(SUBJECT, KEY, reason_field(position), state.matched.reason)
            if kept is not None and kept != self.reason:
                raise DiffersFromOriginal(f"the bank match of the restore at position {position}", ["reason"])
            return Decision([], Answer("unchanged", body, view.answered_at(KEY, BankMatched)))
        sealed = view.seal(SUBJECT, KEY, reason_field(position), self.reason)
        return Decision([(KEY, BankMatched(position=position, reason=sealed))], Answer("recorded", body))
