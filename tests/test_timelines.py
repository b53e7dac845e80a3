"""Timelines: who did what to an affiliate, a sale or a payout: in order, complete, to each reader what is theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from api_world import open_service
from click.testing import CliRunner
from conftest import fresh_database
from flask import Flask
from payout_world import statement
from statement_world import Firm, open_firm
from support import T0, Logged, by, program_id, read_log

from ledger import banking, timeline
from ledger.audit import publishing
from ledger.cli import cli
from ledger.domain import affiliate, erasure
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.breaks import AssignBreak, OpenBreak
from ledger.domain.click import RecordClick
from ledger.domain.dispute import DecideDispute, OpenDispute
from ledger.domain.erasure import ErasureProposed, SubjectErased
from ledger.domain.ids import stream_id
from ledger.domain.recording import RecordConversion
from ledger.domain.topics import TOPIC_OF
from ledger.projections import periods
from ledger.store import log
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

STAFF = ("ana", "ben", "boss", "olga")


class World(NamedTuple):
    """A firm's first quarter: ada's order o1 was clicked for, refunded in part, on a statement, paid, disputed."""

    firm: Firm
    app: Flask
    tokens: dict[str, str]
    database: Database
    payout_id: str

    def get(self, role: str, path: str) -> Any:
        """A response to a key's request."""
        client = self.app.test_client()
        return client.get(f"/v1/programs/firm{path}", headers={"Authorization": f"Bearer {self.tokens[role]}"})

    def items(self, role: str, path: str, limit: int = 1000) -> list[dict[str, Any]]:
        """Every entry, page by page."""
        found: list[dict[str, Any]] = []
        after = ""
        sep = "&" if "?" in path else "?"
        while True:
            answer = self.get(role, f"{path}{sep}limit={limit}&after={after}")
            assert answer.status_code == 200, answer.text
            assert len(answer.json["items"]) <= limit
            found += answer.json["items"]
            after = answer.json["next"]
            if after is None:
                return found


def history(firm: Firm) -> str:
    """What the world is made of. Returns the payout of o1."""
    firm.register_payees()
    click = RecordClick(click_id="c1", affiliate_id="ada", offer_id="shoes", occurred_at=firm.clock.now)
    firm.ledger.record_clicks(firm.program, [click], by("tracking-link"))
    firm.clock.advance(hours=1)
    bought = {"offer_id": "shoes", "occurred_at": firm.clock.now}
    firm.do(RecordConversion(order_id="o1", amount=100_000, click_id="c1", **bought), "shop-system")
    firm.sell("o2", 30_000, "bob")
    firm.sell("o3", 40, "ada")
    firm.sell("free", 0, "ada")
    firm.clock.advance(days=2)
    firm.refund("o1", 10_000)
    firm.do(DecideAffiliate(affiliate_id="bob", decision="suspend", reason="secret suspicion"), "boss")
    firm.do(DecideAffiliate(affiliate_id="bob", decision="reinstate"), "boss")
    opened = OpenBreak(
        break_id="orders:amount_differs:o1", source="orders", type="amount_differs", detail="the merchant says 999",
        affiliate_id="ada", reference="o1", expected_amount=100_000, found_amount=99_900, currency="GBP",
    )  # fmt: skip
    firm.do(opened, "olga")
    firm.do(AssignBreak(break_id=opened.break_id, owner="olga"), "boss")
    firm.clock.now = T0 + timedelta(days=32)
    firm.approve_due()
    firm.close("2026-01")
    (payout_id,) = [one.payout_id for one in firm.pay("2026-01") if one.affiliate_id == "ada"]
    firm.clock.advance(days=2)
    sent = next(one for one in read_log(firm.ledger, "firm") if one.state.get("payout_id") == payout_id).state
    paid = sent["amount"] + sent.get("vat_amount", 0) - sent.get("withholding_amount", 0)
    on = firm.clock.now.date()
    lines = [("L1", -paid, payout_id), ("L2", paid - 1, payout_id)]
    banking.import_statement(firm.ledger, "firm", statement("S1", lines, on), by("ana"))
    with firm.ledger.reading("firm") as (cur, id_):
        between = periods.bounds(firm.cut("2026-01"))
        line = next(one for one in periods.lines_of(cur, id_, "ada", between, None) if one.reference == "o1")
    disputed = OpenDispute(
        affiliate_id="ada", period="2026-01", position=line.position, line_no=line.line_no, text="it was more"
    )
    dispute_id = firm.do(disputed, "ada-key").body["dispute_id"]
    firm.do(DecideDispute(dispute_id=dispute_id, accept=True, text="so it was", amount=500, currency="GBP"))
    return payout_id


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    with fresh_database(server, template) as name:
        database = urls(server, name)
        with open_firm(database) as firm, open_service(database) as app:
            app.extensions["ledger"].clock = lambda: firm.clock.now
            payout_id = history(firm)
            tokens = {}
            for role, who in (("auditor", ""), ("ingest", ""), ("affiliate", "ada"), ("affiliate", "bob")):
                tokens[who or role] = firm.ledger.issue_key(
                    "firm", role=role, holder=f"{who or role}-holder", holder_kind="person", affiliate_id=who,
                    expires_at=firm.clock.now + timedelta(days=99), meta=by("boss"),
                ).token  # fmt: skip
            yield World(firm, app, tokens, database, payout_id)


