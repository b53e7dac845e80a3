"""What the endpoints of payouts, payees and taxes take, as marshmallow schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from marshmallow import ValidationError, fields, validate

from api.schemas import InstantField, Page, Strict, StrictInt, amount, currency, slug, text
from ledger.domain.ids import BIGINT_MAX
from ledger.domain.money import BPS
from ledger.domain.payout import METHODS
from ledger.domain.payout_run import STATUS as RUN_STATUS
from ledger.domain.tax import RULES_MAX

PAYOUT_STATUSES = ("proposed", "excluded", "initiated", "unknown", "settled", "failed", "returned")
RUN_STATUSES = ("begun", *RUN_STATUS.values())
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class DayField(fields.Date):
    """A day as 2026-03-31, and in no other way of writing it."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> date:
        try:
            if isinstance(value, str) and _DAY.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        raise ValidationError("Must be a day such as 2026-03-31.")


def reason(**kwargs: Any) -> fields.String:
    """Why. Stored as ciphertext."""
    return fields.String(required=True, validate=validate.Length(1, 2000), **kwargs)


def details() -> fields.Dict:
    """Bank details: texts by name. What a method needs is checked where it is known."""
    described = {
        "description": "sepa: name, iban, bic; paypal: email; wise: name, receiver_type, and iban, bsb_code with"
        " account_number, or email; manual: instructions",
        "additionalProperties": {"type": "string"},
    }
    return fields.Dict(keys=fields.String(), required=True, metadata=described)


# --- payees --------------------------------------------------------------------------------------------------


class PayoutMethodBody(Strict):
    """Where an affiliate is paid. minimum_amount: below it nothing is paid out. details are stored as ciphertext."""

    method = fields.String(required=True, validate=validate.OneOf(METHODS))
    minimum_amount = amount(required=True)
    details = details()


class PayingAccountBody(Strict):
    """The account that payouts leave: name, iban and maybe bic. Stored as ciphertext."""

    details = details()


def _fingerprint(**kwargs: Any) -> fields.String:
    rule = validate.Regexp(r"^[0-9a-f]{16,128}\Z", error="Must be 16-128 lower-case hex digits.")
    return fields.String(validate=rule, metadata={"pattern": "^[0-9a-f]{16,128}$"}, **kwargs)


class MethodApproval(Strict):
    """fingerprint: of the version as it was seen, so that nobody approves an account unseen."""

    fingerprint = _fingerprint(required=True)


class MethodRejection(Strict):
    """fingerprint: of the version as it was seen."""

    fingerprint = _fingerprint(load_default=None, allow_none=True)


# --- runs ----------------------------------------------------------------------------------------------------


class RunProposal(Strict):
    """Which run. as_of: a position that limits what it knows, else the cut of the closed period or the log's last."""

    period = slug(required=True)
    currency = currency(required=True)
    method = fields.String(required=True, validate=validate.OneOf(METHODS))
    as_of = StrictInt(load_default=None, allow_none=True, validate=validate.Range(1, BIGINT_MAX))


class RunsPage(Page):
    """Runs, all or of a status."""

    status = fields.String(load_default=None, validate=validate.OneOf(RUN_STATUSES))


class RunApproval(Strict):
    """hash: of the run as it was looked at."""

    hash = fields.String(
        required=True,
        validate=validate.Regexp(r"^[0-9a-f]{64}\Z", error="Must be 64 lower-case hex digits."),
        metadata={"pattern": "^[0-9a-f]{64}$"},
    )


class Initiation(Strict):
    """execution_on: the day on which the bank shall pay, today unless given."""

    execution_on = DayField(load_default=None, allow_none=True)


# --- payouts -------------------------------------------------------------------------------------------------


class RunPayoutsPage(Page):
    """A run's payouts, all or of a status."""

    status = fields.String(load_default=None, validate=validate.OneOf(PAYOUT_STATUSES))


class PayoutsPage(RunPayoutsPage):
    """Payouts, all or of a status or affiliate."""

    affiliate_id = slug(load_default=None)


class Why(Strict):
    """Why. Stored as ciphertext."""

    reason = reason()


class Outcome(Why):
    """booked_on: the bank's booking day, today unless given."""

    booked_on = DayField(load_default=None, allow_none=True)


class Settlement(Outcome):
    """fee_amount: what the bank charged the program for this transfer."""

    fee_amount = amount(load_default=0)


class BankFile(Strict):
    """How the file is to be read; auto: as its first bytes show."""

    format = fields.String(load_default="auto", validate=validate.OneOf(("auto", "camt", "mt940")))


# --- taxes ---------------------------------------------------------------------------------------------------


class TaxProfileBody(Strict):
    """What an affiliate is for tax. tax_number is stored as ciphertext."""

    country = fields.String(
        required=True,
        validate=validate.Regexp(r"^[A-Z]{2}\Z", error="Must be an ISO 3166 code of two letters such as DE."),
        metadata={"pattern": "^[A-Z]{2}$"},
    )
    tax_status = slug(required=True)
    tax_number = text(64, load_default="")


class TaxRuleBody(Strict):
    """vat_bps is added to a payout, withholding_bps taken off it, in basis points; '*' stands for every country or
    status."""

    country = text(2, required=True)
    tax_status = text(64, required=True)
    vat_bps = StrictInt(required=True, validate=validate.Range(0, BPS))
    withholding_bps = StrictInt(required=True, validate=validate.Range(0, BPS))
    note = text(500, load_default="")


class TaxRulesBody(Strict):
    """All rules, which replace those before. effective_from: when they are published, unless given."""

    rules = fields.List(fields.Nested(TaxRuleBody), required=True, validate=validate.Length(max=RULES_MAX))
    effective_from = InstantField(load_default=None, allow_none=True)
