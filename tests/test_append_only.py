"""The database itself refuses to change what was recorded, whoever asks, and shows readers only what is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from conftest import fresh_database
from psycopg import errors, sql
from support import PROGRAM, T0, by, open_ledger, open_shop, owner, program_id, refund, sale, scalar

from ledger.domain.click import RecordClick
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

Connection = psycopg.Connection[tuple[Any, ...]]

LOGS = ("book_events", "traffic_events")
KEPT = (*LOGS, "journal")
# What the app role may change, column by column; in every other table and column it may only add.
MAY_UPDATE = {
    "log_heads": {"next_position", "last_recorded_at", "master_position", "generation"},
    "balances": {"amount", "position"},
    "api_keys": {"revoked_at"},
    "conversions": {"*"},
    "directory": {"*"},
    "followers": {"*"},
    "import_files": {"totals", "state"},
    "import_turns": {"taken_at"},
    "periods": {"status", "statement_count", "line_count"},
    "payout_runs": {"status", "position"},
    "payouts": {
        "status",
        "fee_amount",
        "invoice_number",
        "reason",
        "initiated_at",
        "initiated_position",
        "ended_at",
        "bank_line_id",
        "position",
    },
    "plan_counters": {
        "conversions",
        "revenue",
        "commission",
        "paid_conversions",
        "paid_clicks",
        "reversed_conversions",
        "reversed_revenue",
        "reversed_commission",
        "reversed_paid_conversions",
    },
    "job_leases": {"fence", "holder", "taken_at"},
    "job_runs": {"finished_at", "outcome", "detail"},
    "simulations": {"status", "progress", "as_of", "report", "line_count", "lines_hash", "failure", "changed_at"},
    "simulation_lines": {"outcome"},
}
# Erasing a person is deleting a key; an import clears its own workbench, a simulation its lines.
MAY_DELETE = {"subject_keys", "import_lines", "import_invoices", "simulation_lines"}


@pytest.fixture(scope="module")
def sold(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """A database with rows in every table that matters, of the program 'shop' and of another. One for all the tests
    here: what they do is refused, or rolled back."""
    with fresh_database(server, template) as name:
        yield sell(urls(server, name))


def sell(database: Database) -> Database:
    """Two programs sell."""
    with open_ledger(database) as ledger:
        for program in (PROGRAM, "other"):
            open_shop(ledger, program)
            ledger.execute(program, sale("A", 1000, "ada"), by())
            ledger.execute(program, sale("B", 2000, "bob"), by())
            ledger.execute(program, refund("r1", "A", 500), by())
            click = RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0, customer_id="c", sub1="x")
            ledger.record_clicks(program, [click], by())
    return database


@pytest.fixture
def app(sold: Database) -> Iterator[Connection]:
    """The app role's connection."""
    with psycopg.connect(sold.app_url, autocommit=True) as conn:
        yield conn


CHANGES = ["UPDATE {} SET program_id = program_id", "DELETE FROM {}", "TRUNCATE {}"]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", KEPT)
def test_the_app_role_cannot_change_the_log_or_the_journal(app: Connection, table: str, change: str) -> None:
    """No UPDATE, no DELETE, no TRUNCATE: it has no right to."""
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied"):
        app.execute(change.format(table).encode())


def test_the_app_role_may_change_only_what_it_must(app: Connection) -> None:
    """Column by column, from the catalog: nothing but heads, balances, work lists and a key's revocation."""
    rows = app.execute(
        "SELECT c.oid::regclass::text, a.attname, has_column_privilege('ledger_app', c.oid, a.attname, 'UPDATE')"
        "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        "  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname IN ('public', 'vault', 'reader')"
    ).fetchall()
    found: dict[str, set[str]] = {}
    for table, column, allowed in rows:
        if allowed:
            found.setdefault(table, set()).add("*" if "*" in MAY_UPDATE.get(table, ()) else column)
    assert found == MAY_UPDATE
    others = app.execute(
        "SELECT c.relname, p.privilege FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN unnest(ARRAY['DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege)"
        " WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname IN ('public', 'vault', 'reader')"
        "   AND has_table_privilege('ledger_app', c.oid, p.privilege)"
    ).fetchall()
    assert set(others) == {(table, "DELETE") for table in MAY_DELETE}
    assert not scalar(app, "SELECT has_schema_privilege('ledger_app', 'public', 'CREATE')")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", KEPT)
