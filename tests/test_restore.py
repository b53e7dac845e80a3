"""Restoring with the real pg_restore: what comes back is what was there, and proves it before anyone serves."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_world import (
    CANARY,
    World,
    altered,
    bring_back,
    env_of,
    flip,
    lines,
    names,
    shim,
    start,
    tables,
    wait_for,
)
from conftest import fresh_database
from psycopg.conninfo import conninfo_to_dict
from support import PROGRAM, balance, by, open_ledger, owner, program_id, read_log, sale, scalar, trial

from ledger.backup import manifest, proof, tools
from ledger.backup.manifest import BackupRefused
from ledger.backup.restoring import Choice
from ledger.backup.taking import take_backup
from ledger.cli import main
from ledger.service import open_service
from ledger.store import log
from ledger.store.database import Database, StartupRefused, urls
from ledger.store.embedded import EmbeddedServer


@pytest.fixture
def world(backed_up: World) -> World:
    """A shop with two backups."""
    return backed_up


# --- what comes back ---------------------------------------------------------------------------------------


def test_what_comes_back_is_what_was_there(
    world: World, empty_database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the verb: every line of every log byte for byte, every balance; then the restore is recorded, the books take
    sales, and a person confirms the bank's side."""

    def verb(*args: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(args)
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    for name, value in env_of(empty_database).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LEDGER_HOME", raising=False)
    said = verb("restore", str(world.early))
    ends = {place: len(found) for place, found in world.lines.items()}
    assert f"shop: books to position {ends[PROGRAM, 'books']}, clicks to position 5" not in said
    assert f"shop: books to position {ends[PROGRAM, 'books']}, clicks to 5: every hash" in said
    assert "payouts are blocked" in said
    found = lines(empty_database)
    for place, expected in world.lines.items():
        assert found[place][: len(expected)] == expected
    with open_ledger(empty_database) as ledger:
        assert (trial(ledger), balance(ledger, "ada")) == (world.trial, world.ada)
        assert world.ada
        last = read_log(ledger)[-1]
        at = manifest.read(world.early).created_at
        assert (last.topic, last.position) == ("BooksRestored", ends[PROGRAM, "books"] + 1)
        assert last.state["position"] == ends[PROGRAM, "books"]
        assert last.state["backup_created_at"] == at.isoformat().replace("+00:00", "Z")
        ledger.execute(PROGRAM, sale("after", 100), by())
        assert names(ledger) == {"ada": f"{CANARY} ada", "cyd": f"{CANARY} cyd"}
    assert "may go on" in verb("bank-matched", "-p", PROGRAM, "--reason", "statement 3 has them all")
    with open_ledger(empty_database) as ledger:
        assert read_log(ledger)[-1].topic == "BankMatched"
        assert CANARY not in str(read_log(ledger)[-1].state)
        assert "statement" not in str(read_log(ledger)[-1].state)
    with owner(empty_database) as conn:
        assert scalar(conn, "SELECT to_regnamespace('restoring') IS NULL")
        assert scalar(conn, "SELECT count(*) FROM journal WHERE generation = 1") == 0  # what the proof replaced


def test_who_was_erased_stays_erased_with_the_newer_vault(world: World, empty_database: Database) -> None:
    """The older books with the keys of today: ada's name is gone for good, cyd's is not, and no cent is missing."""
    bring_back(empty_database, world.early, Choice(vault=world.late))
    with open_ledger(empty_database) as ledger:
        assert names(ledger) == {"ada": None, "cyd": f"{CANARY} cyd"}
        assert trial(ledger) == world.trial


# --- what is refused before anything is touched ------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: flip(d / "ledger.dump"), "ledger.dump was changed: its SHA-256"),
        (lambda d: flip(d / "vault.dump"), "vault.dump was changed: its SHA-256"),
        (lambda d: os.truncate(d / "ledger.dump", 1000), "has 1000 bytes, the manifest says"),
        (lambda d: (d / "ledger.dump").unlink(), "ledger.dump cannot be read"),
        (lambda d: (d / "manifest.json").unlink(), "is no backup: manifest.json cannot be read"),
        (lambda d: os.truncate(d / "manifest.json", 100), "is no manifest of a backup"),
        (lambda d: altered(d, lambda m: m.update(format=2)), "has format 2, which this version does not know"),
        (lambda d: altered(d, lambda m: m.update(migration="9999_x.sql")), "9999_x.sql, which this version does not"),
    ],
)
def test_a_backup_that_is_not_whole_is_refused(
    world: World, tmp_path: Path, empty_database: Database, spoil: Callable[[Path], object], says: str
) -> None:
    """Any file changed, cut or missing, and the message says which; the database is not touched."""
    copy = shutil.copytree(world.early, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(BackupRefused) as caught:
        bring_back(empty_database, copy)
    assert says in str(caught.value)
    assert tables(empty_database) == 0


def test_only_an_empty_database_is_restored_into(world: World, server: EmbeddedServer) -> None:
    """One that has a ledger keeps it."""
    before = lines(world.database)
    with pytest.raises(BackupRefused, match=r"has [0-9]+ tables and views: a backup is restored into an empty one"):
        bring_back(world.database, world.early)
    assert lines(world.database) == before


# --- the proof ---------------------------------------------------------------------------------------------


def edit(statement: str) -> list[str]:
    """A statement of somebody who owns the tables."""
    table = next(name for name in ("book_events", "traffic_events", "journal") if name in statement)
    return [f"ALTER TABLE {table} DISABLE TRIGGER USER", statement]


WHERE = f"WHERE program_id = '{program_id(PROGRAM)}'"


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (
            edit(f"UPDATE book_events SET state = replace(state, '10000', '90000') {WHERE}"),
            "books, position 10: the event",
        ),
        (edit(f"UPDATE book_events SET actor = 'eve' {WHERE} AND position = 3"), "books, position 3: the event has"),
        (edit(f"UPDATE book_events SET leaf_hash = sha256('x') {WHERE} AND position = 4"), "books, position 4: the"),
        (edit(f"DELETE FROM book_events {WHERE} AND position = 7"), "books: position 7 is missing (the next one is 8)"),
        (edit(f"DELETE FROM traffic_events {WHERE} AND position = 5"), "traffic: the log ends at position 4, the mani"),
        ([f"UPDATE log_heads SET next_position = 99 {WHERE}"], "books: the log ends at 19, and its head would go on"),
        ([f"DELETE FROM api_keys; DELETE FROM directory {WHERE} AND record_id = 'ada'"], "directory has 3 rows, the m"),
        (edit(f"UPDATE journal SET generation = 9 {WHERE} AND position = 11"), "journal has 5 rows, the manifest says"),
        (["UPDATE programs SET program = 'x' WHERE program = 'other'"], "the programs are not those of the manifest"),
    ],
)
def test_a_changed_row_is_found_and_named(world: World, statements: list[str], says: str) -> None:
    """Whatever was changed in the rows themselves, by someone whom no trigger stops."""
    found = proof_after(world, lambda conn: [conn.execute(statement.encode()) for statement in statements])
    assert says in found


