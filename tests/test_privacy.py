"""What is personal is readable nowhere: no table, no dump, no log line, no export line; and it can be erased."""

from __future__ import annotations

import base64
import logging
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support import PROGRAM, T0, Clock, by, open_ledger, open_shop, program_id, read_log, refund, sale, trial

from ledger.application import CommissionLedger
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import PERSONAL_FIELDS, DecideAffiliate, EnrolAffiliate
from ledger.domain.click import PERSONAL_FIELDS as CLICK_FIELDS
from ledger.domain.click import RecordClick
from ledger.domain.errors import InvalidInput, Refusal
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.recording import RecordConversion
from ledger.domain.resolution import ResolveException
from ledger.store import log
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer
from ledger.store.vault import Secrets, Vault, erase_subject, traffic_subject

CANARY = "kanarienvogel"
IP = "203.0.113.77"


def canary(field: str) -> str:
    """A text for a personal field that is found again wherever it went; the accent is for the encodings."""
    return f"{CANARY} é {field}"


def tell(ledger: CommissionLedger, clock: Clock) -> None:
    """Say something personal in every field that there is."""
    open_shop(ledger, affiliates=("bob",))
    enrol = EnrolAffiliate(affiliate_id="ada", **{field: canary(field) for field in PERSONAL_FIELDS})
    ledger.execute(PROGRAM, enrol, by())
    for decision in ("approve", "suspend", "reinstate"):
        decided = DecideAffiliate(affiliate_id="ada", decision=decision, reason=canary(f"reason to {decision}"))
        ledger.execute(PROGRAM, decided, by())
    personal: dict[str, Any] = {field: canary(field) for field in CLICK_FIELDS}
    click = RecordClick(click_id="k1", affiliate_id="ada", offer_id="shoes", occurred_at=T0, ip=IP, **personal)
    ledger.record_clicks(PROGRAM, [click, *(msgspec.structs.replace(click, click_id=f"m{n}") for n in range(40))], by())
    for order_id, decisions in (("A", ("hold", "release", "approve")), ("B", ("hold", "reject"))):
        ledger.execute(PROGRAM, sale(order_id), by())
        for decision in decisions:
            reason = canary(f"reason to {decision} {order_id}")
            ledger.execute(PROGRAM, DecideConversion(order_id=order_id, decision=decision, reason=reason), by())
    ledger.execute(
        PROGRAM,
        ProposeAdjustment(
            adjustment_id="j1", affiliate_id="ada", kind="bonus", amount=500, reason=canary("reason of an adjustment")
        ),
        by(),
    )
    ledger.execute(PROGRAM, DecideAdjustment(adjustment_id="j1", approve=True), by("cyd"))
    ledger.execute(PROGRAM, refund("r1", "A", 5000), by())
    dismiss = ResolveException(exception_id="reversal:r1", action="dismiss", reason=canary("reason to dismiss"))
    ledger.execute(PROGRAM, dismiss, by())
    clock.advance(days=1)


class Told(NamedTuple):
    """A ledger that was told everything, and its database."""

    ledger: CommissionLedger
    database: Database


@pytest.fixture
def told(database: Database) -> Iterator[Told]:
    """A ledger that was told everything."""
    clock = Clock()
    with open_ledger(database, clock) as ledger:
        tell(ledger, clock)
        yield Told(ledger, database)


def disguises(text: str) -> list[bytes]:
    """The ways in which a text could lie about unencrypted: as it is, escaped, in hexadecimal, in base64."""
    raw = text.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[4 if n else 0 : -4] for n in range(3)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), *shifted]


def assert_not_in(found: bytes) -> None:
    """No canary and no address, in any disguise."""
    for secret in (CANARY, IP):
        for disguise in disguises(secret):
            assert disguise not in found, disguise


def superuser_url(server: EmbeddedServer, database: Database) -> str:
    return server.url(str(conninfo_to_dict(database.app_url)["dbname"]), "postgres")


def everything(server: EmbeddedServer, database: Database) -> bytes:
    """Every column of every table of the database as text."""
    found = []
    with psycopg.connect(superuser_url(server, database)) as conn:
        tables = conn.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for table in tables:
            rows = conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(*table))).fetchall()
            found += [row[0].encode() for row in rows]
    assert len(found) > 50
    return b"\n".join(found)


def test_a_disguise_is_recognised() -> None:
    """The search of these tests finds what it looks for."""
    for hidden in (
        f"a {CANARY} b".encode(),
        CANARY.encode().hex().encode(),
        base64.b64encode(f"xy{CANARY}zz".encode()),
    ):
        with pytest.raises(AssertionError):
            assert_not_in(hidden)


def test_no_table_and_no_dump_holds_anything_personal(server: EmbeddedServer, told: Told) -> None:
    """Every row of every table, and what pg_dump would carry away."""
    assert_not_in(everything(server, told.database))
    url = superuser_url(server, told.database)
    dump = subprocess.run([server.program("pg_dump"), url], capture_output=True, check=True).stdout
    assert b"COPY public.book_events" in dump
    assert_not_in(dump)


