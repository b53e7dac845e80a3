"""Everything that follows from the logs can be made from them again: found wrong, proven equal, put right."""

from __future__ import annotations

import json
import signal
import smtplib
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from conftest import fresh_database
from partitions import template as partitioned_template  # noqa: F401
from psycopg.conninfo import conninfo_to_dict
from support import MASTER_KEY, PROGRAM, T0, Clock, by, open_ledger, open_shop, program_id, refund, sale, trial
from test_distribution import close_and_pay, sell

from ledger import checking
from ledger.application import CommissionLedger
from ledger.audit import sealing
from ledger.audit.notes import Signer
from ledger.checking import CheckReport, check_program
from ledger.checking.findings import KINDS
from ledger.cli import main
from ledger.closing import close_period
from ledger.domain.period import ClosePeriod
from ledger.domain.stream_keys import KEYS
from ledger.domain.topics import EVENTS
from ledger.projections import inline, rebuild, replaying, shadow
from ledger.projections.shadow import PROJECTIONS
from ledger.store import database as store
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.store.log import UnknownProgram

ID = program_id(PROGRAM)
ALL = list(PROJECTIONS)


class World(NamedTuple):
    """A shop in which everything has happened once, and a superuser's way past every rule."""

    ledger: CommissionLedger
    database: Database
    superuser_url: str

    def tamper(self, *statements: str) -> int:
        """Change rows behind the ledger's back, triggers or not. Returns how many the last one changed."""
        # Switching triggers off locks a table, which writers need not be troubled with where there are none.
        guarded = [t for t in ("journal", "book_events", "api_keys") if any(t in s for s in statements)]
        with psycopg.connect(self.superuser_url) as conn:
            for table in guarded:
                conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            for statement in statements:
                changed = conn.execute(statement.encode()).rowcount
            for table in guarded:
                conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())
        return changed

    def check(self) -> CheckReport:
        """What `ledger check` finds."""
        return check_program(self.ledger.pool, PROGRAM)

    def compare(self) -> dict[str, replaying.ProjectionReport]:
        """What `ledger rebuild` says of the read models."""
        with self.ledger.pool.connection() as conn:
            return {one.projection: one for one in replaying.compare(conn, ID, ALL)}

    def replace(self) -> dict[str, replaying.ProjectionReport]:
        """What `ledger rebuild --replace` does to them."""
        assert self.database.owner_url
        with psycopg.connect(self.database.owner_url) as owner:
            return {one.projection: one for one in replaying.replace(owner, ID, ALL)}


@contextmanager
def made(server: EmbeddedServer, template: str) -> Iterator[World]:
    """A world of its own."""
    with fresh_database(server, template) as name:
        database, clock = store.urls(server, name), Clock()
        with open_ledger(database, clock) as ledger:
            sell(ledger, clock)
            ledger.issue_key(
                PROGRAM, role="ingest", holder="till", holder_kind="system", expires_at=T0 + timedelta(days=999),
                meta=by(),
            )  # fmt: skip
            close_and_pay(ledger, clock)
            yield World(ledger, database, server.url(name, "postgres"))


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    """One for the tests that leave it as it was."""
    with made(server, template) as one:
        yield one


@pytest.fixture
def shop(database: Database, server: EmbeddedServer) -> Iterator[World]:
    """A few sales, to be damaged."""
    with open_ledger(database, Clock(), max_size=8) as ledger:
        open_shop(ledger)
        ledger.execute_many(PROGRAM, [sale(f"o{n}", 1000) for n in range(12)], by())
        ledger.execute_many(PROGRAM, [refund(f"r{n}", f"o{n}") for n in range(3)], by())
        # nobody's, and taken back
        ledger.execute_many(PROGRAM, [sale("nobodys", affiliate_id=None), refund("r", "nobodys")], by())
        yield World(ledger, database, server.url(str(conninfo_to_dict(database.app_url)["dbname"]), "postgres"))


# --- all is well -------------------------------------------------------------------------------------------


def test_every_event_says_its_stream() -> None:
    """An event that is not on the list could not be replayed."""
    assert set(KEYS) == set(EVENTS)