def proof_after(world: World, change: Callable[[Any], object]) -> str:
    """What the proof says of the database after a change, which is then taken back."""
    with owner(world.database) as conn:
        conn.execute("BEGIN")
        change(conn)
        with pytest.raises(BackupRefused) as caught:
            proof.prove_rows(conn, manifest.read(world.late), lambda *_: None)
        conn.execute("ROLLBACK")
    return str(caught.value)


def test_an_event_that_was_exchanged_and_hashed_anew_is_found(world: World) -> None:
    """Its own hash fits; the root over all of them does not."""

    def exchange(conn: Any) -> None:
        id_ = program_id(PROGRAM)
        conn.execute("ALTER TABLE book_events DISABLE TRIGGER USER")
        conn.execute(f"UPDATE book_events SET actor = 'eve' {WHERE} AND position = 3")
        row = conn.execute(manifest.QUERIES["select_rows_of_books"], {"program_id": id_}).fetchall()[2]
        leaf = hashlib.sha256(b"\x00" + log.stored_line(id_, "books", row[:-1])).digest()
        conn.execute(f"UPDATE book_events SET leaf_hash = %s {WHERE} AND position = 3", (leaf,))

    assert "program shop, books: the root over positions 1 to" in proof_after(world, exchange)


def test_a_restore_whose_rows_were_changed_leaves_nothing_behind(
    world: World, tmp_path: Path, empty_database: Database, server: EmbeddedServer
) -> None:
    """A backup of a tampered database with a manifest that fits it: the restore names the event, or the line of the
    books, and takes back all it brought; the next restore is as if there had been none."""
    copy = shutil.copytree(world.early, tmp_path / "manifest-lies")
    altered(copy, lambda m: m["programs"][1]["logs"]["books"].update(position=2))
    with pytest.raises(BackupRefused, match=r"program shop, books: the log ends at position [0-9]+, the manifest"):
        bring_back(empty_database, copy)
    assert tables(empty_database) == 0
    source = str(conninfo_to_dict(world.database.app_url)["dbname"])
    with fresh_database(server, source) as name:
        tampered = urls(server, name)
        with owner(tampered) as conn:
            conn.execute("ALTER TABLE journal DISABLE TRIGGER USER")
            conn.execute(f"UPDATE journal SET amount = amount + 1 {WHERE} AND position = 11".encode())
            conn.execute("ALTER TABLE journal ENABLE ALWAYS TRIGGER journal_append_only")
        take_backup(env_of(tampered), tmp_path / "tampered")
    with pytest.raises(BackupRefused, match=r"the books are not what the log adds up to, first at \{'position': 11"):
        bring_back(empty_database, tmp_path / "tampered")
    assert tables(empty_database) == 0
    with owner(empty_database) as conn:
        assert scalar(conn, "SELECT to_regnamespace('restoring') IS NULL")


