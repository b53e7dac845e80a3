"""Witnesses: those outside who are told each checkpoint, remember it, and refuse one that does not go on from it.

A log that is rewritten can be made consistent again, except with what somebody else has written down. A witness is a
directory (on another disk, or one that is copied elsewhere), a webhook, or a C2SP witness (tlog-witness), which
cosigns. LEDGER_WITNESSES_FILE names them:

[archive]
directory = "/mnt/archive/checkpoints"
[auditor]
webhook = "https://auditor.example/checkpoints"
[acme]
witness = "https://witness.example/acme"
key = "witness.example+1a2b3c4d+BE…"
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from ledger.audit import merkle
from ledger.audit.keys import is_name
from ledger.audit.notes import (
    COSIGNATURE_V1,
    Checkpoint,
    InvalidNote,
    Note,
    VerifierKey,
    read_checkpoint,
    read_note,
    read_verifier_key,
    to_base64,
    verified_by,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.ids import check_slug
from ledger.store.database import StartupRefused
from ledger.store.durable import alone, write_whole

VARIABLE = "LEDGER_WITNESSES_FILE"
TIMEOUT_SECONDS = 10.0  # for a whole answer
MOST_OF_AN_ANSWER = 1 << 16  # bytes
SIZE_TYPE = "text/x.tlog.size"

# (old size, new size) → the consistency proof between them
Prove = Callable[[int, int], list[bytes]]


class Unreached(Exception):
    """The witness could not be told: it is told again later. reason: timeout, http_500 …; never the answer's text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(Exception):
    """The witness knows a log that this checkpoint does not go on from: a fork, a log put back, or a wrong key. The
    message says what it knows."""


class Witness(Protocol):
    """Somebody who is told checkpoints. name: as the operator calls it."""

    name: str

    def tell(self, note: str, known: int, prove: Prove) -> str:
        """Tell a checkpoint; known: the size that it was told last, 0 for none. Returns signature lines, each with its
        newline, or ''. Raises Unreached, Refused."""


def _opened(note: str) -> tuple[Note, Checkpoint]:
    read = read_note(note)
    return read, read_checkpoint(read.text)


# --- a directory -----------------------------------------------------------------------------------------


