"""The worker seals by itself what is new, and says so when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sealing_world import OLD, clock, shared, small_batches
from support import T0, Clock, by, open_ledger, owner, program_id, sale
from test_jobs import Office

from ledger.audit import kept as keeping
from ledger.audit import sealing
from ledger.domain.click import RecordClick
from ledger.jobs import JOBS
from ledger.service import sealed_checkpoints_file
from ledger.store.database import Database

__all__ = ["clock", "shared", "small_batches"]  # the fixtures


SEAL = [job for job in JOBS if job.name == "seal"]


@pytest.fixture
def office(shared: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Office]:
    monkeypatch.setenv("LEDGER_SIGNING_KEY", OLD.hex())
    monkeypatch.setenv("LEDGER_KNOWN_POSITIONS_FILE", str(tmp_path / "known.json"))
    with open_ledger(shared, clock) as ledger:
        yield Office(ledger, shared.app_url, clock)


def test_the_worker_seals_what_is_new_and_is_silent_when_nothing_is(office: Office) -> None:
    """A run for each due time at which something waited; none, and no row of history, at all the others. What it
    signed it also wrote down beside the known positions."""
    office.once(*SEAL)
    (name,) = keeping.read(sealed_checkpoints_file()).logs
    assert keeping.program_and_log(name) == (office.program, "books")
    for _ in range(5):
        office.clock.advance(seconds=10)
        office.once(*SEAL)
    office.ledger.execute(office.program, sale("A"), by())
    office.clock.advance(seconds=10)
    office.once(*SEAL)
    first, second = (run.detail["books"] for run in office.runs())
    assert (first["new"], second["new"]) == (first["size"], second["size"] - first["size"])
    assert [set(run.detail) for run in office.runs()] == [{"books"}, {"books"}], "quiet due times were not missed"
    with office.ledger.reading(office.program) as (cur, id_):
        assert sealing.unsealed_since(cur, id_) == {}


def test_due_times_at_which_something_waited_and_nobody_worked_are_a_gap(office: Office) -> None:
    """The worker was away for a minute with a sale waiting: the run says since when none was made."""
    office.once(*SEAL)
    office.clock.advance(minutes=10)
    office.ledger.execute(office.program, sale("A"), by())
    waits_since = office.clock.now
    office.clock.advance(minutes=1)
    office.once(*SEAL)
    gap = datetime.fromisoformat(office.runs()[-1].detail["none_since"])
    assert timedelta(0) <= waits_since - gap < timedelta(seconds=10)


def test_without_a_key_the_worker_says_so_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of history, and no more until there is a key; then everything is sealed."""
    monkeypatch.delenv("LEDGER_SIGNING_KEY")
    monkeypatch.setenv("DATABASE_URL", office.url)  # so that there is no home in which one would be made
    monkeypatch.delenv("LEDGER_HOME", raising=False)
    for _ in range(3):
        office.once(*SEAL)
        office.ledger.record_clicks(
            office.program, [RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0)], by()
        )
        office.clock.advance(seconds=10)
    assert [run.detail for run in office.runs()] == [{"signing_key": "none"}]
    monkeypatch.setenv("LEDGER_SIGNING_KEY", OLD.hex())
    office.once(*SEAL)
    assert office.runs()[-1].detail["traffic"] == {"size": 3, "new": 3}


def test_what_must_not_be_sealed_fails_the_run_with_the_position(office: Office, shared: Database) -> None:
    """Auditors read fault, log and position in the history; the other log is sealed all the same."""
    click = RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0)
    office.ledger.record_clicks(office.program, [click], by())
    with owner(shared) as conn:
        conn.execute("ALTER TABLE book_events DISABLE TRIGGER USER")
        conn.execute(
            "UPDATE book_events SET actor = 'eve' WHERE program_id = %s AND position = 3", (program_id(office.program),)
        )
    assert office.once(*SEAL).failures == 1
    (run,) = office.runs()
    found = {name: run.detail[name] for name in ("error", "fault", "log", "position")}
    assert (run.outcome, found) == (
        "failed", {"error": "SealRefused", "fault": "altered", "log": "books", "position": 3},
    )  # fmt: skip
    with office.ledger.reading(office.program) as (cur, id_):
        assert set(sealing.unsealed_since(cur, id_)) == {"books"}
