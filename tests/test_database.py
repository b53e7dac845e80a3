"""Where the service connects: what it refuses to serve from, and that it never waits for ever."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer


@contextmanager
def as_the_service(url: str, **changes: float) -> Iterator[store.Connection]:
    """A connection as the pool would make it."""
    timeouts = {"lock_timeout": 1.5, "statement_timeout": 15.0} | changes
    with psycopg.connect(store.connection_settings(url, "test", **timeouts)) as conn:
        yield conn


# --- preflight -----------------------------------------------------------------------------------------


def test_preflight_passes_for_the_app_role(database: store.Database) -> None:
    with as_the_service(database.app_url) as conn:
        store.preflight(conn)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_preflight_refuses_a_server_that_may_lose_commits(
    database: store.Database, server: EmbeddedServer, setting: str
) -> None:
    def reload(command: str) -> None:
        with psycopg.connect(server.superuser_url, autocommit=True) as admin:
            admin.execute(command.encode())
            admin.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)

    reload(f"ALTER SYSTEM SET {setting} = off")
    try:
        with as_the_service(database.app_url) as conn, pytest.raises(store.StartupRefused, match=setting):
            store.preflight(conn)
    finally:
        reload(f"ALTER SYSTEM RESET {setting}")


def test_preflight_refuses_asynchronous_commits(database: store.Database) -> None:
    with as_the_service(database.app_url) as conn:
        conn.execute("SET synchronous_commit = off")
        with pytest.raises(store.StartupRefused, match="synchronous_commit is off"):
            store.preflight(conn)


@pytest.mark.parametrize("timeout", ["lock_timeout", "statement_timeout"])
def test_preflight_refuses_endless_patience(database: store.Database, timeout: str) -> None:
    with (
        as_the_service(database.app_url, **{timeout: 0}) as conn,
        pytest.raises(store.StartupRefused, match=f"{timeout} is 0"),
    ):
        store.preflight(conn)


def test_preflight_refuses_a_superuser(database: store.Database, server: EmbeddedServer) -> None:
    name = database.app_url.rsplit("/", 1)[1]
    with (
        as_the_service(server.url(name, "postgres")) as conn,
        pytest.raises(store.StartupRefused, match="superuser"),
    ):
        store.preflight(conn)


def test_preflight_refuses_the_owner_of_the_tables(database: store.Database) -> None:
    assert database.owner_url
    with as_the_service(database.owner_url) as conn, pytest.raises(store.StartupRefused, match="owns"):
        store.preflight(conn)


def test_preflight_refuses_roles_above_the_rules(database: store.Database, server: EmbeddedServer) -> None:
    with psycopg.connect(server.superuser_url, autocommit=True) as admin:
        admin.execute("ALTER ROLE ledger_app BYPASSRLS CREATEROLE")
        try:
            with as_the_service(database.app_url) as conn, pytest.raises(store.StartupRefused) as refused:
                store.preflight(conn)
        finally:
            admin.execute("ALTER ROLE ledger_app NOBYPASSRLS NOCREATEROLE")
    assert "bypasses row-level security" in str(refused.value)
    assert "may create roles" in str(refused.value)


def test_preflight_refuses_membership_in_the_owner(database: store.Database, server: EmbeddedServer) -> None:
    with psycopg.connect(server.superuser_url, autocommit=True) as admin:
        admin.execute("GRANT ledger_owner TO ledger_app")
        try:
            with as_the_service(database.app_url) as conn, pytest.raises(store.StartupRefused, match="owns"):
                store.preflight(conn)
        finally:
            admin.execute("REVOKE ledger_owner FROM ledger_app")


def test_preflight_refuses_a_database_that_was_not_migrated(empty_database: store.Database) -> None:
    with (
        as_the_service(empty_database.app_url) as conn,
        pytest.raises(store.StartupRefused, match="migrations not applied: 0001_"),
    ):
        store.preflight(conn)


# --- the pool ------------------------------------------------------------------------------------------


def make_pool(url: str, max_size: int = 4) -> store.Pool:
    return store.make_pool(url, min_size=1, max_size=max_size, name="test")


def test_pooled_connections_have_finite_timeouts_and_utc(database: store.Database) -> None:
    with make_pool(database.app_url) as pool, pool.connection() as conn:
        store.preflight(conn)
        names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "TimeZone")
        shown = [conn.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
        assert shown == [("1500ms",), ("15s",), ("20s",), ("UTC",)]
        assert conn.info.get_parameters()["application_name"] == "test"


def test_what_the_url_says_wins() -> None:
    url = "postgresql://a@h/d?connect_timeout=7&options=-c%20lock_timeout%3D9s"
    settings = store.connection_settings(url, "x", lock_timeout=1, statement_timeout=1)
    assert "connect_timeout=7" in settings
    assert settings.index("lock_timeout=1000ms") < settings.index("lock_timeout=9s")


def test_an_exhausted_pool_says_so_within_two_seconds(database: store.Database) -> None:
    with make_pool(database.app_url, max_size=1) as pool, pool.connection():
        began = time.monotonic()
        with pytest.raises(PoolTimeout), pool.connection():
            pass
        assert time.monotonic() - began < 2


def test_a_locked_row_is_given_up(database: store.Database) -> None:
    with (
        make_pool(database.app_url) as pool,
        pool.connection() as holder,
        pool.connection() as waiter,
    ):
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            waiter.execute("SELECT pg_advisory_xact_lock(1)")
        assert time.monotonic() - began < 2
        waiter.rollback()


def test_an_endless_statement_is_ended(database: store.Database) -> None:
    with (
        store.make_pool(database.app_url, min_size=1, max_size=1, name="t", statement_timeout=0.2) as pool,
        pool.connection() as conn,
    ):
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(30)")
        conn.rollback()


def test_when_the_server_goes_errors_come_fast_and_when_it_returns_so_does_the_pool(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = EmbeddedServer.start(home)
    with store.make_pool(server.superuser_url, min_size=4, max_size=4, name="outage") as pool:
        pool.wait()
        server.release()
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises((PoolTimeout, psycopg.OperationalError)), pool.connection() as conn:
                conn.execute("SELECT 1")
            assert time.monotonic() - began < 2
        with EmbeddedServer.start(home):
            back = time.monotonic()
            while True:
                try:
                    with pool.connection() as conn:
                        conn.execute("SELECT 1")
                    break
                except (PoolTimeout, psycopg.OperationalError):
                    assert time.monotonic() - back < 5, "the pool did not find the server again"


def test_a_restart_between_two_requests_is_not_seen_by_the_second(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = EmbeddedServer.start(home)
    with store.make_pool(server.superuser_url, min_size=4, max_size=4, name="restart") as pool:
        pool.wait()
        server.release()
        with EmbeddedServer.start(home):
            for _ in range(8):
                with pool.connection() as conn:
                    assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_peer_that_never_answers_costs_two_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with make_pool(f"postgresql://someone@127.0.0.1:{port}/db") as pool:
            began = time.monotonic()
            with pytest.raises(PoolTimeout), pool.connection():
                pass
            assert time.monotonic() - began < 2


# --- where ---------------------------------------------------------------------------------------------


def test_a_named_database_is_used_as_it_is() -> None:
    env = {"DATABASE_URL": "postgresql://a@h/d", "LEDGER_OWNER_URL": "postgresql://o@h/d"}
    with store.open_database(env) as found:
        assert found == store.Database("postgresql://a@h/d", "postgresql://o@h/d", None)


def test_without_one_the_embedded_server_has_it_with_three_plain_roles(tmp_path: Path) -> None:
    env = {"LEDGER_HOME": str(tmp_path / "home")}
    with store.open_database(env) as found, store.open_database(env) as same:
        assert found == same
        assert found.owner_url
        assert found.reader_url
        with psycopg.connect(found.owner_url) as conn:
            rows = conn.execute(
                "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
                " FROM pg_roles WHERE rolname LIKE 'ledger%' ORDER BY 1"
            ).fetchall()
            assert rows == [(role, *[False] * 5) for role in sorted(store.ROLES)]
            conn.execute("CREATE TABLE mine (n integer)")
        for url in (found.app_url, found.reader_url):
            with psycopg.connect(url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("CREATE TABLE not_mine (n integer)")
