"""An affiliate's statement of a period: its figures and its hash, issued once a version."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from ledger.domain.errors import WrongState
from ledger.domain.event import Answer, Command, Decision, Event
from ledger.domain.view import Needs, View


class Buckets(Struct, frozen=True, kw_only=True):
    """Minor units by bucket, as the affiliate reads them: above zero it is owed, or (paid) was paid."""

    pending: int = 0
    held: int = 0
    payable: int = 0
    in_transit: int = 0
    paid: int = 0


class Section(Struct, frozen=True, kw_only=True):
    """One currency of a statement. opening + what the lines moved = closing, bucket by bucket. late_count: lines
    of what happened before the period began."""

    currency: str
    opening: Buckets
    closing: Buckets
    line_count: int
    late_count: int


class StatementIssued(Event, frozen=True):
    """A version of a statement. cut_position: the last position of the log that it knows; hash: SHA-256 (hex) of its
    canonical JSON, lines included."""

    affiliate_id: str
    period: str
    version: int
    cut_position: int
    ends_at: datetime
    sections: list[Section]
    hash: str
    starts_at: datetime | None = None


class StatementState(Struct):
    """Every version of a statement, oldest first; a period's reissue makes one only where something differs."""

    versions: list[StatementIssued] = []


def key(affiliate_id: str, period: str) -> str:
    """The stream key of a statement."""
    return f"statement:{affiliate_id}/{period}"


def fold(state: StatementState | None, event: Event) -> StatementState:
    """StatementState after an event."""
    assert isinstance(event, StatementIssued)
    state = state or StatementState([])
    state.versions.append(event)
    return state


class IssueStatement(Command, frozen=True):
    """Issue a version of a statement, computed from the books as of its period's cut, which never change."""

    name: ClassVar[str] = "issue_statement"
    statement: StatementIssued

    def needs(self) -> Needs:
        """The statement."""
        return Needs([key(self.statement.affiliate_id, self.statement.period)])

    def decide(self, view: View) -> Decision:
        """StatementIssued, once a version. Raises WrongState when the version was issued with another hash."""
        new = self.statement
        stream = key(new.affiliate_id, new.period)
        body = {"affiliate_id": new.affiliate_id, "period": new.period, "version": new.version, "hash": new.hash}
        state: StatementState | None = view.state(stream)
        same = next((one for one in state.versions if one.version == new.version), None) if state else None
        if same is None:
            return Decision([(stream, new)], Answer("recorded", body))
        if same.hash != new.hash:
            raise WrongState(f"the statement of {new.affiliate_id} for {new.period} was issued with another hash")
        return Decision([], Answer("unchanged", body, view.answered_at(stream, StatementIssued, version=new.version)))
