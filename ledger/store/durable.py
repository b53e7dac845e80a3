"""Small files that survive a crash: whole or not at all, readable by their owner only, one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from ledger.store.database import StartupRefused
from ledger.store.pg_cluster import open_lock, unlock, wait_for_lock

LOCK_LIMIT = 30.0  # seconds to wait for another process that writes the file


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, 0600. Raises OSError."""
    write_pieces(path, [content])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> tuple[int, str]:
    """Write a file whole or not at all, 0600: beside its place, to the disk, then into its place. Returns its size in
    bytes and its SHA-256. What the pieces raise leaves nothing behind. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest, size = sha256(), 0
    try:
        with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return size, digest.hexdigest()


def fsync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one who changes the file. Raises StartupRefused after LOCK_LIMIT seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(path.with_name(path.name + ".lock")) as lock:
        if not wait_for_lock(lock, LOCK_LIMIT):
            raise StartupRefused(f"another process has been writing {path} for {LOCK_LIMIT:.0f} s")
        try:
            yield
        finally:
            unlock(lock)


class _Document(Protocol):
    @property
    def format(self) -> int: ...


Document = TypeVar("Document", bound=_Document)


class Memory(Generic[Document]):
    """A JSON file in which the ledger remembers something outside the database. what: as its errors name it; kind: what
    it holds, whose field `format` is that of a new one."""

    def __init__(self, what: str, kind: type[Document]) -> None:
        self._what, self._kind, self._format = what, kind, kind().format

    def read(self, path: Path | None) -> Document | None:
        """What the file says; None without one. Raises StartupRefused for a file that is not one."""
        if path is None:
            return None
        try:
            found = msgspec.json.decode(path.read_bytes(), type=self._kind)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as problem:
            raise StartupRefused(
                f"the {self._what} in {path} cannot be read ({problem}); put a copy of the file in place"
            ) from None
        if found.format != self._format:
            raise StartupRefused(
                f"{path} has format {found.format}, which this version does not know (it knows {self._format})"
            )
        return found

    def read_or_new(self, path: Path | None) -> Document:
        """What the file says; an empty one without a file. Raises StartupRefused for a file that is not one."""
        found = self.read(path)
        return self._kind() if found is None else found

    def write(self, path: Path, document: Document) -> None:
        """Replace the file in one step that survives a crash. Raises OSError."""
        write_whole(path, msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
