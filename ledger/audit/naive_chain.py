"""The chain of every counter: what each priced conversion said that a counter stood at must be the sum of all that was
counted before it. Conversions are checked by streams, counters run across them: so each part of the streams writes down
what it counted, and in the end all of it is read once, in the order of positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from pathlib import Path

import msgspec
from msgspec import Struct

from ledger.audit.findings import Findings

Claim = tuple[str, str, int, int]  # counter, what it counts, what was said of it, position of who said so
Delta = tuple[str, str, int]  # counter, what it counts, how much more


class Counted(Struct, array_like=True, gc=False):
    """What an event at a position counts. claims: to be compared before anything is added; order_id: of the event."""

    position: int
    order_id: str
    claims: list[Claim] = []
    adds: list[Delta] = []


Run = Path | list[Counted]  # in the order of positions


def written(counted: list[Counted], path: Path | None) -> Run:
    """Put what a part counted away, in order; in memory where there is no path."""
    counted.sort(key=attrgetter("position"))
    if path is None or not counted:
        return counted
    with path.open("wb") as file:
        for one in counted:
            file.write(msgspec.json.encode(one) + b"\n")
    return path


def check(runs: Iterable[Run], findings: Findings) -> int:
    """Compare all claims. (how many there were)"""
    stands: dict[tuple[str, str], int] = defaultdict(int)
    compared = 0
    for one in merge(*(_read(run) for run in runs), key=attrgetter("position")):
        for counter, by, said, position in one.claims:
            compared += 1
            if stands[counter, by] != said:
                expected = f"{by} of {counter} at {stands[counter, by]}"
                findings.report("counter_differs", "books", position, expected, said, f"order {one.order_id}")
        for counter, by, more in one.adds:
            stands[counter, by] += more
    return compared


def _read(run: Run) -> Iterator[Counted]:
    if isinstance(run, list):
        yield from run
        return
    decode = msgspec.json.Decoder(Counted).decode
    with run.open("rb") as file:
        for line in file:
            yield decode(line)
