"""What a backup says of itself: manifest.json, and how it is read from one snapshot of a database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct

from ledger import sql
from ledger.audit.merkle import CompactRange
from ledger.store.log import TABLES

FORMAT = 1
FILE_NAME = "manifest.json"
LEDGER_DUMP, VAULT_DUMP = "ledger.dump", "vault.dump"
QUERIES = sql.load("ledger.backup", "backup.sql")
ROWS_AT_ONCE = 5_000
CHUNK = 1 << 20  # bytes

Connection = psycopg.Connection[Any]
Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how far, and of how much (None: not known)."""


class BackupRefused(Exception):
    """A backup cannot be taken, or is not one that may be restored; the message says why."""


class LogEnd(Struct, frozen=True):
    """A log's last position (0: empty), the leaf hash there ('' when empty), and the root of the Merkle tree over all
    its leaves (RFC 9162, section 2.1.1), hexadecimal."""

    position: int
    leaf_hash: str
    root: str


class ProgramState(Struct, frozen=True):
    """A program in the backup. counts: rows of what is derived from its log, and of its access keys."""

    program: str
    program_id: UUID
    logs: dict[str, LogEnd]
    counts: dict[str, int]


class FileState(Struct, frozen=True):
    """A file beside the manifest. bytes: its size; sha256: hexadecimal."""

    bytes: int
    sha256: str


class Manifest(Struct, frozen=True):
    """created_at: the instant of the snapshot, by the server's clock; migration: the last one applied; server and
    pg_dump: version texts; subject_keys: how many keys of personal data vault.dump has (None: it was left out)."""

    format: int
    created_at: datetime
    migration: str
    server: str
    pg_dump: str
    programs: list[ProgramState]
    subject_keys: int | None
    files: dict[str, FileState]

    @property
    def tool_major(self) -> int:
        """The major version of the pg_dump that wrote the files; an older pg_restore cannot read them."""
        return int(self.pg_dump.split(".")[0])


def describe(conn: Connection, progress: Progress) -> list[ProgramState]:
    """Every program as a transaction sees it. Streams the leaf hashes: its memory does not grow with the logs."""
    found = []
    for program_id, program in conn.execute(QUERIES["select_programs"]).fetchall():
        ends = {log: _end(conn, program_id, program, log, progress) for log in TABLES}
        found.append(ProgramState(program, program_id, ends, counts(conn, program_id)))
    return found


def counts(conn: Connection, program_id: UUID) -> dict[str, int]:
    """Rows of a program's books (the live ones), read models and access keys."""
    row = conn.execute(QUERIES["count_rows"], {"program_id": program_id}).fetchone()
    assert row is not None
    return dict(zip(("journal", "balances", "conversions", "directory", "touches", "api_keys"), row, strict=True))


def _end(conn: Connection, program_id: UUID, program: str, log: str, progress: Progress) -> LogEnd:
    tree, position, leaf = CompactRange(), 0, b""
    for position, leaf in stream(conn, QUERIES[f"select_leaves_of_{log}"], program_id):
        tree.add(bytes(leaf))
        if position % ROWS_AT_ONCE == 0:
            progress(f"{program}, {log}: events read", position, None)
    return LogEnd(position, bytes(leaf).hex(), tree.root().hex())


def stream(conn: Connection, query: str, program_id: UUID) -> Iterator[tuple[Any, ...]]:
    """Rows through a cursor of the server, some thousands at a time. conn: inside a transaction."""
    with conn.cursor(name="rows") as cur:
        cur.itersize = ROWS_AT_ONCE
        cur.execute(query.encode(), {"program_id": program_id})
        yield from cur


def subject_keys(conn: Connection) -> int:
    """How many keys of personal data there are."""
    row = conn.execute(QUERIES["count_subject_keys"]).fetchone()
    assert row is not None
    return int(row[0])


def state_of(path: Path, progress: Progress) -> FileState:
    """A file's size and digest."""
    digest, size, total = hashlib.sha256(), 0, path.stat().st_size
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            progress(f"{path.name}: bytes hashed", size, total)
    return FileState(size, digest.hexdigest())


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read(directory: Path) -> Manifest:
    """A backup's manifest. Raises BackupRefused when the directory is no whole backup, or one of a newer format."""
    path = directory / FILE_NAME
    try:
        content = path.read_bytes()
        # the format first: another format may have other fields
        found = msgspec.json.decode(content, type=_Format).format
        if found != FORMAT:
            raise BackupRefused(f"{path} has format {found}, which this version does not know (it knows {FORMAT})")
        return msgspec.json.decode(content, type=Manifest)
    except OSError as problem:
        raise BackupRefused(f"{directory} is no backup: {FILE_NAME} cannot be read ({problem.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise BackupRefused(f"{path} is no manifest of a backup: {problem}") from None


class _Format(Struct):
    format: int


def check_file(directory: Path, manifest: Manifest, name: str, progress: Progress) -> Path:
    """The path of a file that is as the manifest says. Raises BackupRefused."""
    path = directory / name
    said = manifest.files.get(name)
    if said is None:
        raise BackupRefused(f"the backup in {directory} has no {name}: it was taken without it")
    try:
        found = state_of(path, progress)
    except OSError as problem:
        raise BackupRefused(f"{path} cannot be read: {problem.strerror}") from None
    if found.bytes != said.bytes:
        raise BackupRefused(f"{path} has {found.bytes} bytes, the manifest says {said.bytes}: it is not whole")
    if found.sha256 != said.sha256:
        raise BackupRefused(f"{path} was changed: its SHA-256 is {found.sha256}, the manifest says {said.sha256}")
    return path
