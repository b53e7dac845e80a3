"""Sealing a log: `ledger seal` of a whole log that has no checkpoint yet, compared with only hashing the same export
lines. Memory as in benchmarks.memory: the small one's peak divided by the large one's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from hashlib import sha256

import psycopg

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, race
from benchmarks.world import World
from ledger.store.log import last_position, line_maker, select_rows

LINES_HELD = 100_000  # that hashing goes over again and again; all of a long log would not fit into memory
SEALED = ("tiles", "checkpoints", "sealing_keys", "retired_keys")


def comparisons(small: int, large: int) -> tuple[Comparison, Comparison]:
    """The rows to come, with the numbers of events."""
    return (
        Comparison(
            f"sealing {large:,} events: each hashed anew and compared, tree, signature",
            "seal large",
            "only hashing the same lines, in memory already",
            "hash",
            0.05,
            "events/s",
        ),
        Comparison(
            f"memory: sealing {small:,} events",
            "memory small",
            f"sealing {large:,} (0.8: it grows by a quarter at most)",
            "memory large",
            0.8,
            "MB at most",
        ),
    )


class Sealing:
    """The contenders."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        # the books of the other benchmarks: about one and a half events an entry
        sizes = plan.size(100_000, 200), plan.size(1_000_000, 400)
        self.small, self.large = (world.program_with_books(entries) for entries in sizes)
        self._memory: dict[str, float] = {}
        with world.ledger.reading(self.large) as (cur, id_):
            rows = select_rows(cur, id_, "books", 0, LINES_HELD)
        self._lines = list(map(line_maker(id_, "books"), rows))

    def events(self, program: str) -> int:
        """How many there are to seal."""
        with self._world.ledger.reading(program) as (cur, id_):
            return last_position(cur, id_, "books")

    def seal(self, program: str) -> float:
        """Events a second of `ledger seal` in a process of its own, its start included; its peak is kept."""
        with psycopg.connect(self._world.owner_url, autocommit=True) as conn:
            for table in SEALED:  # append-only, but for the owner of a benchmark's database
                conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER; TRUNCATE {table}".encode())
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peak", "seal", "--program", program, "--log", "books", "--json"],
            env={**self._world.environment(), "LEDGER_SIGNING_KEY": "01" * 32},
            cwd=World.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - started
        if done.returncode != 0:
            raise BenchmarkError(f"ledger seal failed: {done.stderr[-2000:]}")
        sealed = json.loads(done.stdout)["books"]
        if not sealed["size"] == sealed["new"] == self.events(program):
            raise BenchmarkError(f"not everything was sealed: {sealed}")
        self._memory[program] = int(done.stderr.split()[-1]) / 1_000_000
        return float(sealed["new"] / took)

    def memory(self, program: str) -> float:
        """The peak of the sealing before, megabytes; the small program is sealed here for it."""
        if program == self.small:
            self.seal(program)
        return self._memory[program]

    def hash(self) -> float:
        """Lines a second, as many as the large log has."""
        rounds, lines = max(1, self.events(self.large) // len(self._lines)), self._lines
        started = time.perf_counter()
        for _ in range(rounds):
            for line in lines:
                sha256(b"\x00" + line).digest()
        return rounds * len(lines) / (time.perf_counter() - started)


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about sealing."""
    sealing = Sealing(world, plan)
    contenders = {
        "seal large": lambda: sealing.seal(sealing.large),
        "hash": sealing.hash,
        "memory small": lambda: sealing.memory(sealing.small),
        "memory large": lambda: sealing.memory(sealing.large),
    }
    # Each sealing is a process of its own: nothing is there to be warmed.
    rows = comparisons(sealing.events(sealing.small), sealing.events(sealing.large))
    return race(contenders, rows, plan, warm_up=0)
