"""A worker in a process of its own, with a clock that its tests set and a job that they can watch: to be killed, frozen
and stopped.

python worker_process.py race NAME TICKS        walk through so many due times as fast as they can be had
python worker_process.py serve NAME CLOCK HOW   what `ledger worker` does, with the job 'sell'; CLOCK: a file that holds
                                                the minute; HOW: JSON with frozen_seconds and seller()'s arguments
with DATABASE_URL in the environment
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from support import MASTER_KEY, PROGRAM, T0, Clock, program_id, sale

from ledger.application import CommissionLedger
from ledger.batches import Outcome
from ledger.desk import Meta
from ledger.domain.errors import Unavailable
from ledger.domain.event import Decision
from ledger.domain.recording import RecordConversion
from ledger.domain.view import View
from ledger.jobs import Job
from ledger.leadership import connection_name
from ledger.projections import job_runs
from ledger.store.database import Pool, make_pool
from ledger.store.vault import Secrets
from ledger.worker import Pace, Worker

MINUTE = timedelta(minutes=1)
RUNS_IN_A_ROW = 20


def say(*words: object) -> None:
    """A line for the test, written whole."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class WatchedSale(RecordConversion, frozen=True):
    """A sale that says when it is being decided, in the middle of its transaction, and takes its time over it."""

    def decide(self, view: View) -> Decision:
        """See Command.decide."""
        say("deciding", self.order_id)
        time.sleep(float(os.environ.get("DECIDING_SECONDS", "0")))
        return super().decide(view)


def race(worker: Worker, job: Job, clock: Clock, ticks: int) -> None:
    """Each due time in turn, as soon as the one before is done, by whomever. The lead goes round."""
    in_a_row = 0
    while clock.now < T0 + ticks * MINUTE:
        if not worker.leadership.leading:
            worker.leadership.beat()
        worker.look(job)
        with worker._pool.connection() as conn:
            id_ = job_runs.Due(program_id(PROGRAM), job.name, clock.now)
            row = conn.execute(
                "SELECT 1 FROM job_runs WHERE program_id = %s AND job = %s AND due_at = %s AND outcome = 'done'", id_
            ).fetchone()
        if row is None:
            time.sleep(0.02)
            continue
        clock.now += MINUTE
        in_a_row += worker.leadership.leading
        if in_a_row == RUNS_IN_A_ROW:
            in_a_row = 0
            worker.leadership.resign()
            time.sleep(0.05)
    worker.leadership.resign()


def sell_once(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """An effect that is counted twice if the job runs twice: nothing in it is idempotent."""
    ledger.execute_many(program, [sale(secrets.token_hex(8))], meta)
    return {}


def seller(commits: int, again: bool = False) -> Callable[..., Mapping[str, Any]]:
    """The job 'sell': so many sales, a commit each, with ids that a second attempt recognises. again: one that would do
    harm, and would not give up: each attempt has ids of its own, and an outage is waited out."""

    def sell(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
        done = 0
        for number in range(commits):
            attempt = f"-{meta.request_id.rpartition('.')[2]}" if again else ""
            order = sale(f"{due_at:%H%M}-{number}{attempt}")
            watched = WatchedSale(**{field: getattr(order, field) for field in order.__struct_fields__})

            outcome: Outcome | None = None
            while outcome is None:
                try:
                    outcome = ledger.execute_many(program, [watched], meta)[0]
                except Unavailable:
                    if not again:
                        raise
            done += getattr(outcome, "outcome", "") == "recorded"
        return {"sold": done}

    return sell


def serve(pool: Pool, url: str, name: str, minute: Path, how: dict[str, Any]) -> None:
    """What `ledger worker` does, until SIGTERM."""
    began = time.monotonic()

    def clock() -> datetime:
        # the pause after a failure must pass, and the minute must not
        return T0 + int(minute.read_text()) * MINUTE + timedelta(seconds=min(59, time.monotonic() - began))

    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    pace = Pace(0.1, 0.2, how.pop("frozen_seconds"), timedelta(seconds=0.2))
    jobs = [Job("sell", MINUTE, seller(**how))]
    Worker(pool, Secrets(MASTER_KEY), url, name, jobs=jobs, clock=clock, pace=pace).run(lambda: bool(stop))


def main() -> None:
    """See the module."""
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # as the `ledger` command has it
    mode, name = sys.argv[1:3]
    url = os.environ["DATABASE_URL"]
    with make_pool(url, min_size=1, max_size=4, name=connection_name(name)) as pool:
        if mode == "serve":
            serve(pool, url, name, Path(sys.argv[3]), json.loads(sys.argv[4]))
            return
        clock = Clock(T0)
        job = Job("sell", MINUTE, sell_once)
        race(Worker(pool, Secrets(MASTER_KEY), url, name, jobs=[job], clock=clock), job, clock, int(sys.argv[3]))


if __name__ == "__main__":
    main()
