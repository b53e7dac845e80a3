"""Payout methods: where an affiliate is paid, changed by two people and after a wait; and the accounts that payouts
leave. Bank details go in once and are shown masked for ever after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flask import Response

from api import answers, documents, schemas, schemas_payouts
from api.access import AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import affiliate, paying_account, payout_method
from ledger.domain.errors import InvalidInput
from ledger.domain.paying_account import PayingAccountState, SetPayingAccount
from ledger.domain.payout_method import (
    DecidePayoutMethod,
    MethodVersion,
    PayoutMethodState,
    ProposePayoutMethod,
    WithdrawPayoutMethod,
)
from ledger.payouts import payees
from ledger.projections import decisions, directory
from ledger.projections.decisions import Trail

blueprint = Blueprint("payout_methods", __name__, description="Where affiliates are paid, and from which accounts.")
_METHODS = "/affiliates/<slug:affiliate_id>/payout-methods"
_METHOD = f"{_METHODS}/<currency:currency>"


@contextmanager
def _currency_of_path() -> Iterator[None]:
    """A refusal of the currency means the address, not the body."""
    try:
        yield
    except InvalidInput as refused:
        if refused.field != "currency":
            raise
        errors = [{"parameter": "currency", "detail": refused.message.removeprefix("currency: ")}]
        raise Problem(422, refused.message, code=refused.code, errors=errors) from None


def _fingerprint(caller: Caller, method: str, details: dict[str, str]) -> str:
    key = caller.ledger.secrets.fingerprint_key(caller.program_id)
    return payees.fingerprint(caller.program_id, method, details, key)


@blueprint.route(_METHOD, methods=["PUT"])
@operation("proposePayoutMethod", {201: documents.PayoutMethodAnswer, 200: documents.PayoutMethodAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.PayoutMethodBody)
def propose_payout_method(caller: Caller, body: dict[str, Any], affiliate_id: str, currency: str) -> Response:
    """Propose where an affiliate is paid in a currency; a second person approves it, and then a wait begins."""
    with _currency_of_path():
        details = payees.check_details(body["method"], body["details"], currency)
        command = ProposePayoutMethod(
            affiliate_id=affiliate_id,
            currency=currency,
            method=body["method"],
            minimum_amount=body["minimum_amount"],
            details=details,
            fingerprint=_fingerprint(caller, body["method"], details),
        )
    return answers.written(caller.execute(command))


@blueprint.route(_METHODS, methods=["GET"])
@operation("listPayoutMethods", {200: documents.PayoutMethods})
@blueprint.arguments(schemas.Nothing, location="query")
def list_payout_methods(caller: Caller, _: dict[str, Any], affiliate_id: str) -> Response:
    """How an affiliate is paid, by currency, with every version; bank details masked."""
    now = caller.ledger.clock()
    with reads.reading(caller.ledger, caller.program) as look:
        if look.record(affiliate.key(affiliate_id)) is None:
            raise Problem(404, NO_SUCH_RECORD)
        entries = directory.page(
            look.cur, look.program_id, "payout_method", after=f"{affiliate_id}/", limit=1000, affiliate_id=affiliate_id
        )
        found = [look.record(f"payout_method:{entry.record_id}") for entry in entries]
        keys = [payout_method.key(affiliate_id, entry.record_id.rpartition("/")[2]) for entry in entries]
        trails = decisions.of_records(look.cur, look.program_id, keys)
        # an affiliate is told that it was decided, not by whom
        hidden = {"decided_by": None} if caller.role == AFFILIATE else {}
        items = [
            _method(look, one, now, trails[key], hidden)
            for key, one in zip(keys, found, strict=True)
            if one is not None
        ]
    return answers.read({"items": items})


def _method(
    look: reads.Look, found: reads.Found, now: datetime, trails: list[Trail], hidden: dict[str, Any]
) -> dict[str, Any]:
    state: PayoutMethodState = found.state
    in_force = state.in_force(now)
    return {
        "affiliate_id": state.affiliate_id,
        "currency": state.currency,
        "status": state.status_at(now),
        "versions": [
            _version(look, state, one, in_force, now) | decisions.who(trails, one.method_version) | hidden
            for one in state.versions
        ],
        "position": found.position,
    }


def _version(
    look: reads.Look, state: PayoutMethodState, version: MethodVersion, in_force: MethodVersion | None, now: datetime
) -> dict[str, Any]:
    status = version.status
    if status == "approved":
        waiting = version.effective_from is not None and version.effective_from > now
        status = "waiting" if waiting else "in_force" if version is in_force else "replaced"
    details = payout_method.open_details(look, state.affiliate_id, state.currency, version)
    fields = ("method_version", "method", "minimum_amount", "fingerprint", "effective_from")
    shown = {field: getattr(version, field) for field in fields}
    return shown | {"status": status, "details": None if details is None else payees.mask(version.method, details)}


@blueprint.route(f"{_METHOD}/<version:method_version>/approve", methods=["POST"])
@operation("approvePayoutMethod", {200: documents.PayoutMethodAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.MethodApproval)
def approve_payout_method(
    caller: Caller, body: dict[str, Any], affiliate_id: str, currency: str, method_version: int
) -> Response:
    """A second person approves the version whose fingerprint they saw; it is in force once the wait is over."""
    return _decide(caller, affiliate_id, currency, method_version, True, body["fingerprint"])


@blueprint.route(f"{_METHOD}/<version:method_version>/reject", methods=["POST"])
@operation("rejectPayoutMethod", {200: documents.PayoutMethodAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.MethodRejection, required=False)
def reject_payout_method(
    caller: Caller, body: dict[str, Any], affiliate_id: str, currency: str, method_version: int
) -> Response:
    """A second person refuses the version."""
    return _decide(caller, affiliate_id, currency, method_version, False, body["fingerprint"] or "")


def _decide(
    caller: Caller, affiliate_id: str, currency: str, method_version: int, approve: bool, fingerprint: str
) -> Response:
    with _currency_of_path():
        command = DecidePayoutMethod(
            affiliate_id=affiliate_id,
            currency=currency,
            method_version=method_version,
            approve=approve,
            fingerprint=fingerprint,
        )
    return answers.written(caller.execute(command), creates=False)


@blueprint.route(f"{_METHOD}/<version:method_version>/withdraw", methods=["POST"])
@operation("withdrawPayoutMethod", {200: documents.PayoutMethodAnswer}, writes=True)
@blueprint.arguments(schemas.Nothing, required=False)
def withdraw_payout_method(
    caller: Caller, _: dict[str, Any], affiliate_id: str, currency: str, method_version: int
) -> Response:
    """Take a version back that is not in force yet: also how an affiliate stops a change that it never asked for."""
    with _currency_of_path():
        command = WithdrawPayoutMethod(affiliate_id=affiliate_id, currency=currency, method_version=method_version)
    return answers.written(caller.execute(command), creates=False)


# --- the accounts that payouts leave -----------------------------------------------------------------------


@blueprint.route("/paying-accounts/<currency:currency>", methods=["PUT"])
@operation("setPayingAccount", {201: documents.PayingAccountAnswer, 200: documents.PayingAccountAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.PayingAccountBody)
def set_paying_account(caller: Caller, body: dict[str, Any], currency: str) -> Response:
    """Say which account SEPA payouts are paid from; runs proposed from now on leave it."""
    with _currency_of_path():
        details = payees.check_details("sepa", body["details"], currency)
        fingerprint = _fingerprint(caller, "sepa", details)
        command = SetPayingAccount(currency=currency, details=details, fingerprint=fingerprint)
    return answers.written(caller.execute(command))


@blueprint.route("/paying-accounts", methods=["GET"])
@operation("listPayingAccounts", {200: documents.PayingAccounts})
@blueprint.arguments(schemas.Page, location="query")
def list_paying_accounts(caller: Caller, page: dict[str, Any]) -> Response:
    """The accounts that payouts leave, by currency; bank details masked."""
    with reads.reading(caller.ledger, caller.program) as look:
        entries = look.listed("paying_account", answers.after_id(page), page["limit"] + 1)
        items = [_account(look, entry.record_id) for entry in entries]
    return answers.read(answers.page(items, page["limit"], lambda item: answers.cursor(item["currency"])))


def _account(look: reads.Look, currency: str) -> dict[str, Any]:
    events = look.events([paying_account.key(currency)])
    state: PayingAccountState | None = None
    for event in events:
        state = paying_account.fold(state, event.body)
    assert state is not None
    details = paying_account.open_details(look, currency, state.current)
    shown = None if details is None else payees.mask("sepa", {name: text for name, text in details.items() if text})
    return {
        "currency": currency,
        "account_version": state.current.account_version,
        "details": shown,
        "fingerprint": state.current.fingerprint,
        "set_by": events[-1].actor,
        "set_at": events[-1].recorded_at,
        "position": events[-1].position,
    }
