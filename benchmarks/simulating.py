"""What if: simulating a tiered plan on a program's history, beside nothing but replaying the same log, and its memory
when there is ten times as much.

The large log is the small one's sales over and over, copied within the log under other ids: what is measured only reads
it, and a million sales by commands would take a quarter of an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import psycopg

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, race
from benchmarks.world import CURRENCY, OFFER, World
from ledger.domain.ids import program_id
from ledger.domain.stream_keys import stream_key
from ledger.domain.topics import FOLDS
from ledger.simulating.report import simulated
from ledger.simulating.trial import trial_of
from ledger.store import codec, log

GOAL, MEMORY_GOAL = 0.1, 0.8
EVENTS_AT_ONCE = 5_000
TERMS: dict[str, Any] = {
    "hold_days": 30,
    "window_days": 30,
    "plan": {
        "plan": 1,
        "currency": CURRENCY,
        "rules": [
            {
                "id": "all",
                "pay": {
                    "tiers": {
                        "by": "revenue",
                        "period": "month",
                        "steps": [{"from": 0, "rate_bps": 900}, {"from": 10_000_000, "rate_bps": 1000}],
                    }
                },
            }
        ],
        "min_amount": 50,
        "caps": [{"id": "most", "level": "affiliate", "by": "commission", "period": "month", "limit": 10**12}],
    },
}
_COPY = """
INSERT INTO book_events (program_id, position, originator_id, originator_version, topic, recorded_at, actor, key_id,
                         request_id, cause, state, leaf_hash)
SELECT program_id, position + copy * %(last)s, md5(copy || originator_id::text)::uuid, originator_version, topic,
       recorded_at, actor, key_id, request_id, cause,
       replace(replace(state, '"order-', '"order-' || copy || '-'), '"return-', '"return-' || copy || '-'), leaf_hash
  FROM book_events, generate_series(1, %(copies)s) AS copy
 WHERE program_id = %(program_id)s AND state LIKE '%%"order-%%'
"""


def sizes(plan: Plan) -> tuple[int, int]:
    """Sales of the small and of the large program."""
    return plan.size(100_000, 200), plan.size(1_000_000, 400)


def comparisons(plan: Plan) -> tuple[Comparison, Comparison]:
    """The rows to come."""
    small, large = sizes(plan)
    return (
        Comparison(
            f"simulate: a tiered plan on {small:,} sales",
            "simulate",
            "only reading and folding the same log",
            "fold",
            GOAL,
            "events/s",
        ),
        Comparison(
            f"memory: simulating {small:,} sales",
            "memory small",
            f"simulating {large:,} (0.8: it grows by a quarter at most)",
            "memory large",
            MEMORY_GOAL,
            "MB at most",
        ),
    )


class Simulating:
    """The contenders."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.small, self.large = sizes(plan)
        self.programs = [world.program_with_books(2 * self.small), self._large()]
        self.terms = world.server.home / "terms.json"
        self.terms.write_text(json.dumps(TERMS))

    def _large(self) -> str:
        """A program with the small one's sales several times."""
        program = self.world.open_program("simulated-large")
        for start in range(0, self.small, 1000):
            self.world.sell(program, range(start, min(start + 1000, self.small)))
        id_ = program_id(program)
        with psycopg.connect(self.world.owner_url) as conn, conn.cursor() as cur:
            last, copies = log.last_position(cur, id_, "books"), self.large // self.small - 1
            cur.execute(_COPY, {"program_id": id_, "last": last, "copies": copies})
            cur.execute(
                "UPDATE log_heads SET next_position = next_position + %s WHERE program_id = %s AND log = 'books'",
                (last * copies, id_),
            )
        with psycopg.connect(self.world.owner_url, autocommit=True) as conn:
            conn.execute("VACUUM ANALYZE book_events")
        return program

    def simulate(self) -> float:
        """Events of the log a second."""
        trial = trial_of(OFFER, TERMS, None, None, None)
        began = time.perf_counter()
        with (
            self.world.pool.connection() as conn,
            simulated(conn, self.programs[0], self.world.secrets, trial) as found,
        ):
            seconds = time.perf_counter() - began
            seen, last = found.document["conversions"]["seen"], found.position
        if seen != self.small:
            raise BenchmarkError(f"{seen} sales were simulated, not {self.small}")
        return last / seconds

    def fold(self) -> float:
        """The same log read and decoded, and every stream folded by the ledger's own folds. Events a second."""
        states: dict[Any, Any] = {}
        id_, after = program_id(self.programs[0]), 0
        began = time.perf_counter()
        with self.world.ledger.reading(self.programs[0]) as (cur, _):
            while rows := log.select_rows(cur, id_, "books", after, EVENTS_AT_ONCE):
                for row in rows:
                    event = codec.decode_state(row[3], row[9])
                    fold = FOLDS[stream_key(event).partition(":")[0]]
                    states[row[1]] = fold(states.get(row[1]), event)
                after = rows[-1][0]
        return after / (time.perf_counter() - began)

    def memory(self, which: int) -> float:
        """`ledger simulate`, in a process of its own: its peak in megabytes."""
        done = subprocess.run(
            [
                sys.executable, "-m", "benchmarks.peak", "simulate", "--program", self.programs[which],
                "--offer", OFFER, "--terms", str(self.terms), "--json",
            ],
            env=self.world.environment(),
            cwd=World.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise BenchmarkError(f"ledger simulate failed: {done.stderr[-2000:]}")
        seen = json.loads(done.stdout)["conversions"]["seen"]
        if seen != (self.small, self.large)[which]:
            raise BenchmarkError(f"{seen} sales were simulated, not {(self.small, self.large)[which]}")
        return int(done.stderr.split()[-1]) / 1_000_000


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about simulations."""
    work = Simulating(world, plan)
    speed, memory = comparisons(plan)
    rows = race({"simulate": work.simulate, "fold": work.fold}, [speed], plan)
    # Each run is a process of its own: nothing is there to be warmed.
    contenders = {"memory small": lambda: work.memory(0), "memory large": lambda: work.memory(1)}
    return rows + race(contenders, [memory], plan, warm_up=0)