def log_of(world: World) -> dict[int, Logged]:
    return {one.position: one for one in read_log(world.firm.ledger, "firm")}


def test_an_affiliate_timeline_is_every_event_that_names_it(world: World) -> None:
    """Page by page or at once: all events with its id and what became of its notices, breaks and disputes, in the order
    of the log, each with who asked, in which request, and the lines it made; nobody else's."""
    found = world.items("auditor", "/affiliates/ada/timeline")
    assert found == world.items("auditor", "/affiliates/ada/timeline", 7)
    log = log_of(world)
    shown = [one["position"] for one in found]
    assert shown == sorted(set(shown))
    named = {p for p, e in log.items() if e.state.get("affiliate_id") == "ada" and e.topic != "ConversionRecorded"}
    followed = {"BreakAssigned", "DisputeAccepted", "NoticeSent"}
    assert named <= set(shown)
    assert {log[p].topic for p in set(shown) - named} <= followed
    assert {"BreakAssigned", "DisputeAccepted"} <= {one["topic"] for one in found}
    assert not [one for one in found if log[one["position"]].state.get("affiliate_id", "ada") != "ada"]
    zero = next(one for one in found if one["topic"] == "CommissionAccrued" and one["stream"] == "conversion:free")
    assert zero["lines"] == [], "also what moved nothing is told"
    accrued = next(one for one in found if one["topic"] == "CommissionAccrued")
    assert accrued["actor"] == "shop-system"
    assert accrued["request_id"].startswith("request-")
    assert accrued["key_id"] == "key-of-shop-system"
    assert accrued["cause"]
    assert accrued["sentence"].startswith("A commission of 100.00 GBP on order o1 was credited to ada; it matures at")
    (line,) = accrued["lines"]
    assert (line["debit"], line["credit"], line["amount"]) == ("expense:commission", "liability:ada:pending", 10_000)


def test_a_conversion_timeline_has_all_that_concerns_it(world: World) -> None:
    """From the click to the payout: reversal, difference, statement, dispute and adjustment; no other order's."""
    found = world.items("auditor", "/conversions/o1/timeline")
    topics = [one["topic"] for one in found]
    wanted = [
        "ClickRecorded", "ConversionRecorded", "CommissionAccrued", "ConversionReversed", "ReversalRecorded",
        "BreakOpened", "BreakAssigned", "ConversionApproved", "StatementIssued", "PayoutProposed", "PayoutInitiated",
        "PayoutSettled", "DisputeOpened", "AdjustmentProposed", "DisputeAccepted",
    ]  # fmt: skip
    assert topics == wanted
    assert found[0]["log"] == "traffic"
    assert found[0]["stream"] == "click:c1"
    times = [one["recorded_at"] for one in found]
    assert times == sorted(times)
    assert found == world.items("auditor", "/conversions/o1/timeline", 1)
    assert "o2" not in world.get("auditor", "/conversions/o1/timeline").text
    assert "100.00 GBP of order o1 was reversed" in found[3]["sentence"]
    assert world.get("auditor", "/conversions/nothing/timeline").status_code == 404


