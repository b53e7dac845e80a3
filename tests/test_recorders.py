"""The library's own recorder test cases pass, unmodified, on our recorders; and a row can name no code to run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import eventsourcing.cryptography
import pytest
from eventsourcing.application import AggregateNotFoundError, Repository
from eventsourcing.persistence import AggregateRecorder, ApplicationRecorder, EventStore, StoredEvent, TrackingRecorder
from support import PROGRAM, by, open_ledger, open_shop, program_id, refund, sale, topics

from ledger.domain import conversion_state
from ledger.domain.event import Event, fold_all
from ledger.domain.ids import stream_id
from ledger.domain.topics import EVENT_OF
from ledger.store import codec, log
from ledger.store.codec import LedgerMapper, UnknownTopic
from ledger.store.database import Database, make_pool
from ledger.store.recorders import FollowerRecorder, LogRecorder, ProgramLog, StreamRecorder

# The library's test module imports its cipher, which wants another cryptography library than the one that we have
# and that the library also supports. Recorders encrypt nothing.
sys.modules.setdefault("eventsourcing.cipher", eventsourcing.cryptography)
from eventsourcing.tests import persistence as theirs  # noqa: E402


@pytest.fixture
def program_log(database: Database) -> Iterator[ProgramLog]:
    """The empty books of a program that nobody has used."""
    with make_pool(database.app_url, min_size=2, max_size=14, name="recorders") as pool:
        with pool.connection() as conn, conn.cursor() as cur:
            log.create_heads(cur, program_id("library"), "library", "GBP", datetime.now(UTC))
        yield ProgramLog(pool, program_id("library"))


class Ours:
    """Hands the library's test cases a program's log."""

    log: ProgramLog

    @pytest.fixture(autouse=True)
    def _program_log(self, program_log: ProgramLog) -> None:
        self.log = program_log


class TestStreamRecorder(Ours, theirs.AggregateRecorderTestCase):
    """The library's aggregate recorder test case."""

    def create_recorder(self) -> AggregateRecorder:
        return StreamRecorder(self.log)


class TestLogRecorder(Ours, theirs.ApplicationRecorderTestCase):
    """The library's application recorder test case, and its optional test of subscriptions."""

    def create_recorder(self) -> ApplicationRecorder:
        return LogRecorder(self.log)

    def test_insert_subscribe(self) -> None:
        """A subscription sees what was there, what comes, and ends when it is stopped."""
        super().optional_test_insert_subscribe()


class TestNonInterleaving(Ours, theirs.NonInterleavingNotificationIDsBaseCase):
    """The library's test that the ids of two racing appends do not interleave."""

    def create_recorder(self) -> ApplicationRecorder:
        return LogRecorder(self.log)


class TestFollowerRecorder(Ours, theirs.TrackingRecorderTestCase):
    """The library's tracking recorder test case."""

    def create_recorder(self) -> TrackingRecorder:
        return FollowerRecorder(self.log)


# --- streams through the library's repository -----------------------------------------------------------


def project(initial: Any, events: Iterable[Any]) -> Any:
    """The library's kind of projector, from our fold: ConversionState, or None for no events."""
    return fold_all(conversion_state.fold, (event.body for event in events), initial)


def test_a_stream_is_folded_through_the_librarys_repository(database: Database) -> None:
    """A conversion that the ledger wrote is read back by the library: whole, and as of a version."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, sale("A1", 1970), by())
        ledger.execute(PROGRAM, refund("r1", "A1", 985), by())
        program_log = ProgramLog(ledger.pool, program_id(PROGRAM))
        repository = Repository(EventStore(LedgerMapper(), StreamRecorder(program_log)))
        id_ = stream_id(program_id(PROGRAM), "conversion:A1")

        state = repository.get(id_, projector_func=project)
        assert (state.status, state.commission, state.reversed_commission) == ("pending", 197, 99)
        before = repository.get(id_, version=2, projector_func=project)
        assert (before.commission, before.reversed_commission) == (197, 0)
        with pytest.raises(AggregateNotFoundError):
            repository.get(stream_id(program_id(PROGRAM), "conversion:B"), projector_func=project)


def test_events_stored_through_the_librarys_event_store_are_the_same_rows(database: Database) -> None:
    """What the library's event store writes, the ledger's own reading decodes, and the other way round."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        ledger.execute(PROGRAM, sale("A1"), by())
        recorder = LogRecorder(ProgramLog(ledger.pool, program_id(PROGRAM)))
        mapper = LedgerMapper()
        stored = [StoredEvent(n.originator_id, n.originator_version, n.topic, n.state)
                  for n in recorder.select_notifications(1, 100)]  # fmt: skip
        assert [mapper.to_stored_event(mapper.to_domain_event(one)) for one in stored] == stored
        assert [one.topic for one in stored] == topics(ledger)


# --- hostile topics -------------------------------------------------------------------------------------

HOSTILE = [
    "os:system",
    "os.system",
    "evil_module:Boom",
    "evil_module",
    "builtins:exec",
    "ledger.store.vault:erase_subject",
    "",
    "conversionrecorded",
    "ConversionRecorded ",
    "__class__",
]


@pytest.fixture
def evil_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that leaves a file behind when anybody imports it."""
    trace = tmp_path / "it was imported"
    (tmp_path / "evil_module.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Boom: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield trace
    sys.modules.pop("evil_module", None)


@pytest.mark.parametrize("topic", HOSTILE)
def test_a_topic_that_is_not_on_the_list_is_refused_and_nothing_is_imported(topic: str, evil_module: Path) -> None:
    """The codec resolves topics by a list alone."""
    loaded = set(sys.modules)
    with pytest.raises(UnknownTopic):
        codec.decode_state(topic, b'{"order_id":"A"}')
    assert set(sys.modules) == loaded
    assert not evil_module.exists()


def test_a_hostile_row_stops_whoever_reads_it_and_runs_nothing(database: Database, evil_module: Path) -> None:
    """A row written past the ledger, naming a module, is refused by the library's repository, by a follower of the
    log and by the next command on its stream; every other stream works on."""
    with open_ledger(database) as ledger:
        open_shop(ledger)
        program_log = ProgramLog(ledger.pool, program_id(PROGRAM))
        recorder = LogRecorder(program_log)
        id_ = stream_id(program_id(PROGRAM), "conversion:A1")
        recorder.insert_events([StoredEvent(id_, 1, "evil_module:Boom", b'{"order_id":"A1"}')])

        repository = Repository(EventStore(LedgerMapper(), recorder))
        with pytest.raises(UnknownTopic):
            repository.get(id_, projector_func=project)
        with pytest.raises(UnknownTopic):
            [LedgerMapper().to_domain_event(one) for one in recorder.select_events(id_)]
        with pytest.raises(UnknownTopic):
            ledger.execute(PROGRAM, sale("A1"), by())
        assert ledger.execute(PROGRAM, sale("A2"), by()).outcome == "recorded"
        assert not evil_module.exists()
        assert "evil_module" not in sys.modules


def test_the_list_of_topics_is_the_list_of_events() -> None:
    """Every event of the ledger has a topic, so that nothing can be written that nobody can read."""

    def all_events(cls: type[Event]) -> set[type[Event]]:
        return {cls, *(sub for one in cls.__subclasses__() for sub in all_events(one))}

    assert set(EVENT_OF.values()) == all_events(Event) - {Event}
    assert all(topic == event.__name__ for topic, event in EVENT_OF.items())
