"""The files of an export directory as the verifier reads them: each once, hashed as it passes, a few megabytes at a
time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from errno import EFBIG, EINVAL, ELOOP
from hashlib import sha256
from os import fstat
from pathlib import Path
from typing import Any, BinaryIO

from ledger.audit import directory as names
from ledger.audit.directory import DataFile, Manifest
from ledger.audit.findings import Findings
from ledger.store.codec import quoted

CHUNK = 4 << 20
ROWS_AT_ONCE = 5_000
MOST_LINE_BYTES = 64 << 20
MOST_TABLE_BYTES = 4 << 30  # of a segment's lines, when they came out of Parquet
FETCH_BYTES = 32 << 20
SMALL_FILE = 64 << 20
NO_LINK = "a symbolic link: an export has none"
_TEXTS = [one for one in names.PARQUET_COLUMNS if not one.startswith(("position", "originator_version", "recorded"))]
_LONGEST = ", ".join(f"strlen({one})" for one in _TEXTS)
_MEASURE = f"SELECT count(*), max(greatest({_LONGEST})), sum(strlen(line)) FROM read_parquet($file)"  # noqa: S608
_SETTINGS = (
    "threads = 1", "memory_limit = '1GB'", "temp_directory = ''", "autoinstall_known_extensions = false",
    "autoload_known_extensions = false", "TimeZone = 'UTC'",
)  # fmt: skip
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (in UTC, written with a Z)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to be read. Raises OSError, also for a symbolic link, a pipe or a device: whoever made a directory
    could otherwise have any file of this machine read, or the reader wait for ever."""
    if path.is_symlink():
        raise OSError(ELOOP, NO_LINK)
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(fstat(opened).st_mode):
        os.close(opened)
        raise OSError(EINVAL, "no regular file")
    return os.fdopen(opened, "rb")


def read_small(path: Path) -> bytes:
    """A file's bytes. Raises OSError, also for one that is too large to be what it should, or no regular file."""
    with open_regular(path) as opened:
        return _read_all(opened, path.name)


def _read_all(opened: BinaryIO, name: str) -> bytes:
    raw = opened.read(SMALL_FILE + 1)
    if len(raw) > SMALL_FILE:
        raise OSError(EFBIG, f"{name} is too large")
    return raw


def _is_in_place(file: DataFile) -> bool:
    """Whether a file's log and positions are those that its path says."""
    if file.bytes < 0:
        return False
    segment = names.read_segment_path(file.path)
    if segment is None:
        return (file.log, file.first, file.last) == ("", 0, 0)
    log, first, _ = segment
    return (file.log, file.first) == (log, first) and first <= file.last < first + names.SEGMENT_POSITIONS


def ours(path: str) -> bool:
    """Whether an export may have a file of this name: nothing outside of its directory, nothing unknown."""
    own = {names.README, names.KEYS, names.BALANCES, names.STATEMENTS}
    in_logs = (names.CHECKPOINT, names.CONSISTENCY, names.EARLIER, names.LEAVES)
    own |= {f"{log}/{name}" for log in names.LOGS for name in in_logs}
    return path in own or names.read_segment_path(path) is not None


