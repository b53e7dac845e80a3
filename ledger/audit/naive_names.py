"""Where an event belongs, by the auditor's own reading: the name of its stream, and the id that the name leads to.

docs/export-line.md, 'The ids are derived from names'. Like naive.py it knows topics and JSON and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import Any
from uuid import UUID

State = dict[str, Any]


def _by(kind: str, *fields: str) -> Callable[[State], str]:
    """A stream named after one or more of its events' members."""
    if len(fields) == 1:
        only = fields[0]
        return lambda state: f"{kind}:{state[only]}"
    return lambda state: f"{kind}:{'/'.join(str(state[field]) for field in fields)}"


def _run(state: State) -> str:
    period, currency, method, _ = state["run_id"].rsplit("-", 3)
    return f"payout_run:{period}/{currency}/{method}"


_NAMES: tuple[tuple[Callable[[State], str], str], ...] = (
    (_by("program", "program"), "ProgramOpened"),
    (
        _by("affiliate", "affiliate_id"),
        "AffiliateEnrolled AffiliateApproved AffiliateSuspended AffiliateReinstated AffiliateClosed "
        "AffiliateGrouped AffiliateRecruited",
    ),
    (_by("offer", "offer_id"), "OfferPublished TermsPublished TermsRejected"),
    (lambda state: f"offer:{state['terms']['offer_id']}", "TermsProposed"),
    (_by("coupon", "coupon"), "CouponAssigned"),
    (_by("click", "click_id"), "ClickRecorded"),
    (_by("impression", "impression_id"), "ImpressionRecorded"),
    (
        _by("conversion", "order_id"),
        "ConversionRecorded CommissionAccrued ConversionUnattributed AttributionDeferred ConversionHeld "
        "ConversionReleased ConversionApproved ConversionRejected ConversionReversed ReversalDeferred "
        "ConversionAttributed CommissionRepriced",
    ),
    (_by("reversal", "reversal_id"), "ReversalRecorded"),
    (_by("adjustment", "adjustment_id"), "AdjustmentProposed AdjustmentPosted AdjustmentRejected"),
    # an exception's id is the name of the stream that it stands in
    (lambda state: str(state["exception_id"]), "ExceptionRaised ExceptionResolved"),
    (_by("key", "access_key_id"), "KeyIssued KeyRevoked"),
    (
        _by("payout_method", "affiliate_id", "currency"),
        "PayoutMethodProposed PayoutMethodApproved PayoutMethodRejected PayoutMethodWithdrawn",
    ),
    (_by("paying_account", "currency"), "PayingAccountSet"),
    (lambda _: "tax_rules:program", "TaxRulesProposed TaxRulesPublished TaxRulesRejected"),
    (_by("tax_profile", "affiliate_id"), "TaxProfileRecorded"),
    (lambda state: f"invoice_numbers:{state['year']:04}", "InvoiceNumbersTaken CreditNoteIssued"),
    (_by("notice", "notice_id"), "NoticeQueued NoticeSent NoticeFailed"),
    (_by("break", "break_id"), "BreakOpened BreakChanged BreakAssigned BreakResolved BreakReopened"),
    (
        _by("dispute", "dispute_id"),
        "DisputeOpened DisputeAnswered DisputeAccepted DisputeRejected DisputeWithdrawn",
    ),
    (lambda _: "restores:books", "BooksRestored BankMatched"),
    (lambda _: "calendar:periods", "PeriodClosed PeriodReissued StatementsIssued AffiliateTreesRecorded"),
    (_by("statement", "affiliate_id", "period"), "StatementIssued"),
    (_by("payout_run", "period", "currency", "method"), "PayoutRunBegun"),
    (
        _run,
        "PayoutsLeftOut PayoutRunProposed PayoutRunEmpty PayoutRunApproved PayoutRunRejected "
        "PayoutRunInitiationBegun PayoutRunInitiated PayoutFilesRendered",
    ),
    (
        _by("payout", "payout_id"),
        "PayoutProposed PayoutExcluded PayoutInitiated PayoutSettled PayoutFailed PayoutReturned "
        "PayoutUnknown PayoutConfirmed",
    ),
    (_by("bank_line", "line_id"), "BankLineRecorded BankFeeBooked"),
    (_by("bank_statement", "statement_id"), "BankStatementImported"),
    (_by("erasure", "subject"), "ErasureProposed SubjectErased ErasureRejected"),
    (_by("rate", "base", "quote"), "RateRecorded"),
    (lambda _: "click_tally:program", "ClicksTallied"),
    (
        _by("simulation", "simulation_id"),
        "SimulationProposed SimulationApproved SimulationRejected SimulationApplied",
    ),
)

# topic → its stream's name ("kind:id") from its state; KeyError and the like for a state that lacks what it needs
NAME_OF: dict[str, Callable[[State], str]] = {topic: name for name, topics in _NAMES for topic in topics.split()}


def stream_id(program_id: UUID, name: str) -> str:
    """The id of a stream, as text: uuid5(program_id, name), RFC 9562, section 5.5."""
    digest = bytearray(sha1(program_id.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
