"""Reports for auditors: each finds what is there to find, says by what rule, and adds up."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from api_world import open_service
from click.testing import CliRunner
from conftest import fresh_database
from flask import Flask
from statement_world import Firm, open_firm
from support import T0, by, program_id

from ledger.cli import cli
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.offer import DecideTerms, PublishTerms
from ledger.domain.paying_account import SetPayingAccount
from ledger.jobplan import JobPlan
from ledger.jobs import JOBS
from ledger.reports import catalogue
from ledger.reports.report import Asked, Document, make
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer
from ledger.version import code_version


class World(NamedTuple):
    """A firm that closed January (reissued once) and February."""

    firm: Firm
    database: Database
    app: Flask
    tokens: dict[str, str]

    def report(self, name: str, plan: JobPlan | None = None, **asked: Any) -> Document:
        """A report of the firm."""
        return make(self.firm.ledger, "firm", catalogue.find(name), Asked(**asked), plan or JobPlan())

    @contextmanager
    def tampered(self, *statements: str) -> Iterator[None]:
        """Somebody with the owner's password changed a table; afterwards all is as before."""
        assert self.database.owner_url
        with psycopg.connect(self.database.owner_url, autocommit=True) as conn:
            tables = ("statements", "api_keys", "journal")
            conn.execute("ALTER TABLE journal DISABLE TRIGGER USER; ALTER TABLE api_keys DISABLE TRIGGER USER")
            for table in tables:
                conn.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
            try:
                for statement in statements:
                    assert conn.execute(statement.encode()).rowcount == 1, statement
                yield
            finally:
                for table in tables:
                    conn.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}")
                    conn.execute(f"DROP TABLE kept_{table}")
                conn.execute("ALTER TABLE journal ENABLE TRIGGER USER; ALTER TABLE api_keys ENABLE TRIGGER USER")


def history(firm: Firm) -> None:
    firm.register_payees()
    firm.sell("o1", 50_000, "ada")
    firm.sell("o2", 70_000, "bob")
    firm.clock.now = T0 + timedelta(days=20)
    firm.approve_due()
    firm.sell("o3", 9_999, "ada")
    firm.clock.now = T0 + timedelta(days=33)
    firm.close("2026-01")
    firm.sell("o-late", 12_300, "bob", at=T0 + timedelta(days=25))
    firm.reissue("2026-01")
    firm.pay("2026-01")
    firm.adjust("a1", 500)
    firm.clock.now = T0 + timedelta(days=50)
    firm.sell("o-very-late", 20_000, "ada", at=T0 + timedelta(days=2))
    firm.clock.now = T0 + timedelta(days=61)
    firm.approve_due()
    firm.close("2026-02")
    firm.do(PublishTerms(offer_id="shoes", rate_bps=1500, hold_days=10, window_days=30, effective_from=T0))
    firm.do(DecideTerms(offer_id="shoes", terms_version=2, approve=True), "ben")
    firm.do(SetPayingAccount(currency="GBP", details={"name": "Firm", "iban": "X", "bic": "Y"}, fingerprint="ab" * 16))


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    with fresh_database(server, template) as name:
        database = urls(server, name)
        with open_firm(database) as firm, open_service(database) as app:
            app.extensions["ledger"].clock = lambda: firm.clock.now
            history(firm)
            tokens = {
                role: firm.ledger.issue_key(
                    "firm", role=role, holder=holder, holder_kind="person", affiliate_id="ada" * (role == "affiliate"),
                    expires_at=firm.clock.now + timedelta(days=99), meta=by("boss"),
                ).token
                for role, holder in (
                    ("auditor", "au"), ("finance_maker", "ana"), ("finance_checker", "a.na"), ("affiliate", "ada-key")
                )
            }  # fmt: skip
            yield World(firm, database, app, tokens)


# --- the head ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_every_report_says_what_it_stands_on(world: World, name: str) -> None:
    """Program, rule, parameters, code version, when, the position it looked up to, how many rows and totals, and the
    checkpoint: none, where the books were never sealed."""
    document = world.report(name)
    head = document.head
    with world.firm.ledger.reading("firm") as (cur, id_):
        cur.execute("SELECT max(position), max(recorded_at) FROM book_events WHERE program_id = %s", (id_,))
        last = cur.fetchone()
    assert (head.as_of_position, head.as_of) == last
    assert (head.report, head.program, head.code_version) == (name, "firm", code_version())
    assert head.generated_at == world.firm.clock.now
    assert head.row_count == len(document.rows)
    assert len(head.rule) > 80
    assert head.control_totals
    assert head.checkpoint is None
    assert all(list(row) == document.columns for row in document.rows)


