"""What the tests of backups and restores share: a shop with two backups, and tools of ours in place of PostgreSQL's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from conftest import fresh_database
from support import (
    MASTER_KEY,
    PROGRAM,
    T0,
    Clock,
    balance,
    by,
    open_ledger,
    open_shop,
    owner,
    program_id,
    read_log,
    refund,
    sale,
    scalar,
    trial,
)

from ledger.backup.restoring import Choice, Restored, restore
from ledger.backup.taking import take_backup
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.click import RecordClick
from ledger.store import known, log
from ledger.store.database import Database, make_pool, urls
from ledger.store.embedded import EmbeddedServer
from ledger.store.vault import Vault, erase_subject

ROOT = Path(__file__).resolve().parents[1]
CANARY = "kanarienvogel"
Env = dict[str, str]
Lines = dict[tuple[str, str], list[bytes]]


def env_of(database: Database, **more: str) -> Env:
    """The environment of an operator of this database."""
    assert database.owner_url
    urls_ = {"DATABASE_URL": database.app_url, "LEDGER_OWNER_URL": database.owner_url}
    return {**urls_, "LEDGER_MASTER_KEY": MASTER_KEY.hex(), "LEDGER_OPERATOR": "olga", **more}


def lines(database: Database) -> Lines:
    """Every log of every program as its export lines."""
    with make_pool(database.app_url, min_size=1, max_size=1, name="lines") as pool, pool.connection() as conn:
        found: Lines = {}
        with conn.cursor() as cur:
            for (program,) in cur.execute("SELECT program FROM programs").fetchall():
                id_ = program_id(program)
                for name in log.TABLES:
                    rows = log.select_rows(cur, id_, name, 0, 10**6)
                    found[program, name] = [log.stored_line(id_, name, row) for row in rows]
        return found


def tables(database: Database) -> int:
    """How many tables there are in a database."""
    with owner(database) as conn:
        return int(scalar(conn, "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'vault')"))


class World(NamedTuple):
    """A shop that was backed up, went on, lost a person, and was backed up again. lines, trial: at the first backup;
    known: the newest known positions."""

    database: Database
    early: Path
    late: Path
    known: Path
    lines: Lines
    trial: dict[tuple[str, str], int]
    ada: dict[str, int]


@contextmanager
def make_world(server: EmbeddedServer, template: str, folder: Path) -> Iterator[World]:
    """Made once a module; its tests restore copies of it elsewhere."""
    early, late, known_file = folder / "early", folder / "late", folder / "known.json"
    clock = Clock()
    with fresh_database(server, template) as name:
        database = urls(server, name)
        with open_ledger(database, clock) as ledger:
            sell(ledger)
            before = trial(ledger), balance(ledger, "ada")
            said = lines(database)
            take_backup(env_of(database), early)
            clock.advance(days=1)
            ledger.execute(PROGRAM, sale("late", 70_000), by())
            with ledger.pool.connection() as conn, conn.cursor() as cur:
                assert erase_subject(cur, program_id(PROGRAM), "affiliate:ada")
            known.record_known_positions(ledger.pool, known_file)
        take_backup(env_of(database), late)
        yield World(database, early, late, known_file, said, *before)


def sell(ledger: Any) -> None:
    """Two programs with money, names and clicks."""
    for program in (PROGRAM, "other"):
        open_shop(ledger, program, affiliates=("bob",))
        for affiliate_id in ("ada", "cyd"):
            name = f"{CANARY} {affiliate_id}"
            ledger.execute(program, EnrolAffiliate(affiliate_id=affiliate_id, display_name=name), by())
            ledger.execute(program, DecideAffiliate(affiliate_id=affiliate_id, decision="approve"), by())
        ledger.execute(program, sale("A", 10_000, "ada"), by())
        ledger.execute(program, sale("B", 2000, "bob"), by())
        ledger.execute(program, refund("r1", "A", 2500), by())
    clicks = [RecordClick(click_id=f"k{n}", affiliate_id="ada", offer_id="shoes", occurred_at=T0) for n in range(5)]
    ledger.record_clicks(PROGRAM, clicks, by())
    for _ in ledger.approve_due(PROGRAM, T0.replace(month=3), by()):
        pass


def bring_back(database: Database, directory: Path, choice: Choice = Choice(), **more: str) -> list[Restored]:  # noqa: B008
    """Restore into a database."""
    return restore(env_of(database, **more), directory, choice, by("olga"))


def names(ledger: Any) -> dict[str, str | None]:
    """The names of affiliates that have one, None where it is erased."""
    with ledger.reading(PROGRAM) as (cur, id_):
        vault = Vault(cur, ledger.secrets, id_, T0)
        return {
            row.state["affiliate_id"]: vault.unseal(key, key, "display_name", row.state["display_name"])
            for row in read_log(ledger)
            if row.topic == "AffiliateEnrolled" and "display_name" in row.state
            for key in [f"affiliate:{row.state['affiliate_id']}"]
        }


def altered(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest."""
    path = directory / "manifest.json"
    said = json.loads(path.read_bytes())
    change(said)
    path.write_text(json.dumps(said))


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shim(folder: Path, name: str, real: str, script: str) -> Path:
    """A pg_dump or pg_restore of ours: answers --version as the real one, else runs a script that knows $REAL."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\nREAL={real}\nif [ "$1" = --version ]; then exec $REAL --version; fi\n{script}\n')
    path.chmod(0o755)
    return folder


def start(line: list[str], env: Env) -> subprocess.Popen[bytes]:
    """A verb as a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LEDGER_", "DATABASE_URL"))}
    command = [sys.executable, "-m", "ledger.cli", *line]
    return subprocess.Popen(command, env={**clean, "PYTHONPATH": str(ROOT), **env}, stderr=subprocess.PIPE)


def wait_for(path: Path) -> int:
    """The process id that a shim wrote down."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())