def test_a_program_in_which_all_is_well_is_clean(world: World) -> None:
    """Both logs, the second bookkeeping, every read model with rows in it, every statement's hash."""
    report = world.check()
    assert report.findings == []
    assert report.clean
    assert report.positions == {"books": report.checked["books events"], "traffic": report.checked["traffic events"]}
    assert all(report.checked[name] > 0 for name in (*ALL, "journal lines", "balances", "statement hashes"))
    assert report.checked["statement hashes"] == report.checked["statements"]
    compared = world.compare()
    assert [one.equal for one in compared.values()] == [True] * len(ALL)
    assert [one.equal for one in world.replace().values()] == [True] * len(ALL)


def test_streams_that_are_not_kept_are_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of the batches, and however little is remembered between them, the rows come out the same."""
    monkeypatch.setattr(replaying, "EVENTS_AT_ONCE", 7)
    monkeypatch.setattr(shadow, "RECORDS_KEPT", 0)
    assert [name for name, one in world.compare().items() if not one.equal] == []


def test_rebuild_and_check_work_on_partitions(server: EmbeddedServer, partitioned_template: str) -> None:  # noqa: F811
    """The stand-in for tables that are distributed by program: found, and put right."""
    with made(server, partitioned_template) as world:
        assert world.check().clean
        assert world.tamper("UPDATE payouts SET amount = 1", "DELETE FROM directory WHERE record_id = 'ada'") > 0
        assert {n for n, one in world.compare().items() if not one.equal} == {"payouts", "directory"}
        world.replace()
        assert world.check().clean


def test_two_programs_are_apart(world: World) -> None:
    """What is wrong in one program's rows is not found in another's."""
    open_shop(world.ledger, "other")
    world.ledger.execute("other", sale("o1"), by())
    world.tamper(f"UPDATE conversions SET amount = 7 WHERE program_id = '{program_id('other')}'")
    assert world.check().clean
    assert check_program(world.ledger.pool, "other").counts == {"projection_differs": 1}


# --- read models -------------------------------------------------------------------------------------------

# a column of each that may hold something else
CHANGES = {
    "conversions": "commission = commission + 1",
    "directory": "status = 'other'",
    "payouts": "fingerprint = 'other'",
    "payout_runs": "cut_position = cut_position + 1",
    "bank_lines": "amount = amount - 1",
    "periods": "closed_at = closed_at + interval '1 microsecond'",
    "statements": "line_count = line_count + 1",
    "carried_lines": "line_no = 9",
    "api_keys": "role = 'admin'",
    "touches": "offer_id = 'other'",
    "plan_counters": "paid_clicks = paid_clicks + 1",
}
# and an identity that is nobody's
STRANGERS = {
    "conversions": {"originator_id": "00000000-0000-0000-0000-000000000001"},
    "directory": {"record_id": "stranger"},
    "payouts": {"payout_id": "stranger"},
    "payout_runs": {"run_id": "stranger"},
    "bank_lines": {"line_id": "stranger"},
    "periods": {"version": 9},
    "statements": {"affiliate_id": "stranger"},
    "carried_lines": {"line_no": 8},
    "api_keys": {"key_id": "stranger"},
    "touches": {"person": "customer:stranger"},
    "plan_counters": {"period": "total"},
}


def _one_row(table: str) -> str:
    """The condition of a table's first row."""
    return f"ctid = (SELECT ctid FROM {table} WHERE program_id = '{ID}' ORDER BY ctid LIMIT 1)"


def _change(table: str) -> str:
    return f"UPDATE {table} SET {CHANGES[table]} WHERE {_one_row(table)}"


def _delete(table: str) -> str:
    return f"DELETE FROM {table} WHERE {_one_row(table)}"


def _add(table: str) -> str:
    stranger = json.dumps(STRANGERS[table])
    row = f"jsonb_populate_record({table}, '{stranger}')"
    return f"INSERT INTO {table} SELECT ({row}).* FROM {table} WHERE {_one_row(table)}"


