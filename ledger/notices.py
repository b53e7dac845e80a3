"""Sending the notices that decisions queued: at least once, and a repeat can be recognised by its Message-ID.

A notice that fails is tried again later; a mail server that takes nothing stops the sending, and costs no notice an
attempt. No address stands in an event or in a log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain import affiliate, money, notice, program
from ledger.domain.event import Recorded
from ledger.domain.ids import stream_id
from ledger.domain.notice import Facts, NoticeState, RecordNoticeFailed, RecordNoticeSent
from ledger.domain.topics import FOLDS
from ledger.mail import NotDelivered, Transport, Unreachable
from ledger.notice_texts import FRAMES, LANGUAGES, METHOD_NAMES, TEXTS
from ledger.projections import directory
from ledger.store import log
from ledger.store.vault import Vault

PAGE = 200
POLICY = policy.SMTP.clone(cte_type="7bit")  # not every server takes 8 bits
EXPIRES = timedelta(days=30)  # an older one tells nothing new, as when a mail server is named for the first time
LOST_IN_A_ROW = 2  # connections lost in the middle of a message, before the server counts as unreachable


class Sending(NamedTuple):
    """What came of one pass. stopped_by: '' or why the mail server takes nothing (connect, tls, auth …)."""

    sent: int
    failed: int
    stopped_by: str = ""


class _Letter(NamedTuple):
    """A notice, to whom, and in which zone its instants are told. address None: the affiliate's key is erased."""

    notice_id: str
    state: NoticeState
    queued_at: datetime
    position: int
    address: str | None
    zone: str


def _always() -> bool:
    return True


def send_due(
    ledger: CommissionLedger,
    program_name: str,
    meta: Meta,
    transport: Transport | None,
    *,
    language: str = "en",
    may_go_on: Callable[[], bool] = _always,
) -> Sending:
    """Send every queued notice whose time has come. Without a transport they stay queued and listed.

    language: en, de, pt or ru. may_go_on: asked before each message, such as whether a lease still holds. Raises
    Unavailable when the database is away; what was sent and could not be recorded is sent again next time.
    """
    assert language in LANGUAGES
    sent = failed = lost = 0
    if transport is None:
        return Sending(0, 0)
    after = ""
    try:
        while True:
            after, letters = _due(ledger, program_name, after)
            for letter in letters:
                if not may_go_on():
                    return Sending(sent, failed)
                error = _send(ledger, program_name, letter, transport, language)
                _record(ledger, program_name, letter, transport, error, meta)
                sent, failed = sent + (error is None), failed + (error is not None)
                lost = lost + 1 if error is not None and error.error_class in ("timeout", "disconnected") else 0
                if lost >= LOST_IN_A_ROW and error is not None:
                    return Sending(sent, failed, error.error_class)
            if not after:
                return Sending(sent, failed)
    except Unreachable as gone:
        return Sending(sent, failed, gone.error_class)
    finally:
        transport.close()


def _due(ledger: CommissionLedger, program_name: str, after: str) -> tuple[str, list[_Letter]]:
    """(where to go on, '' at the end; the notices of a page that are due), read on one connection that is given back
    before anything is sent."""
    now = ledger.clock()
    with ledger.reading(program_name) as (cur, id_):
        entries = directory.page(cur, id_, "notice", after=after, limit=PAGE, status="queued")
        streams: dict[UUID, list[Recorded]] = {}
        home = stream_id(id_, program.key(program_name))
        people = {e.affiliate_id: stream_id(id_, affiliate.key(e.affiliate_id)) for e in entries}
        wanted = [e.originator_id for e in entries] + list(people.values()) + [home]
        for record in log.select_streams(cur, id_, wanted):
            streams.setdefault(record.originator_id, []).append(record)
        vault = Vault(cur, ledger.secrets, id_, now)
        addresses: dict[str, str | None] = {}
        for affiliate_id, stream in people.items():
            who, subject = _folded("affiliate", streams.get(stream, [])), affiliate.key(affiliate_id)
            addresses[affiliate_id] = vault.unseal(subject, subject, "email", who.email) if who else ""
        zone = _folded("program", streams[home]).zone if entries else ""
        letters: list[_Letter] = []
        for entry in entries:
            records = streams[entry.originator_id]
            state: NoticeState = _folded("notice", records)
            queued_at = records[0].recorded_at
            assert queued_at is not None
            if state.status == "queued" and (state.retry_at is None or state.retry_at <= now):
                address = addresses[entry.affiliate_id]
                letters.append(_Letter(entry.record_id, state, queued_at, records[0].position, address, zone))
    letters.sort(key=lambda letter: letter.position)
    return (entries[-1].record_id if len(entries) == PAGE else ""), letters


