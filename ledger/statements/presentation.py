"""What a statement needs beside its hashed content to be read by a person, and the sums its documents show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date

from msgspec import Struct, field

from ledger.domain.statement import Buckets
from ledger.statements.document import BUCKETS, StatementHead, StatementLine

# Lines in the order of (position, line_no), asked for anew by each pass: a document never holds them all.
Lines = Callable[[], Iterator[StatementLine]]

# Where an affiliate's money can be while it is owed; 'paid' is what has left.
OWED = ("pending", "held", "payable", "in_transit")


class StatementMismatch(ValueError):
    """The lines do not lead from the opening to the closing: no document is made of such a statement."""


class OpenDispute(Struct, frozen=True, kw_only=True):
    """A line the affiliate disputes. status: 'open' or 'answered'."""

    line_no: int
    position: int
    status: str


class StatementPayout(Struct, frozen=True, kw_only=True):
    """A payout of the period. amount: what left the payable balance; amount + vat_amount - withholding_amount is what
    was transferred; all minor units of currency. status: 'initiated', 'settled', 'failed', 'returned' or 'unknown';
    invoice_number: of the self-billing invoice, '' for none; credit_note_number: of the credit note that cancels it."""

    amount: int
    currency: str
    initiated_on: date
    payout_id: str
    status: str
    invoice_number: str = ""
    credit_note_number: str = ""
    vat_amount: int = 0
    withholding_amount: int = 0

    @property
    def transferred(self) -> int:
        """What the bank was told to pay, minor units."""
        return self.amount + self.vat_amount - self.withholding_amount


class YearMonth(Struct, frozen=True, kw_only=True):
    """A bar pair of the year's chart. period: '2026-03' (any other label is shown as it is); earned, paid: minor
    units of currency, below zero when more was taken back than earned."""

    currency: str
    earned: int
    paid: int
    period: str


class Presentation(Struct, frozen=True, kw_only=True):
    """A statement as it is shown to a person. hash: SHA-256 of its canonical form, hex; affiliate_name: '' when it
    is unknown or erased; language: a BCP 47 tag ('de', 'pt-BR' …), English when it is none of ours."""

    head: StatementHead
    hash: str
    affiliate_name: str = ""
    program_name: str = ""
    disputes: list[OpenDispute] = field(default_factory=list)
    payouts: list[StatementPayout] = field(default_factory=list)
    year: list[YearMonth] = field(default_factory=list)
    language: str = "en"


def owed(buckets: Buckets) -> int:
    """All that is owed, whether payable yet or not: minor units."""
    return sum(getattr(buckets, bucket) for bucket in OWED)


def change_of_owed(source: str, target: str, amount: int) -> int:
    """What a move does to what is owed in all: 0 between two buckets in which it is owed."""
    return (amount if target in OWED else 0) - (amount if source in OWED else 0)


class Effect:
    """What the lines of one kind did: how many there were, and the minor units each bucket gained or lost."""

    __slots__ = ("buckets", "count")

    def __init__(self) -> None:
        self.count = 0
        self.buckets = dict.fromkeys(BUCKETS, 0)


class Movements:
    """Sums of a statement's lines, by currency. Its size depends on the kinds of lines, not on their number."""

    def __init__(self, disputed: Iterable[tuple[int, int]] = ()) -> None:
        self.kinds: dict[tuple[str, str], Effect] = {}  # (currency, event)
        self.moved: dict[str, dict[str, int]] = {}  # currency → bucket or account of the program → minor units
        self.counts: dict[str, tuple[int, int]] = {}  # currency → lines, late lines
        self.disputed: dict[tuple[int, int], StatementLine | None] = dict.fromkeys(disputed)

    @property
    def line_count(self) -> int:
        """Lines in all currencies."""
        return sum(lines for lines, _ in self.counts.values())

    @property
    def late_count(self) -> int:
        """Late lines in all currencies."""
        return sum(late for _, late in self.counts.values())

    def add(self, line: StatementLine) -> None:
        """Count a line in."""
        effect = self.kinds.setdefault((line.currency, line.event), Effect())
        effect.count += 1
        moved = self.moved.setdefault(line.currency, {})
        for name, amount in ((line.source, -line.amount), (line.target, line.amount)):
            moved[name] = moved.get(name, 0) + amount
            if name in effect.buckets:
                effect.buckets[name] += amount
        lines, late = self.counts.get(line.currency, (0, 0))
        self.counts[line.currency] = lines + 1, late + line.late
        if (line.position, line.line_no) in self.disputed:
            self.disputed[line.position, line.line_no] = line

    def passing(self, lines: Iterable[StatementLine]) -> Iterator[StatementLine]:
        """The same lines, counted in as they pass."""
        for line in lines:
            self.add(line)
            yield line

    def check(self, head: StatementHead) -> None:
        """Raises StatementMismatch unless opening + lines = closing, and the counts agree, in every currency."""
        for section in head.sections:
            moved = self.moved.get(section.currency, {})
            for bucket in BUCKETS:
                expected = getattr(section.closing, bucket) - getattr(section.opening, bucket)
                if moved.get(bucket, 0) != expected:
                    found = moved.get(bucket, 0)
                    raise StatementMismatch(
                        f"{section.currency} {bucket}: the lines move {found} minor units, "
                        f"opening and closing differ by {expected}"
                    )
            counts = section.line_count, section.late_count
            if self.counts.get(section.currency, (0, 0)) != counts:
                found_counts = self.counts.get(section.currency, (0, 0))
                raise StatementMismatch(
                    f"{section.currency}: (lines, late lines) are {found_counts}, the statement says {counts}"
                )
        missing = self.counts.keys() - {section.currency for section in head.sections}
        if missing:
            raise StatementMismatch(f"lines in {', '.join(sorted(missing))}, but the statement has no such section")


def movements(presentation: Presentation, lines: Lines) -> Movements:
    """One pass over all lines, checked against the head. Raises StatementMismatch."""
    found = Movements((dispute.position, dispute.line_no) for dispute in presentation.disputes)
    for line in lines():
        found.add(line)
    found.check(presentation.head)
    return found