@pytest.mark.parametrize("damage", [_change, _delete, _add])
def test_a_damaged_row_of_any_read_model_is_found_and_put_right(world: World, damage: Any) -> None:
    """Check and rebuild both name the row; the rebuild alone changes nothing; with --replace all is as it was."""
    secrets = _secrets(world)
    for table in ALL:
        assert world.tamper(damage(table)) == 1, table
    report = world.check()
    # a statement that is gone is none the less issued, and a cut that is changed leads to other lines
    found = {one.subject.split()[0] for one in report.findings if one.kind == "projection_differs"}
    assert found == set(ALL)
    assert not report.counts.keys() & {"journal_differs", "leaf_differs", "balance_differs"}
    compared = world.compare()
    assert {name for name, one in compared.items() if one.equal} == set()
    for name, one in compared.items():
        assert one.first is not None
        assert one.first.table == name
        assert (one.first.expected is None, one.first.found is None) in {
            _change: [(False, False), (True, False), (False, True)], _delete: [(False, True)], _add: [(True, False)],
        }[damage]  # fmt: skip
    assert world.compare() == compared, "comparing changes nothing"
    replaced = world.replace()
    missing = {"api_keys"} if damage is _delete else set()
    assert {name for name, one in replaced.items() if one.replaced < one.different} == missing
    if missing:
        # a key's secret stands in no event: its row can only be put back by whoever has it
        world.tamper(*_put_back(secrets, _secrets(world)))
        world.replace()
    assert world.check().findings == []
    assert _secrets(world) == secrets


def _secrets(world: World) -> dict[str, bytes]:
    with psycopg.connect(world.superuser_url) as conn:
        return dict(conn.execute("SELECT key_id, secret_hmac FROM api_keys WHERE program_id = %s", (ID,)).fetchall())


def _put_back(before: dict[str, bytes], now: dict[str, bytes]) -> list[str]:
    return [
        "INSERT INTO api_keys (program_id, key_id, role, holder, holder_kind, affiliate_id, secret_hmac, issued_by,"
        f" issued_at, expires_at) VALUES ('{ID}', '{key}', 'admin', 'x', 'person', '', '\\x{secret.hex()}', 'y',"
        " '2026-01-01', '2026-01-01')"
        for key, secret in before.items()
        if key not in now
    ]


def test_a_difference_says_what_stands_there_and_what_should(world: World) -> None:
    """Only the columns that differ, with the position of the event behind them."""
    world.tamper(f"UPDATE conversions SET commission = 7, status = 'held' WHERE program_id = '{ID}' AND order_id = 'A'")
    (finding,) = world.check().findings
    assert (finding.kind, finding.subject) == ("projection_differs", "conversions A")
    assert finding.expected == {"status": "approved", "commission": 197}
    assert finding.found == {"status": "held", "commission": 7}
    assert finding.position is not None
    assert world.replace()["conversions"].replaced == 1


def test_a_table_that_was_emptied_is_made_again(world: World) -> None:
    """However many rows are wrong: all are counted, a hundred are told, all come back."""
    assert world.tamper(f"DELETE FROM conversions WHERE program_id = '{ID}'") == 69
    assert world.tamper(f"DELETE FROM touches WHERE program_id = '{ID}'") == 63
    report = world.check()
    assert report.counts["projection_differs"] == 69 + 63
    assert len(report.findings) == 100
    assert world.replace()["touches"].replaced == 63
    assert world.check().clean


def test_a_period_that_is_being_closed_is_no_finding(shop: World) -> None:
    """Between the cut and the end of closing, lines of a later period are not noted yet; afterwards they must be."""
    clock = shop.ledger.clock
    assert isinstance(clock, Clock)
    clock.advance(days=35)
    shop.ledger.execute(PROGRAM, sale("february", occurred_at=T0 + timedelta(days=33)), by())
    shop.ledger.execute(PROGRAM, ClosePeriod(period="2026-01"), by())
    assert shop.check().findings == []
    list(close_period(shop.ledger, PROGRAM, "2026-01", by()))
    report = shop.check()
    assert (report.findings, report.checked["carried_lines"]) == ([], 1)
    shop.tamper("DELETE FROM carried_lines")
    assert [one.subject.split()[0] for one in shop.check().findings] == ["carried_lines"]


# --- the log and the books ---------------------------------------------------------------------------------

