"""The schema distributes by program_id: proven on hash partitions, statement by statement, and in the catalog."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import test_api_resources
from api_world import World
from naive_books import check_books
from partitions import PARTITIONS, Statement, partitioned, recorded, shards, template  # noqa: F401
from psycopg.conninfo import make_conninfo
from support import (
    PROGRAM,
    T0,
    Clock,
    by,
    open_ledger,
    open_shop,
    owner,
    paid_by_paypal,
    program_id,
    refund,
    sale,
    scalar,
    trial,
)
from test_api_resources import app, world  # noqa: F401

from ledger import goals, payruns, reads
from ledger.application import CommissionLedger
from ledger.closing import close_period, reissue_period
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.bank import RecordBankLine
from ledger.domain.click import RecordClick
from ledger.domain.coupon import AssignCoupon
from ledger.domain.event import Command
from ledger.domain.impression import RecordImpression
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.plans.journey import JourneyKey
from ledger.domain.proposing import DecideRun
from ledger.domain.resolution import RaiseException, ResolveException
from ledger.jobplan import JobPlan
from ledger.paying_clicks import pay_clicks
from ledger.projections import books, breaks, directory, payouts, periods, receivables, touches
from ledger.projections.rebuild import rebuild
from ledger.reports import catalogue
from ledger.reports.report import Asked, make
from ledger.store import log
from ledger.store.database import Database
from ledger.store.recorders import FollowerRecorder, LogRecorder, ProgramLog
from ledger.store.vault import erase_subject

Connection = psycopg.Connection[tuple[Any, ...]]


# --- every statement touches one partition --------------------------------------------------------------


def sell(ledger: CommissionLedger, clock: Clock) -> None:
    """The main path, through every way of writing: single and many, by click, coupon, affiliate and customer."""
    open_shop(ledger)
    click = RecordClick(click_id="k", affiliate_id="ada", offer_id="shoes", occurred_at=T0, customer_id="c", sub1="x")
    ledger.record_clicks(PROGRAM, [click], by())
    many = [RecordClick(affiliate_id="bob", offer_id="shoes", occurred_at=T0, customer_id=f"c{n}") for n in range(60)]
    ledger.record_clicks(PROGRAM, many, by())
    shown = RecordImpression(affiliate_id="bob", offer_id="shoes", occurred_at=T0, customer_id="c", visitor_id="v")
    ledger.record_impressions(PROGRAM, [shown], by())
    commands: list[Command] = [
        AssignCoupon(coupon="TEN", affiliate_id="bob", offer_id="shoes"),
        sale("A", 1970),
        sale("B", affiliate_id=None, click_id="k"),
        sale("C", affiliate_id=None, coupon="TEN"),
        sale("D", affiliate_id=None, customer_id="c", occurred_at=T0 + timedelta(days=1)),
        sale("E", affiliate_id=None, click_id="unseen", customer_id="c7", coupon="NONE"),
        sale("F", offer_id="gloves"),
        refund("r1", "A", 985),
        refund("r2", "A", 10**6),
        DecideConversion(order_id="B", decision="hold", reason="checking"),
        DecideConversion(order_id="B", decision="release"),
        DecideAffiliate(affiliate_id="ada", decision="suspend", reason="checking"),
        sale("G", 4000),
        DecideAffiliate(affiliate_id="ada", decision="reinstate"),
        ProposeAdjustment(adjustment_id="j1", affiliate_id="ada", kind="bonus", amount=5, reason="thanks"),
        RaiseException(exception_id="line:1:1", type="not_a_sale", detail="-", fact={}),
        ResolveException(exception_id="reversal:r2", action="dismiss", reason="twice"),
    ]
    for command in commands:
        ledger.execute(PROGRAM, command, by())
    ledger.execute(PROGRAM, DecideAdjustment(adjustment_id="j1", approve=True), by("cyd"))
    ledger.execute_many(PROGRAM, [sale(f"M{n}", 100 + n, ("ada", "bob")[n % 2]) for n in range(60)], by())
    ledger.execute_many(PROGRAM, [sale(f"M{n}", 100 + n, ("ada", "bob")[n % 2]) for n in range(60)], by())
    ledger.execute_many(PROGRAM, [refund(f"m{n}", f"M{n}") for n in range(60)], by())
    sell_clicks(ledger)
    clock.advance(days=90)
    list(ledger.attribute_waiting(PROGRAM, clock.now, by("job")))
    list(ledger.approve_due(PROGRAM, clock.now, by("job")))
    key = ledger.issue_key(
        PROGRAM, role="auditor", holder="eve", holder_kind="person", expires_at=T0 + timedelta(days=999), meta=by()
    )
    ledger.revoke_key(PROGRAM, key.key_id, by())


def sell_clicks(ledger: CommissionLedger) -> None:
    """Clicks that a plan pays for, and the goal that they reach."""
    plan = {
        "plan": 1,
        "currency": "GBP",
        "rules": [{"id": "click", "pay": {"amount_per_click": 5}}],
        "goals": [{"id": "one", "by": "conversions", "period": "month", "target": 1, "bonus_amount": 100}],
    }
    ledger.execute(PROGRAM, PublishOffer(offer_id="ads"), by())
    ledger.execute(PROGRAM, PublishTerms(offer_id="ads", hold_days=30, window_days=30, plan=plan), by())
    ledger.record_clicks(PROGRAM, [RecordClick(affiliate_id="bob", offer_id="ads", occurred_at=T0)] * 3, by())
    assert [step.done for step in pay_clicks(ledger, PROGRAM, ledger.clock(), by("job"))] == [3]


def close_and_pay(ledger: CommissionLedger, clock: Clock) -> None:
    """Two months closed, one reissued, a run proposed, paid and settled, and what is asked of all that."""
    paid_by_paypal(ledger, "ada")
    clock.advance(days=4)
    for month in ("2026-01", "2026-02"):
        list(close_period(ledger, PROGRAM, month, by()))
    ledger.execute(PROGRAM, sale("late", 700, "ada"), by())
    list(reissue_period(ledger, PROGRAM, "2026-02", 2, "late sale", by()))
    run_id = payruns.propose(ledger, PROGRAM, period="2026-02", currency="GBP", method="paypal", meta=by("maria")).body[
        "run_id"
    ]
    proposed = payruns.load_run(ledger, PROGRAM, run_id).proposed
    assert proposed is not None
    ledger.execute(PROGRAM, DecideRun(run_id=run_id, approve=True, hash=proposed.hash), by("omar"))
    payruns.initiate(ledger, PROGRAM, run_id, by("maria"))
    payruns.render(ledger, PROGRAM, run_id, by("maria"))
    (row,) = payruns.all_payouts(ledger, PROGRAM, run_id)
    paid = RecordBankLine(
        line_id="l1", booked_on=clock.now.date(), amount=-row.amount, currency="GBP", end_to_end_id=row.payout_id
    )
    odd = RecordBankLine(line_id="l2", booked_on=clock.now.date(), amount=-1, currency="GBP")
    ledger.execute_many(PROGRAM, [paid, odd], by())
    with ledger.reading(PROGRAM) as (cur, id_):
        cut = periods.periods(cur, id_)[0]
        assert cut.version == 2
        list(periods.lines_of(cur, id_, "ada", periods.bounds(cut), cut.starts_at))
        payouts.run_totals(cur, id_, run_id)
        payouts.run_bank(cur, id_, run_id)
        payouts.runs(cur, id_, "", 10)
        payouts.page(cur, id_, "", 10)
        payouts.missing_series(cur, id_, "2026-02")
        breaks.ageing(cur, id_, clock.now)
        receivables.ageing(cur, id_, clock.now)


def read(ledger: CommissionLedger, clock: Clock) -> None:
    """Every question of the core, followers and the rebuild."""
    with ledger.reading(PROGRAM) as (cur, id_):
        for affiliate_id in ("ada", None):
            for as_of in (books.AsOf(), books.AsOf(20), books.AsOf(None, T0), books.AsOf(20, clock.now)):
                books.account_balances(cur, id_, as_of, affiliate_id)
        books.as_of_position(cur, id_, T0)
        books.entries(cur, id_, "ada", (3, 1), 10)
        books.lines_of(cur, id_, [10, 11])
        directory.page(cur, id_, "affiliate", after="a")
        directory.counts(cur, id_, "exception")
        log.select_rows(cur, id_, "traffic", 0, 10)
        journey = JourneyKey("c", "v", "shoes", T0, T0, clock.now)
        assert len(touches.journeys(cur, id_, [journey])[journey]) == 2
    with reads.reading(ledger, PROGRAM) as look:
        found = goals.progress(look, PROGRAM, "bob", T0)
        assert found is not None
        assert found[0].bonus is not None
    totals = make(ledger, PROGRAM, catalogue.find("channels"), Asked(), JobPlan()).head.control_totals
    assert totals["clicks"] == 64
    program_log = ProgramLog(ledger.pool, program_id(PROGRAM))
    LogRecorder(program_log).select_notifications(1, 10)
    FollowerRecorder(program_log).max_tracking_id("statements")
    assert rebuild(ledger.pool, program_id(PROGRAM)).equal
    with ledger.pool.connection() as conn, conn.cursor() as cur:
        assert erase_subject(cur, program_id(PROGRAM), "affiliate:ada")


PER_PROGRAM = re.compile(
    r"\b(programs|log_heads|\w+_events|journal|balances|conversions|directory|touches|plan_counters|followers|api_keys|subject_keys"
    r"|import_\w+|job_\w+|periods|carried_lines|statements|payouts|payout_runs|bank_lines|tiles|checkpoints"
    r"|sealing_keys|retired_keys|publications|affiliate_trees|simulations|simulation_lines|reader\.\w+)\b"
)
# What an engine distributed by program_id would refuse, or answer differently from one machine.
FORBIDDEN = re.compile(
    r"\b(nextval|lock\s+table|notify|listen|merge\s+into|set_config|serializable|pg_advisory\w*|now\s*\(\)"
    r"|clock_timestamp|current_timestamp|gen_random_uuid|random\s*\(\))",
    re.IGNORECASE,
)


# The one question that is about all programs: which there are, for the operators' figures.
OF_ALL_PROGRAMS = re.compile(r"SELECT program_id, program FROM programs ORDER BY program LIMIT")


def check_statements(conn: Connection, statements: Sequence[Statement], expected: str | None = None) -> int:
    """Each names its program, holds nothing forbidden, and touches one partition (the expected one, if named); what it
    inserts is of one program. Returns how many different ones there were."""
    different = {statement.text: statement for statement in statements}
    for text, statement in different.items():
        assert not FORBIDDEN.search(text), text
        if not PER_PROGRAM.search(text) or OF_ALL_PROGRAMS.match(text):
            continue
        assert "program_id" in text, text
        touched = shards(conn, statement)
        assert len(touched) <= 1, (text, touched)
        if expected is not None and touched:
            assert touched == {expected}, text
        if not touched:
            inserts = re.match(r"(?:\s*--[^\n]*\n)*\s*(INSERT INTO|COPY) [\w.]+ \(program_id, ([^)]*)\)", text)
            assert inserts, f"neither reads one partition nor inserts rows that lead with program_id: {text}"
            if statement.params is not None:
                assert len(_programs_in(statement.params, 2 + inserts[2].count(","))) == 1, text
    return len(different)


def _programs_in(params: Any, columns: int) -> set[Any]:
    """The program ids among an INSERT's parameters."""
    if isinstance(params, Mapping):
        return {params["program_id"]}
    return set(params[::columns]) if len(params) % columns == 0 else {p for p in params if isinstance(p, UUID)}