def test_no_log_line_holds_anything_personal(
    server: EmbeddedServer, database: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither ours at its most talkative, nor PostgreSQL's own, nor what was printed; also when a statement fails."""
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    with open_ledger(database, clock) as ledger:
        tell(ledger, clock)
        with ledger.reading(PROGRAM) as (cur, _), pytest.raises(psycopg.Error):
            cur.execute("SELECT 1 / (length(%s) - length(%s))", (canary("x"), canary("x")))
    printed = capfd.readouterr()
    assert_not_in(caplog.text.encode() + printed.out.encode() + printed.err.encode())
    assert_not_in((server.home / "postgres.log").read_bytes())


def test_no_export_line_and_no_refusal_holds_anything_personal(told: Told) -> None:
    """The log as an auditor gets it; and a refusal names the field that differs, not what it holds."""
    with told.ledger.reading(PROGRAM) as (cur, id_):
        for name in log.TABLES:
            rows = log.select_rows(cur, id_, name, 0, 10**6)
            assert_not_in(b"\n".join(log.stored_line(id_, name, row) for row in rows))
    again: list[Any] = [
        EnrolAffiliate(affiliate_id="ada", email=canary("other")),
        ProposeAdjustment(adjustment_id="j1", affiliate_id="ada", kind="bonus", amount=1, reason=canary("other")),
        DecideConversion(order_id="B", decision="hold", reason=canary("other")),
    ]
    for command in again:
        with pytest.raises(Refusal) as caught:
            told.ledger.execute(PROGRAM, command, by())
        assert_not_in(f"{caught.value} {caught.value.details}".encode())
    with pytest.raises(InvalidInput) as wrong:
        RecordConversion(order_id="X", offer_id="s", amount=1, occurred_at=T0, customer_id=f"{CANARY}@example.com")
    assert_not_in(str(wrong.value).encode())


# --- reading it, erasing it, moving it ------------------------------------------------------------------

MONTH = traffic_subject(T0)


def unsealed(told: Told) -> dict[tuple[str, str], str | None]:
    """Every sealed text of the program, unsealed by who may: (stream, field) to text, None where it is gone."""
    found: dict[tuple[str, str], str | None] = {}
    decisions: dict[str, int] = {}
    with told.ledger.reading(PROGRAM) as (cur, id_):
        vault = Vault(cur, told.ledger.secrets, id_, T0)
        for row in read_log(told.ledger):
            e = row.state
            if row.topic == "AffiliateEnrolled":
                for field in PERSONAL_FIELDS:
                    stream = f"affiliate:{e['affiliate_id']}"
                    found[stream, field] = vault.unseal(stream, stream, field, e.get(field, ""))
                continue
            if row.topic == "AdjustmentProposed":
                stream, field = f"adjustment:{e['adjustment_id']}", "reason"
            elif row.topic.startswith("Conversion") and "effective_at" in e and row.topic != "ConversionReversed":
                stream = f"conversion:{e['order_id']}"
                decisions[stream] = decisions.get(stream, 0) + 1
                field = f"reason.{decisions[stream]}"
            elif row.topic == "ExceptionResolved":
                stream, field = e["exception_id"], "reason.reversal_above_rest"
            elif row.topic.startswith("Affiliate"):
                stream = f"affiliate:{e['affiliate_id']}"
                decisions[stream] = decisions.get(stream, 0) + 1
                field = f"reason.{decisions[stream]}"
            else:
                continue
            found[stream, field] = vault.unseal("affiliate:ada", stream, field, e.get("reason", ""))
        for row in read_log(told.ledger, name="traffic"):
            stream = f"click:{row.state['click_id']}"
            found[stream, "personal"] = vault.unseal(MONTH, stream, "personal", row.state["personal"])
    return {key: text for key, text in found.items() if text != ""}


def hashes(told: Told) -> list[bytes]:
    with told.ledger.reading(PROGRAM) as (cur, id_):
        cur.execute("SELECT leaf_hash FROM book_events WHERE program_id = %s ORDER BY position", (id_,))
        books = [bytes(leaf) for (leaf,) in cur]
        cur.execute("SELECT leaf_hash FROM traffic_events WHERE program_id = %s ORDER BY position", (id_,))
        return books + [bytes(leaf) for (leaf,) in cur]


def test_what_was_told_can_be_read_by_who_may(told: Told) -> None:
    """Every personal text comes back whole from its ciphertext."""
    texts = unsealed(told)
    assert len(texts) == 3 + 2 + 5 + 1 + 1 + 41
    assert texts["affiliate:ada", "email"] == canary("email")
    assert texts["adjustment:j1", "reason"] == canary("reason of an adjustment")
    assert texts["conversion:B", "reason.2"] == canary("reason to reject B")
    assert msgspec.json.decode(texts["click:k1", "personal"] or "") == {field: canary(field) for field in CLICK_FIELDS}
    assert all(CANARY in (text or "") for text in texts.values())


@pytest.mark.parametrize(("subject", "erased"), [("affiliate:ada", 12), (MONTH, 41)])
def test_erasing_a_subject_takes_its_texts_and_nothing_else(told: Told, subject: str, erased: int) -> None:
    """The person or the month is gone; every hash and every balance is as it was; the others are still there."""
    ledger = told.ledger
    before, books, leaves = unsealed(told), trial(ledger), hashes(told)
    with ledger.pool.connection() as conn, conn.cursor() as cur:
        assert erase_subject(cur, program_id(PROGRAM), subject)
        assert not erase_subject(cur, program_id(PROGRAM), subject), "there is nothing left to erase"
    after = unsealed(told)
    assert sum(text is None for text in after.values()) == erased
    assert {key: text for key, text in after.items() if text is not None}.items() <= before.items()
    assert (trial(ledger), hashes(told)) == (books, leaves)


def test_an_erased_person_stays_erased_and_the_ledger_goes_on(told: Told) -> None:
    """Commands on the person's records still work; no key is made for it again, and new text is not kept."""
    ledger = told.ledger
    with ledger.pool.connection() as conn, conn.cursor() as cur:
        erase_subject(cur, program_id(PROGRAM), "affiliate:ada")
    ledger.execute(
        PROGRAM, DecideAffiliate(affiliate_id="ada", decision="close", reason=canary("reason to close")), by()
    )
    texts = unsealed(told)
    assert texts["affiliate:ada", "email"] is None
    assert texts["affiliate:ada", "reason.4"] is None
    assert read_log(ledger)[-1].state["reason"] == "erased"
    assert ledger.execute(PROGRAM, EnrolAffiliate(affiliate_id="ada"), by()).outcome == "unchanged"


def test_ciphertext_that_was_moved_does_not_decrypt(told: Told) -> None:
    """To another row, another field, another subject or another program: it is bound to where it was."""
    enrolled = next(
        row.state for row in read_log(told.ledger) if row.topic == "AffiliateEnrolled" and "email" in row.state
    )
    email, own = enrolled["email"], "affiliate:ada"
    with told.ledger.reading(PROGRAM) as (cur, id_):
        vault = Vault(cur, told.ledger.secrets, id_, T0)
        assert vault.unseal(own, own, "email", email) == canary("email")
        assert vault.unseal(own, own, "note", email) is None
        assert vault.unseal(own, "conversion:A", "email", email) is None
        assert vault.unseal(MONTH, own, "email", email) is None
        assert vault.unseal("affiliate:nobody", own, "email", email) is None
        assert Vault(cur, told.ledger.secrets, program_id("other"), T0).unseal(own, own, "email", email) is None
        cur.execute(
            "SELECT wrapped_key FROM vault.subject_keys WHERE program_id = %s AND subject = %s ORDER BY 1", (id_, own)
        )
        ((wrapped,),) = cur.fetchall()
        for moved in ((program_id("other"), own), (id_, "affiliate:bob")):
            with pytest.raises(InvalidTag):
                told.ledger.secrets.unwrap(*moved, wrapped)
        tampered = bytearray(base64.b64decode(email))
        tampered[-1] ^= 1
        assert vault.unseal(own, own, "email", base64.b64encode(tampered).decode()) is None


def test_the_same_text_twice_looks_different_each_time(told: Told) -> None:
    """Forty clicks said the same: no two ciphertexts are equal, so nobody can count or compare."""
    sealed = [row.state["personal"] for row in read_log(told.ledger, name="traffic")]
    assert len(set(sealed)) == 41


def test_an_address_is_kept_as_a_hash_that_rotates() -> None:
    """Equal within a day and a program, so that duplicates can be seen; unequal beyond; unequal under another key."""
    secrets, id_ = Secrets(b"k" * 32), program_id(PROGRAM)
    same = secrets.ip_hash(id_, IP, T0)
    assert secrets.ip_hash(id_, IP, T0 + timedelta(hours=23)) == same
    assert secrets.ip_hash(id_, IP, T0 + timedelta(days=1)) != same
    assert secrets.ip_hash(program_id("other"), IP, T0) != same
    assert Secrets(b"x" * 32).ip_hash(id_, IP, T0) != same


@pytest.mark.parametrize("at", [T0, T0.replace(year=1), T0.replace(year=1960), T0.replace(year=9999)])
def test_a_click_id_of_ours_says_where_it_came_from_and_cannot_be_forged(at: datetime) -> None:
    """Affiliate, offer and instant of any year come back; another program, another key or a changed letter: nothing."""
    secrets, id_ = Secrets(b"k" * 32), program_id(PROGRAM)
    click_id = secrets.sign_click(id_, "ada", "shoes", at)
    said = secrets.read_click(id_, click_id)
    assert said is not None
    assert (said.affiliate_id, said.offer_id, said.occurred_at) == ("ada", "shoes", at)
    assert secrets.read_click(program_id("other"), click_id) is None
    assert Secrets(b"x" * 32).read_click(id_, click_id) is None
    for place in range(len(click_id)):
        changed = click_id[:place] + ("A" if click_id[place] != "A" else "B") + click_id[place + 1 :]
        assert secrets.read_click(id_, changed) is None
    assert secrets.read_click(id_, click_id + "=") is None
    assert secrets.sign_click(id_, "ada", "shoes", at) != click_id, "each click has an id of its own"