def test_a_payout_timeline_has_its_run_its_file_and_the_bank(world: World) -> None:
    """Who proposed and who approved which hash, which file, what the bank said, and the difference it left open."""
    found = world.items("auditor", f"/payouts/{world.payout_id}/timeline")
    topics = [one["topic"] for one in found]
    for topic in (
        "PayoutRunBegun", "PayoutProposed", "PayoutRunProposed", "PayoutRunApproved", "PayoutRunInitiationBegun",
        "PayoutInitiated", "PayoutRunInitiated", "PayoutFilesRendered", "BankLineRecorded", "PayoutSettled",
        "BreakOpened",
    ):  # fmt: skip
        assert topic in topics, topic
    proposed, approved = (next(o for o in found if o["topic"] == t) for t in ("PayoutRunProposed", "PayoutRunApproved"))
    log = log_of(world)
    assert log[approved["position"]].state["hash"] in approved["sentence"]
    assert (proposed["actor"], approved["actor"]) == ("ana", "ben")
    rendered = next(one for one in found if one["topic"] == "PayoutFilesRendered")
    assert log[rendered["position"]].state["files"][0]["sha256"] in rendered["sentence"]
    lines = [one for one in found if one["topic"] == "BankLineRecorded"]
    assert len(lines) == 2
    moved = [line["amount"] for one in found if one["topic"] == "PayoutInitiated" for line in one["lines"]]
    assert moved[0] == 9_000 + 4, "of o1 and o3, less the reversal"
    others = [e.state["payout_id"] for e in log.values() if e.topic == "PayoutProposed"]
    text = str(found)
    assert all(one not in text for one in others if one != world.payout_id), "not the run's other payouts"


def test_a_failed_payout_shows_its_credit_note(world: World) -> None:
    """The number that cancels the invoice stands before the failure, and the message to the affiliate beside it."""
    (other,) = {e.state["payout_id"] for e in log_of(world).values() if e.topic == "PayoutInitiated"} - {
        world.payout_id
    }
    world.firm.outcome(other, "fail", date(2026, 2, 3))
    topics = [one["topic"] for one in world.items("auditor", f"/payouts/{other}/timeline")]
    assert topics[-3:] == ["CreditNoteIssued", "NoticeQueued", "PayoutFailed"]


def test_an_affiliate_sees_its_own_without_the_staff(world: World) -> None:
    """No actor, request, key or cause, no reason, no break, no run, no name of staff; its money all the same."""
    own = world.items("ada", "/affiliates/ada/timeline")
    assert own == world.items("ada", "/affiliates/ada/timeline", 3)
    assert {name for one in own for name in one} == {
        "position", "log", "recorded_at", "topic", "sentence", "stream", "lines"
    }  # fmt: skip
    full = {one["position"]: one for one in world.items("auditor", "/affiliates/ada/timeline")}
    for one in own:
        text = one["sentence"] + one["stream"]
        assert not [who for who in STAFF if who in text], text
        assert "merchant says" not in text
    hidden = {full[p]["topic"] for p in full.keys() - {one["position"] for one in own}}
    assert hidden <= {"AdjustmentProposed", "BreakOpened", "BreakAssigned", "PayoutConfirmed"}
    owed = sum(
        line["amount"] * ((line["credit"] == "liability:ada:payable") - (line["debit"] == "liability:ada:payable"))
        for one in own
        for line in one["lines"]
    )
    balance = world.get("ada", "/affiliates/ada/balance").json["balances"]
    assert owed == balance[0]["payable"]
    assert not [line for one in own for line in one["lines"] if "ada" not in line["debit"] + line["credit"]]


