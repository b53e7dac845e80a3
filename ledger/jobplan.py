"""Which jobs run for which program and how often: the operator's choice, from the file that LEDGER_JOBS_FILE names.

["*"]                        # every program
approve-due = "15m"          # s, m, h or d
[shop]                       # this program; it goes before "*", which goes before what the job itself says
attribute-waiting = false
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ledger.domain.errors import InvalidInput
from ledger.domain.ids import check_slug
from ledger.jobs import JOBS, Job

VARIABLE = "LEDGER_JOBS_FILE"
EVERY_PROGRAM = "*"
LONGEST = timedelta(days=366)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"([1-9]\d{0,8})([smhd])")

Choice = bool | timedelta


class JobPlan:
    """What an operator chose. choices: program or '*' → job → on, off or the interval."""

    def __init__(self, choices: Mapping[str, Mapping[str, Choice]] | None = None) -> None:
        self._choices = choices or {}

    @property
    def programs(self) -> list[str]:
        """The programs that the operator named."""
        return sorted(set(self._choices) - {EVERY_PROGRAM})

    def interval(self, program: str, job: Job) -> timedelta | None:
        """How often a job runs for a program, or None for never."""
        for name in (program, EVERY_PROGRAM):
            choice = self._choices.get(name, {}).get(job.name)
            if isinstance(choice, timedelta):
                return choice
            if choice is not None:
                return job.interval if choice else None
        return job.interval if job.on else None


def load_plan(env: Mapping[str, str] | None = None, jobs: Sequence[Job] = JOBS) -> JobPlan:
    """The plan in the file that the environment names; without one, what the jobs themselves say.

    Raises InvalidInput naming the entry that is wrong and what would be right.
    """
    path = (os.environ if env is None else env).get(VARIABLE)
    if not path:
        return JobPlan()
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise InvalidInput(VARIABLE, f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise InvalidInput(VARIABLE, f"{path} is not TOML: {problem}") from None
    return JobPlan({program: _choices(program, table, jobs) for program, table in tables.items()})


def _choices(program: str, table: Any, jobs: Sequence[Job]) -> dict[str, Choice]:
    if program != EVERY_PROGRAM:
        check_slug(f"{VARIABLE}: [{program}]", program)
    known = [job.name for job in jobs]
    if not isinstance(table, dict):
        raise InvalidInput(f"{VARIABLE}: {program}", f'must stand under a program, such as ["{EVERY_PROGRAM}"]')
    for name in table:
        if name not in known:
            raise InvalidInput(
                f"{VARIABLE}: [{program}] {name}",
                f"is no job; there are {', '.join(known)} (a program's id with a dot stands in quotes)",
            )
    return {name: _choice(f"{VARIABLE}: [{program}] {name}", value) for name, value in table.items()}


def _choice(field: str, value: Any) -> Choice:
    if isinstance(value, bool):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found:
        interval = timedelta(**{_UNITS[found[2]]: int(found[1])})
        if interval <= LONGEST:
            return interval
    raise InvalidInput(field, 'must be true, false, or an interval such as "90s", "15m", "6h" or "1d", up to 366d')
