"""Exchange rates: which one is in force, what it makes of an amount, and how they are recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from api_world import World, make_world, open_service
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from memory_view import MemoryView
from support import MASTER_KEY, T0

from ledger.cli import cli
from ledger.domain import money, rates
from ledger.domain.errors import DiffersFromOriginal, InvalidInput
from ledger.domain.rates import RateRecorded, RateState, RecordRate
from ledger.imports.errors import ImportRefused
from ledger.store.database import Database

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def usd(rate: str, as_of: datetime = T0, source: str = "ECB", **more: Any) -> RecordRate:
    """What 1 USD costs in EUR."""
    return RecordRate(**{"base": "USD", "quote": "EUR", "rate": rate, "as_of": as_of, "source": source} | more)


def recorded(rate: str, as_of: datetime, source: str = "ECB") -> RateRecorded:
    return RateRecorded(base="USD", quote="EUR", rate=rate, as_of=as_of, source=source)


def in_force(view: MemoryView, instant: datetime, base: str = "USD", quote: str = "EUR") -> str | None:
    found = rates.at(view, base, quote, instant)
    return found.rate if found else None


# --- which is in force -------------------------------------------------------------------------------------


def test_the_last_rate_not_after_an_instant_is_in_force_for_seven_days() -> None:
    """From its as_of on, to the very end of the seventh day; a second before or after there is none."""
    view = MemoryView()
    view.when(usd("0.9", T0))
    view.when(usd("0.8", T0 + 2 * DAY))
    assert in_force(view, T0 - SECOND) is None
    assert in_force(view, T0) == in_force(view, T0 + 2 * DAY - SECOND) == "0.9"
    assert in_force(view, T0 + 2 * DAY) == in_force(view, T0 + 9 * DAY) == "0.8"
    assert in_force(view, T0 + 9 * DAY + SECOND) is None


def test_of_one_instant_the_rate_recorded_last_counts() -> None:
    """Another source corrects it; a rate of an earlier instant that is recorded later does not."""
    view = MemoryView()
    view.when(usd("0.9"))
    view.when(usd("0.91", source="Fed"))
    view.when(usd("0.7", T0 - DAY))
    assert in_force(view, T0) == in_force(view, T0 + DAY) == "0.91"
    assert in_force(view, T0 - SECOND) == "0.7"


def test_a_pair_is_never_turned_round() -> None:
    """EUR to USD is another pair, of which nothing is known."""
    view = MemoryView()
    view.when(usd("0.9"))
    assert in_force(view, T0, "EUR", "USD") is None
    assert rates.at(view, "USD", "GBP", T0) is None


@given(
    st.lists(st.tuples(st.integers(-12, 12), st.sampled_from(["a", "b", "c"])), unique=True, max_size=12),
    st.integers(-24, 24),
)
def test_in_force_is_what_reading_every_rate_would_find(said: list[tuple[int, str]], asked: int) -> None:
    """The halving finds what going through all of them does, in whatever order they were recorded."""
    state: RateState | None = RateState()
    best: tuple[int, str] | None = None
    for number, (day, source) in enumerate(said, 1):
        state = rates.fold(state, recorded(f"0.{number}1", T0 + day * DAY, source))
        if asked - 7 <= day <= asked and (best is None or day >= best[0]):
            best = day, f"0.{number}1"
    assert state is not None
    found = state.at(T0 + asked * DAY)
    assert (found.rate if found else None) == (best[1] if best else None)
    for day, source in said:
        assert (one := state.said(T0 + day * DAY, source)) is not None
        assert (one.as_of, one.source) == (T0 + day * DAY, source)
    assert state.said(T0, "d") is None


# --- what it makes of an amount ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "base", "quote", "expected"),
    [
        ("0.9213", "USD", "EUR", (9213, 10_000)),  # 100 cents are 92.13 cents
        ("0.0061", "JPY", "EUR", (61, 100)),  # 1 yen is 0.61 cents
        ("163.5", "EUR", "JPY", (327, 200)),  # 1 cent is 1.635 yen
        ("3", "KWD", "EUR", (3, 10)),  # 1 fils, a thousandth of a dinar, is 0.3 cents
        ("0.3", "EUR", "KWD", (3, 1)),  # 1 cent is 3 fils
        ("480", "KWD", "JPY", (12, 25)),  # 1 fils is 0.48 yen
        ("0.000000000001", "USD", "EUR", (1, 10**12)),
    ],
)
def test_a_rate_as_an_exact_factor_of_minor_units(rate: str, base: str, quote: str, expected: tuple[int, int]) -> None:
    """By hand, with currencies of no, two and three decimals."""
    assert rates.factor(rate, base, quote) == expected


@given(
    st.integers(1, 10**20 - 1),
    st.integers(8, 12),
    st.sampled_from(["JPY", "EUR", "KWD"]),
    st.sampled_from(["JPY", "EUR", "KWD"]),
)
def test_the_factor_is_what_going_through_major_units_gives(digits: int, decimals: int, base: str, quote: str) -> None:
    """Minor to major, times the rate, to minor again, as exact fractions."""
    rate = Fraction(digits, 10**decimals)
    text = f"{digits // 10**decimals}.{digits % 10**decimals:0{decimals}}"
    numerator, denominator = rates.factor(rates.canonical("rate", text), base, quote)
    expected = Fraction(1, 10 ** money.EXPONENTS[base]) * rate * 10 ** money.EXPONENTS[quote]
    assert Fraction(numerator, denominator) == expected


# --- recording ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "kept"),
    [("0.92130", "0.9213"), ("3.0", "3"), ("100", "100"), ("0.10", "0.1"), ("12345678.123456789012", None),
     ("999999999999.12345678", None)],
)  # fmt: skip
def test_a_rate_is_kept_as_the_one_way_of_writing_it(given_: str, kept: str | None) -> None:
    """Zeros that say nothing are dropped, so that the same rate is the same."""
    assert usd(given_).rate == (kept or given_)


@pytest.mark.parametrize(
    "rate",
    ["", "0", "0.0", "-1", "+1", "1e3", ".5", "5.", "01", "1,5", " 1", "1\n", "NaN", "١", "1_000",
     "0.1234567890123", "123456789.123456789012", "1" + "0" * 12, "9" * 21, "9" * 10_000],
)  # fmt: skip
def test_what_is_no_rate_is_refused(rate: str) -> None:
    """Only a plain decimal above 0, of at most 12 digits before the point, 12 behind it and 20 in all; the message
    names the field."""
    with pytest.raises(InvalidInput) as refused:
        usd(rate)
    assert refused.value.field == "rate"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base", "EURO"), ("base", "eur"), ("quote", "XXX"), ("quote", "USD"), ("as_of", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("source", ""), ("source", "a\nb"), ("source", "x" * 65),
    ],
)  # fmt: skip
def test_what_else_cannot_be_recorded_names_its_field(field: str, value: Any) -> None:
    """A currency that is none, the same currency twice, no zone, no source."""
    with pytest.raises(InvalidInput) as refused:
        usd("1", **{field: value})
    assert refused.value.field == field


def test_a_source_says_one_thing_of_one_instant() -> None:
    """The same again, however it is written, is the first answer again; another rate differs; another source may."""
    view = MemoryView()
    first = view.again(usd("0.9213"))
    assert view.when(usd("0.92130"))[0].position == first.position
    assert view.refused(DiffersFromOriginal, usd("0.9214")).fields == ["rate"]
    for more in (usd("0.9214", source="Fed"), usd("0.9214", T0 + SECOND), usd("0.9214", T0 - SECOND)):
        assert view.again(more).position == len(view.log)
    assert view.when(usd("0.9213"))[0].position == first.position


def test_a_rate_of_the_day_after_tomorrow_is_refused() -> None:
    """A day ahead is a matter of zones; more is a mistake. What was recorded in time can be sent again for ever."""
    view = MemoryView()
    view.again(usd("0.9", view.now + DAY))
    assert view.refused(InvalidInput, usd("0.9", view.now + DAY + SECOND)).field == "as_of"


# --- over HTTP and on the command line ---------------------------------------------------------------------


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with open_service(database) as app:
        yield make_world(app)


def test_rates_over_http(world: World) -> None:
    """One, then many with a bad line among them, then the list in pages, the newest first."""
    one = {"base": "USD", "quote": "EUR", "rate": "0.90", "as_of": "2026-01-01T00:00:00Z", "source": "ECB"}
    first = world.call("ingest", "POST", "/rates", one)
    assert (first.status_code, first.json["rate"], first.json["as_of"]) == (201, "0.9", "2026-01-01T00:00:00Z")
    again = world.call("finance_checker", "POST", "/rates", one)
    assert (again.status_code, again.json) == (200, first.json)
    other = world.call("ingest", "POST", "/rates", one | {"rate": "0.8"})
    assert (other.status_code, other.json["errors"][0]["pointer"]) == (409, "/rate")
    # who retries and approves what lacked a rate does not set it
    assert [world.call(role, "POST", "/rates", one).status_code for role in ("auditor", "finance_maker")] == [403, 403]
    many = [one | {"as_of": f"2026-01-0{day}T00:00:00Z", "rate": f"0.9{day}"} for day in (3, 2, 4)]
    many += [one, one | {"rate": 0.9}, one | {"as_of": "2026-06-03T00:00:00Z"}]
    lines = "\n".join(json.dumps(line) for line in many)
    said = world.call("ingest", "POST", "/rates", data=lines, content_type="application/x-ndjson")
    assert [json.loads(line)["status"] for line in said.data.splitlines()] == [201, 201, 201, 200, 422, 422]
    shown, after = [], ""
    while after is not None:
        page = world.call("ingest", "GET", f"/rates?base=USD&quote=EUR&limit=3&after={after}").json
        shown += [(item["rate"], item["recorded_by"]) for item in page["items"]]
        after = page["next"]
    assert shown == [(rate, "ingest-holder") for rate in ("0.94", "0.93", "0.92", "0.9")]
    assert world.call("auditor", "GET", "/rates?base=EUR&quote=USD").json == {"items": [], "next": None}
    number = world.call("ingest", "POST", "/rates", one | {"rate": 0.79}).json["errors"]
    assert number == [{"pointer": "/rate", "detail": 'must be text such as "0.79"'}]
    day = world.call("ingest", "POST", "/rates", one | {"as_of": "2026-01-05"}).json["errors"]
    assert day == [{"pointer": "/as_of", "detail": 'must be an instant with a zone, such as "2026-01-31T00:00:00Z"'}]
    world.call("ingest", "POST", "/rates", one | {"base": "GBP", "quote": "CHF"})
    newest, after = [], ""
    while after is not None:
        page = world.call("auditor", "GET", f"/rates?limit=1&after={after}").json
        newest += [(item["base"], item["quote"], item["rate"]) for item in page["items"]]
        after = page["next"]
    assert newest == [("GBP", "CHF", "0.9"), ("USD", "EUR", "0.94")]
    assert world.call("auditor", "GET", "/rates?base=USD").json["errors"][0]["parameter"] == "quote"
    too_many = "\n".join([json.dumps(one)] * 1001)
    assert world.call("ingest", "POST", "/rates", data=too_many, content_type="application/x-ndjson").status_code == 413


def test_a_file_of_rates_on_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Imported once, however often; a bad file names each bad line and records nothing; a changed rate is named."""
    monkeypatch.setenv("DATABASE_URL", database_url(world))
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())
    monkeypatch.setenv("LEDGER_OPERATOR", "maria")
    file = tmp_path / "ecb.csv"

    def run(*verb: str) -> Any:
        return CliRunner().invoke(cli, ["rates", *verb, "-p", world.program], standalone_mode=False)

    def listed() -> list[list[str]]:
        return [line.split() for line in run("list", "--base", "USD", "--quote", "EUR").stdout.splitlines()[2:]]

    heading = "base,quote,rate,as_of,source\n"
    file.write_text(
        heading + "USD,EUR,0.9213,2026-01-06,ECB\nUSD,EUR,-1,2026-01-05,ECB\nUSD,EUR,1\nUSD,EUR,1,noon,ECB\n"
    )
    refused = run("import", str(file))
    assert isinstance(refused.exception, ImportRefused)
    assert "3 of its lines" in str(refused.exception)
    named = [line.partition("ecb.csv, ")[2][:13] for line in refused.stderr.splitlines()]
    assert named == ["line 3: rate:", "line 4: line:", "line 5: as_of"]
    assert listed() == []
    file.write_text(heading + "USD,EUR,0.9213,2026-01-06,ECB\nUSD,EUR,1.0870,2026-01-05T15:00:00+01:00,ECB\n\n")
    assert run("import", str(file)).stdout == "2 recorded, 0 were there already, 0 refused\n"
    assert run("import", str(file)).stdout == "0 recorded, 2 were there already, 0 refused\n"
    assert listed() == [["2026-01-06", "00:00", "0.9213", "ECB"], ["2026-01-05", "14:00", "1.087", "ECB"]]
    file.write_text(heading + "USD,EUR,0.9,2026-01-06,ECB\nUSD,EUR,0.9,2026-01-07,ECB\n")
    changed = run("import", str(file))
    assert isinstance(changed.exception, ImportRefused)
    assert "nothing was recorded" in str(changed.exception)
    assert "line 2: rate: USD/EUR at 2026-01-06 00:00 UTC of ECB is recorded as 0.9213, not 0.9" in changed.stderr
    assert len(listed()) == 2
    file.write_text(heading + "USD,EUR,0.9,2026-01-07,ECB\nUSD,EUR,0.8,2026-01-07,ECB\nUSD,EUR,1,2099-01-01,ECB\n")
    changed = run("import", str(file))
    assert "line 3: rate: USD/EUR at 2026-01-07 00:00 UTC of ECB was, further up, 0.9, not 0.8" in changed.stderr
    assert "line 4: as_of: must not be more than a day in the future" in changed.stderr
    assert len(listed()) == 2
    (pair,) = [line.split() for line in run("list").stdout.splitlines()[2:]]
    assert pair[:4] == ["USD/EUR", "0.9213", "2026-01-06", "00:00"]
    assert pair[5:] == ["ECB", "too", "old:", "prices", "nothing"]


def database_url(world: World) -> str:
    """Where the world's program is."""
    return str(world.ledger.pool.conninfo)