def test_the_newest_checkpoint_is_named(world: World) -> None:
    """Of a sealed log: its size, its root, and when."""
    id_ = program_id("firm")
    assert world.database.owner_url
    with psycopg.connect(world.database.owner_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE checkpoints DISABLE TRIGGER USER")
        for size in (3, 7):
            conn.execute(
                "INSERT INTO checkpoints VALUES (%s, 'books', %s, %s, 'note', %s)", (id_, size, bytes(31) + b"\7", T0)
            )
        try:
            seen = world.report("terms").head.checkpoint
        finally:
            conn.execute("DELETE FROM checkpoints")
            conn.execute("ALTER TABLE checkpoints ENABLE TRIGGER USER")
    assert seen is not None
    assert (seen.size, seen.root, seen.sealed_at) == (7, "00" * 31 + "07", T0)


# --- completeness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["2026-01", "2026-02"])
def test_statements_as_issued_are_complete(world: World, period: str) -> None:
    """Everybody's statement comes out the same from the journal, reissued or not, and all totals tie."""
    document = world.report("completeness", period=period)
    assert [row["affiliate_id"] for row in document.rows] == ["ada", "bob"]
    assert [row["version"] for row in document.rows] == ([1, 2] if period == "2026-01" else [1, 1])
    assert document.head.finding_count == 0, document
    for row in document.rows:
        assert row["issued_hash"] == row["listed_hash"] == row["recomputed_hash"]
        assert row["issued_lines"] == row["recomputed_lines"] > 0
    totals = document.head.control_totals
    assert totals["lines_in_journal_since_the_beginning"] == totals["lines_on_statements_since_the_beginning"] > 0
    assert totals["digest"] == totals["digest_stated"]
    assert all(one["statements"] == one["journal"] for one in totals["closing"])
    newest = world.report("completeness")
    assert newest.head.parameters == {"period": "2026-02", "version": 1}


JANUARY = "WHERE affiliate_id = 'ada' AND period = '2026-01'"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (f"UPDATE statements SET hash = repeat('0', 64) {JANUARY}", "listed hash"),
        (f"UPDATE statements SET line_count = line_count + 1 {JANUARY}", "listed line count"),
        (
            f"UPDATE statements SET sections = jsonb_set(sections, '{{0,closing,payable}}', '1') {JANUARY}",
            "listed totals",
        ),
        (f"DELETE FROM statements {JANUARY}", "not listed"),
        (
            "UPDATE journal SET amount = amount + 1 WHERE credit = 'liability:ada:pending' AND amount = 5000",
            "recomputed",
        ),
        (
            "UPDATE journal SET effective_at = effective_at + interval '90 days'"
            " WHERE credit = 'liability:ada:pending' AND amount = 5000",
            "recomputed lines",
        ),
        ("DELETE FROM journal WHERE credit = 'liability:ada:pending' AND amount = 5000", "recomputed lines"),
    ],
)
def test_a_statement_that_was_changed_shows(world: World, change: str, said: str) -> None:
    """Whatever is changed in a table afterwards: the row of that affiliate says what differs, the other's does not."""
    with world.tampered(change):
        document = world.report("completeness", period="2026-01")
    ada, bob = document.rows
    assert said in ada["differs"]
    assert bob["differs"] == ""
    assert document.head.finding_count >= 1


def test_a_line_on_no_statement_shows_in_the_totals(world: World) -> None:
    """A line smuggled into the journal behind the statements' backs: numbers of lines do not tie any more."""
    smuggle = (
        "INSERT INTO journal SELECT program_id, generation, position, 9, 'expense:adjustment', 'liability:eve:payable',"
        " 7, currency, effective_at, recorded_at, 'eve', 0, 0 FROM journal"
        " WHERE credit = 'liability:ada:pending' AND amount = 5000"
    )
    with world.tampered(smuggle):
        document = world.report("completeness", period="2026-01")
    totals = document.head.control_totals
    assert totals["lines_in_journal_since_the_beginning"] == totals["lines_on_statements_since_the_beginning"] + 1
    (eve,) = [row for row in document.rows if row["affiliate_id"] == "eve"]
    assert "not issued" in eve["differs"]