PLACE = "position = (SELECT max(position) FROM book_events WHERE topic = 'CommissionAccrued')"
LOG_DAMAGES = {
    "leaf_differs": (
        f"UPDATE book_events SET state = replace(state, '\"amount\":100', '\"amount\":900') WHERE {PLACE}",
        f"UPDATE book_events SET state = replace(state, '\"amount\":900', '\"amount\":100') WHERE {PLACE}",
    ),
    "position_gap": (
        f"UPDATE book_events SET position = 1000 WHERE {PLACE}",
        "UPDATE book_events SET position = {position} WHERE position = 1000",
    ),
    "stream_version_gap": (
        f"UPDATE book_events SET originator_version = 5 WHERE {PLACE}",
        f"UPDATE book_events SET originator_version = 2 WHERE {PLACE}",
    ),
    "stream_id_differs": (
        f"UPDATE book_events SET state = replace(state, '\"order_id\":\"o11\"', '\"order_id\":\"o99\"') WHERE {PLACE}",
        f"UPDATE book_events SET state = replace(state, '\"order_id\":\"o99\"', '\"order_id\":\"o11\"') WHERE {PLACE}",
    ),
    "time_falls": (
        f"UPDATE book_events SET recorded_at = recorded_at - interval '1 day' WHERE {PLACE}",
        f"UPDATE book_events SET recorded_at = recorded_at + interval '1 day' WHERE {PLACE}",
    ),
    "topic_unknown": (
        f"UPDATE book_events SET topic = 'os.system' WHERE {PLACE}",
        "UPDATE book_events SET topic = 'CommissionAccrued' WHERE topic = 'os.system'",
    ),
    "event_unreadable": (
        f"UPDATE book_events SET state = replace(state, '\"amount\":100', '\"amount\":1.5') WHERE {PLACE}",
        f"UPDATE book_events SET state = replace(state, '\"amount\":1.5', '\"amount\":100') WHERE {PLACE}",
    ),
    "head_differs": (
        "UPDATE log_heads SET next_position = next_position + 1 WHERE log = 'books'",
        "UPDATE log_heads SET next_position = next_position - 1 WHERE log = 'books'",
    ),
    "follower_ahead": (
        f"INSERT INTO followers VALUES ('{ID}', 'statements', 999)",
        "DELETE FROM followers",
    ),
    "journal_differs": (
        f"UPDATE journal SET credit = 'liability:bob:pending' WHERE {PLACE}",
        f"UPDATE journal SET credit = 'liability:ada:pending' WHERE {PLACE}",
    ),
    "balance_differs": (
        "UPDATE balances SET amount = amount + 1 WHERE account = 'liability:ada:pending'",
        "UPDATE balances SET amount = amount - 1 WHERE account = 'liability:ada:pending'",
    ),
}  # fmt: skip


def test_every_damage_to_log_and_books_is_found_by_its_kind(shop: World) -> None:
    """Each kind for itself; undone, all is clean again."""
    with psycopg.connect(shop.superuser_url) as conn:
        (position,) = conn.execute(f"SELECT position FROM book_events WHERE {PLACE}".encode()).fetchall()[0]
    for kind, (damage, undo) in LOG_DAMAGES.items():
        assert shop.tamper(damage) == 1, kind
        report = shop.check()
        assert kind in report.counts, (kind, report.counts)
        first = next(one for one in report.findings if one.kind == kind)
        if kind in ("leaf_differs", "stream_id_differs", "topic_unknown", "event_unreadable", "journal_differs"):
            assert first.position == position, kind
        assert shop.tamper(undo.format(position=position)) == 1, kind
        assert shop.check().clean, kind


def test_a_second_set_of_rules_sees_what_hashes_cannot(shop: World) -> None:
    """An event whose stored hash was recomputed along with it: the books do not follow from it any more."""
    damage, _ = LOG_DAMAGES["leaf_differs"]
    shop.tamper(damage)
    leaf = next(one.found for one in shop.check().findings if one.kind == "leaf_differs")
    shop.tamper(f"UPDATE book_events SET leaf_hash = '\\x{leaf}' WHERE {PLACE}")
    counts = shop.check().counts
    assert "leaf_differs" not in counts
    assert {"journal_differs", "balance_differs", "projection_differs"} <= counts.keys()


