"""Journeys: whose clicks and impressions a conversion may be credited to, from the traffic log and in memory alike."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from conftest import fresh_database
from memory_view import MemoryView
from support import PROGRAM, T0, Clock, by, ok, open_ledger, open_shop, program_id, sale

from ledger.application import CommissionLedger
from ledger.domain.click import ClickRecorded, RecordClick, key
from ledger.domain.event import Answer, Command, Decision
from ledger.domain.ids import stream_id
from ledger.domain.impression import RecordImpression
from ledger.domain.plans.journey import MOST_TOUCHES, JourneyKey, Touch
from ledger.domain.view import Needs, View
from ledger.projections import replaying, touches
from ledger.store import codec
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer
from ledger.store.migrate import DIRECTORY, migrate

HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)


@pytest.fixture(scope="module")
def ledger(server: EmbeddedServer, template: str) -> Iterator[CommissionLedger]:
    """One database for the module, on which each test opens a program of its own."""
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name), Clock()) as ledger:
        yield ledger


class World:
    """A program's traffic, recorded in the ledger and in memory."""

    def __init__(self, ledger: CommissionLedger, program: str) -> None:
        self.ledger, self.program, self.memory = ledger, program, MemoryView()
        open_shop(ledger, program)

    def click(self, at: datetime, affiliate_id: str = "ada", **who: Any) -> int:
        """Record a click. Returns its position."""
        command = RecordClick(**{"affiliate_id": affiliate_id, "offer_id": "shoes", "occurred_at": at, **who})
        return self._touch(self.ledger.record_clicks(self.program, [command], by())[0], "click", command)

    def impression(self, at: datetime, affiliate_id: str = "ada", **who: Any) -> int:
        """Record an impression. Returns its position."""
        command = RecordImpression(**{"affiliate_id": affiliate_id, "offer_id": "shoes", "occurred_at": at, **who})
        return self._touch(self.ledger.record_impressions(self.program, [command], by())[0], "impression", command)

    def _touch(self, outcome: Any, kind: str, c: RecordClick | RecordImpression) -> int:
        position = ok(outcome).position
        if not c.duplicate:
            touch = Touch(position, c.affiliate_id, c.occurred_at, kind, c.channel)
            self.memory.touched(touch, c.customer_id, c.visitor_id, c.offer_id)
        return position

    def journeys(self, *keys: JourneyKey) -> list[list[Touch]]:
        """What the database says of them."""
        with self.ledger.reading(self.program) as (cur, id_):
            found = touches.journeys(cur, id_, keys)
        return [found[one] for one in keys]

    def positions(self, **key: Any) -> list[int]:
        """Where the touches of a journey stand: database and memory say the same."""
        wanted = journey(**key)
        (found,) = self.journeys(wanted)
        assert found == self.memory.journey(wanted)
        return [touch.position for touch in found]


def journey(**key: Any) -> JourneyKey:
    """c1's and v1's clicks on 'shoes' in the ten hours behind T0, unless said otherwise."""
    usual = {"customer_id": "c1", "visitor_id": "v1", "offer_id": "shoes", "clicks_since": T0}
    return JourneyKey(**{**usual, "impressions_since": None, "until": T0 + 10 * HOUR, **key})


def test_a_journey_is_the_customers_and_the_visitors_each_click_once(ledger: CommissionLedger) -> None:
    """In order of time; without duplicates, other people, other offers, and who has the other's id."""
    world = World(ledger, "both")
    late = world.click(T0 + 3 * HOUR, customer_id="c1", channel="blog")
    both = world.click(T0 + 2 * HOUR, "bob", customer_id="c1", visitor_id="v1")
    first = world.click(T0 + 1 * HOUR, visitor_id="v1")
    world.click(T0 + 2 * HOUR, customer_id="c1", visitor_id="v1", duplicate=True)
    world.click(T0 + 2 * HOUR, customer_id="v1", visitor_id="c1")
    world.click(T0 + 2 * HOUR, customer_id="c1", offer_id="gloves")
    world.click(T0 + 2 * HOUR)
    assert world.positions() == [first, both, late]
    assert world.positions(visitor_id=None) == [both, late]
    assert world.positions(customer_id=None) == [first, both]
    assert world.positions(customer_id=None, visitor_id=None) == []
    assert world.journeys(journey())[0][1:] == [
        Touch(both, "bob", T0 + 2 * HOUR), Touch(late, "ada", T0 + 3 * HOUR, "click", "blog"),
    ]  # fmt: skip


