"""Memory stays flat: the peak of a process that imports or rebuilds, beside that of one with ten times as much to do.

The ratio is the small one's peak divided by the large one's, so that here, too, more is better: 0.8 allows the peak
to grow by a quarter while the data grows tenfold.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, race
from benchmarks.world import AFFILIATES, OFFER, START, World
from ledger.domain.ids import program_id
from ledger.projections.rebuild import clear_old_generations

GOAL = 0.8
UNIT = "MB at most"
MAPPING = World.ROOT / "examples" / "online-retail.toml"
LINES_OF_ORDER = 20  # as in the real file, on average
RETURNED_OF = 50  # one order in so many has a refund


def comparisons(plan: Plan) -> tuple[Comparison, Comparison]:
    """The rows to come, with their sizes."""
    entries, lines = rebuild_sizes(plan), import_sizes(plan)
    return (
        Comparison(
            f"memory: rebuilding {entries[0]:,} journal entries",
            "rebuild small",
            f"rebuilding {entries[1]:,} (0.8: it grows by a quarter at most)",
            "rebuild large",
            GOAL,
            UNIT,
        ),
        Comparison(
            f"memory: importing {lines[0]:,} order lines",
            "import small",
            f"importing {lines[1]:,} (0.8: it grows by a quarter at most)",
            "import large",
            GOAL,
            UNIT,
        ),
    )


def rebuild_sizes(plan: Plan) -> tuple[int, int]:
    """Journal entries of the small and of the large program."""
    return plan.size(100_000, 200), plan.size(1_000_000, 400)


def import_sizes(plan: Plan) -> tuple[int, int]:
    """Lines of the small and of the large file."""
    return plan.size(20_000, 200), plan.size(200_000, 1_000)


class Memory:
    """The contenders; each returns a peak in megabytes."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.programs = [world.program_with_books(entries) for entries in rebuild_sizes(plan)]
        self.files = [orders_file(world.server.home / f"orders-{n}.csv", n) for n in import_sizes(plan)]
        self._imports = 0

    def rebuild(self, which: int) -> float:
        """`ledger rebuild`, in a process of its own."""
        program = self.programs[which]
        peak = self._peak("rebuild", "--program", program)
        with closing(psycopg.connect(self.world.owner_url, autocommit=True)) as conn:
            clear_old_generations(conn, program_id(program))
            conn.execute("VACUUM journal, balances")
        return peak

    def import_orders(self, which: int) -> float:
        """`ledger import orders` into a program that has none."""
        self._imports += 1
        program = self.world.open_program(f"import-{self._imports}")
        target = ("--program", program, "--offer", OFFER, "--mapping", str(MAPPING))
        return self._peak("import", "orders", str(self.files[which]), *target, "--enrol-affiliates", "--json")

    def _peak(self, *verb: str) -> float:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peak", *verb],
            env=self.world.environment(),
            cwd=World.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(f"ledger {' '.join(verb)} failed: {done.stderr[-2000:]}")
        if verb[0] == "import" and not json.loads(done.stdout)["orders"]:
            raise BenchmarkError(f"nothing was imported: {done.stdout}")
        return int(done.stderr.split()[-1]) / 1_000_000


def orders_file(path: Path, lines: int) -> Path:
    """Write a merchant's export in the form of the real one, with some refunds."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        write = csv.writer(file)
        write.writerow(
            ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
        )
        write.writerows(_lines(lines))
    return path


def _lines(count: int) -> Iterator[list[object]]:
    for order in range(count // LINES_OF_ORDER):
        at = START + timedelta(minutes=order)
        day, customer = f"{at:%Y-%m-%d %H:%M:%S}", 10_000 + order % 3000
        country = f"Country {order % AFFILIATES}"
        returned = order % RETURNED_OF == RETURNED_OF - 1
        for line in range(LINES_OF_ORDER - returned):
            yield [100_000 + order, 20_000 + line, "A THING", 1 + line, day, f"{line}.25", customer, country]
        if returned:
            yield [f"C{100_000 + order}", 20_003, "A THING", -1, day, "3.25", customer, country]


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about memory."""
    memory = Memory(world, plan)
    contenders = {
        "rebuild small": lambda: memory.rebuild(0),
        "rebuild large": lambda: memory.rebuild(1),
        "import small": lambda: memory.import_orders(0),
        "import large": lambda: memory.import_orders(1),
    }
    # Each run is a process of its own: nothing is there to be warmed.
    return race(contenders, comparisons(plan), plan, warm_up=0)