def test_what_the_program_pays_its_bank_is_not_the_affiliates() -> None:
    """A settlement's fee line is the program's own; nor does another affiliate's account pass for one's own."""
    sides = [("liability:ada:in_transit", "asset:bank:ada"), ("expense:bank_fee", "asset:bank"),
             ("liability:adam:pending", "expense:commission"), ("asset:bank:adam", "tax:vat")]  # fmt: skip
    lines = [{"debit": debit, "credit": credit} for debit, credit in sides]
    meta = dict.fromkeys(("sentence", "stream", "actor", "request_id", "key_id", "cause"), "")
    settled = timeline.Entry(position=1, log="books", recorded_at=T0, topic="PayoutSettled", lines=lines, **meta)
    assert timeline.for_the_affiliate(settled, "ada")["lines"] == lines[:1]


def test_an_affiliate_reads_nobody_elses(world: World) -> None:
    """Another affiliate, another's order, another's payout: each answers exactly as one that does not exist."""

    def seen(path: str) -> tuple[int, Any]:
        answer = world.get("bob", path)
        return answer.status_code, {**answer.json, "instance": ""}

    assert seen("/affiliates/ada/timeline") == seen("/affiliates/nobody/timeline")
    assert seen("/affiliates/ada/timeline")[0] == 404
    for query in ("order_id=o1", f"payout_id={world.payout_id}"):
        assert seen(f"/affiliates/bob/timeline?{query}") == seen(f"/affiliates/bob/timeline?{query}x")
        assert seen(f"/affiliates/bob/timeline?{query}")[0] == 404
        mine = world.items("ada", f"/affiliates/ada/timeline?{query}")
        assert mine
        assert not [who for who in (*STAFF, "shop-system") if who in str([one["sentence"] for one in mine])]
    for path in ("/conversions/o1/timeline", f"/payouts/{world.payout_id}/timeline"):
        assert world.get("bob", path).status_code == 403
        assert world.get("ingest", path).status_code == 403


def test_a_timeline_needs_one_connection_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that each hold a connection and wait for a second one would stop each other for good."""
    pool, held, most = world.app.extensions["ledger"].pool, 0, 0
    lend = pool.connection

    @contextmanager
    def counted(*args: Any, **more: Any) -> Iterator[Any]:
        nonlocal held, most
        with lend(*args, **more) as conn:
            held += 1
            most = max(most, held)
            yield conn
            held -= 1

    monkeypatch.setattr(pool, "connection", counted)
    for query in ("", "?order_id=o1", f"?payout_id={world.payout_id}"):
        assert world.get("ada", f"/affiliates/ada/timeline{query}").status_code == 200
    assert most == 1


def test_of_every_event_it_is_decided_whether_an_affiliate_sees_it() -> None:
    """A new event stands in timeline.OWN_TOPICS, or here."""
    not_shown = {
        "AdjustmentProposed", "AdjustmentRejected", "AffiliateRecruited", "AffiliateTreesRecorded",
        "AttributionDeferred", "BankFeeBooked", "RateRecorded",
        "BankLineRecorded", "BankMatched", "BankStatementImported", "BooksRestored", "BreakAssigned", "BreakChanged",
        "BreakOpened", "BreakReopened", "BreakResolved", "ClickRecorded", "ClicksTallied", "ConversionAttributed",
        "ConversionRecorded", "ConversionUnattributed", "CreditNoteIssued", "ErasureProposed", "ErasureRejected",
        "ExceptionRaised", "ExceptionResolved", "ImpressionRecorded", "InvoiceNumbersTaken", "NoticeFailed",
        "OfferPublished", "PayingAccountSet",
        "PayoutConfirmed", "PayoutFilesRendered", "PayoutRunApproved", "PayoutRunBegun", "PayoutRunEmpty",
        "PayoutRunInitiated", "PayoutRunInitiationBegun", "PayoutRunProposed", "PayoutRunRejected", "PayoutsLeftOut",
        "PeriodClosed", "PeriodReissued", "ProgramOpened", "ReversalDeferred", "ReversalRecorded", "SimulationApplied",
        "SimulationApproved", "SimulationProposed", "SimulationRejected", "StatementsIssued",
        "TaxRulesProposed", "TaxRulesPublished", "TaxRulesRejected", "TermsProposed", "TermsPublished",
        "TermsRejected",
    }  # fmt: skip
    assert not not_shown & timeline.OWN_TOPICS
    assert not_shown | timeline.OWN_TOPICS == set(TOPIC_OF.values())


def test_a_cursor_that_is_not_ours_is_refused(world: World) -> None:
    """A made-up place is 422, and so is asking for an order and a payout at once."""
    for query in ("after=zzz", "after=WzEsIngiLDFd", "limit=0", "order_id=a&payout_id=b", "nonsense=1"):
        answer = world.get("auditor", f"/affiliates/ada/timeline?{query}")
        assert answer.status_code == 422, query


def test_a_page_reads_no_whole_log(world: World) -> None:
    """In a log of a hundred thousand events, a page of an affiliate's is found by index alone."""
    id_ = program_id("firm")
    assert world.database.owner_url
    with psycopg.connect(world.database.owner_url) as conn:
        conn.execute(
            "INSERT INTO book_events SELECT %s, n, gen_random_uuid(), 1, 'CommissionAccrued', now(), 'a', '', '', '',"
            " '{\"order_id\":\"x' || n || '\",\"affiliate_id\":\"a' || n %% 50 || '\"}', sha256('x')"
            " FROM generate_series(1000, 100000) n",
            (id_,),
        )
        conn.execute("ANALYZE book_events")
        params = {"program_id": id_, "affiliate_id": "a7", "after": 0, "topics": None, "limit": 101, "erasure": id_}
        rows = conn.execute("EXPLAIN (FORMAT TEXT) " + timeline.QUERIES["select_affiliate"], params).fetchall()
        plan = "\n".join(row[0] for row in rows)
        assert "book_events_by_affiliate" in plan
        assert "Seq Scan on book_events" not in plan
        assert len(conn.execute(timeline.QUERIES["select_affiliate"], params).fetchall()) == 101
        conn.rollback()