def test_the_windows_end_where_they_say(ledger: CommissionLedger) -> None:
    """Both ends are inside, a microsecond further is not; impressions have a window of their own, or none."""
    world = World(ledger, "edges")
    inside = [world.click(T0, customer_id="c1"), world.click(T0 + 10 * HOUR, customer_id="c1")]
    world.click(T0 - TICK, customer_id="c1")
    world.click(T0 + 10 * HOUR + TICK, customer_id="c1")
    since = T0 + 9 * HOUR
    seen = world.impression(since, visitor_id="v1")
    world.impression(since - TICK, visitor_id="v1")
    assert world.positions() == inside
    assert world.positions(impressions_since=since) == [inside[0], seen, inside[1]]
    assert world.positions(impressions_since=since, until=since) == [inside[0], seen]
    assert world.positions(impressions_since=since + TICK) == inside


def test_of_many_touches_the_newest_count_and_impressions_leave_no_click_out(ledger: CommissionLedger) -> None:
    """A hundred clicks, and as many impressions, over both ids together."""
    world = World(ledger, "many")
    who = ({"customer_id": "c1"}, {"visitor_id": "v1"}, {"customer_id": "c1", "visitor_id": "v1"})
    clicks = [world.click(T0 + n * TICK, **who[n % 3]) for n in range(MOST_TOUCHES + 10)]
    seen = [world.impression(T0 + HOUR + n * TICK, **who[n % 3]) for n in range(MOST_TOUCHES + 5)]
    assert world.positions() == clicks[10:]
    assert world.positions(impressions_since=T0) == clicks[10:] + seen[5:]


def test_many_journeys_at_once_are_each_its_own(ledger: CommissionLedger) -> None:
    """Whatever was recorded and is asked, database and memory agree."""
    world, rnd = World(ledger, "random"), random.Random(5)
    for _ in range(150):
        record = rnd.choice((world.click, world.click, world.impression))
        record(
            T0 + rnd.randrange(12) * HOUR, rnd.choice(("ada", "bob")), customer_id=rnd.choice((None, "c1", "c2", "x")),
            visitor_id=rnd.choice((None, "v1", "v2", "x")), offer_id=rnd.choice(("shoes", "gloves")),
            duplicate=rnd.random() < 0.2,
        )  # fmt: skip
    keys = {
        JourneyKey(
            rnd.choice((None, "c1", "c2", "x")), rnd.choice((None, "v1", "v2", "x")), rnd.choice(("shoes", "gloves")),
            T0 + rnd.randrange(12) * HOUR, rnd.choice((None, T0, T0 + 6 * HOUR)), T0 + rnd.randrange(12) * HOUR,
        )
        for _ in range(80)
    }  # fmt: skip
    found = world.journeys(*keys)
    assert found == [world.memory.journey(one) for one in keys]
    assert sum(len(one) > 1 for one in found) > 10


def test_a_customers_last_click_is_a_click_and_the_customers(ledger: CommissionLedger) -> None:
    """Later impressions, and a visitor's clicks, are not looked at; one flagged as a duplicate counts, as it did."""
    world = World(ledger, "last")
    world.click(T0, "ada", customer_id="c1")
    world.click(T0 + HOUR, "bob", customer_id="c1", duplicate=True, channel="blog", click_id="k1")
    world.impression(T0 + 2 * HOUR, "ada", customer_id="c1")
    world.click(T0 + 2 * HOUR, "ada", visitor_id="c1")
    bought = sale("o1", affiliate_id=None, customer_id="c1", occurred_at=T0 + 3 * HOUR)
    assert ledger.execute(world.program, bought, by()).body["affiliate_id"] == "bob"
    with ledger.reading(world.program) as (cur, id_):
        (by_id,) = touches.clicks(cur, id_, [stream_id(id_, key("k1"))])
        last = touches.last_clicks(cur, id_, [("c1", "shoes", T0 + 3 * HOUR)])
    assert last == {("c1", "shoes", T0 + 3 * HOUR): by_id}
    assert by_id.channel == "blog"


class Look(Command, frozen=True, kw_only=True):
    """Decides nothing: says what it saw. said_before: whether the journey is among its needs; meanwhile: what happens
    while it holds the books."""

    wanted: JourneyKey
    said_before: bool
    meanwhile: Callable[[], object]

    def needs(self) -> Needs:
        return Needs(streams=[], journeys=[self.wanted] if self.said_before else [])

    def decide(self, view: View) -> Decision:
        self.meanwhile()
        affiliates = [view.affiliate(touch.affiliate_id) is not None for touch in view.journey(self.wanted)]
        return Decision([], Answer("unchanged", {"affiliates": affiliates, "position": view.traffic_position}))