def test_another_master_key_is_refused(world: World, empty_database: Database, tmp_path: Path) -> None:
    """Nobody finds out later that names cannot be read; and a fresh home does not make up a key of its own."""
    with pytest.raises(BackupRefused, match="the master key here does not open the personal data of program"):
        bring_back(empty_database, world.early, LEDGER_MASTER_KEY="00" * 32)
    with pytest.raises(BackupRefused, match="put the master key that belongs to this backup at"):
        bring_back(empty_database, world.early, LEDGER_MASTER_KEY="", LEDGER_HOME=str(tmp_path))
    assert tables(empty_database) == 0
    assert list(tmp_path.iterdir()) == []
    bring_back(empty_database, world.early, Choice(with_vault=False), LEDGER_MASTER_KEY="00" * 32)
    with open_ledger(empty_database) as ledger:
        assert trial(ledger) == world.trial
        assert set(names(ledger).values()) == {None}


def test_a_killed_restore_serves_nobody_and_begins_again(
    world: World, tmp_path: Path, empty_database: Database, server: EmbeddedServer
) -> None:
    """Killed when the rows are there but nothing is proven."""
    real, pid = server.program("pg_restore"), tmp_path / "pid"
    script = f'case "$*" in *vault.dump*) echo $$ > {pid}; exec sleep 60;; esac\nexec $REAL "$@"'
    folder = shim(tmp_path / "bin", "pg_restore", real, script)
    env = env_of(empty_database)
    process = start(["restore", str(world.early)], {**env, "LEDGER_PG_BIN": str(folder)})
    tool = wait_for(pid)
    with pytest.raises(BackupRefused, match="another restore into this database is running"):
        bring_back(empty_database, world.early)
    process.kill()
    process.communicate(timeout=30)
    assert tables(empty_database) > 0
    with pytest.raises(StartupRefused, match="a restore into this database has not ended"), open_service(env):
        pass
    with pytest.raises(BackupRefused, match="has not ended"):
        take_backup(env, tmp_path / "b")
    with owner(empty_database) as conn:  # until the server has noticed that its client is gone
        deadline = time.monotonic() + 30
        held = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        while scalar(conn, held):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    bring_back(empty_database, world.early)
    os.kill(tool, signal.SIGKILL)
    with open_ledger(empty_database) as ledger:
        assert trial(ledger) == world.trial
        assert [row.topic for row in read_log(ledger)].count("BooksRestored") == 1


SLEEP = ("-c", "SELECT pg_sleep(60)")


def test_a_tool_that_outlived_its_killed_restore_cannot_finish_later(
    world: World, empty_database: Database, server: EmbeddedServer
) -> None:
    """Its session is ended before the same restore begins again."""
    url = empty_database.owner_url
    with owner(empty_database) as conn:
        conn.execute("CREATE SCHEMA restoring")
    name = tools.session_name("pg_restore")
    orphan = subprocess.Popen(
        [server.program("psql"), f"{url}?application_name={name}", "-1", *("-c", "CREATE TABLE late (n int)"), *SLEEP],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with owner(empty_database) as conn:
        deadline = time.monotonic() + 30
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND query LIKE '%%pg_sleep%%'"
        while not scalar(conn, query, name):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    bring_back(empty_database, world.early)
    assert b"terminating connection" in orphan.communicate(timeout=30)[1]
    with owner(empty_database) as conn:
        assert scalar(conn, "SELECT to_regclass('late') IS NULL")