# --- people ------------------------------------------------------------------------------------------------


def test_who_made_and_who_checked(world: World) -> None:
    """Each decision with both people; none by one; who held both duties is said."""
    document = world.report("maker-checker")
    assert "adjustment, dispute, erasure, payout method, payout run, simulation, tax rules, terms" in document.head.rule
    assert {row["kind"] for row in document.rows} == {"adjustment", "payout_method", "payout_run", "tax_rules", "terms"}
    assert all((row["proposed_by"], row["decided_by"]) == ("ana", "ben") for row in document.rows)
    assert document.head.finding_count == document.head.control_totals["by_same_person"] == 0
    assert document.head.control_totals["decisions"] == len(document.rows)
    since = T0 + timedelta(days=40)
    later = world.report("maker-checker", since=since)
    assert {row["kind"] for row in later.rows} == {"terms"}
    earlier = world.report("maker-checker", until=since)
    assert earlier.rows + later.rows == document.rows
    at = document.rows[-1]["decided_at"]
    assert world.report("maker-checker", since=at).rows == [row for row in document.rows if row["decided_at"] >= at]
    assert world.report("maker-checker", until=at).rows == [row for row in document.rows if row["decided_at"] < at]


def test_keys_given_and_taken(world: World) -> None:
    """Each key with its issuer and the roles that its holder had before and after; a revocation ends them."""
    issued = world.firm.ledger.issue_key(
        "firm", role="finance_maker", holder="au", holder_kind="person", meta=by("boss"),
        expires_at=world.firm.clock.now + timedelta(days=9),
    )  # fmt: skip
    world.firm.clock.advance(minutes=1)
    world.firm.ledger.revoke_key("firm", issued.key_id, by("boss"))
    document = world.report("access")
    assert document.head.finding_count == 0
    mine = [row for row in document.rows if row["holder"] == "au"]
    assert [(row["what"], row["roles_before"], row["roles_after"], row["by"]) for row in mine] == [
        ("issued", "", "auditor", "boss"),
        ("issued", "auditor", "auditor, finance_maker", "boss"),
        ("revoked", "auditor, finance_maker", "auditor", "boss"),
    ]
    assert document.head.control_totals["keys_in_force_by_role"]["auditor"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE api_keys SET role = 'admin' WHERE role = 'auditor'", "role"),
        ("UPDATE api_keys SET expires_at = expires_at + interval '9 years' WHERE role = 'auditor'", "expires_at"),
        (
            "INSERT INTO api_keys SELECT program_id, 'stolen', role, holder, holder_kind, affiliate_id, secret_hmac,"
            " issued_by, issued_at, expires_at FROM api_keys WHERE role = 'auditor'",
            "the log knows of no such key",
        ),
        ("DELETE FROM api_keys WHERE role = 'auditor'", "not listed"),
    ],
)
def test_a_key_that_the_log_does_not_know_shows(world: World, change: str, said: str) -> None:
    """A key slipped into the table, or changed there, is named."""
    with world.tampered(change):
        document = world.report("access")
    assert [row["differs"] for row in document.rows if row["differs"]] == [said]
    assert document.head.finding_count == 1


def test_duties_that_one_person_has_together(world: World) -> None:
    """'ana' and 'a.na' are one person with a maker's and a checker's key, both issued by boss."""
    document = world.report("duties")
    found = [(row["conflict"], row["person"], {row["role"], row["other_role"]}) for row in document.rows]
    both = {"finance_maker", "finance_checker"}
    assert [one for one in found if one[0] == "held together"] == [("held together", "ana", both)]
    assert ("issued together", "boss", both) in found
    assert world.report("duties", until=T0).rows == [], "before the keys were issued"