@pytest.mark.parametrize("said_before", [True, False])
def test_a_decision_sees_the_journey_and_whose_touches_they_are(ledger: CommissionLedger, said_before: bool) -> None:
    """Loaded with the batch or asked for later; a touch that was seen is not behind the position that was seen."""
    world = World(ledger, f"decision-{said_before}")
    world.click(T0, "ada", customer_id="c1")
    world.click(T0 + HOUR, "nobody", customer_id="c1")
    look = Look(
        wanted=journey(), said_before=said_before, meanwhile=lambda: world.click(T0 + 2 * HOUR, "bob", customer_id="c1")
    )
    seen, last = ([True, False], 2) if said_before else ([True, False, True], 3)
    assert ledger.execute(world.program, look, by()).body == {"affiliates": seen, "position": last}


def test_one_index_probe_for_each_person_also_without_statistics(ledger: CommissionLedger) -> None:
    """The planner never reads a program's whole table, nor sorts a person's touches."""
    with ledger.reading("both") as (cur, id_):
        keys = msgspec.json.encode([{"n": 0, **journey(impressions_since=T0)._asdict()}]).decode()
        params = {"keys": keys, "program_id": id_, "most": MOST_TOUCHES}
        plan = "\n".join(row[0] for row in cur.execute(f"EXPLAIN {touches.QUERIES['select_touches']}".encode(), params))
    assert "Index Scan Backward using touches_pkey" in plan
    assert "offer_id = q.offer_id" in plan.partition("Index Cond")[2].partition("\n")[0]
    assert "Sort" not in plan
    assert "Seq Scan" not in plan


CLICKS = [
    ClickRecorded(click_id="k1", affiliate_id="ada", offer_id="shoes", occurred_at=T0 + TICK, customer_id="c1"),
    ClickRecorded(
        click_id="k2", affiliate_id="bob", offer_id="shoes", occurred_at=T0, customer_id='Zoë "1"', visitor_id="v1",
        channel="blog", duplicate=True,
    ),
    ClickRecorded(click_id="k3", affiliate_id="ada", offer_id="shoes", occurred_at=T0),
    ClickRecorded(click_id="k4", affiliate_id="ada", offer_id="shoes", occurred_at=T0, visitor_id="v1"),
]  # fmt: skip


def test_clicks_from_before_the_migration_are_found_by_customer_and_by_visitor(
    empty_database: store.Database, tmp_path: Path
) -> None:
    """The new table is filled from the log as the ledger itself fills it."""
    assert empty_database.owner_url
    for path in DIRECTORY.glob("00*.sql"):
        if path.name < "0016":
            shutil.copy(path, tmp_path)
    migrate(empty_database.owner_url, tmp_path)
    id_ = program_id(PROGRAM)
    with psycopg.connect(empty_database.owner_url) as owner:
        owner.execute("INSERT INTO touches VALUES (%s, 'c1', %s, 1, %s, 'shoes')", (id_, T0, id_))
        owner.execute("INSERT INTO programs VALUES (%s, %s, 'GBP', %s)", (id_, PROGRAM, T0))
        for name, following in (("books", 1), ("traffic", len(CLICKS) + 1)):
            owner.execute(
                "INSERT INTO log_heads (program_id, log, next_position, last_recorded_at, master_position, generation)"
                " VALUES (%s, %s, %s, %s, 0, 1)",
                (id_, name, following, T0),
            )
        for position, click in enumerate(CLICKS, 1):
            owner.execute(
                "INSERT INTO traffic_events (program_id, position, originator_id, originator_version, topic,"
                " recorded_at, actor, key_id, request_id, cause, state, leaf_hash)"
                " VALUES (%s, %s, %s, 1, 'ClickRecorded', %s, 'a', '', '', 'record_click', %s, %s)",
                (
                    id_, position, stream_id(id_, key(click.click_id)), T0, codec.encode_state(click).decode(),
                    bytes(32),
                ),
            )  # fmt: skip
    assert "0016_touches.sql" in migrate(empty_database.owner_url)
    with psycopg.connect(empty_database.app_url, autocommit=True) as app:
        people = app.execute("SELECT person, position FROM touches ORDER BY position, person").fetchall()
        (report,) = replaying.compare(app, id_, ["touches"])
    assert people == [("customer:c1", 1), ('customer:Zoë "1"', 2), ("visitor:v1", 2), ("visitor:v1", 4)]
    assert (report.rows, report.first) == (4, None)
