"""Verbs for what runs by itself: the worker, and the history of its jobs."""

from __future__ import annotations

import signal
from typing import Any

import click
import msgspec

from ledger.cli.common import json_option, print_json, print_table, program_option
from ledger.jobplan import load_plan
from ledger.leadership import connection_name
from ledger.projections import job_runs
from ledger.service import open_service
from ledger.store.log import last_position
from ledger.worker import Pace, Worker, worker_name

_DEFAULT = Pace()


@click.command()
@click.option(
    "--once", is_flag=True, help="Run what is due now, then end: 0 done or led by another, 1 if a job failed."
)
@click.option(
    "--tick-seconds",
    type=click.FloatRange(0.05, 3600),
    default=_DEFAULT.tick_seconds,
    show_default=True,
    help="How often to look for due jobs.",
)
@click.option(
    "--frozen-seconds",
    type=click.FloatRange(5, 3600),
    default=_DEFAULT.frozen_seconds,
    show_default=True,
    help="A leading worker without a sign of life for so long is deposed; the same for all workers.",
)
def worker(once: bool, tick_seconds: float, frozen_seconds: float) -> int:
    """Run the jobs that are due, until stopped. Several workers may run: one leads, the others take over.

    SIGTERM lets each running job finish its commit. The jobs file (LEDGER_JOBS_FILE) says which jobs run how often.
    """
    plan = load_plan()
    name = worker_name()
    with open_service(name=connection_name(name)) as service:
        pace = _DEFAULT._replace(tick_seconds=tick_seconds, frozen_seconds=frozen_seconds)
        one = Worker(service.pool, service.secrets, service.database.app_url, name, plan=plan, pace=pace)
        if once:
            if not one.once():
                click.echo("another worker leads and runs the jobs; nothing was run here", err=True)
            return 1 if one.failures else 0
        _run(one)
    return 0


def _run(one: Worker) -> None:
    """Run until the first SIGTERM or SIGINT; the second does what it does in every verb."""
    before: dict[int, Any] = {}
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in (signal.SIGTERM, signal.SIGINT):
        before[each] = signal.signal(each, ask)
    try:
        one.run(lambda: bool(asked))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@program_option
@click.option("--job", metavar="JOB", help="Only of this job.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many, newest first.")
@json_option
def jobs(program: str, job: str | None, limit: int, as_json: bool) -> None:
    """Show which jobs ran, when they were due, and what became of them; newest first."""
    with open_service() as service, service.ledger.reading(program) as (cur, id_):
        last_position(cur, id_, "books")
        runs = job_runs.page(cur, id_, limit=limit, job=job)
    if as_json:
        print_json([run._asdict() for run in runs])
        return
    print_table(
        ("due (UTC)", "job", "attempt", "outcome", "seconds", "worker", "detail"), [_row(r) for r in runs], (4,)
    )


def _row(run: job_runs.JobRun) -> tuple[str, ...]:
    seconds = "" if run.finished_at is None else f"{(run.finished_at - run.started_at).total_seconds():.1f}"
    due = f"{run.due_at:%Y-%m-%d %H:%M:%S}"
    detail = msgspec.json.encode(run.detail).decode()
    return due, run.job, str(run.attempt), run.outcome, seconds, run.worker, detail


COMMANDS = (worker, jobs)