def test_what_was_sealed_cannot_be_another_log(shop: World) -> None:
    """A checkpoint holds the log that it was made of: recomputed hashes lead to another root."""
    signer = Signer("ledger.example/shop/books", b"s" * 32)
    sealing.seal(shop.ledger, PROGRAM, "books", [signer], shop.ledger.clock())
    assert shop.check().checked["checkpoints"] == 1
    assert shop.check().clean
    damage, _ = LOG_DAMAGES["leaf_differs"]
    shop.tamper(damage)
    leaf = next(one.found for one in shop.check().findings if one.kind == "leaf_differs")
    shop.tamper(f"UPDATE book_events SET leaf_hash = '\\x{leaf}' WHERE {PLACE}")
    assert shop.check().counts["root_differs"] == 1


def test_statements_are_held_against_the_books(world: World) -> None:
    """A line that was changed under an issued statement: the hash that was issued says so."""
    line = f"""program_id = '{ID}' AND position =
        (SELECT min(position) FROM journal WHERE program_id = '{ID}' AND affiliate_id = 'ada')"""
    world.tamper(f"UPDATE journal SET amount = amount + 1 WHERE {line}")
    report = world.check()
    assert report.counts["journal_differs"] == 1
    assert [one.subject for one in report.findings if one.kind == "statement_differs"] == [
        "statement ada 2026-01 1: hash of its lines", "statement ada 2026-01 1: figures",
    ]  # fmt: skip
    world.tamper(f"UPDATE journal SET amount = amount - 1 WHERE {line}")
    assert world.check().clean


def test_rebuilt_books_name_the_first_line_or_account_and_replace_it(shop: World) -> None:
    """A line changed, one deleted, one added, an account moved: named, left alone, and with replace put right."""
    before = trial(shop.ledger)
    copy = "SELECT program_id, generation, 10000, line_no, debit, credit, amount, currency, effective_at, recorded_at,"
    for damage, where in (
        (f"UPDATE journal SET amount = 7 WHERE {PLACE} AND generation = {{g}}", "amount"),
        (f"DELETE FROM journal WHERE {PLACE} AND generation = {{g}}", "found"),
        (
            f"INSERT INTO journal {copy} affiliate_id, debit_balance, credit_balance FROM journal"
            f" WHERE {PLACE} AND generation = {{g}}",
            "expected",
        ),
        ("UPDATE balances SET amount = 7 WHERE account = 'liability:ada:pending' AND generation = {g}", "account"),
    ):
        with psycopg.connect(shop.superuser_url) as conn:
            (generation,) = conn.execute("SELECT generation FROM log_heads WHERE log = 'books'").fetchall()[0]
        assert shop.tamper(damage.format(g=generation)) == 1
        report = rebuild.rebuild(shop.ledger.pool, ID)
        assert (report.equal, report.swapped) == (False, False)
        assert report.different is not None
        if where == "amount":
            assert (report.different["expected"]["amount"], report.different["found"]["amount"]) == (100, 7)
        elif where == "account":
            assert (report.different["account"], report.different["found"]) == ("liability:ada:pending", 7)
        else:
            assert report.different[where] is None
        assert not shop.check().clean
        assert rebuild.rebuild(shop.ledger.pool, ID, replace=True).swapped
        assert shop.check().clean
    assert trial(shop.ledger) == before


# --- beside the writers ------------------------------------------------------------------------------------


