"""One check of one program: both logs read once, every check told of every row, all in one state of the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from ledger import sql
from ledger.checking.books import BooksCheck
from ledger.checking.findings import CheckReport, Findings
from ledger.checking.logs import LogCheck, Row
from ledger.checking.models import ModelsCheck
from ledger.domain.ids import program_id
from ledger.store import log
from ledger.store.database import Pool
from ledger.store.log import Rows

QUERIES = sql.load("ledger.checking", "checking.sql")
ROWS_AT_ONCE = 5_000


class CheckProgress(NamedTuple):
    """what: which part is at work; done of total: its rows, both 0 where it does not count."""

    what: str
    done: int
    total: int


def check_program(pool: Pool, program: str, progress: Callable[[CheckProgress], None] = lambda _: None) -> CheckReport:
    """Check a program's logs, and everything that follows from them, as of one state of the database; others go on
    reading and writing. Needs no more rights than the service has. Raises UnknownProgram."""
    id_, findings = program_id(program), Findings()
    with pool.connection() as conn, conn.transaction(), conn.cursor() as cur, conn.cursor(binary=True) as raw:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        generation = _generation(cur, program)
        models = ModelsCheck(cur, id_, program, findings)
        models.begin()
        # Whatever would write from here on is refused by the server; the shadows are temporary tables.
        cur.execute("SET TRANSACTION READ ONLY")
        books = BooksCheck(raw, id_, generation, findings)
        positions: dict[str, int] = {}
        for name in log.TABLES:

            def others(read: list[Row], name: str = name) -> None:
                if name == "books":
                    books.read(read)
                models.read(name, read)

            positions[name] = _read(cur, raw, id_, name, findings, others, progress)
        progress(CheckProgress("read models and statements", 0, 0))
        books.end()
        models.end()
    return CheckReport(program, positions, dict(findings.checked), dict(findings.counts), findings.kept)


def check_logs(pool: Pool, program: str, progress: Callable[[CheckProgress], None] = lambda _: None) -> CheckReport:
    """Check a program's logs alone: that they are what was recorded and sealed. Raises UnknownProgram."""
    id_, findings, positions = program_id(program), Findings(), {}
    with pool.connection() as conn, conn.transaction(), conn.cursor() as cur, conn.cursor(binary=True) as raw:
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        _generation(cur, program)
        for name in log.TABLES:
            positions[name] = _read(cur, raw, id_, name, findings, lambda _: None, progress)
    return CheckReport(program, positions, dict(findings.checked), dict(findings.counts), findings.kept)


def _read(
    cur: Rows,
    raw: Rows,
    id_: UUID,
    name: str,
    findings: Findings,
    others: Callable[[list[Row]], None],
    progress: Callable[[CheckProgress], None],
) -> int:
    """Read a log to its end, checking it, and telling others of its rows. Returns its last position."""
    own, last = LogCheck(cur, id_, name, findings), log.last_position(cur, id_, name)
    while rows := raw.execute(
        QUERIES[f"select_{name}"], {"program_id": id_, "after": own.position, "limit": ROWS_AT_ONCE}
    ).fetchall():
        others(own.read(rows))
        progress(CheckProgress(f"{name}: events checked", own.position, last))
    own.end()
    return own.position


def _generation(cur: Rows, program: str) -> int:
    row = cur.execute(QUERIES["select_head"], {"program_id": program_id(program), "log": "books"}).fetchone()
    if row is None:
        raise log.UnknownProgram(program)
    return int(row[3])
