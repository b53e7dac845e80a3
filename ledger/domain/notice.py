"""Notices to affiliates: queued in the decision they tell of, sent after its commit, at least once.

A notice names its template and facts without personal data; the address is looked up and the text made when it is
sent. Its id follows from its cause, so that a decision taken again cannot queue it twice.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import ClassVar

from msgspec import Struct

from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.event import Answer, Command, Decision, Draft, Event
from ledger.domain.ids import check_external_id
from ledger.domain.view import Needs, View

# template → the facts it tells. An instant is RFC 3339 text in UTC and its name ends in _at or _from; an amount is
# minor units and comes with a currency.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "payout_method_proposed": ("currency", "method", "method_version"),
    "payout_method_approved": ("currency", "method", "method_version", "effective_from"),
    "payout_method_rejected": ("currency", "method", "method_version"),
    "payout_method_withdrawn": ("currency", "method", "method_version"),
    "statement_issued": ("period", "statement_version"),
    "payout_initiated": ("payout_id", "amount", "currency"),
    "payout_settled": ("payout_id", "amount", "currency"),
    "payout_failed": ("payout_id", "amount", "currency"),
    "payout_returned": ("payout_id", "amount", "currency"),
    "dispute_answered": ("dispute_id", "period"),
}

Facts = dict[str, str | int]

ATTEMPTS_MAX = 10
FIRST_RETRY = timedelta(minutes=5)  # doubled from attempt to attempt
LONGEST_RETRY = timedelta(hours=12)
_ERROR_CLASS = re.compile(r"[a-z0-9_]{1,64}")


class NoticeQueued(Event, frozen=True):
    """An affiliate is to be told something. facts hold no personal data."""

    notice_id: str
    affiliate_id: str
    template: str
    facts: dict[str, str | int]


class NoticeSent(Event, frozen=True):
    """A mail server took it over. channel: 'smtp'."""

    notice_id: str
    channel: str


class NoticeFailed(Event, frozen=True):
    """An attempt failed (1, 2, …), maybe after it was delivered. retry_at None: given up."""

    notice_id: str
    attempt: int
    error_class: str
    retry_at: datetime | None = None


class NoticeState(Struct):
    """status: queued, sent or failed (given up). retry_at: not before then, when an attempt failed."""

    queued: NoticeQueued
    status: str = "queued"
    attempts: int = 0
    retry_at: datetime | None = None


def key(notice_id: str) -> str:
    """The stream key of a notice."""
    return f"notice:{notice_id}"


def notice(view: View, notice_id: str) -> NoticeState | None:
    """A notice, None if it was never queued."""
    state: NoticeState | None = view.state(key(notice_id))
    return state


def queue(notice_id: str, affiliate_id: str, template: str, facts: Facts) -> Draft:
    """A notice to append with the decision it tells of. notice_id: made of its cause, such as
    payout_method/ada/EUR/2/proposed; facts: exactly those of the template."""
    assert set(facts) == set(TEMPLATES[template]), (template, sorted(facts))
    check_external_id("notice_id", notice_id)
    event = NoticeQueued(notice_id=notice_id, affiliate_id=affiliate_id, template=template, facts=facts)
    return key(notice_id), event


def fold(state: NoticeState | None, event: Event) -> NoticeState:
    """NoticeState after an event."""
    if isinstance(event, NoticeQueued):
        return NoticeState(event)
    assert state is not None
    if isinstance(event, NoticeSent):
        state.status, state.retry_at = "sent", None
    else:
        assert isinstance(event, NoticeFailed)
        state.attempts, state.retry_at = event.attempt, event.retry_at
        state.status = "queued" if event.retry_at else "failed"
    return state


def instant_text(instant: datetime) -> str:
    """An instant in UTC as a fact: 2026-01-31T12:00:00Z."""
    return instant.isoformat().replace("+00:00", "Z")


class RecordNoticeSent(Command, frozen=True):
    """A mail server took a notice over."""

    name: ClassVar[str] = "record_notice_sent"
    notice_id: str
    channel: str = "smtp"

    def needs(self) -> Needs:
        """The notice."""
        return Needs([key(self.notice_id)])

    def decide(self, view: View) -> Decision:
        """NoticeSent, once; also after it was given up. Raises NotFound."""
        stream, state = key(self.notice_id), _found(view, self.notice_id)
        body = {"notice_id": self.notice_id, "status": "sent"}
        if state.status == "sent":
            return Decision([], Answer("unchanged", body, view.answered_at(stream, NoticeSent)))
        sent = NoticeSent(notice_id=self.notice_id, channel=self.channel)
        return Decision([(stream, sent)], Answer("recorded", body))


class RecordNoticeFailed(Command, frozen=True):
    """An attempt to send a notice failed. error_class: what kind of failure, such as smtp_550 or timeout, never the
    server's words, which may repeat the address. final: another attempt would not help."""

    name: ClassVar[str] = "record_notice_failed"
    notice_id: str
    attempt: int
    error_class: str
    final: bool = False

    def __post_init__(self) -> None:
        if not _ERROR_CLASS.fullmatch(self.error_class):
            raise InvalidInput("error_class", "must be 1-64 of a-z 0-9 _")

    def needs(self) -> Needs:
        """The notice."""
        return Needs([key(self.notice_id)])

    def decide(self, view: View) -> Decision:
        """NoticeFailed with the instant of the next attempt, or none when it is given up. Raises NotFound."""
        stream, state = key(self.notice_id), _found(view, self.notice_id)
        if self.attempt <= state.attempts or state.status != "queued":
            at = view.answered_at(stream, NoticeFailed, NoticeSent)
            return Decision([], Answer("unchanged", {"notice_id": self.notice_id, "status": state.status}, at))
        retry_at = None
        if not self.final and self.attempt < ATTEMPTS_MAX:
            retry_at = view.now + min(FIRST_RETRY * 2 ** (self.attempt - 1), LONGEST_RETRY)
        failed = NoticeFailed(
            notice_id=self.notice_id, attempt=self.attempt, error_class=self.error_class, retry_at=retry_at
        )
        status = "queued" if retry_at else "failed"
        return Decision([(stream, failed)], Answer("recorded", {"notice_id": self.notice_id, "status": status}))


def _found(view: View, notice_id: str) -> NoticeState:
    state = notice(view, notice_id)
    if state is None:
        raise NotFound(f"notice {notice_id} does not exist")
    return state
