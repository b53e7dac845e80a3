"""How everything is measured: contenders in turns (A B C A B C …), one comparison a row, medians, a table and JSON."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg


class BenchmarkError(Exception):
    """What was measured did not do its work; the message says what was wrong."""


class Comparison(NamedTuple):
    """A row to come: two contenders by name, and the ratio of their rates that is wanted.

    goal None: printed for the reader's judgement, and no part of the JSON document.
    """

    work: str
    subject: str
    compared_with: str
    baseline: str
    goal: float | None
    unit: str


class Row(NamedTuple):
    """A measured comparison. ratio: the median over the runs of subject / baseline, measured next to each other;
    subject and baseline: the two medians, in units (a second, or of memory)."""

    work: str
    compared_with: str
    ratio: float
    goal: float | None
    runs: int
    subject: float
    baseline: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the ratio reaches the goal."""
        return self.goal is None or self.ratio >= self.goal


# Does a run's work and returns its rate, in units a second.
Contender = Callable[[], float]


class Plan(NamedTuple):
    """How much is measured. quick: a smoke test, whose figures mean nothing."""

    runs: int
    quick: bool

    def size(self, full: int, quick: int) -> int:
        """How many of something this plan wants."""
        return quick if self.quick else full


def race(
    contenders: Mapping[str, Contender],
    comparisons: Sequence[Comparison],
    plan: Plan,
    calm: Callable[[], None] = lambda: None,
    warm_up: int = 1,
) -> list[Row]:
    """Let the contenders run in turns and compare them. calm: called once before, unmeasured; warm_up: how many turns
    fill caches and do not count (none in a smoke test)."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    warm_up = 0 if plan.quick else warm_up
    calm()
    for turn in range(warm_up + plan.runs):
        for name, run in contenders.items():
            say(f"  {'warm-up' if turn < warm_up else f'run {turn - warm_up + 1} of {plan.runs}'}: {name}")
            rate = _undisturbed(run)
            if turn >= warm_up:
                rates[name].append(rate)
    return [row_of(comparison, rates) for comparison in comparisons]


def row_of(comparison: Comparison, rates: Mapping[str, Sequence[float]]) -> Row:
    """A comparison's row from what its two contenders reached, run by run."""
    subject, baseline = rates[comparison.subject], rates[comparison.baseline]
    # Neighbours are divided before the median is taken: what slows the machine for a while slows both.
    ratio = statistics.median(s / b for s, b in zip(subject, baseline, strict=True))
    return Row(
        comparison.work,
        comparison.compared_with,
        ratio,
        comparison.goal,
        len(subject),
        statistics.median(subject),
        statistics.median(baseline),
        comparison.unit,
    )


def _undisturbed(run: Contender) -> float:
    """Run with the garbage collector as in production, except that what was prepared before is not its business."""
    gc.collect()
    gc.freeze()
    try:
        return run()
    finally:
        gc.unfreeze()


class Stopwatch:
    """Adds up the measured parts of a run."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    def rate(self, count: int) -> float:
        """Units a second."""
        return count / self.seconds


def checkpoint(superuser_url: str) -> Callable[[], None]:
    """For race(): start with everything written. Once and not every turn, because just after a checkpoint the server
    logs whole pages, which costs both sides the same and so would flatter whoever is slower otherwise."""

    def calm() -> None:
        with psycopg.connect(superuser_url, autocommit=True) as conn:
            conn.execute("CHECKPOINT")

    return calm


# --- telling -------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Progress, for somebody who watches; nothing in a pipe."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Row]) -> str:
    """The rows for reading, with both medians."""
    lines = []
    for row in rows:
        goal = "for comparison" if row.goal is None else f"goal {row.goal:g}: {'met' if row.met else 'NOT MET'}"
        lines.append(f"{row.work}\n    compared with {row.compared_with}")
        medians = f"{_figure(row.subject)} against {_figure(row.baseline)} {row.unit}"
        runs = f"median of {row.runs} run" + ("s" if row.runs != 1 else "")
        lines.append(f"    {_ratio(row.ratio)} x  ({goal})   {medians}, {runs}\n")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def document(rows: Sequence[Row]) -> str:
    """The rows as one JSON document."""
    found: list[dict[str, Any]] = [
        {
            "work": row.work,
            "compared_with": row.compared_with,
            "ratio": float(f"{row.ratio:.4g}"),
            "goal": row.goal,
            "met": row.met,
            "runs": row.runs,
        }
        for row in rows
        if row.goal is not None
    ]
    return json.dumps(found, indent=2)
