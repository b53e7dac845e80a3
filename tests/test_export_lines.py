"""The export line of every event is fixed byte for byte, and so is its leaf hash: a sealed log cannot be re-worded.

tests/vectors/export_lines.ndjson holds the lines literally, export_leaves.txt their leaf hashes, line by line. They
are written down, not generated: a line that no longer matches is a broken promise, not a vector to be renewed.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from eventsourcing.persistence import StoredEvent
from support import PROGRAM, Clock, by, open_ledger, open_shop, refund, sale

from ledger.domain.access import KeyIssued, KeyRevoked
from ledger.domain.adjustment import AdjustmentPosted, AdjustmentProposed, AdjustmentRejected
from ledger.domain.affiliate import (
    AffiliateApproved,
    AffiliateClosed,
    AffiliateEnrolled,
    AffiliateReinstated,
    AffiliateSuspended,
    DecideAffiliate,
)
from ledger.domain.click import ClickRecorded, RecordClick
from ledger.domain.conversion import (
    AttributionDeferred,
    CommissionAccrued,
    ConversionApproved,
    ConversionHeld,
    ConversionRecorded,
    ConversionRejected,
    ConversionReleased,
    ConversionReversed,
    ConversionUnattributed,
    Item,
    ReversalDeferred,
    Step,
)
from ledger.domain.coupon import CouponAssigned
from ledger.domain.event import BEGINNING, Event
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved
from ledger.domain.ids import program_id, stream_id
from ledger.domain.offer import OfferPublished, TermsProposed, TermsPublished, TermsRejected
from ledger.domain.program import ProgramOpened
from ledger.domain.reversal import ReversalRecorded
from ledger.domain.topics import EVENT_OF
from ledger.store import codec, log
from ledger.store.database import Database, make_pool
from ledger.store.recorders import LogRecorder, ProgramLog

VECTORS = Path(__file__).parent / "vectors"
PROGRAM_ID = UUID("c1c53faa-90d6-5ce2-8fa8-2da05ea2bb0d")
T0 = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 1, 31, 12, 30, 5, 60_700, tzinfo=UTC)
CIPHER = "AAECAwQFBgcICQoL3q2+7w=="


class Vector(NamedTuple):
    """An event and its place."""

    log: str
    key: str
    version: int
    event: Event
    recorded_at: datetime = AT
    actor: str = "ana"
    key_id: str = "0123456789abcdef"
    request_id: str = "req-1"
    cause: str = "a_command"


TERMS = TermsPublished(
    offer_id="shoes", terms_version=2, effective_from=T0, hold_days=30, window_days=14, amount=500, currency="GBP"
)
ROWS = [
    Vector("books", "program:shop", 1, ProgramOpened(program="shop", currency="GBP")),
    Vector("books", "program:oz", 1, ProgramOpened(program="oz", currency="AUD", zone="Australia/Sydney", click_wait_hours=1)),
    Vector("books", "affiliate:ada", 1, AffiliateEnrolled(affiliate_id="ada")),
    Vector("books", "affiliate:bob", 1, AffiliateEnrolled(affiliate_id="bob", display_name=CIPHER, email=CIPHER, note=CIPHER)),
    Vector("books", "affiliate:ada", 2, AffiliateApproved(affiliate_id="ada"), T0),
    Vector("books", "affiliate:ada", 3, AffiliateSuspended(affiliate_id="ada", reason=CIPHER)),
    Vector("books", "affiliate:ada", 4, AffiliateReinstated(affiliate_id="ada")),
    Vector("books", "affiliate:ada", 5, AffiliateClosed(affiliate_id="ada", reason=CIPHER)),
    Vector("books", "offer:shoes", 1, OfferPublished(offer_id="shoes", offer_name="Shoes & «Été» \"100%\"",
                                                     landing_url="https://example.com/a?b=c&d=é#f")),
    Vector("books", "offer:shoes", 2, TermsPublished(offer_id="shoes", terms_version=1, effective_from=BEGINNING,
                                                     hold_days=30, window_days=30, rate_bps=1000)),
    Vector("books", "offer:shoes", 3, TermsProposed(terms=TERMS, proposed_by="ana")),
    Vector("books", "offer:shoes", 4, TermsRejected(offer_id="shoes", terms_version=2)),
    Vector("books", "coupon:TEN", 1, CouponAssigned(coupon="TEN", affiliate_id="ada", offer_id="shoes")),
    Vector("books", "coupon:10%", 1, CouponAssigned(coupon="10%", affiliate_id="ada", offer_id="shoes", valid_from=T0,
                                                    valid_until=AT)),
    Vector("books", "conversion:A", 1, ConversionRecorded(order_id="A", offer_id="shoes", amount=0, currency="GBP", occurred_at=T0)),
    Vector("books", "conversion:Ä/1", 1,
           ConversionRecorded(order_id="Ä/1", offer_id="shoes", amount=10**13, currency="JPY", occurred_at=AT,
                              customer_id="客户", click_id="k1", coupon="TEN", affiliate_id="ada", event_id="e1",
                              channel="news", country="GB",
                              items=[Item("sku"), Item("\"\\/\b\f\n\r\t\u0001\u007f\u2028😀", 2, -5, "x")])),
    Vector("books", "conversion:A", 2,
           CommissionAccrued(order_id="A", affiliate_id="ada", offer_id="shoes", amount=197, currency="GBP", sale_amount=1970,
                             occurred_at=T0, matures_at=AT, terms_version=1, traffic_position=0,
                             steps=[Step("affiliate_id", "matched", "ada")], rate_bps=1000)),
    Vector("books", "conversion:Ä/1", 2,
           CommissionAccrued(order_id="Ä/1", affiliate_id="ada", offer_id="shoes", amount=1, currency="JPY", sale_amount=3,
                             occurred_at=T0, matures_at=AT, terms_version=1, traffic_position=9, held=True,
                             steps=[Step("click_id", "other_offer", "bob"), Step("coupon", "unknown"),
                                    Step("last_click", "matched", "ada")],
                             rate_bps=2000, rounding_e4=4000, click_id="k1", clicked_at=T0, click_position=1,
                             click_leaf="ab" * 32)),
    Vector("books", "conversion:U", 2, ConversionUnattributed(order_id="U", traffic_position=3, steps=[])),
    Vector("books", "conversion:W", 2, AttributionDeferred(order_id="W", click_id="k9", until=AT, traffic_position=3)),
    Vector("books", "conversion:A", 3, ConversionHeld(order_id="A", affiliate_id="ada", amount=197, currency="GBP",
                                                      effective_at=AT, reason=CIPHER)),
    Vector("books", "conversion:A", 4, ConversionReleased(order_id="A", affiliate_id="ada", amount=197, currency="GBP",
                                                          effective_at=AT)),
    Vector("books", "conversion:A", 5, ConversionApproved(order_id="A", affiliate_id="ada", amount=197, currency="GBP",
                                                          effective_at=AT, by_hand=True, reason=CIPHER)),
    Vector("books", "conversion:B", 3, ConversionRejected(order_id="B", affiliate_id="ada", amount=0, currency="GBP",
                                                          effective_at=AT, was_held=True)),
    Vector("books", "conversion:A", 6, ConversionReversed(order_id="A", reversal_id="r1", amount=99, currency="GBP",
                                                          sale_amount=985, effective_at=T0, bucket="payable", affiliate_id="ada")),
    Vector("books", "conversion:C", 1, ReversalDeferred(order_id="C", reversal_id="r2", sale_amount=None, currency=None,
                                                        effective_at=T0)),
    Vector("books", "reversal:r1", 1, ReversalRecorded(reversal_id="r1", order_id="A", occurred_at=T0, sale_amount=985,
                                                       currency="GBP", reason_code="returned")),
    Vector("books", "reversal:r2", 1, ReversalRecorded(reversal_id="r2", order_id="C", occurred_at=T0)),
    Vector("books", "adjustment:j1", 1,
           AdjustmentProposed(adjustment_id="j1", affiliate_id="ada", kind="correction", amount=-500, currency="GBP",
                              reason=CIPHER, proposed_by="ana", effective_at=T0)),
    Vector("books", "adjustment:j1", 2, AdjustmentPosted(adjustment_id="j1", affiliate_id="ada", amount=-500, currency="GBP",
                                                         effective_at=T0), actor="cyd"),
    Vector("books", "adjustment:j2", 2, AdjustmentRejected(adjustment_id="j2", affiliate_id="ada"), actor="Zoë \"Z\" \\ 😀",
           key_id="", request_id="", cause=""),
    Vector("books", "line:C489449:1", 1,
           ExceptionRaised(exception_id="line:C489449:1", type="not_a_sale", detail="quantity is 0 – kept",
                           fact={"b": 1, "a": [None, True, "ü"], "price": "1.50"}, affiliate_id="ada")),
    Vector("books", "line:C489449:1", 2, ExceptionResolved(exception_id="line:C489449:1", action="dismiss", reason=CIPHER)),
    Vector("books", "key:k", 1, KeyIssued(access_key_id="k", role="affiliate", holder="eve", holder_kind="person",
                                          expires_at=T0, affiliate_id="ada", rotates="j")),
    Vector("books", "key:k", 2, KeyRevoked(access_key_id="k")),
    Vector("traffic", "click:k1", 1, ClickRecorded(click_id="k1", affiliate_id="ada", offer_id="shoes", occurred_at=T0),
           cause="record_click"),
    Vector("traffic", "click:k2", 1, ClickRecorded(click_id="k2", affiliate_id="ada", offer_id="shoes", occurred_at=AT,
                                                   customer_id="c1", visitor_id="v1", channel="news", ip_hash="00ff00ff00ff00ff",
                                                   duplicate=True, personal=CIPHER, personal_key="traffic:2026-01")),
]  # fmt: skip


def line_of(row: Vector) -> bytes:
    """The export line of a vector, whose position is its place in the list."""
    middle = codec.line_middle(
        type(row.event).__name__, codec.instant_text(row.recorded_at), row.actor, row.key_id, row.request_id, row.cause
    )
    prefix = codec.line_prefix(PROGRAM_ID, row.log)
    state = codec.encode_state(row.event)
    return codec.export_line(prefix, ROWS.index(row) + 1, stream_id(PROGRAM_ID, row.key), row.version, middle, state)


def written_down() -> list[tuple[bytes, str]]:
    """The lines and leaf hashes of the fixture."""
    lines = (VECTORS / "export_lines.ndjson").read_bytes().split(b"\n")
    leaves = (VECTORS / "export_leaves.txt").read_text().split()
    assert lines.pop() == b""
    return list(zip(lines, leaves, strict=True))


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_the_line_of_an_event_is_the_one_written_down(number: int) -> None:
    """Byte for byte, and so its leaf hash: SHA-256 of a zero byte and the line."""
    line, leaf = written_down()[number]
    assert line_of(ROWS[number]) == line
    assert codec.leaf_hash(line).hex() == leaf == hashlib.sha256(b"\x00" + line).hexdigest()


def test_every_event_has_its_vector() -> None:
    """A new event comes with its line, which from then on never changes."""
    assert {type(row.event) for row in ROWS} == set(EVENT_OF.values())
    assert len(written_down()) == len(ROWS)


def test_a_line_is_one_json_object_with_its_keys_in_order() -> None:
    """Any JSON library reads it, and the state in it is the event."""
    keys = "v program_id log position originator_id originator_version topic recorded_at actor key_id request_id cause state"
    for row, (line, _) in zip(ROWS, written_down(), strict=True):
        found = json.loads(line)
        assert list(found) == keys.split()
        assert codec.decode_state(found["topic"], json.dumps(found["state"])) == row.event
        assert found["actor"] == row.actor
        assert datetime.fromisoformat(found["recorded_at"]) == row.recorded_at


def test_an_instant_has_six_decimals_in_utc() -> None:
    """Whole seconds too, and instants of other zones; the first second of the calendar has its four digits."""
    assert codec.instant_text(T0) == "2026-01-01T00:00:00.000000Z"
    assert codec.instant_text(datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))) == (
        "2026-01-01T00:00:00.000000Z"
    )
    assert codec.instant_text(BEGINNING) == "0001-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("copied", [False, True], ids=["INSERT", "COPY"])
def test_what_postgresql_stored_exports_to_the_same_bytes(
    database: Database, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """Both ways of writing store the vectors' leaf hashes, and the rows read back give the vectors' lines."""
    monkeypatch.setattr(log, "COPY_FROM_ROWS", 1 if copied else 10**9)
    with make_pool(database.app_url, min_size=1, max_size=1, name="lines") as pool, pool.connection() as conn:
        cur = conn.cursor()
        for position, row in enumerate(ROWS, 1):
            id_ = stream_id(PROGRAM_ID, row.key)
            stored = log.Row(
                id_, row.version, type(row.event).__name__, codec.encode_state(row.event),
                row.actor, row.key_id, row.request_id, row.cause,
            )  # fmt: skip
            log.append(cur, PROGRAM_ID, row.log, log.Head(position, T0, 0, 1), [stored], row.recorded_at)
        vectors = written_down()
        for name in ("books", "traffic"):
            for found in log.select_rows(cur, PROGRAM_ID, name, 0, 1000):
                assert log.stored_line(PROGRAM_ID, name, found) == vectors[found[0] - 1][0]
        cur.execute(
            "SELECT position, leaf_hash FROM book_events WHERE program_id = %s"
            " UNION ALL SELECT position, leaf_hash FROM traffic_events WHERE program_id = %s ORDER BY 1",
            (PROGRAM_ID, PROGRAM_ID),
        )
        assert [(position, bytes(leaf).hex()) for position, leaf in cur] == [
            (position, leaf) for position, (_, leaf) in enumerate(vectors, 1)
        ]


@pytest.mark.parametrize("now", [T0, AT])
def test_whatever_the_ledger_wrote_hashes_to_its_stored_leaf(database: Database, now: datetime) -> None:
    """Through every path: single commands, batches large enough for COPY, and clicks, with odd ids and whole seconds."""
    with open_ledger(database, Clock(now)) as ledger:
        open_shop(ledger)
        odd = ["é", "客户", 'quote"', "back\\slash", "😀", "a b", "per%cent"]
        ledger.execute_many(PROGRAM, [sale(f"{o}{n}", 100 + n) for n, o in enumerate(odd * 5)], by("Zoë"))
        ledger.execute(PROGRAM, refund('ü"1', "é0"), by())
        clicks = [
            RecordClick(
                click_id=f"{o}{n}", affiliate_id="ada", offer_id="shoes", occurred_at=now, sub1="<é>", customer_id=o
            )
            for n, o in enumerate(odd * 5)
        ]
        ledger.record_clicks(PROGRAM, clicks, by())
        ledger.record_clicks(PROGRAM, [RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=now)], by())
        with ledger.reading(PROGRAM) as (cur, id_):
            for name, table in log.TABLES.items():
                rows = log.select_rows(cur, id_, name, 0, 10**6)
                cur.execute(f"SELECT leaf_hash FROM {table} WHERE program_id = %s ORDER BY position", (id_,))
                stored = [bytes(leaf) for (leaf,) in cur]
                assert [codec.leaf_hash(log.stored_line(id_, name, row)) for row in rows] == stored
                assert len(stored) > 40


def test_an_old_event_is_read_in_todays_form_and_exported_in_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of an earlier form folds through its upcaster, also in the next command; its line stays as it was."""

    def upcast(old: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return "AffiliateEnrolled", {"affiliate_id": old["id"], "email": old.get("mail", "")}

    monkeypatch.setitem(codec.UPCASTERS, "AffiliateJoined", upcast)
    with open_ledger(database) as ledger:
        open_shop(ledger)
        id_ = stream_id(program_id(PROGRAM), "affiliate:old")
        recorder = LogRecorder(ProgramLog(ledger.pool, program_id(PROGRAM)))
        positions = recorder.insert_events([StoredEvent(id_, 1, "AffiliateJoined", b'{"id":"old","mail":""}')])
        assert positions is not None
        ledger.execute(PROGRAM, DecideAffiliate(affiliate_id="old", decision="approve"), by())
        assert ledger.execute(PROGRAM, sale("A", 1000, "old"), by()).body["commission"] == 100
        with ledger.reading(PROGRAM) as (cur, program):
            (row,) = log.select_rows(cur, program, "books", positions[0] - 1, 1)
            line = json.loads(log.stored_line(program, "books", row))
    assert (line["topic"], line["state"]) == ("AffiliateJoined", {"id": "old", "mail": ""})
    assert codec.decode_state("AffiliateJoined", b'{"id":"old"}') == AffiliateEnrolled(affiliate_id="old")