def test_changes_of_the_rules(world: World) -> None:
    """Settings, offers, terms, tax rules, payees and paying account, with the second person where two are needed."""
    document = world.report("terms")
    of = {(row["topic"], row["which"]): row for row in document.rows}
    assert of["TermsProposed", "shoes version 2"]["second_person"] == "ben"
    assert of["TermsProposed", "shoes version 2"]["by"] == "ana"
    published = of["TermsPublished", "shoes version 2"]
    assert (published["by"], published["second_person"], published["second_person_did"]) == ("ben", "ana", "proposed")
    assert of["TermsPublished", "shoes version 1"]["second_person"] == ""
    assert '"rate_bps":1500' in published["says"]
    assert "payout_method_wait_hours" in of["ProgramOpened", "firm"]["says"]
    assert of["PayoutMethodApproved", "bob/GBP version 1"]["second_person"] == "ana"
    assert {"PayingAccountSet", "TaxRulesPublished", "OfferPublished"} <= {row["topic"] for row in document.rows}
    assert document.head.finding_count == 0
    text = msgspec.json.encode(document).decode()
    assert "example.com" not in text
    assert [row["position"] for row in document.rows] == sorted(row["position"] for row in document.rows)


# --- entries and jobs --------------------------------------------------------------------------------------


def test_entries_that_came_late(world: World) -> None:
    """The sale that was told 48 days after it happened, with who sent it; on February's statement also as late."""
    document = world.report("late-entries")
    told, matured = document.rows
    assert (told["reference"], told["days"], told["amount"]) == ("o-very-late", 48, 2_000)
    assert (told["period"], told["late"], told["by"]) == ("2026-02", True, "ana")
    assert (matured["topic"], matured["reference"], matured["days"]) == ("ConversionApproved", "o-very-late", 49)
    assert document.head.control_totals["amount"] == {"GBP": 4_000}
    assert document.head.parameters == {"days": 31}
    more = world.report("late-entries", days=7)
    assert {"o-late", "o-very-late"} <= {row["reference"] for row in more.rows}
    of_period = world.report("late-entries", period="2026-02")
    late = [row for row in of_period.rows if row["late"]]
    assert {row["reference"] for row in late} == {"o-very-late", "o3"}, "o3 matured in January, by nobody's hand"
    assert world.report("late-entries", until=T0 + timedelta(days=40)).rows == []


def test_a_missed_due_time_is_a_gap(world: World) -> None:
    """Due times without a run that was done are one row a stretch, with what made up for them; failed and lost attempts
    are rows of their own; a job that is off has none."""
    plan = JobPlan({"*": {job.name: job.name == "approve-due" for job in JOBS}})
    assert world.database.owner_url
    hour = timedelta(hours=1)
    outcomes = {0: "done", 1: "done", 4: "done", 5: "failed", 6: "done", 8: "lost", 9: "done"}
    with psycopg.connect(world.database.owner_url, autocommit=True) as conn:
        for n, outcome in outcomes.items():
            conn.execute(
                "INSERT INTO job_runs VALUES (%s, 'approve-due', %s, 1, 'w', 1, %s, %s, %s, '{}')",
                (program_id("firm"), T0 + n * hour, T0 + n * hour, T0 + n * hour, outcome),
            )
        document = world.report("job-gaps", plan, since=T0, until=T0 + 10 * hour)
        conn.execute("DELETE FROM job_runs")
    found = [(row["what"], row["first_due_at"], row["last_due_at"], row["due_times"]) for row in document.rows]
    assert found == [
        ("no run", T0 + 2 * hour, T0 + 3 * hour, 2),
        ("no run", T0 + 5 * hour, T0 + 5 * hour, 1),
        ("failed", T0 + 5 * hour, T0 + 5 * hour, 1),
        ("no run", T0 + 7 * hour, T0 + 8 * hour, 2),
        ("lost", T0 + 8 * hour, T0 + 8 * hour, 1),
    ]
    assert document.rows[0]["made_up_at"] == T0 + 4 * hour
    assert document.head.control_totals["missed_due_times"] == 5
    assert document.head.control_totals["jobs"] == {"approve-due": {"due": 10, "done": 5, "interval_seconds": 3600}}