def test_the_index_finds_an_event_by_the_affiliate_that_it_names(world: World) -> None:
    """Of every topic, as its example line has it: what the index takes for the affiliate is the event's own, also where
    others, or texts that look like it, stand in the same event."""
    lines = (Path(__file__).parent / "vectors" / "export_lines.ndjson").read_bytes().splitlines()
    states = [(one["topic"], one["state"]) for one in map(msgspec.json.decode, lines)]
    nasty = '"affiliate_id":"eve"'
    step = {"rule": "coupon", "result": "expired", "affiliate_id": "eve"}
    states.append(("CommissionAccrued", {"order_id": nasty, "affiliate_id": "ada", "steps": [step]}))
    states.append(("BreakOpened", {"break_id": nasty, "detail": f"x{nasty}\x00\\", "affiliate_id": "ada"}))
    assert world.database.owner_url
    with psycopg.connect(world.database.owner_url) as conn:
        row = conn.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'book_events_by_affiliate'").fetchone()
        assert row is not None
        found = re.search(r"\(program_id, (.*), \"position\"\) WHERE (.*)$", row[0])
        assert found is not None
        query = f"SELECT {found[1]}, {found[2]} FROM (SELECT %s AS state, %s AS topic) e"
        for topic, state in states:
            if topic == "ConversionAttributed":  # lists everybody's touches; the query leaves it out by itself
                continue
            said = conn.execute(query.encode(), (msgspec.json.encode(state).decode(), topic)).fetchone()
            assert said is not None
            assert not said[1] or said[0] == (state.get("affiliate_id") or ""), topic


