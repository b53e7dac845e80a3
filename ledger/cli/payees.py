"""Verbs about payees: where affiliates are paid, and the account that payouts leave. Bank details are shown masked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger import reads
from ledger.cli.common import (
    Verb,
    json_option,
    major,
    meta,
    note,
    operator_option,
    print_json,
    print_table,
    program_option,
    read_some,
)
from ledger.domain import affiliate, money, paying_account, payout_method
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.ids import program_id
from ledger.domain.paying_account import PayingAccountState, SetPayingAccount
from ledger.domain.payout_method import (
    METHODS,
    DecidePayoutMethod,
    MethodVersion,
    PayoutMethodState,
    ProposePayoutMethod,
    WithdrawPayoutMethod,
)
from ledger.payouts import payees
from ledger.projections import decisions
from ledger.service import Service, open_service
from ledger.store.log import last_position

DETAILS_FILE_MAX = 16_384  # bytes
PAGE = 500
_FIELDS = {
    "name": "The account holder (sepa, wise).",
    "iban": "The account (sepa, wise).",
    "bic": "The account's bank, if known (sepa).",
    "email": "The address (paypal, wise).",
    "receiver_type": "PERSON or INSTITUTION (wise).",
    "bsb_code": "The Australian bank (wise).",
    "account_number": "The Australian account (wise).",
    "instructions": "How a person pays it (manual).",
}
affiliate_option = click.option("--affiliate", "affiliate_id", required=True, metavar="ID", help="Who is paid.")
currency_option = click.option("--currency", required=True, metavar="CODE", help="In which currency (ISO 4217).")
version_option = click.option(
    "--version", "method_version", type=click.IntRange(1), required=True, help="As `ledger payee list` shows it."
)


def _details_options(*names: str) -> Callable[[Verb], Verb]:
    """--details-file, and an option for each field."""

    def add(verb: Verb) -> Verb:
        for name in reversed(names):
            verb = click.option(f"--{name.replace('_', '-')}", name, metavar="TEXT", help=_FIELDS[name])(verb)
        return click.option(
            "--details-file",
            type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
            metavar="FILE",
            help='A JSON object instead, such as {"name": "…", "iban": "…"}; - reads it from stdin.',
        )(verb)

    return add


def _details(details_file: Path | None, fields: dict[str, str | None]) -> dict[str, str]:
    """The details as they were given. Raises click.UsageError, InvalidInput; neither repeats a value."""
    given = {name: text for name, text in fields.items() if text is not None}
    if details_file is None:
        if not given:
            raise click.UsageError(f"give --details-file, or {', '.join('--' + name for name in list(fields)[:3])} …")
        note("bank details on a command line stay in shell histories and process lists: --details-file keeps them out")
        return given
    if given:
        raise click.UsageError(f"--details-file has all details: leave --{next(iter(given)).replace('_', '-')} out")
    if str(details_file) == "-":
        raw = sys.stdin.buffer.read(DETAILS_FILE_MAX + 1)
    else:
        raw = read_some("--details-file", details_file, DETAILS_FILE_MAX)
    try:
        if len(raw) > DETAILS_FILE_MAX:
            raise ValueError
        return msgspec.json.decode(raw, type=dict[str, str])
    except (msgspec.DecodeError, ValueError):
        raise InvalidInput("--details-file", 'must be a JSON object of texts, such as {"name": "…"}') from None


def _fingerprint(service: Service, program: str, method: str, details: dict[str, str]) -> str:
    key = service.secrets.fingerprint_key(program_id(program))
    return payees.fingerprint(program_id(program), method, details, key)


def _mask(method: str, details: dict[str, str] | None) -> dict[str, str] | None:
    """As people may see them, in the order in which people say them; None once erased."""
    if details is None:
        return None
    return payees.mask(method, {name: details[name] for name in _FIELDS if details.get(name)})


def _masked(method: str, details: dict[str, str] | None) -> str:
    shown = _mask(method, details)
    return "erased" if shown is None else ", ".join(f"{name} {text}" for name, text in shown.items())


@click.group()
def payee() -> None:
    """Say where affiliates are paid, and which account payouts leave.

    A payout method is proposed by one person and approved by another; payouts go there once the program's wait is over.
    """


@payee.command("set")
@program_option
@affiliate_option
@currency_option
@click.option("--method", type=click.Choice(METHODS), required=True, help="How the money goes there.")
@click.option("--minimum", default="0", show_default=True, metavar="AMOUNT", help="Below this nothing is paid out.")
@_details_options(*_FIELDS)
@operator_option
def payee_set(
    program: str,
    affiliate_id: str,
    currency: str,
    method: str,
    minimum: str,
    details_file: Path | None,
    by: str | None,
    **fields: str | None,
) -> None:
    """Propose where an affiliate is paid in a currency; the affiliate is told."""
    minimum_amount = money.minor_units("--minimum", minimum, currency)
    details = payees.check_details(method, _details(details_file, fields), currency)
    with open_service() as service:
        command = ProposePayoutMethod(
            affiliate_id=affiliate_id,
            currency=currency,
            method=method,
            minimum_amount=minimum_amount,
            details=details,
            fingerprint=_fingerprint(service, program, method, details),
        )
        answer = service.ledger.execute(program, command, meta(by))
    version = answer.body["method_version"]
    said = "waits for a second person" if answer.outcome == "recorded" else "is this already; nothing changed"
    click.echo(f"{affiliate_id}, {currency}: version {version}, {method}, {_masked(method, details)}: {said}")


@payee.command("approve")
@program_option
@affiliate_option
@currency_option
@version_option
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@operator_option
def payee_approve(
    program: str, affiliate_id: str, currency: str, method_version: int, yes: bool, by: str | None
) -> None:
    """Approve a version, as another person than proposed it. Its details are shown masked, and on a terminal you are
    asked."""
    who = meta(by)
    with open_service() as service:
        with reads.reading(service.ledger, program) as look:
            last_position(look.cur, look.program_id, "books")
            found = look.record(payout_method.key(affiliate_id, currency))
            versions = found.state.versions if found else []
            if method_version > len(versions):
                raise NotFound(f"there is no version {method_version} of the payout method of {affiliate_id}")
            version: MethodVersion = versions[method_version - 1]
            details = payout_method.open_details(look, affiliate_id, currency, version)
        click.echo(
            f"{affiliate_id}, {currency}: version {method_version}, {version.method}, minimum"
            f" {major(version.minimum_amount, currency)}, {_masked(version.method, details)};"
            f" proposed by {version.proposed_by}"
        )
        if not yes and sys.stdin.isatty() and not click.confirm("Shall the affiliate be paid there?", err=True):
            raise click.ClickException("nothing was approved")
        command = DecidePayoutMethod(
            affiliate_id=affiliate_id,
            currency=currency,
            method_version=method_version,
            approve=True,
            fingerprint=version.fingerprint,
        )
        answer = service.ledger.execute(program, command, who)
    starts = datetime.fromisoformat(answer.body["effective_from"])
    click.echo(f"version {method_version} is approved: payouts go there from {starts:%Y-%m-%d %H:%M} UTC on")


def _ends(name: str, help_: str, command_of: Callable[[str, str, int], Any], said: str) -> click.Command:
    """A verb that takes a version out of the way."""

    @click.command(name, help=help_)
    @program_option
    @affiliate_option
    @currency_option
    @version_option
    @operator_option
    def verb(program: str, affiliate_id: str, currency: str, method_version: int, by: str | None) -> None:
        with open_service() as service:
            service.ledger.execute(program, command_of(affiliate_id, currency, method_version), meta(by))
        click.echo(f"{affiliate_id}, {currency}: version {method_version} is {said}")

    return verb


payee.add_command(
    _ends(
        "reject",
        "Refuse a version, as another person than proposed it.",
        lambda who, currency, version: DecidePayoutMethod(
            affiliate_id=who, currency=currency, method_version=version, approve=False
        ),
        "rejected",
    )
)
payee.add_command(
    _ends(
        "withdraw",
        "Take a version back that is not in force yet.",
        lambda who, currency, version: WithdrawPayoutMethod(
            affiliate_id=who, currency=currency, method_version=version
        ),
        "withdrawn",
    )
)


@payee.command("list")
@program_option
@click.option("--affiliate", "affiliate_id", metavar="ID", help="Only this one's.")
@json_option
def payee_list(program: str, affiliate_id: str | None, as_json: bool) -> None:
    """List payout methods with every version; bank details masked."""
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        if affiliate_id is not None and look.record(affiliate.key(affiliate_id)) is None:
            raise NotFound(f"affiliate {affiliate_id} does not exist")
        rows = list(_versions(look, service.ledger.clock(), affiliate_id))
    if as_json:
        print_json(rows)
        return
    headings = ("affiliate", "", "version", "method", "minimum", "details", "status", "proposed by", "decided by")
    table = [
        (
            row["affiliate_id"],
            row["currency"],
            str(row["method_version"]),
            row["method"],
            major(row["minimum_amount"], row["currency"]),
            "erased" if row["details"] is None else ", ".join(row["details"].values()),
            row["status"].replace("_", " ")
            + (f" from {row['effective_from']:%Y-%m-%d %H:%M} UTC" if row["effective_from"] else ""),
            row["proposed_by"],
            row["decided_by"] or "-",
        )
        for row in rows
    ]
    print_table(headings, table, right=(2, 4))


def _versions(look: reads.Look, now: datetime, affiliate_id: str | None) -> Iterator[dict[str, Any]]:
    after = ""
    while found := look.records("payout_method", after, PAGE, affiliate_id=affiliate_id):
        keys = [f"payout_method:{one.record_id}" for one in found]
        trails = decisions.of_records(look.cur, look.program_id, keys)
        for key, one in zip(keys, found, strict=True):
            state: PayoutMethodState = one.state
            in_force = state.in_force(now)
            for version in state.versions:
                status = "in_force" if version is in_force else version.status
                who = decisions.who(trails[key], version.method_version)
                yield _version(look, state, version, status, now) | who
        after = found[-1].record_id


def _version(
    look: reads.Look, state: PayoutMethodState, version: MethodVersion, status: str, now: datetime
) -> dict[str, Any]:
    starts = version.effective_from.astimezone(UTC) if version.effective_from else None
    if status == "approved":
        status = "waiting" if starts is not None and starts > now else "replaced"
    details = payout_method.open_details(look, state.affiliate_id, state.currency, version)
    return {
        "affiliate_id": state.affiliate_id,
        "currency": state.currency,
        "method_version": version.method_version,
        "method": version.method,
        "minimum_amount": version.minimum_amount,
        "details": _mask(version.method, details),
        "fingerprint": version.fingerprint,
        "status": status,
        "effective_from": starts,
    }


@payee.command("account")
@program_option
@currency_option
@_details_options("name", "iban", "bic")
@click.option("--show", is_flag=True, help="Only show, masked, which account it is now.")
@operator_option
def payee_account(
    program: str, currency: str, details_file: Path | None, show: bool, by: str | None, **fields: str | None
) -> None:
    """Say which account of the program SEPA payouts leave; runs proposed from now on are paid from it."""
    if show:
        _show_account(program, currency)
        return
    details = payees.check_details("sepa", _details(details_file, fields), currency)
    with open_service() as service:
        fingerprint = _fingerprint(service, program, "sepa", details)
        command = SetPayingAccount(currency=currency, details=details, fingerprint=fingerprint)
        answer = service.ledger.execute(program, command, meta(by))
    again = "" if answer.outcome == "recorded" else " (it was so already; nothing changed)"
    click.echo(f"{currency} is paid from {_masked('sepa', details)}: version {answer.body['account_version']}{again}")


def _show_account(program: str, currency: str) -> None:
    money.exponent("--currency", currency)
    with open_service() as service, reads.reading(service.ledger, program) as look:
        last_position(look.cur, look.program_id, "books")
        found = look.record(paying_account.key(currency))
        if found is None:
            raise NotFound(f"no account is set that {currency} is paid from")
        state: PayingAccountState = found.state
        details = paying_account.open_details(look, currency, state.current)
    click.echo(f"{currency} is paid from {_masked('sepa', details)}: version {state.current.account_version}")


COMMANDS = (payee,)
