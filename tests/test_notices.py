"""Notices reach affiliates at least once through a mail server that fails in every way a real one does."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mail_server import MailServer
from memory_view import shop
from support import PROGRAM, Clock, by, open_ledger, open_shop, read_log

from ledger import mail, notices
from ledger.application import CommissionLedger
from ledger.domain import notice
from ledger.domain.affiliate import EnrolAffiliate
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.ids import program_id
from ledger.domain.notice import NoticeFailed, NoticeQueued, NoticeSent, RecordNoticeFailed, RecordNoticeSent
from ledger.domain.payout_method import DecidePayoutMethod, ProposePayoutMethod
from ledger.mail import MailSettingsWrong, NotDelivered, Smtp, Unreachable, transport_from
from ledger.notice_texts import FRAMES, LANGUAGES, METHOD_NAMES, TEXTS
from ledger.projections import directory
from ledger.store.database import Database
from ledger.store.vault import erase_subject

SENDER = "ledger@shop.example"
PATIENCE = 0.3  # seconds for the sender's patience with a server that says nothing
FACTS: dict[str, str | int] = {
    "currency": "EUR",
    "method": "sepa",
    "method_version": 2,
    "effective_from": "2026-03-29T10:00:00Z",
    "period": "2026-03",
    "statement_version": 1,
    "payout_id": "PO-7",
    "amount": 123456,
    "dispute_id": "D-1",
}


def smtp(server: MailServer) -> Smtp:
    return Smtp(server.url, SENDER, PATIENCE)


def address(affiliate_id: str) -> str:
    return f"{affiliate_id}@affiliates.example"


@contextmanager
def told(database: Database, affiliates: Sequence[str] = ("ada",)) -> Iterator[tuple[CommissionLedger, Clock]]:
    """A ledger in which each affiliate has an address and one notice that waits: of a proposed payout method."""
    clock = Clock()
    with open_ledger(database, clock) as ledger:
        open_shop(ledger, affiliates=())
        for affiliate_id in affiliates:
            email = "" if affiliate_id.startswith("none") else address(affiliate_id)
            ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id=affiliate_id, email=email), by())
            command = ProposePayoutMethod(
                affiliate_id=affiliate_id,
                currency="EUR",
                method="sepa",
                minimum_amount=0,
                details={"iban": "DE89"},
                fingerprint="1" * 64,
            )
            ledger.execute(PROGRAM, command, by(affiliate_id))
        yield ledger, clock


def send(ledger: CommissionLedger, transport: Smtp | None, **more: Any) -> notices.Sending:
    return notices.send_due(ledger, PROGRAM, by("notices"), transport, **more)


def statuses(ledger: CommissionLedger) -> dict[str, str]:
    """How each affiliate's notices stand."""
    with ledger.reading(PROGRAM) as (cur, id_):
        return {entry.affiliate_id: entry.status for entry in directory.page(cur, id_, "notice")}


def failures(ledger: CommissionLedger) -> list[str]:
    """The error classes recorded, in order."""
    return [one.state["error_class"] for one in read_log(ledger) if one.topic == "NoticeFailed"]


# --- sending -----------------------------------------------------------------------------------------------


