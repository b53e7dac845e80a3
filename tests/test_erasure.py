"""Erasing a person: its key is destroyed, everything else stays as it was, and no backup brings it back."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from backup_world import bring_back, env_of
from conftest import fresh_database
from erasure_world import CANARY, IBAN, MONTH, WHO, World, canary, leaves, make_world
from memory_view import MemoryView, shop
from naive_books import check_books
from psycopg import sql
from support import (
    MASTER_KEY,
    PROGRAM,
    T0,
    Clock,
    by,
    open_ledger,
    open_shop,
    owner,
    program_id,
    read_log,
    scalar,
    trial,
)

from ledger import erasing
from ledger.backup.restoring import Choice
from ledger.cli import main
from ledger.domain.access import IssueKey
from ledger.domain.adjustment import AdjustmentProposed, DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import AffiliateClosed, EnrolAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.dispute import OpenDispute
from ledger.domain.erasure import DecideErasure, ErasureRejected, ProposeErasure, ReapplyErasure, SubjectErased
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, SamePerson, Unavailable, WrongState
from ledger.domain.payout_method import ProposePayoutMethod
from ledger.domain.reversal import RecordReversal
from ledger.domain.tax import RecordTaxProfile
from ledger.finance_jobs import record_known_positions
from ledger.service import open_service
from ledger.store import erased, log
from ledger.store.database import Database, StartupRefused, urls
from ledger.store.embedded import EmbeddedServer
from ledger.store.vault import Secrets, Vault, alive_keys, erase_subject

EVE, ADA = f"affiliate:{WHO}", "affiliate:ada"
JANUARY = f"traffic:{MONTH}"
PROPOSE = ProposeErasure(subject=ADA, ground="request")
APPROVE = DecideErasure(subject=ADA, approve=True)


# --- the decision --------------------------------------------------------------------------------------------


@pytest.fixture
def view() -> MemoryView:
    """A shop whose affiliate ada is closed."""
    found = shop()
    found.given(ADA, AffiliateClosed(affiliate_id="ada"))
    return found


def test_two_people_erase_and_each_step_may_be_sent_again(view: MemoryView) -> None:
    """Whoever proposed it cannot decide it, under whichever spelling of the name; a retry changes nothing."""
    assert view.again(PROPOSE, "ana").body == {"subject": ADA, "ground": "request", "status": "proposed"}
    view.refused(SamePerson, APPROVE, "a.Na")
    view.refused(SamePerson, DecideErasure(subject=ADA, approve=False), "ana")
    assert view.again(APPROVE, "ben").body["status"] == "erased"
    assert view.when(PROPOSE, "ana")[0].outcome == "unchanged"
    view.refused(WrongState, DecideErasure(subject=ADA, approve=False), "ben")


def test_what_was_not_asked_for_or_is_worded_otherwise_is_refused(view: MemoryView) -> None:
    """No proposal, another ground, no such affiliate, no such subject: each is told so."""
    view.refused(NotFound, APPROVE, "ben")
    view.when(PROPOSE)
    assert view.refused(DiffersFromOriginal, ProposeErasure(subject=ADA, ground="mistake")).fields == ["ground"]
    view.when(APPROVE, "ben")
    view.refused(WrongState, ProposeErasure(subject=ADA, ground="mistake"))
    view.refused(NotFound, ProposeErasure(subject="affiliate:nobody", ground="request"))
    for subject in (
        "program",
        "affiliate:",
        "affiliate:a b",
        "traffic:2026-13",
        "traffic:2026-1",
        f"x{ADA}",
        f"{ADA}\n",
    ):
        with pytest.raises(InvalidInput, match=r"subject: must be affiliate:ID, or traffic:YYYY-MM"):
            ProposeErasure(subject=subject, ground="request")
    with pytest.raises(InvalidInput, match="ground: must be one of request, retention, mistake"):
        ProposeErasure(subject=ADA, ground="Ada asked us by phone")


def test_a_rejected_erasure_may_be_proposed_again(view: MemoryView) -> None:
    """On another ground, too; and the one who rejected it may propose it."""
    view.when(PROPOSE, "ana")
    view.one(ErasureRejected, DecideErasure(subject=ADA, approve=False), "ben")
    view.refused(WrongState, APPROVE, "cyd")
    view.when(ProposeErasure(subject=ADA, ground="retention"), "ben")
    view.refused(SamePerson, APPROVE, "ben")
    assert view.one(SubjectErased, APPROVE, "ana").ground == "retention"


def test_an_affiliate_must_be_closed_and_settled_when_it_is_proposed_and_when_it_is_approved(view: MemoryView) -> None:
    """What came up between the two is seen, and named."""
    said = view.refused(WrongState, ProposeErasure(subject="affiliate:bob", ground="request"))
    assert said.message == "affiliate bob is approved: close it first"
    view.when(PROPOSE)
    view.open = [("payable", "-5.00 GBP"), ("dispute", "2026-01/ada/7.1 (open)")]
    said = view.refused(WrongState, APPROVE, "ben")
    assert "while something is open: payable -5.00 GBP; dispute 2026-01/ada/7.1 (open). Settle it" in said.message
    view.open = []
    view.one(SubjectErased, APPROVE, "ben")


def test_a_month_of_clicks_can_be_erased_once_it_is_over(view: MemoryView) -> None:
    """In UTC, to the instant; nothing else is asked."""
    command = ProposeErasure(subject="traffic:2026-03", ground="retention")
    view.now = datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert "2026-03 is not over" in view.refused(WrongState, command).message
    view.now = datetime(2026, 4, 1, tzinfo=UTC)
    view.when(command)
    view.one(SubjectErased, DecideErasure(subject="traffic:2026-03", approve=True), "ben")
    view.refused(WrongState, ProposeErasure(subject="traffic:9999-12", ground="retention"))


ANEW: list[Any] = [
    EnrolAffiliate(affiliate_id="ada", display_name="Ada"),
    RecordTaxProfile(affiliate_id="ada", country="GB", tax_status="person", tax_number="1"),
    ProposePayoutMethod(
        affiliate_id="ada", currency="GBP", method="paypal", minimum_amount=0, details={"email": "a@b.c"},
        fingerprint="ab" * 16,
    ),
    OpenDispute(affiliate_id="ada", period="2026-01", position=1, line_no=1, text="Ada says"),
    IssueKey(
        access_key_id="k", role="affiliate", holder="ada.l", holder_kind="person", affiliate_id="ada",
        expires_at=datetime(2026, 6, 1, tzinfo=UTC),
    ),
]  # fmt: skip


@pytest.mark.parametrize("command", ANEW, ids=lambda one: one.name)
def test_nothing_personal_is_taken_of_an_erased_affiliate(view: MemoryView, command: Any) -> None:
    """A name, a tax number, bank details, words of its own, a key: refused, and told why."""
    view.when(PROPOSE)
    view.when(APPROVE, "ben")
    said = view.refused(WrongState, command)
    assert "affiliate ada was erased: nothing personal is kept of it any more" in said.message


def test_what_finance_does_about_an_erased_affiliate_goes_on_without_its_words(view: MemoryView) -> None:
    """An adjustment is proposed and posted; of its reason only stands that it is erased; a retry is one."""
    view.when(PROPOSE)
    view.when(APPROVE, "ben")
    command = ProposeAdjustment(adjustment_id="w", affiliate_id="ada", kind="correction", amount=-5, reason="Ada owes")
    view.again(command)
    assert view.adjustment("w").proposed.reason == "erased"
    view.when(DecideAdjustment(adjustment_id="w", approve=True), "ben")


def test_a_restore_says_again_what_the_backup_did_not_know(view: MemoryView) -> None:
    """Without asking anybody, whatever state the books put the affiliate back into; once."""
    assert view.again(ReapplyErasure(subject="affiliate:bob", ground="request")).body["status"] == "erased"
    assert view.when(ReapplyErasure(subject="affiliate:bob", ground="request"))[1] == []
    view.refused(WrongState, ProposeErasure(subject="affiliate:bob", ground="request"))


# --- a person who said something everywhere, and was erased ------------------------------------------------


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("erasure")
    with fresh_database(server, template) as name, make_world(urls(server, name), folder) as made:
        yield made


def ciphertexts(database: Database) -> list[tuple[str, str]]:
    """(topic, text) of every text in the logs that is long enough for ciphertext."""
    with owner(database) as conn:
        rows = conn.execute(
            "SELECT topic, state FROM book_events UNION ALL SELECT topic, state FROM traffic_events"
        ).fetchall()
    return [(topic, text) for topic, state in rows for text in texts_in(json.loads(state)) if len(text) > 27]


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_in(one)


def everything(database: Database) -> bytes:
    """Every row of every table as text."""
    found = []
    with owner(database) as conn:
        tables = conn.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname IN ('public', 'vault')"
        ).fetchall()
        for table in tables:
            rows = conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*table))).fetchall()
            found += [row[0].encode() for row in rows]
    assert len(found) > 100
    return b"\n".join(found)


def assert_not_in(found: bytes) -> None:
    """No trace: as it is, in hexadecimal, in base64."""
    for secret in (CANARY.encode(), IBAN.encode()):
        shifted = [base64.b64encode(b"x" * n + secret)[4 if n else 0 : -4] for n in range(3)]
        for disguise in (secret, secret.hex().encode(), *shifted):
            assert disguise not in found, disguise


def readable(database: Database, subjects: tuple[str, ...]) -> int:
    """How many texts of the logs the keys of some subjects open: everything sealed, whichever field it stands in, by
    somebody who has the master key and tries every key and every place."""
    with open_ledger(database) as ledger, ledger.reading(PROGRAM) as (cur, id_):
        vault = Vault(cur, ledger.secrets, id_, T0)
        found = 0
        for stream, field, sealed in places(ledger):
            found += any(vault.unseal(subject, stream, field, sealed) is not None for subject in subjects)
        return found


def places(ledger: Any) -> Iterator[tuple[str, str, str]]:
    """(stream key, field, ciphertext) of the sealed texts whose place is plain to see."""
    for row in read_log(ledger):
        e = row.state
        if row.topic == "AffiliateEnrolled":
            stream = f"affiliate:{e['affiliate_id']}"
            yield from ((stream, f, e[f]) for f in ("display_name", "email", "note") if f in e)
        elif row.topic == "PayoutMethodProposed":
            stream = f"payout_method:{e['affiliate_id']}/{e['currency']}"
            yield stream, f"details.{e['method_version']}", e["details"]
        elif row.topic == "AdjustmentProposed":
            yield f"adjustment:{e['adjustment_id']}", "reason", e["reason"]
        elif row.topic == "DisputeOpened":
            yield f"dispute:{e['dispute_id']}", "text", e["text"]
    for row in read_log(ledger, name="traffic"):
        yield f"click:{row.state['click_id']}", "personal", row.state["personal"]


def test_before_the_erasure_everybody_who_may_read_it_did(world: World) -> None:
    """The search of these tests finds what it looks for: each kind of text was shown to somebody."""
    shown = b"\n".join(body for _, body in world.before.views.values()).decode(errors="replace")
    for what in ("name", "note", "bonus", "dismiss", "dispute", "answer", "decision", "unknown", "settled"):
        assert canary(what) in shown, what
    assert [status for status, _ in world.before.views.values() if status >= 500] == []
    assert sum(status == 200 for status, _ in world.before.views.values()) > 60


def test_something_open_is_named_to_whoever_proposes(world: World) -> None:
    """Not closed; then the money on its way, the sale that came too late, the key in force."""
    assert world.refused[0] == f"affiliate {WHO} is approved: close it first"
    assert f"in_transit 105.00 GBP; payout {world.payout_id} (unknown); exception" in world.refused[1]
    assert "exception conversion:late (open); key " in world.refused[1]
    assert world.refused[1].endswith("(in force). Settle it, or write it off, first")


def test_no_table_and_no_export_line_holds_anything_of_the_person(world: World) -> None:
    """Neither in plain text, nor under any key that is left."""
    assert_not_in(everything(world.database))
    with world.firm.ledger.reading(PROGRAM) as (cur, id_):
        for name in log.TABLES:
            rows = log.select_rows(cur, id_, name, 0, 10**6)
            assert_not_in(b"\n".join(log.stored_line(id_, name, row) for row in rows))
        assert alive_keys(cur, id_, [EVE, JANUARY, "affiliate:bob", "traffic:2026-02"]) == [
            "affiliate:bob", "traffic:2026-02",
        ]  # fmt: skip
    assert len(ciphertexts(world.database)) > 20, "the ciphertexts are where they were"
    assert readable(world.database, (EVE, JANUARY)) == 0
    assert readable(world.database, ("affiliate:bob", "traffic:2026-02")) == 3  # name, payout method, a click


def test_no_page_of_the_api_shows_anything_of_the_person(world: World) -> None:
    """Each address answers as it did, to each role; what was personal is null, and the others' names are there."""
    after = world.views()
    for place, (status, body) in world.before.views.items():
        assert after[place][0] == (200 if "/erasures/" in place and status == 404 else status), place
        assert_not_in(after[place][1])
        assert b"%PDF" in body[:5] if "pdf" in place and status == 200 else True
    found = json.loads(after[f"admin /affiliates/{WHO}"][1])
    assert (found["display_name"], found["email"], found["note"]) == (None, None, None)
    bob = world.call("admin", "GET", "/affiliates/bob")
    assert bob.json
    assert bob.json["display_name"] == "Bob & Co <b>"