class Files:
    """The files that the manifest names. count, bytes: what was read."""

    def __init__(self, root: Path, manifest: Manifest, findings: Findings) -> None:
        self.root, self._findings = root, findings
        self.count = self.bytes = 0
        self._files: dict[str, DataFile] = {}
        for file in manifest.files:
            if not ours(file.path) or file.path in self._files:
                self._tell("manifest_unreadable", "names of an export's files, each once", file.path, file.path)
            elif not _is_in_place(file):
                found = f"log {file.log!r}, {file.first} to {file.last}, {file.bytes} bytes"
                self._tell("manifest_unreadable", "the log and the positions of the path", found, file.path)
            else:
                self._files[file.path] = file
        self._check_listing()

    def open(self, name: str) -> BinaryIO:
        """A file of the directory, by its path there. Raises OSError, also for what is no regular file."""
        folder = (self.root / name).parent
        if folder != self.root and folder.is_symlink():
            raise OSError(ELOOP, NO_LINK)
        return open_regular(self.root / name)

    def read_small(self, name: str) -> bytes:
        """A small file's bytes. Raises OSError."""
        with self.open(name) as opened:
            return _read_all(opened, name)

    def _tell(self, kind: str, expected: object, found: object, path: str, log: str = "", position: int = 0) -> None:
        self._findings.report(kind, log, position, expected, found, path, exact=position == 0)

    def _check_listing(self) -> None:
        """Nothing that looks like a part of the export lies beside it unnamed."""
        for log in names.LOGS:
            for path in sorted(() if (self.root / log).is_symlink() else (self.root / log).glob("*")):
                name = f"{log}/{path.name}"
                if name not in self._files:
                    self._tell("file_unlisted", "only files of the manifest", name, name, log)

    def segments(self, log: str) -> list[DataFile]:
        """A log's segments in order."""
        return sorted((file for file in self._files.values() if file.log == log), key=lambda file: file.first)

    def has(self, name: str) -> bool:
        """Whether the manifest names a file."""
        return name in self._files

    def check_small(self) -> None:
        """Hash every file that is no segment."""
        for file in self._files.values():
            if not file.log:
                for _ in self._chunks(file):
                    pass

    def blocks(self, file: DataFile) -> Iterator[bytes]:
        """A segment's lines, some thousand at a time, each with its line feed; its hash is compared at the end."""
        if file.path.endswith(f".{names.PARQUET}"):
            yield from self._from_parquet(file)
            return
        rest = b""
        for chunk in self._chunks(file):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                if len(rest) > MOST_LINE_BYTES:
                    found = f"no line feed in {len(rest)} bytes"
                    self._tell("line_unreadable", "lines", found, file.path, file.log, file.first)
                    return
                continue
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        if rest:
            self._tell("line_unreadable", "a line feed at the end", "none", file.path, file.log, file.last)
            yield rest + b"\n"

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file that is no segment; none of one that is longer than the manifest says: that was told when
        it was hashed. Raises OSError."""
        with self.open(name) as opened:
            if fstat(opened.fileno()).st_size > self._files[name].bytes:
                return
            while line := opened.readline(MOST_LINE_BYTES):
                if len(line) == MOST_LINE_BYTES:
                    raise OSError(EFBIG, f"a line of more than {MOST_LINE_BYTES} bytes")
                yield line

    def _chunks(self, file: DataFile) -> Iterator[bytes]:
        """A file's bytes, as far as the manifest says; what is longer is not read behind that."""
        digest, size = sha256(), 0
        try:
            with self.open(file.path) as opened:
                longer = fstat(opened.fileno()).st_size
                while chunk := opened.read(min(CHUNK, file.bytes - size)):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk
        except OSError as problem:
            self._tell("file_missing", "a file", problem.strerror, file.path, file.log, file.first)
            return
        expected = f"{file.bytes} bytes, SHA-256 {file.sha256}"
        if longer > file.bytes:
            self._tell("file_differs", expected, f"{longer} bytes", file.path, file.log, file.first)
            return
        self.count += 1
        self.bytes += size
        if (size, digest.hexdigest()) != (file.bytes, file.sha256):
            found = f"{size} bytes, SHA-256 {digest.hexdigest()}"
            self._tell("file_differs", expected, found, file.path, file.log, file.first)

    def _from_parquet(self, file: DataFile) -> Iterator[bytes]:
        """The column `line`; the others, which people query, must say the same."""
        count = self.count
        for _ in self._chunks(file):
            pass
        if self.count == count:
            return  # it could not be read, or is larger than it should be
        import duckdb  # 20 MB that only those load who have Parquet

        # an instant as a number: as one with a zone, DuckDB wants libraries that nothing else here needs
        columns = ", ".join(names.PARQUET_COLUMNS).replace("recorded_at", "epoch_us(recorded_at)")
        said = {"file": str(self.root / file.path)}
        try:
            with duckdb.connect() as connection:
                for setting in _SETTINGS:
                    connection.execute(f"SET {setting}")
                measured = connection.execute(_MEASURE, said).fetchone()
                at_once = self._rows_at_once(file, measured or (0, 0, 0))
                if not at_once:
                    return
                rows = connection.execute(f"SELECT {columns} FROM read_parquet($file)", said)  # noqa: S608
                while some := rows.fetchmany(at_once):
                    for row in some:
                        self._compare_columns(file, row)
                    yield b"".join([row[-1].encode() + b"\n" for row in some])
        except (duckdb.Error, AttributeError, TypeError, ValueError, OverflowError, MemoryError) as problem:
            told = type(problem).__name__  # the message may quote what stands in the file
            self._tell("line_unreadable", "a table of export lines", told, file.path, file.log, file.first)

    def _rows_at_once(self, file: DataFile, measured: tuple[int, int, int]) -> int:
        """How many rows fit into memory, 0 for a table that is refused: a few bytes of Parquet may stand for
        gigabytes."""
        count, longest, total = measured
        if count != file.last - file.first + 1:
            expected = f"{file.last - file.first + 1} rows"
            self._tell("line_unreadable", expected, f"{count} rows", file.path, file.log, file.first)
            return 0
        if (longest or 0) > MOST_LINE_BYTES or (total or 0) > MOST_TABLE_BYTES:
            expected = f"lines of at most {MOST_LINE_BYTES} bytes, {MOST_TABLE_BYTES} in all"
            self._tell("line_unreadable", expected, f"{longest}, {total} in all", file.path, file.log, file.first)
            return 0
        return max(1, min(ROWS_AT_ONCE, FETCH_BYTES // max(1, longest or 0)))

    def _compare_columns(self, file: DataFile, row: tuple[Any, ...]) -> None:
        line: str = row[-1]
        if not isinstance(row[0], int):
            raise TypeError("a position is an integer")
        if not line.startswith('{"v":1,') or line[7:].partition(",")[2] != said_by_columns(file.log, row):
            self._findings.report("line_unreadable", file.log, int(row[0]), "columns that say what the line says",
                                  "others", file.path)  # fmt: skip


def said_by_columns(log: str, row: tuple[Any, ...]) -> str:
    """What stands in a line behind its program_id, by a row's other columns."""
    position, originator_id, version, topic, recorded_at, actor, key_id, request_id, cause, state, _ = row
    moment = EPOCH + timedelta(microseconds=recorded_at)
    return (
        f'"log":"{log}","position":{position},"originator_id":"{originator_id}","originator_version":{version}'
        f',"topic":{quoted(topic)},"recorded_at":"{moment.isoformat(timespec="microseconds")}Z"'
        f',"actor":{quoted(actor)},"key_id":{quoted(key_id)},"request_id":{quoted(request_id)},"cause":{quoted(cause)}'
        f',"state":{state}}}'
    )