def test_even_the_owner_is_refused(sold: Database, table: str, change: str) -> None:
    """Triggers refuse what rights would allow, and the rows are as they were."""
    with owner(sold) as conn:
        before = conn.execute(f"SELECT * FROM {table} ORDER BY program_id, position".encode()).fetchall()
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            conn.execute(change.format(table).encode())
        assert conn.execute(f"SELECT * FROM {table} ORDER BY program_id, position".encode()).fetchall() == before


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", KEPT)
def test_a_superuser_who_switches_triggers_off_is_refused_too(
    server: EmbeddedServer, sold: Database, table: str, change: str
) -> None:
    """session_replication_role = replica silences ordinary triggers; these fire always."""
    name = psycopg.conninfo.conninfo_to_dict(sold.app_url)["dbname"]
    with psycopg.connect(server.url(str(name), "postgres"), autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            conn.execute(change.format(table).encode())


def test_the_owner_may_clear_away_what_a_rebuild_left_behind(sold: Database) -> None:
    """Journal lines of a generation that is no longer live, and of no other."""
    with owner(sold) as conn, conn.transaction(force_rollback=True):
        id_ = program_id(PROGRAM)
        conn.execute("UPDATE log_heads SET generation = 2 WHERE program_id = %s AND log = 'books'", (id_,))
        conn.execute("DELETE FROM journal WHERE program_id = %s AND generation = 1", (id_,))
        assert scalar(conn, "SELECT count(*) FROM journal WHERE program_id = %s", id_) == 0
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"), conn.transaction():
            conn.execute("DELETE FROM journal")


# --- constraints ----------------------------------------------------------------------------------------

LINE = {
    "program_id": program_id(PROGRAM), "generation": 1, "position": 10**6, "line_no": 1, "debit": "expense:commission",
    "credit": "liability:ada:pending", "amount": 5, "currency": "GBP", "effective_at": T0, "recorded_at": T0,
    "affiliate_id": "ada", "debit_balance": 0, "credit_balance": 0,
}  # fmt: skip
EVENT = {
    "program_id": program_id(PROGRAM), "position": 10**6, "originator_id": program_id("x"), "originator_version": 1,
    "topic": "T", "recorded_at": T0, "actor": "", "key_id": "", "request_id": "", "cause": "", "state": "{}",
    "leaf_hash": b"h" * 32,
}  # fmt: skip


def insert(conn: Connection, table: str, row: dict[str, Any]) -> None:
    query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    conn.execute(query, list(row.values()))


@pytest.mark.parametrize(
    ("table", "row", "wrong", "error"),
    [
        ("journal", LINE, {"credit": "expense:commission"}, errors.CheckViolation),
        ("journal", LINE, {"amount": 0}, errors.CheckViolation),
        ("journal", LINE, {"amount": -5}, errors.CheckViolation),
        ("journal", LINE, {"currency": "gbp"}, errors.CheckViolation),
        ("journal", LINE, {"line_no": 0}, errors.CheckViolation),
        ("journal", LINE, {"effective_at": None}, errors.NotNullViolation),
        ("book_events", EVENT, {"position": 0}, errors.CheckViolation),
        ("book_events", EVENT, {"position": 1}, errors.UniqueViolation),
        ("book_events", EVENT, {"leaf_hash": b"short"}, errors.CheckViolation),
        ("traffic_events", EVENT, {"position": 1}, errors.UniqueViolation),
        ("traffic_events", EVENT, {"state": None}, errors.NotNullViolation),
    ],
)
def test_a_row_that_cannot_be_is_refused(
    app: Connection, table: str, row: dict[str, Any], wrong: dict[str, Any], error: type[psycopg.Error]
) -> None:
    """Constraints hold against every bug of ours: a line between one account, below zero, a fork of the log …"""
    with app.transaction(force_rollback=True):
        with pytest.raises(error), app.transaction():
            insert(app, table, row | wrong)
        insert(app, table, row)


def test_a_stream_has_one_event_a_version(app: Connection) -> None:
    """The natural key is the idempotency: a second event at a version is refused by the primary key."""
    with app.transaction(force_rollback=True):
        insert(app, "book_events", EVENT)
        with pytest.raises(errors.UniqueViolation), app.transaction():
            insert(app, "book_events", EVENT | {"position": 10**6 + 1})


# --- readers --------------------------------------------------------------------------------------------


@pytest.fixture
def reader(sold: Database) -> Iterator[Connection]:
    """The reader role's connection, in a transaction."""
    assert sold.reader_url
    with psycopg.connect(sold.reader_url) as conn:
        yield conn


VIEWS = ("reader.journal", "reader.balances", "reader.conversions")


def seen(conn: Connection, view: str, program: str = "", affiliate: str = "") -> list[tuple[Any, ...]]:
    """(program, affiliate) of every row that the view shows with these settings."""
    conn.execute(sql.SQL("SET LOCAL app.program_id = {}").format(sql.Literal(program and str(program_id(program)))))
    conn.execute(sql.SQL("SET LOCAL app.affiliate_id = {}").format(sql.Literal(affiliate)))
    return conn.execute(f"SELECT DISTINCT program_id, affiliate_id FROM {view} ORDER BY 2".encode()).fetchall()


@pytest.mark.parametrize("view", VIEWS)
def test_a_reader_sees_one_program_or_one_affiliate_of_it(reader: Connection, view: str) -> None:
    """Nothing before it says which; then that program's rows; then that affiliate's."""
    assert reader.execute(f"SELECT count(*) FROM {view}".encode()).fetchone() == (0,)
    assert seen(reader, view) == []
    own = [(program_id(PROGRAM), "ada"), (program_id(PROGRAM), "bob")]
    assert [row for row in seen(reader, view, PROGRAM) if row[1]] == own
    assert seen(reader, view, PROGRAM, "bob") == own[1:]
    assert seen(reader, view, PROGRAM, "nobody") == []
    assert seen(reader, view, "nowhere") == []


def test_a_reader_sees_nothing_but_its_views(reader: Connection) -> None:
    """No table, whichever: not the log, not the keys, not the vault; and it can change nothing."""
    tables = reader.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname IN ('public', 'vault', 'reader')"
    ).fetchall()
    assert len(tables) > 10
    for schema, table in tables:
        name = sql.Identifier(schema, table)
        readable = schema == "reader" or table == "schema_migrations"
        for query, allowed in (("SELECT 1 FROM {} LIMIT 1", readable), ("DELETE FROM {}", False)):
            with reader.transaction(force_rollback=True):
                try:
                    reader.execute(sql.SQL(query).format(name))
                    may = True
                except (errors.InsufficientPrivilege, errors.ObjectNotInPrerequisiteState):
                    may = False
            assert may is allowed, (schema, table, query)


def test_a_view_leaks_nothing_through_a_function_in_its_condition(reader: Connection) -> None:
    """A condition of the reader's own cannot run on rows that are not its to see: the views are security barriers."""
    reader.execute(f"SET LOCAL app.program_id = '{program_id(PROGRAM)}'".encode())
    reader.execute("SET LOCAL app.affiliate_id = 'bob'")
    with reader.transaction(force_rollback=True):
        reader.execute(
            "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS"
            " $$ BEGIN IF $1 <> 'bob' THEN RAISE EXCEPTION 'saw %', $1; END IF; RETURN true; END $$"
        )
        rows = reader.execute("SELECT affiliate_id FROM reader.conversions WHERE pg_temp.peek(affiliate_id)").fetchall()
        assert rows == [("bob",)]