def test_every_hash_total_and_statement_is_as_it_was(world: World) -> None:
    """The events that were there have their hashes, the trial balance is equal, an independent reading of the log
    agrees with the books, and the statement leads to the hash that was issued."""
    now = leaves(world.firm.ledger)
    books = len(read_log(world.firm.ledger)) - 4  # two proposals and two erasures came
    before = world.before.leaves
    assert now[:books] == before[:books]
    assert now[books + 4 :] == before[books:]
    held = trial(world.firm.ledger)
    assert held == world.before.trial
    assert not any(amount for (account, _), amount in held.items() if f"liability:{WHO}" in account)
    check_books(world.firm.ledger)
    shown = json.loads(world.before.views[f"admin /affiliates/{WHO}/statements/{MONTH}"][1])
    assert world.firm.statement(WHO, MONTH).hash == shown["hash"]


def test_the_erasure_is_an_event_and_a_decision_of_two_people(world: World) -> None:
    """Its two steps stand in the log without a personal word, and in the lists for auditors."""
    steps = [row for row in read_log(world.firm.ledger) if "Eras" in row.topic]
    assert [(row.topic, row.state) for row in steps] == [
        ("ErasureProposed", {"subject": EVE, "ground": "request", "proposed_by": "finance_maker-person"}),
        ("SubjectErased", {"subject": EVE, "ground": "request"}),
        ("ErasureProposed", {"subject": JANUARY, "ground": "retention", "proposed_by": "finance_maker-person"}),
        ("SubjectErased", {"subject": JANUARY, "ground": "retention"}),
    ]
    listed: Any = world.call("auditor", "GET", "/erasures?status=erased").json
    assert [(one["subject"], one["status"], one["proposed_by"], one["decided_by"]) for one in listed["items"]] == [
        (subject, "erased", "finance_maker-person", "finance_checker-person") for subject in (EVE, JANUARY)
    ]
    one: Any = world.call("admin", "GET", f"/erasures/{EVE}").json
    assert one == listed["items"][0]
    assert world.call("admin", "GET", "/erasures/affiliate:bob").status_code == 404
    decided: Any = world.call("auditor", "GET", "/decisions").json
    kinds = [(one["record_id"], one["decision"], one["same_person"]) for one in decided["items"]
             if one["kind"] == "erasure"]  # fmt: skip
    assert kinds == [(EVE, "approved", False), (JANUARY, "approved", False)]
    again = world.call("finance_checker", "POST", f"/erasures/{EVE}/approve")
    assert (again.status_code, again.json) == (200, {"subject": EVE, "ground": "request", "status": "erased",
                                                     "position": one["position"]})  # fmt: skip
    own = world.call("admin", "POST", "/erasures", json={"subject": "affiliate:bob", "ground": "request"})
    assert (own.status_code, (own.json or {})["code"]) == (409, "wrong_state")
    wrong = world.call("admin", "POST", "/erasures", json={"subject": "bob", "ground": "whim"})
    assert [one["pointer"] for one in (wrong.json or {})["errors"]] == ["/subject", "/ground"]


