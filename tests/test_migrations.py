"""Migrations are applied once, whole, in order, whoever runs them and whoever is killed; and they add up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import fresh_database

from ledger.store import database as store
from ledger.store import migrate, schema
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import MigrationError


@pytest.fixture
def owner(empty_database: store.Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The owner's connection to an empty database."""
    assert empty_database.owner_url
    with psycopg.connect(empty_database.owner_url, autocommit=True) as conn:
        yield conn


def owner_url(database: store.Database) -> str:
    assert database.owner_url
    return database.owner_url


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(text, encoding="utf-8")
    return folder


def start_process(url: str, folder: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from ledger.store.migrate import migrate;"
        "print(','.join(migrate(sys.argv[1], Path(sys.argv[2]))))"
    )
    env = {**os.environ, "PYTHONPATH": str(migrate.DIRECTORY.parent)}
    return subprocess.Popen([sys.executable, "-c", code, url, str(folder)], stdout=subprocess.PIPE, text=True, env=env)


def tables(conn: psycopg.Connection[tuple[object, ...]]) -> set[object]:
    rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows} - {"schema_migrations"}


def test_applied_once_in_order(
    empty_database: store.Database, owner: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    url = owner_url(empty_database)
    write(
        tmp_path,
        m0001_a="CREATE TABLE a (n int); INSERT INTO a VALUES (1)",
        m0002_b="ALTER TABLE a ADD b int",
    )
    assert migrate.pending(owner, tmp_path) == ["0001_a.sql", "0002_b.sql"]
    assert migrate.migrate(url, tmp_path) == ["0001_a.sql", "0002_b.sql"]
    assert migrate.migrate(url, tmp_path) == []
    write(tmp_path, m0003_c="CREATE TABLE c (n int)", schema="not a migration")
    with psycopg.connect(empty_database.app_url) as app:
        assert migrate.pending(app, tmp_path) == ["0003_c.sql"], "the service may ask"
    assert migrate.migrate(url, tmp_path) == ["0003_c.sql"]
    assert tables(owner) == {"a", "c"}


def test_three_processes_at_once_apply_each_file_once(
    empty_database: store.Database, owner: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    slow = {f"m{n:04}_t{n}": f"SELECT pg_sleep(0.1); CREATE TABLE t{n} (n int)" for n in range(1, 6)}
    # The one that a waiting session's snapshot would hold up for ever.
    slow["m0006_index"] = "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t1 (n);\n"
    write(tmp_path, **slow)
    processes = [start_process(owner_url(empty_database), tmp_path) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(filter(None, said)) == [",".join(sorted(path.name for path in tmp_path.iterdir()))]
    assert owner.execute("SELECT count(*) FROM schema_migrations").fetchone() == (6,)


def test_killed_midway_leaves_whole_files_only(
    empty_database: store.Database, owner: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    write(
        tmp_path,
        m0001_a="CREATE TABLE a (n int)",
        m0002_b="CREATE TABLE b (n int); SELECT pg_sleep(1.5); CREATE TABLE b2 (n int)",
    )
    process = start_process(owner_url(empty_database), tmp_path)
    deadline = time.monotonic() + 20
    while "a" not in tables(owner):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert tables(owner) == {"a"}
    # The killed one's session ends its statement first; the next runner waits for it.
    assert migrate.migrate(owner_url(empty_database), tmp_path) == ["0002_b.sql"]
    assert tables(owner) == {"a", "b", "b2"}


def test_a_failing_file_leaves_nothing_and_is_named_with_its_line(
    empty_database: store.Database, owner: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    write(tmp_path, m0001_a="CREATE TABLE a (n int);", m0002_b="CREATE TABLE b (n int);\n\nSELECT nonsense;\n")
    with pytest.raises(MigrationError, match=r"0002_b\.sql, line 3: .*nonsense"):
        migrate.migrate(owner_url(empty_database), tmp_path)
    assert tables(owner) == {"a"}


def test_edited_missing_renamed_and_late_files_are_refused_by_name(
    empty_database: store.Database, tmp_path: Path
) -> None:
    url = owner_url(empty_database)
    write(tmp_path, m0002_a="CREATE TABLE a (n int)", m0003_b="CREATE TABLE b (n int)")
    migrate.migrate(url, tmp_path)
    write(tmp_path, m0002_a="CREATE TABLE a (n bigint)")
    with pytest.raises(MigrationError, match=r"0002_a\.sql was edited"):
        migrate.migrate(url, tmp_path)
    with psycopg.connect(empty_database.app_url) as app, pytest.raises(MigrationError, match="edited"):
        migrate.pending(app, tmp_path)
    (tmp_path / "0002_a.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_a\.sql .* missing"):
        migrate.migrate(url, tmp_path)
    write(tmp_path, m0002_c="CREATE TABLE a (n int)")
    with pytest.raises(MigrationError, match=r"0002_a\.sql .* now 0002_c\.sql"):
        migrate.migrate(url, tmp_path)
    (tmp_path / "0002_c.sql").unlink()
    write(tmp_path, m0002_a="CREATE TABLE a (n int)", m0001_late="SELECT 1")
    with pytest.raises(MigrationError, match=r"0001_late\.sql comes before 0003_b\.sql"):
        migrate.migrate(url, tmp_path)


def test_misnamed_and_doubled_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, m01_a="SELECT 1")
    with pytest.raises(MigrationError, match=r"01_a\.sql"):
        migrate.load(tmp_path)
    (tmp_path / "01_a.sql").unlink()
    write(tmp_path, m0001_a="SELECT 1", m0001_b="SELECT 1")
    with pytest.raises(MigrationError, match=r"0001_b\.sql: number 0001 is taken by 0001_a\.sql"):
        migrate.load(tmp_path)


def test_a_transform_changes_what_runs_and_not_what_is_recorded(
    empty_database: store.Database, owner: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    url = owner_url(empty_database)
    write(tmp_path, m0001_a="CREATE TABLE a (n int)")
    migrate.migrate(url, tmp_path, lambda text: text.replace("TABLE a", "TABLE other"))
    assert tables(owner) == {"other"}
    assert migrate.migrate(url, tmp_path) == []


def test_missing_roles_are_named(empty_database: store.Database, server: EmbeddedServer, tmp_path: Path) -> None:
    with psycopg.connect(server.superuser_url, autocommit=True) as admin:
        admin.execute("ALTER ROLE ledger_reader RENAME TO gone")
        try:
            with pytest.raises(MigrationError, match=r"ledger_reader.*docs/roles\.sql"):
                migrate.migrate(owner_url(empty_database), tmp_path)
        finally:
            admin.execute("ALTER ROLE gone RENAME TO ledger_reader")


def test_docs_roles_sql_makes_a_server_ready_for_migrations(tmp_path: Path) -> None:
    script = migrate.DIRECTORY.parent / "docs" / "roles.sql"
    with EmbeddedServer.start(tmp_path / "home") as server:
        passwords = [f"--set={who}_password=o'{who}" for who in ("owner", "app", "reader")]
        psql = [
            server.program("psql"),
            "--no-psqlrc",
            *passwords,
            "-d",
            server.superuser_url,
            "-f",
            str(script),
        ]
        subprocess.run(psql, check=True, capture_output=True)
        url = f"postgresql://ledger_{{}}:o'{{}}@127.0.0.1:{server.port}/ledger"
        migrate.migrate(url.format("owner", "owner"))
        app_url = url.format("app", "app")
        with store.make_pool(app_url, min_size=1, max_size=1, name="t") as pool, pool.connection() as conn:
            store.preflight(conn)


def test_the_migrations_add_up_to_schema_sql(server: EmbeddedServer, template: str) -> None:
    """As pg_dump sees them: tables, columns, constraints, indexes, rights, policies, triggers, functions."""
    summed = (migrate.DIRECTORY / "schema.sql").read_text(encoding="utf-8")
    with fresh_database(server, None) as name, fresh_database(server, template) as migrated:
        with psycopg.connect(server.url(name, "ledger_owner")) as conn:
            conn.execute(summed.encode())
        hint = "migrations changed? python -m ledger.store.schema writes schema.sql anew"
        assert schema.dump(server, name) == schema.dump(server, migrated), hint