def test_a_job_that_runs_only_when_something_waits_misses_nothing(world: World) -> None:
    """Hours in which nothing was sealed are no gap of `seal`, and the rule names it; an attempt that failed is told."""
    plan = JobPlan({"*": {job.name: job.name == "seal" for job in JOBS}})
    assert world.database.owner_url
    with psycopg.connect(world.database.owner_url, autocommit=True) as conn:
        for n, outcome in enumerate(("done", "failed", "done")):
            at = T0 + n * timedelta(hours=2)
            conn.execute(
                "INSERT INTO job_runs VALUES (%s, 'seal', %s, 1, 'w', 1, %s, %s, %s, '{}')",
                (program_id("firm"), at, at, at, outcome),
            )
        document = world.report("job-gaps", plan, since=T0, until=T0 + timedelta(hours=9))
        conn.execute("DELETE FROM job_runs")
    assert [(row["job"], row["what"]) for row in document.rows] == [("seal", "failed")]
    assert document.head.control_totals["missed_due_times"] == 0
    assert "(run-simulations, seal, publish-checkpoints)" in document.head.rule


# --- asking ------------------------------------------------------------------------------------------------


def test_what_is_asked_wrongly_is_refused(world: World) -> None:
    """A parameter that the report does not take, a period that is not closed, a time that ends before it begins."""
    for name, asked, field in (
        ("completeness", {"since": T0}, "from"),
        ("terms", {"days": 3}, "days"),
        ("terms", {"period": "2026-01", "since": T0}, "period"),
        ("terms", {"since": T0, "until": T0}, "until"),
        ("job-gaps", {"period": "2026-01", "days": 3}, "days"),
    ):
        with pytest.raises(InvalidInput) as refused:
            world.report(name, **asked)  # type: ignore[arg-type]
        assert refused.value.field == field
    for name, period in (("completeness", "2026-03"), ("terms", "spring")):
        with pytest.raises(NotFound):
            world.report(name, period=period)


def test_reports_over_http(world: World) -> None:
    """An auditor gets the list, each report as JSON and as CSV, as does a maker; an unknown one is 404, an affiliate is
    refused."""

    def get(role: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {world.tokens[role]}"}
        return world.app.test_client().get(f"/v1/programs/firm/reports{path}", headers=headers)

    listed = get("auditor", "").json["items"]
    assert [one["report"] for one in listed] == list(catalogue.NAMES)
    answer = get("auditor", "/completeness?period=2026-01").json
    assert answer["head"]["control_totals"]["statements"] == 2
    assert [row["differs"] for row in answer["rows"]] == ["", ""]
    late = get("auditor", "/late-entries?from=2026-02-01T00:00:00Z&days=40").json
    assert late["head"]["parameters"] == {"from": "2026-02-01T00:00:00Z", "days": 40}
    table = get("auditor", "/late-entries?format=csv")
    assert table.content_type == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(table.text)))
    empty = rows.index([])
    assert ["report", "late-entries"] in rows[:empty]
    assert rows[empty + 1] == listed[5]["columns"]
    assert rows[empty + 2][rows[empty + 1].index("reference")] == "o-very-late"
    assert get("auditor", "/weather").status_code == 404
    assert get("auditor", "/terms?days=1").status_code == 422
    assert get("finance_maker", "/terms").status_code == 200
    assert get("affiliate", "/terms").status_code == 403


def test_the_command_prints_a_report(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text for people, as JSON and CSV for machines; exit code 1 where there is something to look into."""
    monkeypatch.setenv("DATABASE_URL", world.database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", "6b" * 32)
    monkeypatch.setenv("LEDGER_HOME", str(tmp_path))
    ask = ["report", "completeness", "-p", "firm", "--period", "2026-01"]
    clean = CliRunner().invoke(cli, ask, standalone_mode=False)
    assert clean.return_value == 0, clean.output
    assert "checkpoint" in clean.output
    assert "never sealed" in clean.output
    assert "bob" in clean.output
    head = clean.output.split("\n\n")[0]
    assert "currency GBP, bucket payable, statements " in " ".join(head.split())
    assert "{" not in head
    assert max(map(len, head.splitlines())) <= 100
    terms = CliRunner().invoke(cli, ["report", "terms", "-p", "firm"]).output
    assert "rate bps 1500" in terms
    assert "{" not in terms
    asked = ["report", "duties", "-p", "firm", "--format"]
    found = CliRunner().invoke(cli, [*asked, "json"], standalone_mode=False)
    assert found.return_value == 1
    assert msgspec.json.decode(found.output)["head"]["report"] == "duties"
    assert CliRunner().invoke(cli, [*asked, "csv"]).output.startswith("report,duties")
    assert CliRunner().invoke(cli, ["report", "weather", "-p", "firm"]).exit_code == 2
