"""Which jobs are due when, and the operator's choice of what runs how often."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.domain.errors import InvalidInput
from ledger.jobplan import JobPlan, load_plan
from ledger.jobs import JOBS, Job, due_at

MINUTE = timedelta(minutes=1)


def nothing(*_: Any) -> Mapping[str, Any]:
    return {}


def job(name: str, on: bool = True) -> Job:
    return Job(name, MINUTE, nothing, on)


# --- due times ---------------------------------------------------------------------------------------------------


def test_due_times_are_whole_intervals_in_utc() -> None:
    """The newest one at or before the instant, whatever zone the instant is written in."""
    at = datetime(2026, 3, 1, 12, 34, 56, 789, tzinfo=UTC)
    assert due_at(at, timedelta(minutes=10)) == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert due_at(at, timedelta(days=1)) == datetime(2026, 3, 1, tzinfo=UTC)
    on_time = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert due_at(on_time, timedelta(minutes=10)) == on_time


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_a_clock_change_makes_no_due_time_twice_or_never(day: datetime) -> None:
    """Minute by minute through both nights of Berlin: an hourly job is due 24 times a UTC day, an hour apart."""
    minutes = [(day + n * MINUTE).astimezone(ZoneInfo("Europe/Berlin")) for n in range(24 * 60)]
    found = list(dict.fromkeys(due_at(minute, timedelta(hours=1)) for minute in minutes))
    assert found == [day + timedelta(hours=n) for n in range(24)]


# --- the operator's choice -------------------------------------------------------------------------------------------


def plan(tmp_path: Path, text: str) -> JobPlan:
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    return load_plan({"LEDGER_JOBS_FILE": str(path)}, [job("one"), job("two")])


def test_the_jobs_file_says_what_runs_how_often(tmp_path: Path) -> None:
    """A program's own entry goes before '*', which goes before the job's default; true is the job's own interval."""
    found = plan(tmp_path, '["*"]\none = false\ntwo = "90s"\n[shop]\none = true\n["my.shop"]\ntwo = "2d"\n')
    one, two, off = job("one"), job("two"), job("three", on=False)
    assert [found.interval(program, one) for program in ("shop", "other")] == [MINUTE, None]
    assert [found.interval(program, two) for program in ("shop", "my.shop")] == [
        timedelta(seconds=90),
        timedelta(days=2),
    ]
    assert (found.interval("shop", off), JobPlan().interval("shop", one)) == (None, MINUTE)
    assert found.programs == ["my.shop", "shop"]
    assert load_plan({}).interval("shop", one) == MINUTE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('["*"]\nthree = true', r"\[\*\] three: is no job; there are one, two"),
        ('["*"]\none = "1w"', r'\[\*\] one: must be true, false, or an interval such as "90s"'),
        ('["*"]\none = 5', r"\[\*\] one: must be true"),
        ('["*"]\none = "0s"', r"\[\*\] one: must be true"),
        ('["*"]\none = "999d"', r"up to 366d"),
        ("[my.shop]\none = true", r"\[my\] shop: is no job.*stands in quotes"),
        ("one = true", r"one: must stand under a program"),
        ('["no such"]', r"must be 1-64 characters"),
        ("[", "is not TOML"),
    ],
)
def test_a_wrong_jobs_file_is_refused_by_entry(tmp_path: Path, text: str, says: str) -> None:
    """The entry is named, and what would be right."""
    with pytest.raises(InvalidInput, match=says):
        plan(tmp_path, text)


def test_a_jobs_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """Not silently the defaults."""
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        load_plan({"LEDGER_JOBS_FILE": str(tmp_path / "none.toml")})


def test_the_documentation_lists_every_job() -> None:
    """Name and default interval, as declared."""
    page = (Path(__file__).parents[1] / "docs" / "scheduler.md").read_text()
    table = page[page.index("## The jobs") : page.index("## Due times")]
    words = {
        timedelta(seconds=10): "10 seconds",
        timedelta(minutes=1): "1 minute",
        timedelta(minutes=10): "10 minutes",
        timedelta(hours=1): "hour",
        timedelta(days=1): "day",
    }
    shown = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", table, re.MULTILINE))
    assert shown == {one.name: words[one.interval] for one in JOBS}


def test_the_declared_jobs_have_names_and_actors_that_the_log_takes() -> None:
    """No two alike; a name that is none is refused where it is declared."""
    assert len({one.name for one in JOBS}) == len(JOBS)
    assert JOBS[0].actor == f"job.{JOBS[0].name}"
    with pytest.raises(ValueError, match="a job's name"):
        job("Two Words")