def test_writers_lose_nothing_and_wait_for_nobody(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sales and refunds all the while books and read models are rebuilt, damaged rows among them: every command is
    recorded, and in the end all is equal."""
    for module in (shadow, replaying):
        monkeypatch.setattr(module, "EVENTS_AT_ONCE", 20)
    monkeypatch.setattr(rebuild, "EVENTS_AT_ONCE", 50)
    monkeypatch.setattr(rebuild, "EVENTS_UNDER_LOCK", 20)
    refused: list[Any] = []

    def write(who: str) -> None:
        for turn in range(25):
            sales = [sale(f"{who}-{turn}-{n}", 1000, who) for n in range(8)]
            refunds = [refund(f"{who}-{turn}-{n}", f"{who}-{turn}-{n}") for n in range(2)]
            outcomes = shop.ledger.execute_many(PROGRAM, [*sales, *refunds], by())
            refused.extend(one for one in outcomes if getattr(one, "outcome", "") != "recorded")

    writers = [threading.Thread(target=write, args=(who,)) for who in ("ada", "bob")]
    for one in writers:
        one.start()
    try:
        rounds = 0
        while rounds < 3 or any(one.is_alive() for one in writers):
            rounds += 1
            shop.tamper(
                "UPDATE conversions SET commission = 1 WHERE order_id = 'o5'",
                "DELETE FROM directory WHERE record_id = 'bob'",
            )
            replaced = shop.replace()
            assert (replaced["conversions"].different, replaced["conversions"].replaced) == (1, 1)
            assert (replaced["directory"].different, replaced["directory"].replaced) == (1, 1)
            report = rebuild.rebuild(shop.ledger.pool, ID)
            assert report.equal
            assert report.swapped
            assert shop.check().findings == []
    finally:
        for one in writers:
            one.join()
    assert refused == []
    assert shop.check().clean
    with psycopg.connect(shop.superuser_url) as conn:
        assert conn.execute("SELECT count(*) FROM conversions").fetchall() == [(13 + 2 * 25 * 8,)]


def test_nobody_writes_while_rows_are_exchanged(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found wrong is looked at once more under the lock: a sale that comes then waits, and is not lost."""
    shop.tamper("UPDATE conversions SET commission = 1 WHERE order_id = 'o5'")
    late = threading.Thread(target=lambda: shop.ledger.execute(PROGRAM, refund("late", "o5"), by()))
    look = shadow.Shadow.wrong

    def look_and_wait(self: shadow.Shadow, name: str, limit: int) -> Any:
        late.start()
        late.join(timeout=0.5)
        assert late.is_alive(), "it must wait for the lock"
        return look(self, name, limit)

    monkeypatch.setattr(shadow.Shadow, "wrong", look_and_wait)
    assert shop.replace()["conversions"].replaced == 1
    late.join()
    assert shop.check().clean
    with psycopg.connect(shop.superuser_url) as conn:
        assert conn.execute("SELECT status FROM conversions WHERE order_id = 'o5'").fetchall() == [("reversed",)]


def test_a_rebuild_that_is_interrupted_leaves_nothing_and_can_be_repeated(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever step."""
    monkeypatch.setattr(replaying, "EVENTS_AT_ONCE", 10)
    monkeypatch.setattr(rebuild, "EVENTS_AT_ONCE", 10)
    shop.tamper("UPDATE conversions SET commission = 1 WHERE order_id = 'o5'")

    def interrupt(step: Any) -> None:
        if step.position >= 20:
            raise KeyboardInterrupt

    assert shop.database.owner_url
    with pytest.raises(KeyboardInterrupt), psycopg.connect(shop.database.owner_url) as owner:
        replaying.replace(owner, ID, ALL, interrupt)
    with pytest.raises(KeyboardInterrupt):
        rebuild.rebuild(shop.ledger.pool, ID, interrupt)
    assert shop.check().counts == {"projection_differs": 1}
    with psycopg.connect(shop.superuser_url) as conn:
        assert conn.execute("SELECT DISTINCT generation FROM journal").fetchall() == [(1,)]
    assert shop.replace()["conversions"].replaced == 1
    assert rebuild.rebuild(shop.ledger.pool, ID).equal


def test_a_replay_has_no_effect_outside(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No mail, no webhook, no file, no event: payouts were sent and notices queued once, and are not again."""

    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("a replay reached out")

    monkeypatch.setattr(smtplib, "SMTP", never)
    monkeypatch.setattr(urllib.request, "urlopen", never)
    monkeypatch.chdir(tmp_path)
    before = world.check().positions
    world.tamper("DELETE FROM payouts", f"DELETE FROM directory WHERE program_id = '{ID}'")
    replaced = world.replace()
    assert replaced["payouts"].replaced == 1
    assert replaced["directory"].replaced > 10
    assert rebuild.rebuild(world.ledger.pool, ID).equal
    assert world.check().positions == before
    assert world.check().clean
    assert list(tmp_path.iterdir()) == []


def test_a_projection_without_a_shadow_cannot_write_on_replay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses every table but the temporary ones, to the owner as well."""
    store_all = inline.store

    def one_more(cur: Any, program: Any, touched: Any, now: Any) -> None:
        store_all(cur, program, touched, now)
        cur.execute("INSERT INTO followers VALUES (%s, 'new', 1)", (program,))

    monkeypatch.setattr(inline, "store", one_more)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        world.compare()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        world.replace()
    assert world.check().counts["replay_failed"] == 1
    monkeypatch.undo()
    assert world.check().clean


# --- the verbs ---------------------------------------------------------------------------------------------


@pytest.fixture
def verb(shop: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run a verb in this process: (exit code, what it printed)."""
    assert shop.database.owner_url
    for name in ("LEDGER_OWNER_URL", "LEDGER_READER_URL", "LEDGER_HOME", "LEDGER_MASTER_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", shop.database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())
    before = signal.getsignal(signal.SIGTERM)

    def run(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*args, "-p", PROGRAM])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    yield run
    signal.signal(signal.SIGTERM, before)


def test_the_verbs_find_and_mend(shop: World, verb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0 when clean; 1 with the finding; --replace asks for the owner, and mends."""
    code, said = verb("check")
    assert code == 0
    assert said.startswith("clean: books up to ")
    code, said = verb("rebuild")
    assert code == 0
    assert "equal to the live books" in said
    assert "conversions: 13 rows, equal" in said
    shop.tamper("UPDATE conversions SET commission = 1 WHERE order_id = 'o5'")
    code, said = verb("check", "--json")
    document = json.loads(said)
    assert (code, document["clean"], document["counts"]) == (1, False, {"projection_differs": 1})
    assert document["findings"][0]["expected"] == {"commission": 100}
    code, said = verb("check")
    assert code == 1
    assert "projection_differs: conversions o5 (position " in said
    assert "expected commission 100" in said
    code, said = verb("rebuild", "--projection", "conversions")
    assert code == 1
    assert "first conversions o5" in said
    assert "nothing was changed" in said
    code, said = verb("rebuild", "--projection", "directory", "--json")
    assert code == 0
    assert [one["projection"] for one in json.loads(said)["projections"]] == ["directory"]
    code, said = verb("rebuild", "--replace")
    assert code == 1
    assert "LEDGER_OWNER_URL is needed" in said
    assert shop.database.owner_url
    monkeypatch.setenv("LEDGER_OWNER_URL", shop.database.owner_url)
    code, said = verb("rebuild", "--projection", "conversions", "--replace")
    assert code == 0
    assert "replaced" in said
    assert verb("check")[0] == 0
    shop.tamper("UPDATE book_events SET actor = 'eve' WHERE position = 9")
    code, said = verb("rebuild", "--replace")
    assert code == 1, "a log that was changed is not the truth"
    assert "the log itself is not what was recorded (leaf_differs: books 9; 1 in all): nothing was replaced" in said


def test_nobody_rebuilds_or_checks_what_is_not_there(shop: World) -> None:
    """An unknown program is said to be unknown."""
    with pytest.raises(UnknownProgram):
        check_program(shop.ledger.pool, "nowhere")
    with pytest.raises(UnknownProgram), shop.ledger.pool.connection() as conn:
        replaying.compare(conn, program_id("nowhere"), ALL)


# --- what is derived from what ---------------------------------------------------------------------------------


def test_every_table_is_said_to_follow_from_the_logs_or_not() -> None:
    """docs/operators.md has a line for each table, and names as rebuilt exactly those that are."""
    root = Path(__file__).resolve().parents[1]
    schema = (root / "migrations/schema.sql").read_text()
    tables = {
        line.split()[2].removeprefix("public.") for line in schema.splitlines() if line.startswith("CREATE TABLE")
    }
    said: dict[str, str] = {}
    for line in (root / "docs/operators.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[2] and cells[0].startswith("`"):
            said |= {name.strip("` "): cells[2] for name in cells[0].split(",")}
    assert tables - said.keys() == set()
    rebuilt = {name for name, how in said.items() if how.startswith("`ledger rebuild`")}
    assert rebuilt == {*ALL, "journal", "balances"}


def test_the_kinds_of_findings_are_documented() -> None:
    """docs/auditors.md names each."""
    text = (Path(__file__).resolve().parents[1] / "docs/auditors.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
    assert checking.Finding.__struct_fields__ == ("kind", "subject", "position", "expected", "found")
