"""The export line of every event is fixed byte for byte, and so is its leaf hash: a sealed log cannot be re-worded.

tests/vectors/export_lines.ndjson holds the lines literally, export_leaves.txt their leaf hashes, line by line. They
are written down, not generated: a line that no longer matches is a broken promise, not a vector to be renewed.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent
from export_rows import AT, PROGRAM_ID, T0, Vector
from export_vectors import ROWS
from support import PROGRAM, Clock, by, open_ledger, open_shop, refund, sale

from ledger.domain.affiliate import (
    AffiliateEnrolled,
    DecideAffiliate,
)
from ledger.domain.click import RecordClick
from ledger.domain.event import BEGINNING
from ledger.domain.ids import program_id, stream_id
from ledger.domain.topics import EVENT_OF
from ledger.store import codec, log
from ledger.store.database import Database, make_pool
from ledger.store.recorders import LogRecorder, ProgramLog

VECTORS = Path(__file__).parent / "vectors"


def line_of(row: Vector) -> bytes:
    """The export line of a vector, whose position is its place in the list."""
    middle = codec.line_middle(
        type(row.event).__name__, codec.instant_text(row.recorded_at), row.actor, row.key_id, row.request_id, row.cause
    )
    prefix = codec.line_prefix(PROGRAM_ID, row.log)
    state = codec.encode_state(row.event)
    return codec.export_line(prefix, ROWS.index(row) + 1, stream_id(PROGRAM_ID, row.key), row.version, middle, state)


def stored_as(row: Vector) -> log.Row:
    """The row that a vector is written as."""
    id_, topic, state = stream_id(PROGRAM_ID, row.key), type(row.event).__name__, codec.encode_state(row.event)
    return log.row(id_, row.version, topic, state, row.actor, row.key_id, row.request_id, row.cause)


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
    keys = "v program_id log position originator_id originator_version topic recorded_at actor key_id request_id"
    keys += " cause state"
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
        log.create_heads(cur, PROGRAM_ID, "vectors", "GBP", T0)
        position = 1
        for (name, recorded_at), together in groupby(ROWS, key=lambda row: (row.log, row.recorded_at)):
            rows = [stored_as(row) for row in together]
            head = log.lock_head(cur, PROGRAM_ID, name)._replace(next_position=position)
            log.append(cur, PROGRAM_ID, name, head, rows, recorded_at)
            position += len(rows)
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
    """Through every path: single commands, batches large enough for COPY, and clicks, with odd ids."""
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
                assert len(stored) > 30


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