def _folded(kind: str, records: list[Recorded]) -> Any:
    state: Any = None
    for record in records:
        state = FOLDS[kind](state, record.body)
    return state


def _send(
    ledger: CommissionLedger, program_name: str, letter: _Letter, transport: Transport, language: str
) -> NotDelivered | None:
    """Hand one over; returns what went wrong. Raises Unreachable."""
    now = ledger.clock()
    if now - letter.queued_at > EXPIRES:
        return NotDelivered("expired", final=True)
    if not letter.address:
        return NotDelivered("no_address" if letter.address == "" else "erased", final=True)
    message = compose(program_name, letter.state.queued, letter.zone, language)
    message["From"], message["Date"] = transport.sender, format_datetime(now)
    message["Message-ID"] = message_id(program_name, letter.notice_id, transport.sender)
    try:
        message["To"] = letter.address
        transport.deliver(message, letter.address)
    except NotDelivered as error:
        return error
    except (ValueError, IndexError, UnicodeError):  # what the library makes of text that is no address
        return NotDelivered("bad_address", final=True)
    return None


def _record(
    ledger: CommissionLedger,
    program_name: str,
    letter: _Letter,
    transport: Transport,
    error: NotDelivered | None,
    meta: Meta,
) -> None:
    command: RecordNoticeSent | RecordNoticeFailed
    if error is None:
        command = RecordNoticeSent(notice_id=letter.notice_id, channel=transport.channel)
    else:
        command = RecordNoticeFailed(
            notice_id=letter.notice_id,
            attempt=letter.state.attempts + 1,
            error_class=error.error_class,
            final=error.final,
        )
    ledger.execute(program_name, command, meta)


def message_id(program_name: str, notice_id: str, sender: str) -> str:
    """The Message-ID of a notice: the same for every attempt (RFC 5322, 3.6.4)."""
    digest = sha256(f"{program_name}\n{notice_id}".encode()).hexdigest()[:40]
    return f"<notice.{digest}@{sender.rpartition('@')[2]}>"


def compose(program_name: str, queued: notice.NoticeQueued, zone: str, language: str) -> EmailMessage:
    """A notice as plain text in a language, without sender and address. zone: in which instants are told."""
    subject, text = TEXTS[language][queued.template]
    words = _words(queued.facts, zone, language)
    words |= {"affiliate_id": queued.affiliate_id, "program": program_name}
    message = EmailMessage(policy=POLICY)
    message["Subject"] = subject.format_map(words)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday answers
    message.set_content(FRAMES[language].format_map(words | {"text": text.format_map(words)}))
    message["Content-Language"] = language  # set_content clears what was said of the content before
    return message


def _words(facts: Mapping[str, str | int], zone: str, language: str) -> Facts:
    words: Facts = dict(facts)
    if "method" in facts:
        words["method_name"] = METHOD_NAMES[language][str(facts["method"])]
    if "amount" in facts:
        currency = str(facts["currency"])
        words["amount_text"] = f"{money.major_units(int(facts['amount']), currency)} {currency}"
    if "effective_from" in facts:
        starts = datetime.fromisoformat(str(facts["effective_from"])).astimezone(ZoneInfo(zone))
        words["effective_text"] = f"{starts:%Y-%m-%d %H:%M} ({zone})"
    return words
