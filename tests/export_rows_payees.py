"""Vectors of the events about payees, tax, invoice numbers and notices, constructed by hand."""

from __future__ import annotations

from export_rows import AT, CIPHER, T0, Vector

from ledger.domain.invoice_numbers import CreditNoteIssued, InvoiceNumbersTaken
from ledger.domain.notice import NoticeFailed, NoticeQueued, NoticeSent
from ledger.domain.paying_account import PayingAccountSet
from ledger.domain.payout_method import (
    PayoutMethodApproved,
    PayoutMethodProposed,
    PayoutMethodRejected,
    PayoutMethodWithdrawn,
)
from ledger.domain.program import ProgramOpened
from ledger.domain.tax import TaxProfileRecorded, TaxRule, TaxRulesProposed, TaxRulesPublished, TaxRulesRejected

_FINGERPRINT = "0123456789abcdef" * 4
_METHOD = {"affiliate_id": "ada", "currency": "EUR"}
_RULES = [
    TaxRule("*", "*", 0, 0),
    TaxRule("DE", "business", 1900, 0, "§ 12 Abs. 1 UStG"),
    TaxRule("DE", "small_business", 0, 0, "§ 19 UStG"),
]

ROWS = [
    Vector(
        "books",
        "program:slow",
        1,
        ProgramOpened(program="slow", currency="EUR", payout_method_wait_hours=96),
    ),
    Vector(
        "books",
        "payout_method:ada/EUR",
        1,
        PayoutMethodProposed(
            **_METHOD,
            method="sepa",
            method_version=1,
            minimum_amount=2500,
            details=CIPHER,
            fingerprint=_FINGERPRINT,
            proposed_by="ada",
        ),
    ),
    Vector(
        "books",
        "payout_method:ada/EUR",
        2,
        PayoutMethodApproved(**_METHOD, method_version=1, effective_from=AT),
    ),
    Vector("books", "payout_method:ada/EUR", 3, PayoutMethodRejected(**_METHOD, method_version=2)),
    Vector("books", "payout_method:ada/EUR", 4, PayoutMethodWithdrawn(**_METHOD, method_version=3)),
    Vector(
        "books",
        "paying_account:EUR",
        1,
        PayingAccountSet(currency="EUR", account_version=1, details=CIPHER, fingerprint=_FINGERPRINT),
    ),
    Vector(
        "books",
        "tax_rules:program",
        1,
        TaxRulesProposed(rules_version=1, rules=_RULES, proposed_by="ana", effective_from=T0),
    ),
    Vector(
        "books",
        "tax_rules:program",
        2,
        TaxRulesPublished(rules_version=1, effective_from=T0, rules=_RULES),
    ),
    Vector("books", "tax_rules:program", 3, TaxRulesProposed(rules_version=2, rules=[], proposed_by="ana")),
    Vector("books", "tax_rules:program", 4, TaxRulesRejected(rules_version=2)),
    Vector(
        "books",
        "tax_profile:ada",
        1,
        TaxProfileRecorded(
            affiliate_id="ada", profile_version=1, country="DE", tax_status="business", tax_number=CIPHER
        ),
    ),
    Vector(
        "books",
        "tax_profile:bob",
        1,
        TaxProfileRecorded(affiliate_id="bob", profile_version=1, country="PT", tax_status="private"),
    ),
    Vector(
        "books",
        "invoice_numbers:2026",
        1,
        InvoiceNumbersTaken(year=2026, first=1, count=120, run_id="EUR-sepa-2026-01-1"),
    ),
    Vector(
        "books",
        "invoice_numbers:2026",
        2,
        CreditNoteIssued(year=2026, number=121, payout_id="PO-1", cancels="2026-000007"),
    ),
    Vector(
        "books",
        "notice:payout_method/ada/EUR/1/approved",
        1,
        NoticeQueued(
            notice_id="payout_method/ada/EUR/1/approved",
            affiliate_id="ada",
            template="payout_method_approved",
            facts={
                "currency": "EUR",
                "method": "sepa",
                "method_version": 1,
                "effective_from": "2026-02-03T12:30:05.060700Z",
            },
        ),
    ),
    Vector(
        "books",
        "notice:payout_method/ada/EUR/1/approved",
        2,
        NoticeFailed(notice_id="payout_method/ada/EUR/1/approved", attempt=1, error_class="smtp_451", retry_at=AT),
    ),
    Vector(
        "books",
        "notice:payout_method/ada/EUR/1/approved",
        3,
        NoticeSent(notice_id="payout_method/ada/EUR/1/approved", channel="smtp"),
    ),
    Vector(
        "books",
        "notice:payout_method/bob/EUR/1/approved",
        2,
        NoticeFailed(notice_id="payout_method/bob/EUR/1/approved", attempt=1, error_class="no_address"),
    ),
]
