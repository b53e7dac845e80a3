"""A small real mail server on loopback that keeps what it takes, and misbehaves on request."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType


class MailServer:
    """Speaks as much SMTP as a sender needs, one connection after the other, in a thread of its own.

    refuses: recipient → reply such as '550 no such user'. drops_after_data, silent_after_data: how many messages it
    takes and then hangs up, or says nothing more, instead of answering. per_connection: messages until 421.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.refuses: dict[str, str] = {}
        self.sender_reply = self.greeting = ""
        self.drops_after_data = self.silent_after_data = 0
        self.per_connection = 10**6
        self.hangs_up_after = 10**6  # messages, each answered
        self.taken: list[tuple[str, EmailMessage]] = []  # (recipient, message), also those it never answered for
        self.said: list[str] = []  # every command it heard
        self.connections = 0
        self._tls, self._stop = tls, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"smtp://127.0.0.1:{self._listener.getsockname()[1]}"

    def message_ids(self) -> list[str]:
        """Of the messages taken, in order."""
        return [str(message["Message-ID"]) for _, message in self.taken]

    def __enter__(self) -> MailServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(5)
            with contextlib.suppress(OSError, StopIteration), connection:
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        lines: Iterator[bytes] = iter(file.readline, b"")

        def say(text: str) -> None:
            connection.sendall(text.encode() + b"\r\n")

        say(self.greeting or "220 here")
        if self.greeting:
            return
        messages, recipient = 0, ""
        for line in lines:
            heard = line.decode().strip()
            self.said.append(heard)
            verb = heard.upper()
            if verb.startswith("MAIL") and messages >= self.per_connection:
                say("421 enough")
                return
            if verb.startswith("MAIL") and self.sender_reply:
                say(self.sender_reply)
            elif verb.startswith("RCPT"):
                recipient = heard.partition("<")[2].partition(">")[0]
                say(self.refuses.get(recipient, "250 ok"))
            elif verb == "DATA":
                say("354 go on")
                raw = b"".join(iter(lambda: next(lines), b".\r\n"))
                self.taken.append((recipient, message_from_bytes(raw, policy=policy.default)))
                messages += 1
                if self.drops_after_data:
                    self.drops_after_data -= 1
                    return
                if self.silent_after_data:
                    self.silent_after_data -= 1
                    next(lines)  # until the sender loses patience
                say("250 taken")
                if messages >= self.hangs_up_after:
                    return
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")