class Directory:
    """Keeps every checkpoint as a file: <origin>/<size>, and the newest once more as <origin>/checkpoint. Before it
    writes, it checks that the new one goes on from the newest that it has."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = name, path

    def tell(self, note: str, known: int, prove: Prove) -> str:
        """Write a checkpoint down. Raises Refused when what is there has another history."""
        _, checkpoint = _opened(note)
        if not is_name(checkpoint.origin):  # whoever writes in the database could lead elsewhere
            raise Refused(f"{checkpoint.origin[:80]!r} is no log's name")
        place = self._path.joinpath(*checkpoint.origin.split("/"))
        try:
            if not self._path.is_dir():
                raise Unreached("no_directory")  # not mounted: made by nobody but the operator
            with alone(place / "checkpoint"):
                if self._goes_on(place, checkpoint, prove):
                    write_whole(place / str(checkpoint.size), note.encode())
                    write_whole(place / "checkpoint", note.encode())
        except (OSError, StartupRefused) as problem:  # full, read-only, or somebody else writes there for long
            raise Unreached(type(problem).__name__) from None
        return ""

    def _goes_on(self, place: Path, new: Checkpoint, prove: Prove) -> bool:
        """Whether the checkpoint is news. Raises Refused."""
        newest = place / "checkpoint"
        if not newest.exists():
            return True
        try:
            _, old = _opened(newest.read_text())
        except (InvalidNote, UnicodeDecodeError) as problem:
            raise Refused(f"{newest} is not a checkpoint ({problem})") from None
        if old.size > new.size:
            raise Refused(f"{newest} knows {old.size} events of {old.origin}, and this checkpoint has {new.size}")
        try:
            merkle.verify_consistency(old.size, new.size, prove(old.size, new.size), old.root, new.root)
        except merkle.InvalidProof as problem:
            raise Refused(f"{newest} knows another history of {old.origin} at size {old.size}: {problem}") from None
        return old.size < new.size


# --- over HTTP -------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever answers with another address is not whom the operator named."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Deadline:
    """Hangs up at an instant. A socket's own timeout begins anew with each byte: whoever drips would be listened to
    for days."""

    def __init__(self, seconds: float) -> None:
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._hang_up)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, connected: socket.socket) -> None:
        """This is what to hang up. Raises TimeoutError when it is too late."""
        self._socket = connected
        if self.passed:
            raise TimeoutError

    def _hang_up(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError):
                # the plain socket's, also of TLS, whose own one is not made for another thread
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def handlers(self) -> list[urllib.request.BaseHandler]:
        """What opens addresses so that each connection is watched."""
        deadline = self

        def watched(kind: Any) -> Any:
            class Watched(kind):  # type: ignore[misc]
                def connect(self) -> None:
                    super().connect()
                    deadline.watch(self.sock)

            return Watched

        class Http(urllib.request.HTTPHandler):
            def do_open(self, http_class: Any, req: Any, **more: Any) -> http.client.HTTPResponse:
                return super().do_open(watched(http_class), req, **more)

        class Https(urllib.request.HTTPSHandler):
            def do_open(self, http_class: Any, req: Any, **more: Any) -> http.client.HTTPResponse:
                return super().do_open(watched(http_class), req, **more)

        return [Http(), Https()]


def _post(url: str, body: bytes) -> _Answer:
    """Raises Unreached."""
    with _Deadline(TIMEOUT_SECONDS) as deadline:
        try:
            answer = _asked(url, body, deadline)
        except Unreached:
            if not deadline.passed:
                raise
        else:
            if not deadline.passed:  # cut off, it may look whole
                return answer
    raise Unreached("timeout")


def _asked(url: str, body: bytes, deadline: _Deadline) -> _Answer:
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain; charset=utf-8"}, method="POST")
    opener = urllib.request.build_opener(_NoRedirect, *deadline.handlers())
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as said:
            return _Answer(said.status, said.headers.get_content_type(), said.read(MOST_OF_AN_ANSWER))
    except urllib.error.HTTPError as said:
        try:
            with said:
                return _Answer(said.code, said.headers.get_content_type(), said.read(MOST_OF_AN_ANSWER))
        except (OSError, http.client.HTTPException) as problem:
            raise Unreached(type(problem).__name__) from None
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError) as problem:
        cause = problem.reason if isinstance(problem, urllib.error.URLError) else problem
        raise Unreached("timeout" if isinstance(cause, TimeoutError) else type(cause).__name__) from None


class Webhook:
    """Is sent each checkpoint as it is, by POST; any 2xx answer is a yes, 409 and 422 are a no."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self._url = name, url

    def tell(self, note: str, known: int, prove: Prove) -> str:
        """POST the note."""
        answer = _post(self._url, note.encode())
        if answer.status in (409, 422):
            raise Refused(f"answered {answer.status}")
        if not 200 <= answer.status < 300:
            raise Unreached(f"http_{answer.status}")
        return ""