def test_life_goes_on_with_an_erased_affiliate(world: World) -> None:
    """A late refund is booked, the debt is written off by two people, the reason reads as erased, and what cannot be
    done any more is refused: never an error of ours."""
    firm, maker = world.firm, "finance_maker"
    late = {"reversal_id": "r2", "amount": 10_000, "occurred_at": "2026-02-11T00:00:00Z"}
    firm.do(RecordReversal(reversal_id="r2", order_id="A", sale_amount=late["amount"], occurred_at=firm.clock.now))
    owed: Any = world.call("auditor", "GET", f"/affiliates/{WHO}/balance").json
    assert owed["balances"][0]["payable"] == -1000
    body = {"affiliate_id": WHO, "kind": "bonus", "amount": 1000, "reason": canary("written off")}
    made = world.call(maker, "POST", "/adjustments", json=body, headers={"Idempotency-Key": "w1"})
    assert made.status_code == 201, made.text
    assert world.call("finance_checker", "POST", "/adjustments/w1/approve").status_code == 200
    found: Any = world.call("auditor", "GET", "/adjustments/w1").json
    assert (found["status"], found["reason"]) == ("posted", None)
    assert firm.ledger.execute(PROGRAM, ProposeAdjustment(adjustment_id="w1", **body), by()).outcome == "unchanged"
    names = {"affiliate_id": WHO, "display_name": canary("again")}
    for role, method, path, sent in (
        ("admin", "POST", "/affiliates", names),
        (maker, "PUT", f"/affiliates/{WHO}/payout-methods/GBP",
         {"method": "paypal", "minimum_amount": 1, "details": {"email": "a@example.com"}}),
        (maker, "PUT", f"/affiliates/{WHO}/tax-profile", {"country": "GB", "tax_status": "person"}),
    ):  # fmt: skip
        refused: Any = world.call(role, method, path, json=sent)
        assert (refused.status_code, refused.json["code"]) == (409, "wrong_state"), path
        assert "was erased" in refused.json["detail"]
    assert_not_in(everything(world.database))
    payout: Any = world.call("auditor", "GET", f"/payouts/{world.payout_id}").json
    run: Any = world.call("auditor", "GET", f"/payout-runs/{payout['run_id']}").json
    name = run["files"][0]["name"]
    file: Any = world.call("finance_checker", "GET", f"/payout-runs/{run['run_id']}/files/{name}")
    assert (file.status_code, file.json["detail"]) == (409, f"the bank details of affiliate {WHO} were erased")