def test_every_statement_of_the_core_touches_one_partition(database: Database) -> None:
    """Selling, reading, following, rebuilding and erasing: EXPLAIN of each statement shows the program's partition."""
    clock = Clock()
    with open_ledger(database, clock) as ledger, recorded() as statements:
        sell(ledger, clock)
        close_and_pay(ledger, clock)
        read(ledger, clock)
        sent = list(statements)
    with psycopg.connect(database.app_url) as conn:
        (home,) = conn.execute(
            "SELECT tableoid::regclass::text FROM programs WHERE program_id = %s", (program_id(PROGRAM),)
        ).fetchall()
        assert check_statements(conn, sent, home[0].rpartition("_p")[2]) > 50


STORIES: list[Callable[[World], None]] = [
    story
    for name, story in vars(test_api_resources).items()
    if name.startswith("test_") and list(inspect.signature(story).parameters) == ["world"]
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_api_works_on_partitions_one_at_a_time(world: World, story: Callable[[World], None]) -> None:  # noqa: F811
    """The API's own tests, on the stand-in: they pass, and each statement that they cause touches one partition."""
    with recorded() as statements:
        story(world)
        sent = list(statements)
    with world.ledger.pool.connection() as conn:
        assert check_statements(conn, sent) > 0


def test_a_statement_that_touches_them_all_is_seen(database: Database) -> None:
    """These checks fail where they should: without the program every partition is read."""
    with psycopg.connect(database.app_url) as conn:
        assert len(shards(conn, Statement("SELECT * FROM journal WHERE position = 1", None))) == PARTITIONS
        two = Statement("SELECT * FROM journal WHERE program_id = ANY(%s)", ([UUID(int=n) for n in range(20)],))
        assert len(shards(conn, two)) == PARTITIONS
        with pytest.raises(AssertionError):
            check_statements(conn, [two])
        with pytest.raises(AssertionError):
            check_statements(conn, [Statement("INSERT INTO followers SELECT * FROM followers", None)])
        with pytest.raises(AssertionError):
            check_statements(conn, [Statement("SELECT set_config('a.b', 'c', true)", None)])


def test_programs_live_apart_and_add_up(database: Database) -> None:
    """Many programs over all partitions: each one's books are its own, and the fold of its own log."""
    with open_ledger(database) as ledger:
        for number in range(8):
            open_shop(ledger, f"p{number}", rate_bps=100 * (number + 1))
            ledger.execute_many(f"p{number}", [sale(f"o{n}", 1000) for n in range(30)], by())
        for number in range(8):
            check_books(ledger, f"p{number}")
            owed = 30 * 10 * (number + 1)
            assert trial(ledger, f"p{number}")["expense:commission", "GBP"] == owed
    with owner(database) as conn:
        assert scalar(conn, "SELECT count(DISTINCT tableoid) FROM journal") == PARTITIONS


# --- the catalog ----------------------------------------------------------------------------------------

LINT = {
    "a table that does not begin with program_id uuid NOT NULL": """
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
           AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = 1
                              AND a.attname = 'program_id' AND a.atttypid = 'uuid'::regtype AND a.attnotnull)""",
    "a unique key that does not begin with program_id": """
        SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
          JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indisunique AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
           AND a.attname IS DISTINCT FROM 'program_id'""",
    "a foreign key that does not begin with program_id": """
        SELECT conname::text FROM pg_constraint f
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
         WHERE f.contype = 'f' AND a.attname <> 'program_id'""",
    "an exclusion constraint": "SELECT conname::text FROM pg_constraint WHERE contype = 'x'",
    "a sequence": "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'",
    "an identity or generated column": """
        SELECT attrelid::regclass::text || '.' || attname FROM pg_attribute
         WHERE attnum > 0 AND (attidentity <> '' OR attgenerated <> '')""",
    "a default that is no constant": """
        SELECT adrelid::regclass::text || ': ' || pg_get_expr(adbin, adrelid) FROM pg_attrdef
         WHERE pg_get_expr(adbin, adrelid) !~ '^(''[^'']*''(::[a-z ]+)?|-?[0-9.]+|true|false|NULL)$'""",
    "a rule": "SELECT ev_class::regclass::text FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_class >= 16384",
    "a trigger that does more than refuse": """
        SELECT tgrelid::regclass::text || '.' || tgname FROM pg_trigger
         WHERE NOT tgisinternal AND tgfoid::regproc::text NOT IN ('refuse_change', 'refuse_delete_of_live_line',
             'refuse_second_revocation', 'refuse_change_of_ended_run', 'refuse_lower_fence')""",
}
EXEMPT = {"schema_migrations", "schema_migrations_pkey"}


def lint(conn: Connection) -> dict[str, set[str]]:
    """What breaks a rule of distribution, by rule; nothing, if all is well."""
    found = {rule: {name for (name,) in conn.execute(query.encode())} - EXEMPT for rule, query in LINT.items()}
    return {rule: names for rule, names in found.items() if names}


def test_the_catalog_breaks_no_rule_of_distribution(database: Database) -> None:
    """No serial, no identity, no key without program_id in front, no default but constants; triggers only refuse."""
    with owner(database) as conn:
        assert lint(conn) == {}


def test_the_lint_of_the_catalog_sees_what_it_is_for(database: Database) -> None:
    """One bad table breaks each of its rules."""
    with owner(database) as conn, conn.transaction(force_rollback=True):
        conn.execute(
            "CREATE TABLE bad (id serial PRIMARY KEY, other integer GENERATED ALWAYS AS IDENTITY,"
            " at timestamptz DEFAULT now(), parent integer REFERENCES bad (id));"
            " CREATE RULE nothing AS ON DELETE TO bad DO INSTEAD NOTHING;"
            " CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            " CREATE TRIGGER act BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION act();"
        )
        assert set(lint(conn)) == set(LINT) - {"an exclusion constraint"}


def test_a_table_without_its_program_is_refused_by_the_stand_in() -> None:
    """A migration that forgot program_id does not pass unseen."""
    with pytest.raises(ValueError, match="rates"):
        partitioned("CREATE TABLE rates (\n    currency text NOT NULL\n);")


def test_an_instant_is_of_the_client_and_never_of_the_server(database: Database) -> None:
    """Nothing stored depends on the server's clock: its zone and its day are not asked."""
    clock = Clock()
    with open_ledger(
        Database(make_conninfo(database.app_url, options="-c TimeZone=Asia/Kolkata"), None, None), clock
    ) as one:
        sell(one, clock)
        check_books(one)
        with one.reading(PROGRAM) as (cur, id_):
            cur.execute("SELECT min(recorded_at) FROM book_events WHERE program_id = %s", (id_,))
            assert cur.fetchone() == (T0,)