def test_a_notice_is_sent_once_and_says_what_happened(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """In the order in which things happened, to the affiliate's own address, which stands in no event and no log."""
    caplog.set_level(logging.DEBUG)
    with told(database) as (ledger, _), MailServer() as server:
        approve = DecidePayoutMethod(
            affiliate_id="ada", currency="EUR", method_version=1, approve=True, fingerprint="1" * 64
        )
        ledger.execute(PROGRAM, approve, by("ben"))
        assert send(ledger, smtp(server)) == notices.Sending(2, 0)
        assert send(ledger, smtp(server)) == notices.Sending(0, 0)
        assert [recipient for recipient, _ in server.taken] == [address("ada")] * 2
        proposed, approved = (message for _, message in server.taken)
        assert "was proposed" in proposed.get_content()
        assert "SEPA transfer (version 1)" in proposed.get_content()
        # 72 hours after the clock's 2026-01-01, in the program's zone
        assert "from 2026-01-04 00:00 (UTC) on" in approved.get_content()
        assert (approved["From"], approved["To"]) == (SENDER, address("ada"))
        assert approved["Auto-Submitted"] == "auto-generated"
        assert len(set(server.message_ids())) == 2
        assert statuses(ledger) == {"ada": "sent"}
        log_text = str([one.state for one in read_log(ledger)]) + caplog.text
        assert "affiliates.example" not in log_text


def test_without_a_mail_server_notices_wait_and_stay_listed(database: Database) -> None:
    """They go when one is named, unless they are older than 30 days: those are given up."""
    with told(database, ("ada", "bob")) as (ledger, clock), MailServer() as server:
        assert send(ledger, None) == notices.Sending(0, 0)
        assert statuses(ledger) == {"ada": "queued", "bob": "queued"}
        clock.advance(days=30)
        allowed = iter([True, False])
        assert send(ledger, smtp(server), may_go_on=lambda: next(allowed)) == notices.Sending(1, 0)
        clock.advance(seconds=1)
        assert send(ledger, smtp(server)) == notices.Sending(0, 1)
        assert (len(server.taken), failures(ledger)) == (1, ["expired"])
        assert sorted(statuses(ledger).values()) == ["failed", "sent"]


def test_one_refused_address_does_not_keep_the_others_back(database: Database) -> None:
    """A permanent refusal gives the notice up, a passing one is tried again when its time has come; nobody without an
    address, or whose key is erased, is tried at all."""
    with told(database, ("ada", "bob", "cyd", "dan", "none")) as (ledger, clock), MailServer() as server:
        server.refuses = {address("ada"): "550 <ada@affiliates.example> unknown", address("bob"): "451 later"}
        with ledger.pool.connection() as conn, conn.cursor() as cur:
            assert erase_subject(cur, program_id(PROGRAM), "affiliate:cyd")
        assert send(ledger, smtp(server)) == notices.Sending(1, 4)
        expected = {"ada": "failed", "bob": "queued", "cyd": "failed", "dan": "sent", "none": "failed"}
        assert statuses(ledger) == expected
        assert sorted(failures(ledger)) == ["erased", "no_address", "smtp_451", "smtp_550"]
        server.refuses = {}
        assert send(ledger, smtp(server)) == notices.Sending(0, 0)
        clock.advance(minutes=5)
        assert send(ledger, smtp(server)) == notices.Sending(1, 0)
        assert [recipient for recipient, _ in server.taken] == [address("dan"), address("bob")]


@pytest.mark.parametrize("fault", ["drops_after_data", "silent_after_data"])
def test_a_lost_answer_means_the_same_message_again(database: Database, fault: str) -> None:
    """The server took it and hung up, or said nothing more: nobody knows, so it is sent again under its Message-ID."""
    with told(database) as (ledger, clock), MailServer() as server:
        setattr(server, fault, 1)
        assert send(ledger, smtp(server)) == notices.Sending(0, 1)
        assert failures(ledger) == ["disconnected" if fault == "drops_after_data" else "timeout"]
        clock.advance(minutes=5)
        assert send(ledger, smtp(server)) == notices.Sending(1, 0)
        first, second = server.message_ids()
        assert first == second
        assert first == notices.message_id(PROGRAM, "payout_method/ada/EUR/1/proposed", SENDER)
        assert statuses(ledger) == {"ada": "sent"}


def test_a_server_that_takes_nothing_costs_no_notice_an_attempt(database: Database) -> None:
    """Not there, not ready, or refusing the sender: the pass ends and says why, and nothing is written. Two lost in a
    row end it as well, however many wait."""
    with told(database, ("ada", "bob", "cyd")) as (ledger, clock), MailServer() as server:
        gone = MailServer()
        gone_transport = smtp(gone)
        gone._listener.close()
        assert send(ledger, gone_transport) == notices.Sending(0, 0, "connect")
        slow = MailServer()  # the system takes the connection, and nobody answers
        assert send(ledger, smtp(slow)) == notices.Sending(0, 0, "timeout")
        slow._listener.close()
        server.greeting = "554 not now"
        assert send(ledger, smtp(server)) == notices.Sending(0, 0, "connect")
        server.greeting, server.sender_reply = "", "550 who are you"
        assert send(ledger, smtp(server)) == notices.Sending(0, 0, "sender_smtp_550")
        assert failures(ledger) == []
        server.sender_reply, server.drops_after_data = "", 3
        assert send(ledger, smtp(server)) == notices.Sending(0, 2, "disconnected")
        assert server.drops_after_data == 1
        server.drops_after_data = 0
        clock.advance(minutes=5)
        assert send(ledger, smtp(server)) == notices.Sending(3, 0)


def test_a_server_that_limits_or_ends_connections_loses_nothing(database: Database) -> None:
    """421 to the next message, or gone since the last: a new connection, and no notice notices."""
    with told(database, ("ada", "bob", "cyd")) as (ledger, _), MailServer() as server:
        server.per_connection = 1
        assert send(ledger, smtp(server)) == notices.Sending(3, 0)
        assert (server.connections, len(server.taken)) == (3, 3)
    with MailServer() as server, smtp(server) as transport:
        server.hangs_up_after = 1
        for _ in range(3):
            transport.deliver(letter(), address("ada"))
        assert (server.connections, len(server.taken)) == (3, 3)


def test_a_sent_notice_that_could_not_be_recorded_is_sent_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the server's answer and our commit."""
    with told(database) as (ledger, _), MailServer() as server:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(ledger, "execute", killed)
            with pytest.raises(KeyboardInterrupt):
                send(ledger, smtp(server))
        assert send(ledger, smtp(server)) == notices.Sending(1, 0)
        first, second = server.message_ids()
        assert first == second


# --- the mail server's address -----------------------------------------------------------------------------


def letter() -> EmailMessage:
    """A message to hand over, without a database."""
    return notices.compose(PROGRAM, queued("n", *_template()), "UTC", "en")


def queued(notice_id: str, template: str, facts: dict[str, str | int]) -> NoticeQueued:
    """The event of a notice to ada."""
    event = notice.queue(notice_id, "ada", template, facts)[1]
    assert isinstance(event, NoticeQueued)
    return event


def _template() -> tuple[str, dict[str, str | int]]:
    return "statement_issued", {"period": "2026-03", "statement_version": 1}


def test_tls_is_asked_for_before_anything_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server elsewhere that offers no STARTTLS hears no sender and no address; one with a certificate that nobody
    vouches for neither."""
    message = letter()
    with MailServer() as server:
        monkeypatch.setattr(mail, "_is_here", lambda host: False)
        with pytest.raises(Unreachable) as caught:
            smtp(server).deliver(message, address("ada"))
        assert caught.value.error_class == "no_starttls"
        assert not any(heard.startswith(("MAIL", "RCPT")) for heard in server.said)
        transport = Smtp(f"{server.url}?tls=off", SENDER, PATIENCE)
        transport.deliver(message, address("ada"))
        assert len(server.taken) == 1
        transport.close()
    with MailServer(_self_signed(tmp_path)) as server:
        with pytest.raises(Unreachable) as caught:
            Smtp(server.url.replace("smtp:", "smtps:"), SENDER, PATIENCE).deliver(message, address("ada"))
        assert (caught.value.error_class, server.said) == ("tls", [])


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "smtp://",
        "smtp://u:hunter2@mail.example:x",
        "smtp://u:hunter2@mail.example?tls=off",
        "smtp://u:hunter2@mail.example?tls=maybe",
    ],
)
def test_wrong_mail_settings_are_named_without_their_password(url: str) -> None:
    """And a sender is needed; no URL at all is no error."""
    with pytest.raises(MailSettingsWrong) as caught:
        transport_from({"LEDGER_SMTP_URL": url, "LEDGER_MAIL_FROM": SENDER})
    assert "LEDGER_SMTP_URL" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(MailSettingsWrong, match="LEDGER_MAIL_FROM"):
        transport_from({"LEDGER_SMTP_URL": "smtp://localhost"})
    assert transport_from({}) is None
    assert transport_from({"LEDGER_SMTP_URL": "smtps://u:p@mail.example", "LEDGER_MAIL_FROM": SENDER}) is not None


@pytest.mark.parametrize("bad", ["ada", "a@b, c@d", "Ada <a@b>", "a@b\r\nRCPT TO:<c@d>", "@b", "a@"])
def test_text_that_is_no_address_reaches_no_server(bad: str) -> None:
    """What was enrolled as an e-mail address is free text: never a list of them, never a command."""
    message = letter()
    with MailServer() as server:
        with pytest.raises(NotDelivered) as caught:
            smtp(server).deliver(message, bad)
        assert (caught.value.error_class, caught.value.final) == ("bad_address", True)
        assert server.connections == 0


# --- texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_template_has_a_text_in_every_language(language: str) -> None:
    """Made of the template's own facts and no others; instants in the program's zone, amounts in major units."""
    assert set(TEXTS[language]) == set(notice.TEMPLATES)
    assert set(FRAMES) == set(METHOD_NAMES) == set(LANGUAGES)
    assert set(METHOD_NAMES[language]) == {"sepa", "paypal", "wise", "manual"}
    for template, fields in notice.TEMPLATES.items():
        facts = {field: FACTS[field] for field in fields}
        message = notices.compose("shop", queued("n", template, facts), "Europe/Berlin", language)
        text = message.get_content()
        assert message["Content-Language"] == language
        assert "ada" in text
        assert "shop" in text
        for field, shown in (("payout_id", "PO-7"), ("amount", "1234.56 EUR"), ("dispute_id", "D-1")):
            assert (field in fields) == (shown in text)
        # summer time began that night
        assert ("effective_from" in fields) == ("2026-03-29 12:00 (Europe/Berlin)" in text)
        message.as_bytes().decode("ascii")  # not every server takes 8 bits


# --- the outbox --------------------------------------------------------------------------------------------


def test_a_failing_notice_is_tried_less_and_less_often_and_then_given_up() -> None:
    """After 5, 10, 20 … minutes, at most 12 hours; ten attempts altogether; a final failure ends it at once."""
    view = shop()
    view.given(*notice.queue("n", "ada", *_template()))
    waits = []
    for attempt in range(1, 11):
        failed = view.one(NoticeFailed, RecordNoticeFailed(notice_id="n", attempt=attempt, error_class="timeout"))
        waits.append((failed.retry_at - view.now) // timedelta(minutes=1) if failed.retry_at else None)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 720, None]
    assert view.state("notice:n").status == "failed"
    view.given(*notice.queue("m", "ada", *_template()))
    view.again(RecordNoticeFailed(notice_id="m", attempt=1, error_class="smtp_550", final=True))
    assert view.state("notice:m").status == "failed"


def test_outcomes_are_recorded_once() -> None:
    """A repeated attempt or success changes nothing; a success after all counts; words of a server are refused."""
    view = shop()
    view.given(*notice.queue("n", "ada", *_template()))
    view.again(RecordNoticeFailed(notice_id="n", attempt=1, error_class="timeout"))
    view.again(RecordNoticeSent(notice_id="n"))
    assert view.when(RecordNoticeFailed(notice_id="n", attempt=2, error_class="timeout"))[1] == []
    assert [type(event) for key, event, _ in view.log if key == "notice:n"][1:] == [NoticeFailed, NoticeSent]
    view.refused(NotFound, RecordNoticeSent(notice_id="x"))
    with pytest.raises(InvalidInput):
        RecordNoticeFailed(notice_id="n", attempt=1, error_class="550 <ada@affiliates.example> unknown")