def test_a_late_click_of_an_erased_month_is_kept_without_what_is_personal(world: World) -> None:
    """It still credits its affiliate; a retry is one; no key is made for the month again."""
    click = RecordClick(click_id="late", affiliate_id="bob", offer_id="shoes", occurred_at=T0, sub1=canary("sub1"))
    first, second = (world.firm.ledger.record_clicks(PROGRAM, [click], by())[0] for _ in range(2))
    assert (first.outcome, second.outcome) == ("recorded", "unchanged")  # type: ignore[union-attr]
    state = read_log(world.firm.ledger, name="traffic")[-1].state
    assert (state["personal"], state["personal_key"]) == ("erased", JANUARY)
    other = msgspec.structs.replace(click, click_id="k0", sub1="x")
    (outcome,) = world.firm.ledger.record_clicks(PROGRAM, [other], by())
    assert isinstance(outcome, DiffersFromOriginal)  # bob is not eve; nobody can compare what is personal
    assert outcome.fields == ["affiliate_id"]
    with world.firm.ledger.reading(PROGRAM) as (cur, id_):
        assert alive_keys(cur, id_, [JANUARY]) == []


# --- backups -------------------------------------------------------------------------------------------------


def test_an_older_backup_does_not_bring_the_person_back(world: World, tmp_path: Path, empty_database: Database) -> None:
    """Restored with the list that lies beside the known positions, its keys are destroyed before anybody can ask, the
    books say so again, and the list names the new place; everybody else can be read."""
    env = {"LEDGER_KNOWN_POSITIONS_FILE": str(tmp_path / "known.json")}
    (tmp_path / "known.json").write_bytes(world.known.read_bytes())
    list_ = tmp_path / world.list_.name
    list_.write_bytes(world.list_.read_bytes())
    (restored,) = bring_back(empty_database, world.early, Choice(accept_loss=True), **env)
    assert restored.erased == [EVE, JANUARY]
    assert_not_in(everything(empty_database))
    assert readable(empty_database, (EVE, JANUARY)) == 0
    assert readable(empty_database, ("affiliate:bob", "traffic:2026-02")) == 3
    with open_ledger(empty_database) as ledger:
        rows = read_log(ledger)
        assert [(row.topic, row.state.get("reapplied")) for row in rows[-3:]] == [
            ("BooksRestored", None), ("SubjectErased", True), ("SubjectErased", True),
        ]  # fmt: skip
        check_books(ledger)
    noted = erased.read(list_).programs[PROGRAM]
    assert {subject: one.position for subject, one in noted.items()} == {
        EVE: rows[-2].position, JANUARY: rows[-1].position,
    }  # fmt: skip
    with open_service(env_of(empty_database, **env)) as service:  # it serves
        assert service.ledger.execute(PROGRAM, ReapplyErasure(subject=EVE, ground="request"), by()).outcome


