"""What did we believe then: a replay of the log up to a point says what the live books said at that point, and two such
views differ by exactly the events in between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner
from conftest import fresh_database
from hypothesis import given, settings
from hypothesis import strategies as st
from statement_world import Firm, open_firm, random_history
from support import read_log, sale

from ledger.audit import comparing, replay, views
from ledger.audit.comparing import DoesNotAddUp
from ledger.audit.merkle import leaf_hash
from ledger.audit.replay import Event, NotWhole
from ledger.audit.views import View
from ledger.cli import cli
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.breaks import OpenBreak, ResolveBreak
from ledger.domain.resolution import ResolveException
from ledger.projections import books
from ledger.projections.books import AsOf
from ledger.store import log
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer


class World(NamedTuple):
    """A firm with a random past of three months, and its events."""

    firm: Firm
    events: list[Event]
    database: Database

    @property
    def last(self) -> int:
        return self.events[-1].position


@pytest.fixture(scope="module")
def world(server: EmbeddedServer, template: str) -> Iterator[World]:
    with fresh_database(server, template) as name, open_firm(urls(server, name)) as firm:
        random_history(firm, seed=random.randrange(1000), steps=30)
        firm.do(sale("early", 500, "nobody"))
        firm.do(DecideAffiliate(affiliate_id="bob", decision="suspend"))
        for order_id in ("e1", "e2"):
            firm.do(sale(order_id, 500, "ada", offer_id="gloves"))
        firm.do(ResolveException(exception_id="conversion:e1", action="dismiss", reason="no such offer"))
        for break_id in ("b1", "b2"):
            firm.do(OpenBreak(break_id=break_id, source="orders", type="missing", detail="no such order"))
        firm.do(ResolveBreak(break_id="b1", resolution="corrected", cause="merchant", reason="found"))
        with firm.ledger.reading("firm") as (cur, id_):
            events = list(replay.from_database(cur, id_))
        yield World(firm, events, urls(server, name))


def live_trial(world: World, position: int) -> dict[tuple[str, str], int]:
    with world.firm.ledger.reading("firm") as (cur, id_):
        rows = books.trial_balance(cur, id_, AsOf(position))
    return {(row["account"], row["currency"]): row["amount"] for row in rows if row["amount"]}


def amounts(view: View) -> dict[tuple[str, str], int]:
    return {(one.account, one.currency): one.amount for one in view.accounts}


def test_a_replay_up_to_any_position_has_the_live_balances_of_then(world: World) -> None:
    """Thirty random positions: every account as the live books have it as of that position, sums zero, and the instant
    of that position's event."""
    for position in [1, world.last, *random.sample(range(1, world.last), 30)]:
        view = views.believed(iter(world.events), position)
        assert amounts(view) == live_trial(world, position)
        assert not any(view.sums.values())
        assert (view.position, view.recorded_at) == (position, world.events[position - 1].recorded_at)
    assert views.believed(iter(world.events), world.last + 99).position == world.last
    assert views.believed(iter(world.events), 0).accounts == []


def test_an_instant_is_everything_recorded_until_then(world: World) -> None:
    """Events of that very instant count; a moment earlier they do not."""
    one = random.choice(world.events)
    same = [e.position for e in world.events if e.recorded_at <= one.recorded_at]
    assert views.believed(iter(world.events), one.recorded_at).position == same[-1]
    before = views.believed(iter(world.events), one.recorded_at - timedelta(microseconds=1))
    assert before.position < one.position


