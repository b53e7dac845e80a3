"""The program's own account that payouts of a currency are paid from, in versions; the newest counts."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import Struct

from ledger.domain import money
from ledger.domain.errors import InvalidInput
from ledger.domain.event import Answer, Command, Decision, Event
from ledger.domain.payout_method import Unsealer, canonical, check_fingerprint
from ledger.domain.view import Needs, View

SUBJECT = "program"  # whose data key encrypts what is the program's own
FIELDS = ("name", "iban", "bic")


class PayingAccountSet(Event, frozen=True):
    """details: ciphertext of canonical JSON {name, iban, bic}; fingerprint: keyed HMAC of them, hex."""

    currency: str
    account_version: int
    details: str
    fingerprint: str


class AccountVersion(Struct):
    """One version of the account."""

    account_version: int
    details: str
    fingerprint: str


class PayingAccountState(Struct):
    """Every version; version n stands at n - 1, and the last one counts."""

    currency: str
    versions: list[AccountVersion] = []

    @property
    def current(self) -> AccountVersion:
        """The version that counts."""
        return self.versions[-1]


def key(currency: str) -> str:
    """The stream key of the account for a currency."""
    return f"paying_account:{currency}"


def details_field(account_version: int) -> str:
    """The field that a version's details are sealed for."""
    return f"details.{account_version}"


def paying_account(view: View, currency: str) -> PayingAccountState | None:
    """The account that payouts of a currency are paid from, None if none was set."""
    state: PayingAccountState | None = view.state(key(currency))
    return state


def open_details(unsealer: Unsealer, currency: str, version: AccountVersion) -> dict[str, str] | None:
    """A version's {name, iban, bic} in plain text ('' for no BIC), None once the program's key is erased."""
    text = unsealer.unseal(SUBJECT, key(currency), details_field(version.account_version), version.details)
    return None if text is None else msgspec.json.decode(text, type=dict[str, str])


def fold(state: PayingAccountState | None, event: Event) -> PayingAccountState:
    """PayingAccountState after an event."""
    assert isinstance(event, PayingAccountSet)
    if state is None:
        state = PayingAccountState(event.currency)
    state.versions.append(AccountVersion(event.account_version, event.details, event.fingerprint))
    return state


class SetPayingAccount(Command, frozen=True):
    """Say which account payouts of a currency are paid from. details: name, iban and bic ('' for none), normalised."""

    name: ClassVar[str] = "set_paying_account"
    currency: str
    details: dict[str, str]
    fingerprint: str

    def __post_init__(self) -> None:
        money.exponent("currency", self.currency)
        check_fingerprint(self.fingerprint)
        if unknown := sorted(set(self.details) - set(FIELDS)):
            raise InvalidInput(f"details.{unknown[0]}", "is unknown: give name, iban and bic")
        for field in ("name", "iban"):
            text = self.details.get(field, "")
            if not 1 <= len(text) <= 140 or not text.isprintable():
                raise InvalidInput(f"details.{field}", "is required, 1-140 printable characters")
        if len(self.details.get("bic", "")) > 11:
            raise InvalidInput("details.bic", "must be a BIC of 8 or 11 characters, or empty")

    def needs(self) -> Needs:
        """The account's stream."""
        return Needs([key(self.currency)])

    def decide(self, view: View) -> Decision:
        """PayingAccountSet, unless nothing changes."""
        stream = key(self.currency)
        text = canonical({"bic": ""} | self.details)
        was = paying_account(view, self.currency)
        version = 1 if was is None else was.current.account_version
        if was is not None and was.current.fingerprint == self.fingerprint:
            kept = view.unseal(SUBJECT, stream, details_field(version), was.current.details)
            if kept is None or kept == text:
                return Decision([], self._answer("unchanged", version, view.answered_at(stream, PayingAccountSet)))
        if was is not None:
            version += 1
        event = PayingAccountSet(
            currency=self.currency,
            account_version=version,
            details=view.seal(SUBJECT, stream, details_field(version), text),
            fingerprint=self.fingerprint,
        )
        return Decision([(stream, event)], self._answer("recorded", version))

    def _answer(self, outcome: str, version: int, position: int = 0) -> Answer:
        body = {"currency": self.currency, "account_version": version, "fingerprint": self.fingerprint}
        return Answer(outcome, body, position)
