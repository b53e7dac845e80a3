"""Handing a message to a mail server by SMTP, and what went wrong in words that hold no address."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from ipaddress import ip_address
from types import TracebackType
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

TIMEOUT_SECONDS = 20.0  # for each answer of the server


class NotDelivered(Exception):
    """This message was not taken, or nobody knows. error_class: smtp_550, timeout, disconnected …; final: another
    attempt would not help. The server's own words are left out: they may repeat the address."""

    def __init__(self, error_class: str, final: bool = False) -> None:
        super().__init__(error_class)
        self.error_class, self.final = error_class, final


class Unreachable(Exception):
    """The server takes no message at all just now. error_class: connect, timeout, tls, auth, sender …"""

    def __init__(self, error_class: str) -> None:
        super().__init__(error_class)
        self.error_class = error_class


class MailSettingsWrong(Exception):
    """The mail settings cannot be used."""


class Transport(Protocol):
    """What takes messages over. sender: the address they come from; channel: its name in events."""

    sender: str
    channel: str

    def deliver(self, message: EmailMessage, address: str) -> None:
        """Hand a message over for one address. Raises NotDelivered, Unreachable."""

    def close(self) -> None:
        """Hang up."""


class Smtp:
    """A mail server, connected to when the first message comes, and again after it hung up.

    smtp:// asks for STARTTLS before anything is said, unless the host is this very machine; smtps:// is TLS from the
    start. Source: RFC 5321, RFC 3207, RFC 8314.
    """

    channel = "smtp"

    def __init__(self, url: str, sender: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """url: smtp://user:password@host:587, smtps://user:password@host; ?tls=off for a server of one's own network
        without TLS. Raises MailSettingsWrong; no message of it repeats the password."""
        self.sender, self._timeout = sender, timeout_seconds
        self._connection: smtplib.SMTP | None = None
        self._used = False  # whether the connection has carried a message
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise MailSettingsWrong("LEDGER_SMTP_URL: the port must be a number") from None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise MailSettingsWrong("LEDGER_SMTP_URL must be smtp://[user:password@]host[:port] or smtps://…")
        tls = parse_qs(parts.query).get("tls", ["on"])[-1]
        if tls not in ("on", "off"):
            raise MailSettingsWrong("LEDGER_SMTP_URL: tls must be on or off")
        if not _plain_address(sender):
            raise MailSettingsWrong("LEDGER_MAIL_FROM must be the address that notices come from")
        self._host, self._implicit = parts.hostname, parts.scheme == "smtps"
        self._port = port or (465 if self._implicit else 587)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._starttls = not self._implicit and tls == "on" and not _is_here(self._host)
        if self._user and not (self._implicit or self._starttls or _is_here(self._host)):
            raise MailSettingsWrong("LEDGER_SMTP_URL: a password is not sent without TLS; leave tls=off out")

    def deliver(self, message: EmailMessage, address: str) -> None:
        """See Transport."""
        if not _plain_address(address):
            raise NotDelivered("bad_address", final=True)
        connection, used = self._connected(), self._used
        self._used = True
        try:
            connection.send_message(message, self.sender, [address])
        except smtplib.SMTPSenderRefused as refused:
            if refused.smtp_code == 421 and used:  # it takes so many messages a connection, and no more
                self.close()
                return self.deliver(message, address)
            error: Exception = Unreachable(f"sender_{_named(refused.smtp_code)}")
        except smtplib.SMTPRecipientsRefused as refused:
            code = next(iter(refused.recipients.values()))[0]
            error = NotDelivered(_named(code), final=500 <= code <= 599)
        except smtplib.SMTPResponseException as refused:
            error = NotDelivered(_named(refused.smtp_code), final=500 <= refused.smtp_code <= 599)
        except smtplib.SMTPNotSupportedError:
            error = NotDelivered("not_supported", final=True)
        except (smtplib.SMTPException, OSError) as lost:
            error = NotDelivered("timeout" if _timed_out(lost) else "disconnected")
        else:
            return None
        # raised out here, so that no traceback carries what the server said
        self.close()
        raise error

    def _connected(self) -> smtplib.SMTP:
        if self._connection is not None:
            if self._still_there(self._connection):
                return self._connection
            self.close()
        try:
            self._connection = self._connect()
            self._used = False
            return self._connection
        except smtplib.SMTPAuthenticationError:
            error_class = "auth"
        except smtplib.SMTPNotSupportedError:
            error_class = "no_starttls"
        except ssl.SSLError:
            error_class = "tls"
        except (smtplib.SMTPException, OSError) as lost:
            error_class = "timeout" if _timed_out(lost) else "connect"
        raise Unreachable(error_class)

    @staticmethod
    def _still_there(connection: smtplib.SMTP) -> bool:
        """Asked before a message, so that a server which hung up meanwhile costs the message nothing."""
        try:
            return connection.noop()[0] == 250
        except (smtplib.SMTPException, OSError):
            return False

    def _connect(self) -> smtplib.SMTP:
        greeting = self.sender.rpartition("@")[2]  # else smtplib asks the resolver for this host's name
        context = ssl.create_default_context()
        connection: smtplib.SMTP
        if self._implicit:
            connection = smtplib.SMTP_SSL(self._host, self._port, greeting, timeout=self._timeout, context=context)
        else:
            connection = smtplib.SMTP(self._host, self._port, greeting, timeout=self._timeout)
        try:
            if self._starttls:
                connection.starttls(context=context)
            if self._user:
                connection.login(self._user, self._password)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Hang up without a word: a server that is stuck is not waited for again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Smtp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def transport_from(env: Mapping[str, str]) -> Smtp | None:
    """The mail server that the environment names (LEDGER_SMTP_URL, LEDGER_MAIL_FROM); None: notices stay in their
    list. Raises MailSettingsWrong."""
    url = env.get("LEDGER_SMTP_URL", "")
    return Smtp(url, env.get("LEDGER_MAIL_FROM", "")) if url else None


def _timed_out(error: Exception) -> bool:
    # smtplib calls a server that answers too late disconnected as well, and keeps the reason as the context
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _named(code: int) -> str:
    return f"smtp_{code}" if 200 <= code <= 599 else "smtp_no_code"


def _plain_address(address: str) -> bool:
    """One address, bare: no list of them, no name, nothing that ends a header line."""
    local, at, domain = address.rpartition("@")
    strange = set(address) & set(' ,;:<>()[]"\\')
    return bool(at and local and domain and "@" not in local and not strange) and address.isprintable()


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