def test_statuses_are_those_that_the_service_shows(world: World) -> None:
    """At the end: conversions, payouts, affiliates, offers and what is open, as the live lists have them."""
    view = views.believed(iter(world.events))
    with world.firm.ledger.reading("firm") as (cur, id_):
        cur.execute(
            "SELECT status, currency, count(*), sum(amount)::bigint, sum(commission)::bigint,"
            " sum(reversed_amount)::bigint, sum(reversed_commission)::bigint FROM conversions WHERE program_id = %s"
            " GROUP BY 1, 2 ORDER BY 1, 2",
            (id_,),
        )
        sold = cur.fetchall()
        cur.execute(
            "SELECT status, currency, count(*), sum(amount + vat_amount - withholding_amount)::bigint FROM payouts"
            " WHERE program_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
            (id_,),
        )
        paid = cur.fetchall()
        cur.execute(
            "SELECT kind, status, count(*) FROM directory WHERE program_id = %s"
            " AND kind IN ('affiliate', 'offer', 'adjustment', 'exception', 'break') GROUP BY 1, 2 ORDER BY 1, 2",
            (id_,),
        )
        listed = cur.fetchall()
        cur.execute("SELECT period, version, status, position FROM periods WHERE program_id = %s", (id_,))
        closed = sorted(cur.fetchall())
        cur.execute(
            "SELECT record_id, position FROM directory WHERE program_id = %s AND kind IN ('break', 'exception')"
            " AND status = 'open' ORDER BY 1",
            (id_,),
        )
        still = cur.fetchall()
    assert [msgspec.structs.astuple(one) for one in view.conversions] == sold
    assert [msgspec.structs.astuple(one) for one in view.payouts] == paid
    kinds = {kind for kind, _, _ in listed}
    assert [msgspec.structs.astuple(one) for one in view.records if one.kind in kinds] == listed
    assert sorted(msgspec.structs.astuple(one) for one in view.periods) == closed
    assert sorted((one.record_id, one.since) for one in view.open) == still
    undecided = {one.record_id for one in view.open}
    assert {"conversion:e2", "b2"} <= undecided
    assert not undecided & {"conversion:e1", "b1"}


@given(st.data())
@settings(max_examples=25)
def test_a_difference_is_the_sum_of_its_events(world: World, data: st.DataObject) -> None:
    """Between any two points, asked for in either order, of everybody or of one affiliate: each account's events lie
    between the two, sum to what it differs by, and no account differs that is not explained."""
    one, other = (data.draw(st.integers(0, world.last + 1)) for _ in "ab")
    who = data.draw(st.sampled_from(["", "ada", "bob"]))
    first, second = min(one, other), max(one, other)
    with comparing.compare(iter(world.events), one, other, who) as found:
        was, is_ = amounts(found.before), amounts(found.after)
        explained = set()
        for moved in found.accounts():
            explained.add((moved.account, moved.currency))
            events = list(found.events(moved.account, moved.currency))
            assert len(events) == moved.event_count > 0
            assert moved.before + sum(e.amount for e in events) == moved.after
            assert moved.before == was.get((moved.account, moved.currency), 0)
            assert all(first < e.position <= second for e in events)
            assert not who or moved.affiliate_id == who
        differs = {place for place in was.keys() | is_.keys() if was.get(place, 0) != is_.get(place, 0)}
        assert differs <= explained
        assert amounts(found.before) == {
            place: a for place, a in live_trial(world, first).items() if not who or views.owner_of(place[0]) == who
        }
        if not who:
            between = Counter(e.topic for e in world.events if first < e.position <= second)
            assert {t.topic: t.count for t in found.topics()} == dict(between)
        for became in found.changes():
            positions = found.positions(became)
            assert len(positions) == became.count
            assert (positions[0], positions[-1]) == (became.first_position, became.last_position)


def test_changed_records_lead_from_one_view_to_the_other(world: World) -> None:
    """Counts of each status before, plus what became it, less what left it, are the counts after."""
    middle = world.last // 2
    with comparing.compare(iter(world.events), middle, world.last) as found:
        counts = Counter({(c.kind, c.status): c.count for c in found.before.records})
        for one in found.before.conversions:
            counts["conversion", one.status] += one.count
        for one in found.before.payouts:
            counts["payout", one.status] += one.count
        for became in found.changes():
            counts[became.kind, became.after] += became.count
            counts[became.kind, became.before] -= became.count
        for moved in found.accounts():
            for event in found.events(moved.account, moved.currency):
                logged = world.events[event.position - 1]
                assert (event.topic, event.actor, event.reference) == (logged.topic, logged.actor, logged.reference)
    after = Counter({(c.kind, c.status): c.count for c in found.after.records})
    for one in found.after.conversions:
        after["conversion", one.status] += one.count
    for one in found.after.payouts:
        after["payout", one.status] += one.count
    assert {k: n for k, n in counts.items() if n > 0 and k[0] != "period"} == {k: n for k, n in after.items() if n}


