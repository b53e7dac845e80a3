"""Statements to look at and to test with: what the lines move is summed here, naively, into opening and closing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from ledger.domain.statement import Buckets, Section
from ledger.statements.document import BUCKETS, StatementHead, StatementLine, digest, encoded
from ledger.statements.presentation import OpenDispute, Presentation, StatementPayout, YearMonth

MARCH = datetime(2026, 2, 28, 23, 0, tzinfo=UTC)  # midnight in Berlin
APRIL = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)  # summer time has begun
LONG_PAYOUT = "PO7QK2MZ4XW3TB6N5YRC8HVD2JFA9SLE1GU"  # 35 letters, as many as a bank takes
FLOW = {
    "CommissionAccrued": ("commission", "pending"),
    "ConversionHeld": ("pending", "held"),
    "ConversionReleased": ("held", "pending"),
    "ConversionApproved": ("pending", "payable"),
    "ConversionRejected": ("pending", "commission"),
    "ConversionReversed": ("payable", "commission"),
    "AdjustmentPosted": ("adjustment", "payable"),
    "PayoutInitiated": ("payable", "in_transit"),
    "PayoutSettled": ("in_transit", "paid"),
    "PayoutReturned": ("paid", "payable"),
}


def line(
    position: int,
    event: str,
    amount: int,
    currency: str = "EUR",
    *,
    day: float = 1,
    reference: str = "",
    line_no: int = 0,
    way: tuple[str, str] | None = None,
) -> StatementLine:
    """A line `day` days after the first of March; before it, the line is late."""
    source, target = way or FLOW[event]
    effective_at = MARCH + timedelta(days=day, hours=9.5, minutes=position % 60)
    return StatementLine(
        amount=amount,
        currency=currency,
        effective_at=effective_at,
        event=event,
        late=effective_at < MARCH,
        line_no=line_no,
        position=position,
        recorded_at=max(effective_at, MARCH) + timedelta(minutes=7),
        reference=reference or f"order-{position}",
        source=source,
        target=target,
    )


def head(lines: Sequence[StatementLine], openings: dict[str, Buckets], **changes: object) -> StatementHead:
    """The head that fits the lines."""
    sections = []
    for currency in sorted({*openings, *(line.currency for line in lines)}):
        mine = [line for line in lines if line.currency == currency]
        opening = openings.get(currency, Buckets())
        closing = {
            bucket: getattr(opening, bucket)
            + sum(line.amount for line in mine if line.target == bucket)
            - sum(line.amount for line in mine if line.source == bucket)
            for bucket in BUCKETS
        }
        late = sum(line.late for line in mine)
        sections.append(
            Section(
                currency=currency, opening=opening, closing=Buckets(**closing), line_count=len(mine), late_count=late
            )
        )
    fields: dict[str, object] = {
        "affiliate_id": "mila",
        "ends_at": APRIL,
        "period": "2026-03",
        "position": 48_213,
        "program": "shop",
        "sections": sections,
        "starts_at": MARCH,
        "version": 1,
        "zone": "Europe/Berlin",
    }
    return StatementHead(**(fields | changes))  # type: ignore[arg-type]


def month_lines() -> list[StatementLine]:
    """A month in three currencies: 60 lines, four of them late, long and hostile references, more taken back than
    was payable in JPY."""
    lines = []
    for n in range(24):
        day = (n * 29) // 24 if n % 9 else -12 + n // 9
        reference = f"A-{20260300 + n}" if n % 7 else f"marketplace-order-{n:04}-7f3a9c0e5b1d4c2a8e6f-partial-shipment"
        lines.append(line(41_000 + 13 * n, "CommissionAccrued", 1_249 + 377 * n, day=day, reference=reference))
        if n % 3 == 0:
            lines.append(
                line(45_000 + 7 * n, "ConversionApproved", 1_249 + 377 * n, day=14 + n / 3, reference=reference)
            )
        if n in (4, 10):
            lines.append(line(46_000 + n, "ConversionHeld", 1_249 + 377 * n, day=20, reference=reference))
        if n == 7:
            lines.append(line(46_100, "ConversionRejected", 1_249 + 377 * n, day=21, reference=reference))
    first, second = "po-2026-03-0007", LONG_PAYOUT
    lines += [
        line(46_200, "ConversionReversed", 2_380, day=22, reference='=HYPERLINK("http://evil.example","free")'),
        line(46_300, "AdjustmentPosted", 5_000, day=23, reference="adj-2026-03-bonus"),
        line(46_400, "PayoutInitiated", 123_456, day=4, reference=first),
        line(46_400, "PayoutInitiated", 23_457, day=4, reference=first, line_no=1, way=("vat", "in_transit")),
        line(46_401, "PayoutSettled", 146_913, day=5.2, reference=first),
        line(46_402, "PayoutInitiated", 9_900, day=18, reference=second),
        line(46_402, "PayoutInitiated", 1_485, day=18, reference=second, line_no=1, way=("in_transit", "withholding")),
    ]
    for n in range(9):
        lines.append(line(42_000 + n, "CommissionAccrued", 4_800 + 950 * n, "JPY", day=3 * n, reference=f"JP-{n:05}"))
    lines += [line(46_500 + n, "ConversionReversed", 12_000 + n, "JPY", day=25, reference=f"JP-9{n}") for n in range(2)]
    for n in range(5):
        lines.append(line(43_000 + n, "CommissionAccrued", 10_405 * n + 1, "BHD", day=5 * n + 1, reference=f"bh/{n}"))
    lines.append(line(46_600, "ConversionApproved", 10_406, "BHD", day=27, reference="bh/1"))
    return sorted(lines, key=lambda found: (found.position, found.line_no))


YEAR_EUR = (81_200, 94_350, 70_010, 0, -22_480, 131_900, 150_075, 162_300, 98_000, 240_990, 305_410, 128_844)


def year() -> list[YearMonth]:
    """Twelve months to March 2026 in EUR (one below zero) and JPY."""
    months = [f"{2025 + (3 + n) // 12}-{(3 + n) % 12 + 1:02}" for n in range(12)]
    eur = [
        YearMonth(currency="EUR", earned=earned, paid=max(YEAR_EUR[n - 1], 0) if n else 55_000, period=months[n])
        for n, earned in enumerate(YEAR_EUR)
    ]
    yen = [
        YearMonth(currency="JPY", earned=9_000 + 4_100 * n, paid=8_000 * (n % 3), period=months[n]) for n in range(12)
    ]
    return eur + yen


def month(language: str = "en", **changes: object) -> tuple[Presentation, list[StatementLine]]:
    """The sample month as it is shown, and its lines."""
    lines = month_lines()
    openings = {
        "EUR": Buckets(pending=48_210, payable=133_356, paid=890_000),
        "JPY": Buckets(payable=8_000, paid=120_000),
    }
    of = head(lines, openings)
    fields: dict[str, object] = {
        "head": of,
        "hash": digest(of, encoded(lines)),
        "affiliate_name": "Mila Ångström-Fernández & Töchter, Blog für Küche, Garten und Handwerk GmbH",
        "program_name": "Blumenhaus Отличный Магазин",
        "disputes": [
            OpenDispute(position=46_200, line_no=0, status="open"),
            OpenDispute(position=39_001, line_no=1, status="answered"),
        ],
        "payouts": [
            StatementPayout(
                payout_id="po-2026-03-0007",
                initiated_on=date(2026, 3, 5),
                amount=123_456,
                currency="EUR",
                status="settled",
                invoice_number="SB-2026-000117",
                vat_amount=23_457,
            ),
            StatementPayout(
                payout_id=LONG_PAYOUT,
                initiated_on=date(2026, 3, 19),
                amount=9_900,
                currency="EUR",
                status="unknown",
                invoice_number="SB-2026-000131",
                withholding_amount=1_485,
            ),
        ],
        "year": year(),
        "language": language,
    }
    return Presentation(**(fields | changes)), lines  # type: ignore[arg-type]


class Many:
    """So many lines, made anew at each pass and never held: every other commission is approved."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self) -> Iterator[StatementLine]:
        for n in range(self.count):
            event = "ConversionApproved" if n % 2 else "CommissionAccrued"
            yield line(1_000 + n, event, 1_000 + n // 2, day=n * 30 / self.count, reference=f"order-{n // 2}")

    def presentation(self) -> Presentation:
        """A head that fits: all approved amounts are payable."""
        approved = sum(1_000 + n // 2 for n in range(1, self.count, 2))
        accrued = sum(1_000 + n // 2 for n in range(0, self.count, 2))
        closing = Buckets(pending=accrued - approved, payable=approved)
        section = Section(currency="EUR", opening=Buckets(), closing=closing, line_count=self.count, late_count=0)
        return Presentation(head=head([], {}, sections=[section]), hash="0" * 64)
