"""Payout methods, paying accounts, taxes and notices, as the OpenAPI document describes them. Amounts are minor
units; bank details are never shown in full."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from api.documents.problems import Position


class PayoutMethodAnswer(Struct, omit_defaults=True):
    """A version of a payout method after the command. fingerprint: of its details, to be named in the approval."""

    affiliate_id: str
    currency: str
    method_version: int
    status: Literal["proposed", "approved", "rejected", "withdrawn"]
    position: Position
    fingerprint: str = ""
    effective_from: datetime | None = None


class PayoutMethodVersion(Struct):
    """A version. status: as of now; waiting: approved, and in force from effective_from on; replaced: was in force.
    details: masked; null once erased. decided_by: who approved or rejected it; null for the affiliate itself."""

    method_version: int
    status: Literal["proposed", "waiting", "in_force", "replaced", "rejected", "withdrawn"]
    method: str
    minimum_amount: int
    details: dict[str, str] | None
    fingerprint: str
    effective_from: datetime | None
    proposed_by: str
    decided_by: str | None
    decided_at: datetime | None


class PayoutMethodDocument(Struct):
    """How an affiliate is paid in a currency, and every version of it, oldest first. status: the furthest step that
    still leads somewhere new."""

    affiliate_id: str
    currency: str
    status: Literal["proposed", "waiting", "in_force", "none"]
    versions: list[PayoutMethodVersion]
    position: Position


class PayoutMethods(Struct):
    """An affiliate's payout methods by currency."""

    items: list[PayoutMethodDocument]


class PayingAccountAnswer(Struct):
    """The account that payouts of the currency are paid from."""

    currency: str
    account_version: int
    fingerprint: str
    position: Position


class PayingAccountDocument(Struct):
    """The account that payouts of a currency are paid from. details: masked."""

    currency: str
    account_version: int
    details: dict[str, str] | None
    fingerprint: str
    set_by: str
    set_at: datetime
    position: Position


class PayingAccounts(Struct):
    """A page of paying accounts."""

    items: list[PayingAccountDocument]
    next: str | None


class TaxProfileAnswer(Struct):
    """What the affiliate is for tax from now on."""

    affiliate_id: str
    profile_version: int
    country: str
    tax_status: str
    position: Position


class TaxProfileDocument(Struct):
    """What an affiliate is for tax. tax_number: in full for the affiliate itself, else masked; null once erased."""

    affiliate_id: str
    profile_version: int
    country: str
    tax_status: str
    tax_number: str | None
    position: Position


class TaxRulesAnswer(Struct):
    """A version of the tax rules: proposed until a second person decides."""

    rules_version: int
    status: Literal["proposed", "published", "rejected"]
    position: Position


class TaxRuleDocument(Struct):
    """What one kind of affiliate's payouts bear, in basis points. '*': every country or status."""

    country: str
    tax_status: str
    vat_bps: int
    withholding_bps: int
    note: str


class TaxRulesVersion(Struct):
    """A version of the rules. effective_from null: when it is published. decided_by: who published it."""

    rules_version: int
    status: Literal["proposed", "published", "in_force"]
    effective_from: datetime | None
    rules: list[TaxRuleDocument]
    proposed_by: str | None
    decided_by: str | None
    decided_at: datetime | None


class TaxRulesDocument(Struct):
    """The program's tax rules: every published version, oldest first, then one that waits for a second person."""

    versions: list[TaxRulesVersion]
    position: Position


class NoticeDocument(Struct):
    """A notice to an affiliate. facts: what its text is made of; failed: given up after so many attempts."""

    notice_id: str
    template: str
    facts: dict[str, Any]
    status: Literal["queued", "sent", "failed"]
    attempts: int
    retry_at: datetime | None
    queued_at: datetime
    position: Position


class Notices(Struct):
    """A page of an affiliate's notices, in the order of their ids."""

    items: list[NoticeDocument]
    next: str | None


class ReceivableDocument(Struct):
    """What an affiliate owes, above zero. since: when its payable balance fell below zero last, by the line at
    position; age_days: whole days since then."""

    affiliate_id: str
    currency: str
    amount: int
    since: datetime
    position: Position
    age_days: int
    age: Literal["0-30", "31-60", "61-90", ">90"]


class ReceivableAge(Struct):
    """All receivables of a currency and an age in days."""

    currency: str
    age: Literal["0-30", "31-60", "61-90", ">90"]
    receivable_count: int
    amount: int


class Receivables(Struct):
    """A page of receivables, and the ageing of all of them."""

    items: list[ReceivableDocument]
    next: str | None
    ageing: list[ReceivableAge]


class RestoreDocument(Struct, omit_defaults=True):
    """Whether the books came from a backup, and whether that keeps payouts from being made. restored_position: the
    last one that the backup had; reason: null once erased."""

    payouts: Literal["allowed", "blocked"]
    position: Position
    restored_position: int | None = None
    backup_created_at: datetime | None = None
    restored_at: datetime | None = None
    confirmed_by: str | None = None
    confirmed_at: datetime | None = None
    reason: str | None = None


class BankMatchAnswer(Struct):
    """The restored books agree with the bank: payouts may go on."""

    restored_position: int
    payouts: Literal["allowed"]
    position: Position