def test_an_affiliate_alone(world: World) -> None:
    """Its accounts, orders and payouts, and nothing of anybody else."""
    view = views.believed(iter(world.events), None, "ada")
    assert {one.affiliate_id for one in view.accounts} == {"ada"}
    assert [one.affiliate_id for one in view.owed] == ["ada"]
    assert "bob" not in str(msgspec.to_builtins(view))
    everybody = views.believed(iter(world.events))
    assert view.owed == [one for one in everybody.owed if one.affiliate_id == "ada"]


def test_a_log_with_a_gap_is_refused(world: World) -> None:
    """A missing position is named; nothing is believed of such a log."""
    with pytest.raises(NotWhole, match="position 7 of the books is missing"):
        views.believed(e for e in world.events if e.position != 7)


def test_events_that_do_not_explain_the_balances_are_refused(world: World) -> None:
    """A movement that went missing between the two views is named by its account."""
    found = comparing.Difference()
    replayed = replay.Replay()
    lost = next(e for e in reversed(world.events) if e.topic == "CommissionAccrued")
    before = views.view(replayed)
    for event in world.events:
        if event is lost:
            replayed.take(event)
        else:
            found.note(replayed, event)
    with found, pytest.raises(DoesNotAddUp, match="expense:commission"):
        found.finish(before, views.view(replayed))


def test_an_export_says_the_same_as_the_database(world: World, tmp_path: Path) -> None:
    """The lines of the books in files, as they are exported, replay to the same view."""
    with world.firm.ledger.reading("firm") as (cur, id_):
        rows = log.select_rows(cur, id_, "books", 0, 10**9)
        lines = [log.stored_line(id_, "books", row) for row in rows]
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "leaves").write_bytes(b"".join(map(leaf_hash, lines)))
    for first, some in ((1, lines[:100]), (101, lines[100:])):
        (tmp_path / "books" / f"{first:012}.ndjson").write_bytes(b"".join(one + b"\n" for one in some))
    assert views.believed(replay.from_directory(tmp_path), 150) == views.believed(iter(world.events), 150)
    printed = CliRunner().invoke(cli, ["replay", "--export", str(tmp_path), "--until", "150", "--json"])
    assert printed.exit_code == 0, printed.output
    assert msgspec.json.decode(printed.output, type=View) == views.believed(iter(world.events), 150)
    text = CliRunner().invoke(cli, ["replay", "--export", str(tmp_path), "--until", "150"])
    assert "as believed after position 150" in text.output
    segment = tmp_path / "books" / f"{1:012}.ndjson"
    segment.write_bytes(segment.read_bytes().replace(b'"position":13,', b'"position":13, '))
    refused = CliRunner().invoke(cli, ["replay", "--export", str(tmp_path), "--until", "150"])
    assert refused.exit_code == 1
    assert "the event at position 13 of the books is not what was recorded" in refused.output


def test_the_command_explains_a_difference(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line, as text and as JSON: each account from and to, and the events that moved it."""
    monkeypatch.setenv("DATABASE_URL", world.database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", "6b" * 32)
    monkeypatch.setenv("LEDGER_HOME", str(tmp_path))
    ask = ["replay", "-p", "firm", "--until", "20", "--compare", str(world.last)]
    printed = CliRunner().invoke(cli, [*ask, "--json"])
    assert printed.exit_code == 0, printed.output
    document: dict[str, Any] = msgspec.json.decode(printed.output)
    assert (document["from"]["position"], document["to"]["position"]) == (20, world.last)
    for account in document["accounts"]:
        assert account["before"] + sum(e["amount"] for e in account["events"]) == account["after"]
    assert len(read_log(world.firm.ledger, "firm")) == world.last
    became = [one for one in document["records"] if one["kind"] == "affiliate"]
    assert all(len(one["positions"]) == one["count"] for one in document["records"])
    assert ("approved", "suspended") in [(one["before"], one["after"]) for one in became]
    text = CliRunner().invoke(cli, ask)
    assert f"to position {world.last:,}" in text.output
    assert "expense:commission GBP: from " in text.output
    nothing = CliRunner().invoke(cli, ["replay", "--until", "1"])
    assert nothing.exit_code == 2
