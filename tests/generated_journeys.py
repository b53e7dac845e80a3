"""Journeys for comparing attribution with an independent package: the same ones on every machine.

python tests/generated_journeys.py > journeys.csv     path,conversions,value (minor units); touches in order of time
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

SEED, COUNT = 20_261_122, 12_000
AFFILIATES = tuple(f"affiliate-{number:02}" for number in range(16))
MOST = 14  # touches of a journey


class Journey(NamedTuple):
    """touches: affiliate ids, the first one first; value: of the sale, minor units."""

    touches: list[str]
    value: int


def _numbers(seed: int) -> Iterator[int]:
    """32 bits at a time, by Knuth's MMIX generator: a library's own may change."""
    state = seed
    while True:
        state = (6_364_136_223_846_793_005 * state + 1_442_695_040_888_963_407) % 2**64
        yield state >> 32


def journeys() -> Iterator[Journey]:
    """COUNT journeys: most of them short, a few affiliates in most of them, some of them twice in one."""
    numbers = _numbers(SEED)
    for _ in range(COUNT):
        length = 1 + min(next(numbers) % MOST, next(numbers) % MOST)
        touches = [AFFILIATES[min(next(numbers) % 16, next(numbers) % 16)] for _ in range(length)]
        yield Journey(touches, 100 + next(numbers) % 100_000)


def main() -> None:
    """All of them, as the package reads them."""
    print("path,conversions,value")
    for one in journeys():
        print(f"{' > '.join(one.touches)},1,{one.value}")


if __name__ == "__main__":
    sys.exit(main())
