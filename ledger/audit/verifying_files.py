"""The files of an export directory as the verifier reads them: each once, hashed as it passes, a few megabytes at a
time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.audit import directory as names
from ledger.audit.directory import DataFile, Manifest
from ledger.audit.findings import Findings
from ledger.store.codec import quoted

CHUNK = 4 << 20
ROWS_AT_ONCE = 5_000
MOST_LINE_BYTES = 256 << 20
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (in UTC, written with a Z)


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
            else:
                self._files[file.path] = file
        self._check_listing()

    def _tell(self, kind: str, expected: object, found: object, path: str, log: str = "", position: int = 0) -> None:
        self._findings.report(kind, log, position, expected, found, path, exact=position == 0)

    def _check_listing(self) -> None:
        """Nothing that looks like a part of the export lies beside it unnamed."""
        for log in names.LOGS:
            for path in sorted((self.root / log).glob("*")):
                name = f"{log}/{path.name}"
                if name not in self._files:
                    self._tell("file_unlisted", "only files of the manifest", name, name, log)

    def segments(self, log: str) -> list[DataFile]:
        """A log's segments in order."""
        return sorted((file for file in self._files.values() if file.log == log), key=lambda file: file.first)

    def path(self, name: str) -> Path | None:
        """Where a file of the manifest lies, None if the manifest does not name it."""
        return self.root / name if name in self._files else None

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
                    self._tell("line_unreadable", "lines", "no line feed", file.path, file.log, file.first)
                    return
                continue
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        if rest:
            self._tell("line_unreadable", "a line feed at the end", rest[-40:], file.path, file.log, file.last)
            yield rest + b"\n"

    def _chunks(self, file: DataFile) -> Iterator[bytes]:
        digest, size = sha256(), 0
        try:
            with (self.root / file.path).open("rb", buffering=0) as opened:
                while chunk := opened.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk
        except OSError as problem:
            self._tell("file_missing", "a file", problem.strerror, file.path, file.log, file.first)
            return
        self.count += 1
        self.bytes += size
        if (size, digest.hexdigest()) != (file.bytes, file.sha256):
            found = f"{size} bytes, SHA-256 {digest.hexdigest()}"
            self._tell(
                "file_differs", f"{file.bytes} bytes, SHA-256 {file.sha256}", found, file.path, file.log, file.first
            )

    def _from_parquet(self, file: DataFile) -> Iterator[bytes]:
        """The column `line`; the others, which people query, must say the same."""
        for _ in self._chunks(file):
            pass
        import duckdb  # 20 MB that only those load who have Parquet

        # an instant as a number: as one with a zone, DuckDB wants libraries that nothing else here needs
        columns = ", ".join(names.PARQUET_COLUMNS).replace("recorded_at", "epoch_us(recorded_at)")
        try:
            with duckdb.connect() as connection:
                connection.execute("SET threads = 1")
                rows = connection.execute(
                    f"SELECT {columns} FROM read_parquet($file)", {"file": str(self.root / file.path)}  # noqa: S608
                )  # fmt: skip
                while some := rows.fetchmany(ROWS_AT_ONCE):
                    for row in some:
                        self._compare_columns(file, row)
                    yield b"".join([row[-1].encode() + b"\n" for row in some])
        except (duckdb.Error, AttributeError, TypeError) as problem:
            told = str(problem).partition("\n")[0]
            self._tell("line_unreadable", "a table of export lines", told, file.path, file.log, file.first)

    def _compare_columns(self, file: DataFile, row: tuple[Any, ...]) -> None:
        line: str = row[-1]
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
