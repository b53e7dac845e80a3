"""`ledger bench`: measure what the README promises, on this machine, now."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from benchmarks.harness import BenchmarkError, Plan, Row, document, say, table
from benchmarks.world import World, world
from ledger.service import tune_collector

# name → module, imported when it is wanted
SUBJECTS = {
    "clicks": "benchmarks.clicks",
    "conversions": "benchmarks.conversions",
    "rebuild": "benchmarks.books",
    "http-conversions": "benchmarks.http_conversions",
    "http-balance": "benchmarks.http_balance",
    "memory": "benchmarks.memory",
    "closing": "benchmarks.closing",
    "sealing": "benchmarks.sealing",
    "verifying": "benchmarks.verifying",
    "plans": "benchmarks.plans",
    "attributing": "benchmarks.attributing",
    "simulating": "benchmarks.simulating",
}
RUNS = 5


def main(argv: Sequence[str]) -> int:
    """Measure, and print a table or (--json) one document. Returns 0 also when a goal was not met, which is a finding
    and not a failure; 1 when something did not do its work (its rows are missing, and standard error says why)."""
    wanted = _arguments().parse_args(argv)
    plan = Plan(1 if wanted.quick else wanted.runs, wanted.quick)
    rows: list[Row] = []
    failed = False
    tune_collector()  # as the service does
    with world() as place:
        for name in wanted.only or SUBJECTS:
            say(f"{name} …")
            try:
                rows += _measure(name, place, plan)
            except BenchmarkError as error:
                # The others' figures are worth having: some took minutes.
                print(f"bench: {name}: {error}", file=sys.stderr)
                failed = True
    print(document(rows) if wanted.json else table(rows), flush=True)
    return int(failed)


def _measure(name: str, place: World, plan: Plan) -> list[Row]:
    rows: list[Row] = importlib.import_module(SUBJECTS[name]).measure(place, plan)
    return rows


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ledger bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument(
        "--only", action="append", choices=list(SUBJECTS), metavar="NAME", help=f"one of {', '.join(SUBJECTS)}"
    )
    parser.add_argument("--runs", type=_at_least_one, default=RUNS, help=f"runs a contender (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help="one small run: shows that it works, not how fast")
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
