"""One event of every topic about periods, statements, payouts and the bank, constructed by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

from export_rows import AT, CIPHER, T0, Vector

from ledger.domain.bank import BankFeeBooked, BankLineRecorded, BankStatementImported
from ledger.domain.payout import (
    PayoutConfirmed,
    PayoutExcluded,
    PayoutFailed,
    PayoutInitiated,
    PayoutProposed,
    PayoutReturned,
    PayoutSettled,
    PayoutUnknown,
)
from ledger.domain.payout_run import (
    FileFacts,
    PayoutFilesRendered,
    PayoutRunApproved,
    PayoutRunBegun,
    PayoutRunEmpty,
    PayoutRunInitiated,
    PayoutRunInitiationBegun,
    PayoutRunProposed,
    PayoutRunRejected,
    PayoutsLeftOut,
)
from ledger.domain.period import PeriodClosed, PeriodReissued, StatementsIssued, StatementTotal
from ledger.domain.statement import Buckets, Section, StatementIssued

CALENDAR = "calendar:periods"
SERIES = "payout_run:2026-01/EUR/sepa"
RUN = "2026-01-EUR-sepa-1"
PAYOUT = "PO5ALHMO4MLHLA3J5CIN6IYRKB"
HASH = "ab" * 32
SENT: dict[str, Any] = {
    "payout_id": PAYOUT,
    "affiliate_id": "ada",
    "amount": 20000,
    "currency": "EUR",
    "effective_at": AT,
}

ROWS: list[Vector] = [
    Vector("books", CALENDAR, 1, PeriodClosed(period="2026-01", ends_at=AT)),
    Vector("books", CALENDAR, 2, PeriodClosed(period="2026-02", ends_at=AT, starts_at=T0)),
    Vector("books", CALENDAR, 3, PeriodReissued(period="2026-02", version=2, reason=CIPHER)),
    Vector(
        "books",
        CALENDAR,
        4,
        StatementsIssued(
            period="2026-02",
            version=2,
            statement_count=2,
            line_count=7,
            totals=[StatementTotal(currency="EUR", bucket="payable", opening=0, closing=20000)],
            digest=HASH,
        ),
    ),
    Vector(
        "books",
        "statement:ada/2026-02",
        1,
        StatementIssued(
            affiliate_id="ada",
            period="2026-02",
            version=1,
            cut_position=34,
            ends_at=AT,
            sections=[
                Section(
                    currency="EUR",
                    opening=Buckets(pending=100),
                    closing=Buckets(payable=20000, paid=-5),
                    line_count=3,
                    late_count=1,
                )
            ],
            hash=HASH,
            starts_at=T0,
        ),
    ),
    Vector(
        "books",
        SERIES,
        1,
        PayoutRunBegun(
            run_id=RUN,
            period="2026-01",
            currency="EUR",
            method="sepa",
            attempt=1,
            cut_position=34,
            ends_at=AT,
            proposed_by="ana",
            paying_account_version=1,
        ),
    ),
    Vector("books", SERIES, 2, PayoutsLeftOut(run_id=RUN, left_out=[("bob", 5, "below_minimum")])),
    Vector(
        "books",
        SERIES,
        3,
        PayoutRunProposed(run_id=RUN, payout_count=1, amount=20000, transfer_amount=21000, left_out_count=1, hash=HASH),
    ),
    Vector("books", SERIES, 4, PayoutRunApproved(run_id=RUN, hash=HASH), actor="ben"),
    Vector(
        "books",
        SERIES,
        5,
        PayoutRunInitiationBegun(run_id=RUN, execution_on=date(2026, 2, 2), created_at=AT.replace(microsecond=0)),
    ),
    Vector(
        "books",
        SERIES,
        6,
        PayoutRunInitiated(run_id=RUN, payout_count=1, excluded_count=0, amount=20000, transfer_amount=21000),
    ),
    Vector(
        "books",
        SERIES,
        7,
        PayoutFilesRendered(run_id=RUN, files=[FileFacts(name="a.xml", sha256=HASH, count=1, control_sum=21000)]),
    ),
    Vector(
        "books", "payout_run:2026-01/EUR/paypal", 2, PayoutRunEmpty(run_id="2026-01-EUR-paypal-1", left_out_count=1)
    ),
    Vector("books", "payout_run:2026-01/EUR/wise", 4, PayoutRunRejected(run_id="2026-01-EUR-wise-1", reason=CIPHER)),
    Vector(
        "books",
        f"payout:{PAYOUT}",
        1,
        PayoutProposed(
            payout_id=PAYOUT,
            run_id=RUN,
            affiliate_id="ada",
            currency="EUR",
            method="sepa",
            method_version=1,
            fingerprint=HASH,
            amount=20000,
            owed_amount=20100,
            vat_amount=3800,
            withholding_amount=2800,
            tax_rules_version=1,
        ),
    ),
    Vector(
        "books",
        f"payout:{PAYOUT}",
        2,
        PayoutInitiated(run_id=RUN, invoice_number="2026-000001", vat_amount=3800, withholding_amount=2800, **SENT),
    ),
    Vector("books", f"payout:{PAYOUT}", 3, PayoutUnknown(payout_id=PAYOUT, affiliate_id="ada", reason=CIPHER)),
    Vector(
        "books",
        f"payout:{PAYOUT}",
        4,
        PayoutFailed(vat_amount=3800, withholding_amount=2800, reason=CIPHER, **SENT),
    ),
    Vector(
        "books",
        f"payout:{PAYOUT}",
        5,
        PayoutSettled(
            fee_amount=150,
            bank_line_id="l1",
            after_failure=True,
            gross_amount=20000,
            vat_amount=3800,
            withholding_amount=2800,
            invoice_number="2026-000003",
            **SENT,
        ),
    ),
    Vector("books", f"payout:{PAYOUT}", 7, PayoutConfirmed(payout_id=PAYOUT, affiliate_id="ada", bank_line_id="l5")),
    Vector("books", f"payout:{PAYOUT}", 6, PayoutReturned(bank_line_id="l2", **SENT)),
    Vector(
        "books", "payout:POB", 2, PayoutExcluded(payout_id="POB", run_id=RUN, affiliate_id="bob", code="payable_fell")
    ),
    Vector(
        "books",
        "bank_line:l1",
        1,
        BankLineRecorded(
            line_id="l1",
            booked_on=date(2026, 2, 3),
            amount=-21150,
            currency="EUR",
            outcome="settled",
            payout_id=PAYOUT,
            charges=150,
        ),
    ),
    Vector(
        "books",
        "bank_line:l3",
        1,
        BankLineRecorded(
            line_id="l3",
            booked_on=date(2026, 2, 3),
            amount=700,
            currency="EUR",
            outcome="break",
            break_id="bank:unknown_line:l3",
            text=CIPHER,
        ),
    ),
    Vector("books", "bank_line:l4", 1, BankFeeBooked(line_id="l4", amount=990, currency="EUR", effective_at=AT)),
    Vector(
        "books",
        "bank_statement:s1",
        1,
        BankStatementImported(
            statement_id="s1",
            account="0011223344556677",
            currency="EUR",
            line_count=3,
            break_count=1,
            booked_from=date(2026, 2, 3),
            booked_until=date(2026, 2, 3),
            opening_amount=100000,
            closing_amount=-5,
        ),
    ),
]