def test_commands_say_what_there_is(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay beyond the log's end is refused with its last position, one before its beginning says so; what is erased
    is not proposed once more; a witness that never cosigns has no "no"."""
    archive, file = tmp_path / "archive", tmp_path / "witnesses.toml"
    archive.mkdir()
    file.write_text(f'[archive]\ndirectory = "{archive}"\n')
    for name, value in {
        "DATABASE_URL": world.database.app_url, "LEDGER_MASTER_KEY": "6b" * 32, "LEDGER_HOME": str(tmp_path),
        "LEDGER_WITNESSES_FILE": str(file),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def verb(*args: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, [*args, "-p", "firm"])
        return result.exit_code, result.output

    last = max(log_of(world))
    for asked in (("--until", "99999999"), ("--until", "1", "--compare", "99999999")):
        code, said = verb("replay", *asked)
        assert (code, f"the log's last is {last:,}" in " ".join(said.split())) == (2, True), said
    assert "position 0, nothing was recorded by then\n" in verb("replay", "--until", "2020-01-01")[1]
    assert "from position 0 (nothing was recorded by then)" in verb("replay", "--until", "0", "--compare", "9")[1]
    proposing = ("erase", "propose", "traffic:2020-01", "--ground", "retention", "--by", "ana")
    assert "is proposed" in verb(*proposing)[1]
    assert verb("erase", "approve", "traffic:2020-01", "--by", "ben")[0] == 0
    assert verb(*proposing) == (0, "traffic:2020-01 is erased already; nothing changed\n")
    told = [publishing.Publication("books", "archive", 3, False, T0)]
    monkeypatch.setattr(publishing, "publications", lambda *_: told)
    headings, _, archive_line = verb("witnesses")[1].splitlines()
    assert headings.split()[-1] == "state"
    assert archive_line.split() == ["archive", "books", "3", "-", f"{T0:%Y-%m-%dT%H:%M:%SZ}", "up", "to", "date"]


def test_the_command_tells_a_timeline(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences with who and why, and the lines; the same entries as JSON; an unknown record is refused."""
    monkeypatch.setenv("DATABASE_URL", world.database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", "6b" * 32)
    monkeypatch.setenv("LEDGER_HOME", str(tmp_path))
    for kind, record_id, path in (
        ("affiliate", "ada", "/affiliates/ada/timeline"),
        ("conversion", "o1", "/conversions/o1/timeline"),
        ("payout", world.payout_id, f"/payouts/{world.payout_id}/timeline"),
    ):
        printed = CliRunner().invoke(cli, ["timeline", kind, record_id, "-p", "firm", "--json"])
        assert msgspec.json.decode(printed.output) == world.items("auditor", path), kind
        text = CliRunner().invoke(cli, ["timeline", kind, record_id, "-p", "firm"])
        assert text.exit_code == 0, text.output
        assert "PayoutSettled by ana" in text.output
        unknown = CliRunner().invoke(cli, ["timeline", kind, "nobody", "-p", "firm"])
        assert "does not exist" in str(unknown.exception)


def test_an_erasure_stands_on_the_affiliates_timeline(world: World) -> None:
    """Who asked for it and who did it; the affiliate sees that it was done. Kept for last: it cannot be undone."""
    subject = affiliate.key("bob")
    proposed = ErasureProposed(subject=subject, ground="request", proposed_by="ana")
    with world.firm.ledger.writing("firm") as (cur, id_):
        stream, next_one = stream_id(id_, erasure.key(subject)), log.last_position(cur, id_, "books") + 1
        for version, event in enumerate((proposed, SubjectErased(subject=subject, ground="request")), 1):
            topic, state = type(event).__name__, msgspec.json.encode(event).decode()
            cur.execute(
                "INSERT INTO book_events VALUES (%s, %s, %s, %s, %s, %s, 'ben', '', '', '', %s, %s)",
                (id_, next_one + version - 1, stream, version, topic, T0, state, bytes(32)),
            )
    staff = [one["topic"] for one in world.items("auditor", "/affiliates/bob/timeline")]
    own = world.items("bob", "/affiliates/bob/timeline")
    assert staff[-2:] == ["ErasureProposed", "SubjectErased"]
    assert own[-1]["topic"] == "SubjectErased"
    assert own[-1]["stream"] == erasure.key(subject)
    assert "ErasureProposed" not in [one["topic"] for one in own]