def test_old_keys_beside_newer_books_are_destroyed_by_what_the_books_say(
    world: World, empty_database: Database
) -> None:
    """Without any list: the log that is restored has the erasures."""
    (restored,) = bring_back(empty_database, world.late, Choice(vault=world.early))
    assert restored.erased == [EVE, JANUARY]
    assert readable(empty_database, (EVE, JANUARY)) == 0
    assert readable(empty_database, ("affiliate:bob", "traffic:2026-02")) == 3
    with open_ledger(empty_database) as ledger:
        assert read_log(ledger)[-1].topic == "BooksRestored"


def test_a_key_that_somebody_put_back_does_not_survive_the_next_start(database: Database, tmp_path: Path) -> None:
    """A wrapped key kept from before, written into the vault by hand, is destroyed when the service opens."""
    env = env_of(database, LEDGER_KNOWN_POSITIONS_FILE=str(tmp_path / "known.json"))
    with open_ledger(database, Clock(T0.replace(month=3))) as ledger:
        open_shop(ledger)
        ledger.record_clicks(
            PROGRAM, [RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0, sub1="x")], by()
        )
        key = kept(database)
        list_ = erased.file_beside(tmp_path / "known.json")
        erasing.propose(ledger, PROGRAM, ProposeErasure(subject=JANUARY, ground="retention"), by())
        decide = DecideErasure(subject=JANUARY, approve=True)
        (tmp_path / "known.erased.json").mkdir()  # a place that cannot be written
        with pytest.raises(Unavailable, match=f"{JANUARY} is erased, but the list"):
            erasing.decide(ledger, PROGRAM, decide, by("ben"), list_)
        (tmp_path / "known.erased.json").rmdir()
        assert erasing.decide(ledger, PROGRAM, decide, by("ben"), list_).outcome == "unchanged"
        put_back(database, key)
    with open_service(env) as service, service.ledger.reading(PROGRAM) as (cur, id_):
        assert alive_keys(cur, id_, [JANUARY]) == []
    list_.rename(tmp_path / "lost")
    put_back(database, key)
    with open_service(env) as service, service.ledger.reading(PROGRAM) as (cur, id_):
        assert alive_keys(cur, id_, [JANUARY]) == [], "the books know of it without the list"
    (tmp_path / "lost").rename(list_)
    noted = erased.read(list_)
    noted.programs[PROGRAM][JANUARY] = msgspec.structs.replace(noted.programs[PROGRAM][JANUARY], leaf_hash="00" * 32)
    list_.write_bytes(msgspec.json.encode(noted))
    put_back(database, key)
    with pytest.raises(StartupRefused, match=f"the key of {JANUARY} of program shop is alive"), open_service(env):
        pass  # another database than the one in which it was erased: a person has to look
    list_.write_text("{")
    with pytest.raises(StartupRefused, match="cannot be read"), open_service(env):
        pass