class Cosigner:
    """A C2SP witness: checks that the log only grew, and cosigns. Source: C2SP tlog-witness, add-checkpoint."""

    def __init__(self, name: str, url: str, key: VerifierKey) -> None:
        self.name, self._url, self._key = name, url.rstrip("/") + "/add-checkpoint", key

    def tell(self, note: str, known: int, prove: Prove) -> str:
        """Have a checkpoint cosigned. Raises Refused for a fork, Unreached also for a cosignature that is wrong."""
        read, checkpoint = _opened(note)
        answer = self._ask(note, checkpoint, known, prove)
        if answer.status == 409 and answer.content_type == SIZE_TYPE:
            # It remembers more, or less, than we do: it says how much, and is asked once more.
            remembered = _size_said(answer.body)
            if remembered > checkpoint.size:
                raise Refused(f"knows {remembered} events of {checkpoint.origin}, the checkpoint has {checkpoint.size}")
            answer = self._ask(note, checkpoint, remembered, prove)
        if answer.status in (409, 422):
            raise Refused(f"answered {answer.status}: it knows another history of {checkpoint.origin}")
        if answer.status in (403, 404):
            raise Refused(
                f"answered {answer.status}: it does not know {checkpoint.origin}, or not the key it signs with"
            )
        if answer.status != 200:
            raise Unreached(f"http_{answer.status}")
        return self._cosigned(read.text, answer.body)

    def _ask(self, note: str, checkpoint: Checkpoint, old: int, prove: Prove) -> _Answer:
        proof = prove(old, checkpoint.size) if 0 < old < checkpoint.size else []
        head = "".join(f"{line}\n" for line in [f"old {old}", *map(to_base64, proof)])
        return _post(self._url, f"{head}\n{note}".encode())

    def _cosigned(self, text: str, body: bytes) -> str:
        """The witness's own signature lines, once they hold."""
        try:
            answer = read_note(text + "\n" + body.decode())
            mine = [one for one in answer.signatures if (one.name, one.key_id) == (self._key.name, self._key.key_id)]
            if not mine or not verified_by(Note(text, mine), [self._key]):
                raise Unreached("not_its_key")
        except (InvalidNote, UnicodeDecodeError):
            raise Unreached("wrong_cosignature") from None
        lines = body.decode().splitlines(keepends=True)
        names = {f"\u2014 {self._key.name} {to_base64(one.key_id + one.raw)}\n" for one in mine}
        return "".join(line for line in lines if line in names)


def _size_said(body: bytes) -> int:
    text = body.strip()
    if not text.isdigit() or len(text) > 19:
        raise Unreached("no_size_in_409")
    return int(text)


# --- the operator's choice -----------------------------------------------------------------------------------

_KINDS = ("directory", "webhook", "witness")


def load_witnesses(env: Mapping[str, str] | None = None) -> Sequence[Witness]:
    """The witnesses of the file that the environment names; none without one. Raises InvalidInput naming the entry
    that is wrong and what would be right."""
    path = (os.environ if env is None else env).get(VARIABLE)
    if not path:
        return []
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise InvalidInput(VARIABLE, f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise InvalidInput(VARIABLE, f"{path} is not TOML: {problem}") from None
    return [_witness(name, table) for name, table in tables.items()]


def _witness(name: str, table: Any) -> Witness:
    where = f"{VARIABLE}: [{name}]"
    check_slug(where, name)
    if not isinstance(table, dict) or sum(kind in table for kind in _KINDS) != 1:
        raise InvalidInput(where, f"must have one of {', '.join(_KINDS)}")
    wrong = next((key for key in table if key not in (*_KINDS, "key") or not isinstance(table[key], str)), None)
    if wrong is not None:
        raise InvalidInput(f"{where} {wrong}", f"is not known, or no text; there are {', '.join(_KINDS)} and key")
    if "directory" in table:
        path = Path(table["directory"])
        if not path.is_absolute():
            raise InvalidInput(f"{where} directory", "must be an absolute path")
        return Directory(name, path)
    url = table.get("webhook") or table.get("witness", "")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(where, "must be an address that begins with https:// or http://")
    if "webhook" in table:
        return Webhook(name, url)
    try:
        key = read_verifier_key(table.get("key", ""))
    except InvalidNote as problem:
        raise InvalidInput(f"{where} key", f"must be the witness's verifier key: {problem}") from None
    if key.algorithm != COSIGNATURE_V1:
        raise InvalidInput(f"{where} key", "is a log's key; a witness's cosignature key has the algorithm byte 4")
    return Cosigner(name, url, key)
