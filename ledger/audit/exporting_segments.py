"""Segments: the export lines of 100,000 positions in a file, each compared with the leaf hash that its row has."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import sql as composed

from ledger import sql
from ledger.audit import directory as names
from ledger.audit.exporting_place import CHUNK, GO_ON, Draft, ExportRefused, Place, file_sha256, open_private, told
from ledger.audit.merkle import HASH_BYTES
from ledger.store.codec import line_prefix
from ledger.store.log import TABLES, Rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUERIES = sql.load("ledger.audit", "exporting_segments.sql")
LINES_AT_ONCE = 2000

# A row of copy_lines: the number of fields, then each behind its length (PostgreSQL's binary COPY format).
_HEADER_BYTES = 19  # signature, flags, extension; in front of the first row
_TRAILER = b"\xff\xff"
_POSITION = slice(6, 14)
_LEAF = slice(18, 18 + HASH_BYTES)
_LINE_AT = 54


# --- writing -------------------------------------------------------------------------------------------


def write_segment(
    cur: Rows,
    program_id: UUID,
    log: str,
    bounds: tuple[int, int],
    place: Place,
    form: str,
    written: Callable[[bytes], None],
) -> None:
    """Write a segment's file. written: told the leaf hashes, side by side, of some thousand lines at a time. Raises
    ExportRefused naming the first position that is missing or not what was recorded."""
    first, last = bounds
    path = names.segment_path(log, first, form)
    if form == names.NDJSON:
        with (
            place.draft(path, log, first, last) as draft,
            closing(_lines(cur, program_id, log, bounds)) as parts,
        ):
            for lines, hashes in parts:
                draft.write(lines)
                written(hashes)
        return
    digest = sha256()
    with place.scratch("lines") as scratch:
        with told(path), open_private(scratch) as file, closing(_lines(cur, program_id, log, bounds)) as parts:
            for lines, hashes in parts:
                digest.update(lines)
                file.write(lines)
                written(hashes)
        with place.draft(path, log, first, last) as draft:
            _write_parquet(place, scratch, draft, digest.hexdigest())


def _lines(cur: Rows, program_id: UUID, log: str, bounds: tuple[int, int]) -> Generator[tuple[bytes, bytes]]:
    """(lines with their line feeds, their leaf hashes side by side), some thousand at a time. Close it, so that the
    connection is free again."""
    with closing(_copied(cur, program_id, log, bounds)) as rows:
        yield from _checked(rows, log, bounds)


def _checked(rows: Iterator[bytes], log: str, bounds: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    expected, last = bounds
    lines: list[bytes] = []
    hashes: list[bytes] = []
    for row in rows:
        if int.from_bytes(row[_POSITION], "big") != expected:
            break
        line = row[_LINE_AT:]
        found = sha256(b"\x00" + line).digest()
        if found != row[_LEAF]:
            raise ExportRefused(
                f"{log}, position {expected}: the event does not have the leaf hash that stands beside it (expected"
                f" {row[_LEAF].hex()}, found {found.hex()}): it was changed after it was recorded"
            )
        lines.append(line)
        hashes.append(found)
        expected += 1
        if len(lines) == LINES_AT_ONCE:
            yield b"\n".join(lines) + b"\n", b"".join(hashes)
            lines.clear()
            hashes.clear()
    if expected <= last:
        raise ExportRefused(f"{log}, position {expected}: there is no such event in the log: it was taken away")
    if lines:
        yield b"\n".join(lines) + b"\n", b"".join(hashes)


def _copied(cur: Rows, program_id: UUID, log: str, bounds: tuple[int, int]) -> Generator[bytes]:
    """The rows as they come: the server sends each in a message of its own."""
    query = composed.SQL(QUERIES["copy_lines"]).format(
        prefix=composed.Literal(line_prefix(program_id, log)),
        table=composed.Identifier(TABLES[log]),
        program_id=composed.Literal(program_id),
        first=composed.Literal(bounds[0]),
        last=composed.Literal(bounds[1]),
    )
    with cur.copy(query) as copy:
        header: int | None = _HEADER_BYTES
        for message in copy:
            row = bytes(message)
            if header:
                row, header = row[header:], None
            if row and row != _TRAILER:
                yield row


# --- reading back ----------------------------------------------------------------------------------------


def kept_segment(place: Place, path: str, form: str) -> bytes | None:
    """The leaf hashes of a segment that is there and whole; None for one that must be written."""
    hashes: list[bytes] = []

    def hashed(file: Path) -> str:
        if form == names.NDJSON:
            digest = sha256()
            with open(file, "rb") as opened:
                while lines := opened.readlines(CHUNK):
                    digest.update(b"".join(lines))
                    hashes.extend([sha256(b"\x00" + line[:-1]).digest() for line in lines])
            return digest.hexdigest()
        digest_of_file = file_sha256(file)
        if digest_of_file == place.files[path].sha256:
            for some in parquet_lines(file):
                hashes.extend([sha256(b"\x00" + line).digest() for line in some])
        return digest_of_file

    return b"".join(hashes) if place.is_whole(path, hashed) else None


# --- Parquet -------------------------------------------------------------------------------------------

# One thread and a fixed order, so that the same lines make the same bytes.
_SETTINGS = (
    "threads = 1", "preserve_insertion_order = true", "memory_limit = '1GB'", "temp_directory = ''",
    "autoinstall_known_extensions = false", "autoload_known_extensions = false", "TimeZone = 'UTC'",
)  # fmt: skip
MAX_LINE_BYTES = 1 << 28
_COLUMNS = """
COPY (
SELECT said.position, said.originator_id, said.originator_version, said.topic,
       make_timestamptz(epoch_us(CAST(rtrim(said.recorded_at, 'Z') AS TIMESTAMP))) AS recorded_at,
       said.actor, said.key_id, said.request_id, said.cause,
       substr(line, state_at, length(line) - state_at) AS state, line
  FROM (SELECT line, strpos(line, '"state":') + 8 AS state_at, json_transform_strict(line, '{
                 "position": "BIGINT", "originator_id": "VARCHAR", "originator_version": "BIGINT", "topic": "VARCHAR",
                 "recorded_at": "VARCHAR", "actor": "VARCHAR", "key_id": "VARCHAR", "request_id": "VARCHAR",
                 "cause": "VARCHAR"}') AS said
          FROM (SELECT CAST(json AS VARCHAR) AS line FROM read_ndjson_objects($lines, maximum_object_size = $most)))
) TO '{}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480, USE_TMP_FILE false)
"""


def _duckdb() -> DuckDBPyConnection:
    import duckdb  # 20 MB that only those load who want Parquet

    connection = duckdb.connect()
    for setting in _SETTINGS:
        connection.execute(f"SET {setting}")
    return connection


def _write_parquet(place: Place, lines: Path, draft: Draft, digest: str) -> None:
    """Lines as a table, read back and compared before they are believed."""
    import duckdb

    with place.scratch("parquet") as made:
        with told(lines.name):
            open_private(made).close()
        try:
            with _duckdb() as connection:
                query = _COLUMNS.replace("'{}'", f"'{_quoted(made)}'")
                connection.execute(query, {"lines": str(lines), "most": MAX_LINE_BYTES})
        except duckdb.Error as problem:
            raise ExportRefused(f"a Parquet file cannot be written: {problem}. {GO_ON}") from None
        found = sha256()
        for some in parquet_lines(made):
            found.update(b"\n".join(some) + b"\n")
        if found.hexdigest() != digest:
            raise ExportRefused("a Parquet file did not read back as it was written: export as NDJSON")
        draft.fill_from(made)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def parquet_lines(file: Path) -> Iterator[list[bytes]]:
    """The export lines of a segment in Parquet, some thousand at a time, without line feeds."""
    with _duckdb() as connection:
        rows = connection.execute("SELECT line FROM read_parquet($file)", {"file": str(file)})
        while some := rows.fetchmany(LINES_AT_ONCE):
            yield [line.encode() for (line,) in some]