def kept(database: Database) -> bytes:
    """January's wrapped key."""
    with owner(database) as conn:
        row = conn.execute("SELECT wrapped_key FROM vault.subject_keys WHERE subject = %s", (JANUARY,)).fetchone()
    assert row is not None
    return bytes(row[0])


def put_back(database: Database, key: bytes) -> None:
    with owner(database) as conn:
        conn.execute("UPDATE vault.subject_keys SET wrapped_key = %s WHERE subject = %s", (key, JANUARY))


def test_the_worker_completes_a_list_that_was_lost(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the log; and it forgets nobody whom the log does not know."""
    monkeypatch.setenv("LEDGER_KNOWN_POSITIONS_FILE", str(tmp_path / "known.json"))
    list_ = tmp_path / "known.erased.json"
    other = erased.Erased(9, "ab" * 32, T0, "request")
    erased.note(list_, PROGRAM, {"affiliate:old": other})
    record_known_positions(world.firm.ledger, PROGRAM, T0, by("job"))
    found = erased.read(list_).programs[PROGRAM]
    assert found == {**erased.read(world.list_).programs[PROGRAM], "affiliate:old": other}
    assert set(found) == {EVE, JANUARY, "affiliate:old"}


# --- two at once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["the click", "the erasure"])
def test_whoever_makes_a_key_while_it_is_erased_ends_without_one(database: Database, first: str) -> None:
    """A month's first click and the month's erasure at one moment: whichever comes first waits for the other, and no
    key is left."""
    secrets, id_ = Secrets(MASTER_KEY), program_id(PROGRAM)
    with psycopg.connect(database.app_url) as one, psycopg.connect(database.app_url) as two:
        click, erasure = (one, two) if first == "the click" else (two, one)

        def seal() -> None:
            Vault(click.cursor(), secrets, id_, T0).seal(JANUARY, "click:k", "personal", "x")

        def erase() -> None:
            with erasure.cursor() as cur:
                erase_subject(cur, id_, JANUARY, T0)

        begins, waits = (seal, erase) if first == "the click" else (erase, seal)
        begins()
        thread = threading.Thread(target=waits)
        thread.start()
        deadline = time.monotonic() + 60
        while not blocked(database):
            assert thread.is_alive()
            assert time.monotonic() < deadline
        one.commit()
        thread.join()
        two.commit()
        with one.cursor() as cur:
            assert alive_keys(cur, id_, [JANUARY]) == []
            cur.execute("SELECT count(*) FROM vault.subject_keys WHERE program_id = %s", (id_,))
            assert cur.fetchone() == (1,)


def blocked(database: Database) -> bool:
    """Whether a session waits for another."""
    with owner(database) as conn:
        return bool(scalar(conn, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


def test_an_erasure_is_decided_in_a_batch_of_its_own(database: Database) -> None:
    """Behind another command of the same batch it is refused: what that one opened is in no table yet."""
    with open_ledger(database, Clock(T0)) as ledger:
        open_shop(ledger)
        bonus = ProposeAdjustment(adjustment_id="j", affiliate_id="ada", kind="bonus", amount=5, reason="x")
        with ledger.pool.connection() as conn, conn.cursor() as cur:
            from ledger.desk import Desk, Memory

            desk = Desk(cur, PROGRAM, program_id(PROGRAM), ledger.secrets, Memory(), T0)
            desk.actor = "ana"
            assert desk.unsettled("ada") == []
            decision = bonus.decide(desk)
            assert isinstance(decision.drafts[0][1], AdjustmentProposed)
            desk.take(decision.drafts, by(), "propose_adjustment")
            assert desk.unsettled("ada") == [("command", "of the same moment: send this one again")]
            conn.rollback()


# --- the command line ----------------------------------------------------------------------------------------


def test_the_verbs_from_proposal_to_erasure(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Proposed by one, refused to the same one, approved by another; listed; and noted beside the known positions."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
    known = tmp_path / "known.json"
    for name, value in env_of(database, LEDGER_KNOWN_POSITIONS_FILE=str(known)).items():
        monkeypatch.setenv(name, value)

    def verb(*args: str, by: str = "ana") -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(("erase", *args, "-p", PROGRAM, *(("--by", by) if args[0] != "list" else ())))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    assert verb("propose", "traffic:2020-01", "--ground", "retention") == (
        0, "the erasure of traffic:2020-01 is proposed (retention); somebody else approves it\n",
    )  # fmt: skip
    code, said = verb("approve", "traffic:2020-01")
    assert (code, "Two people are needed" in said) == (1, True)
    assert verb("reject", "traffic:2020-01", by="ben") == (0, "the erasure of traffic:2020-01 is rejected\n")
    verb("propose", "traffic:2020-01", "--ground", "retention")
    code, said = verb("approve", "traffic:2020-01", by="ben")
    assert (code, f"noted in {tmp_path / 'known.erased.json'}" in said) == (0, True)
    assert set(erased.read(tmp_path / "known.erased.json").programs[PROGRAM]) == {"traffic:2020-01"}
    assert "it was so already" in verb("approve", "traffic:2020-01", by="ben")[1]
    code, said = verb("propose", "affiliate:ada", "--ground", "request")
    assert (code, said) == (1, "ledger: affiliate ada is approved: close it first\n")
    listed = verb("list")[1]
    assert "traffic:2020-01  retention  erased  ana          ben" in listed
    assert json.loads(verb("list", "--json")[1])[0]["decided_by"] == "ben"
