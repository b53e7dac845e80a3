"""Sales, balances, exceptions and the log, as the OpenAPI document describes them. Amounts are minor units."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from api.documents.problems import Position, Problem
from ledger.domain.conversion import Step
from ledger.domain.ids import Currency
from ledger.explaining.data import Explanation


class Kept(Struct):
    """A well-formed fact that could not be applied: kept as an exception, for someone to resolve."""

    exception_id: str
    type: str
    detail: str
    position: Position


class AccruedShare(Struct):
    """What one of several credited affiliates earns. level 2: it recruited one of the others."""

    affiliate_id: str
    level: int
    commission: int


class ConversionAnswer(Struct, omit_defaults=True):
    """What became of a sale. commission: of all; affiliate_id: the first of several that are credited."""

    order_id: str
    status: Literal["pending", "held", "unattributed", "waiting"]
    position: Position
    affiliate_id: str = ""
    commission: int = 0
    currency: str = ""
    matures_at: datetime | None = None
    until: datetime | None = None
    steps: list[Step] = []
    shares: list[AccruedShare] = []


class LineResult(Struct, omit_defaults=True):
    """What became of one line: its status as if sent alone, and its result or problem."""

    line: int
    status: int
    result: dict[str, Any] = {}
    problem: Problem | None = None


class ReversalAnswer(Struct):
    """The reversal is recorded."""

    reversal_id: str
    order_id: str
    position: Position


class ConversionDecision(Struct):
    """A conversion's status after the decision."""

    order_id: str
    status: str
    position: Position


class CurrencyBalance(Struct):
    """What is owed (pending, held, payable), on its way (in_transit) and was paid."""

    currency: Currency
    pending: int
    held: int
    payable: int
    in_transit: int
    paid: int


class Balance(Struct, omit_defaults=True):
    """An affiliate's balance as of a position of the books."""

    affiliate_id: str
    position: Position
    balances: list[CurrencyBalance]
    effective: datetime | None = None


class Entry(Struct):
    """A line of an affiliate's account. changes: what it did to the balance, by bucket; order_id: the conversion whose
    explanation says why, null for a line of no order's."""

    position: Position
    line_no: int
    event: str
    reference: str | None
    order_id: str | None
    changes: dict[str, int]
    amount: int
    currency: str
    debit: str
    credit: str
    effective_at: datetime
    recorded_at: datetime


class Entries(Struct):
    """A page of entries, oldest first."""

    items: list[Entry]
    next: str | None


class AccountBalance(Struct):
    """An account's debits less its credits."""

    account: str
    currency: str
    amount: int


class TrialBalance(Struct, omit_defaults=True):
    """Every account that ever moved; totals are zero in every currency."""

    position: Position
    accounts: list[AccountBalance]
    totals: dict[str, int]
    effective: datetime | None = None


class ExceptionDocument(Struct, omit_defaults=True):
    """A fact that could not be applied. fact: as it was sent."""

    exception_id: str
    type: str
    status: Literal["open", "resolved"]
    detail: str
    fact: dict[str, Any]
    position: Position
    affiliate_id: str = ""
    action: str = ""
    reason: str | None = None


class Exceptions(Struct):
    """A page of exceptions."""

    items: list[ExceptionDocument]
    next: str | None


class ResolutionAnswer(Struct):
    """The exception is resolved."""

    exception_id: str
    action: str
    position: Position


class LogLine(Struct):
    """An event exactly as it is exported and sealed."""

    v: int
    program_id: str
    log: str
    position: int
    originator_id: str
    originator_version: int
    topic: str
    recorded_at: str
    actor: str
    key_id: str
    request_id: str
    cause: str
    state: dict[str, Any]


class Events(Struct):
    """A page of a log. next: the position to go on after."""

    items: list[LogLine]
    next: str | None


class Posting(Struct):
    """A journal line."""

    line_no: int
    debit: str
    credit: str
    amount: int
    currency: str
    effective_at: datetime


class StoryEvent(Struct):
    """An event, who caused it, what it says (without ciphertext), and the journal lines it made."""

    position: Position
    topic: str
    recorded_at: datetime
    actor: str
    request_id: str
    cause: str
    fields: dict[str, Any]
    lines: list[Posting]


class AccountChange(Struct):
    """An event that moved money, and the journal lines it made."""

    position: Position
    topic: str
    recorded_at: datetime
    lines: list[Posting]


class Share(Struct):
    """One commission on a conversion. credited_amount: its part of the sale, in the sale's currency; the other amounts
    are in its own. level 2: of who recruited the affiliate that is credited."""

    affiliate_id: str
    level: int
    status: str
    credited_amount: int
    commission: int
    reversed_commission: int
    outstanding: int
    currency: Currency
    matures_at: datetime


class CreditedConversion(Struct, omit_defaults=True):
    """A conversion as an affiliate sees it who is credited with it: its own commission, whoever else has one. amount
    and reversed_amount: of the whole sale. shares: if it has several commissions on it. commission_currency: where
    commissions are in another currency than the sale."""

    order_id: str
    status: str
    commission: int
    reversed_amount: int
    reversed_commission: int
    outstanding: int
    position: Position
    explanation: Explanation
    changes: list[AccountChange]
    offer_id: str = ""
    affiliate_id: str = ""
    amount: int = 0
    currency: str = ""
    occurred_at: datetime | None = None
    matures_at: datetime | None = None
    commission_currency: str = ""
    shares: list[Share] = []


class ConversionDocument(Struct, omit_defaults=True):
    """A conversion's whole story. shares: where it has several commissions, of which status, commission and the like
    say what they come to, and affiliate_id the first one's. commission_currency: where commissions are in another
    currency than the sale."""

    order_id: str
    status: str
    commission: int
    reversed_amount: int
    reversed_commission: int
    outstanding: int
    position: Position
    explanation: Explanation
    events: list[StoryEvent]
    offer_id: str = ""
    affiliate_id: str = ""
    amount: int = 0
    currency: str = ""
    occurred_at: datetime | None = None
    matures_at: datetime | None = None
    commission_currency: str = ""
    shares: list[Share] = []
