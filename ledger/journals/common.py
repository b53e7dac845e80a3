"""What every form of a journal shares: its transactions, the facts it states about itself, and money as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

from ledger.domain.money import major_units
from ledger.domain.postings import owner
from ledger.journals.accounts import Accounts
from ledger.journals.scope import Mark, Scope


class JournalDiffers(Exception):
    """The books say two different things: nothing was written. The message names the account."""


class Line(NamedTuple):
    """A journal line: amount minor units from the credit account to the debit account."""

    position: int
    line_no: int
    debit: str
    credit: str
    amount: int
    currency: str
    effective_at: datetime
    recorded_at: datetime
    affiliate_id: str
    topic: str
    reference: str


class Transaction(NamedTuple):
    """An event's lines, which happened at one instant. recorded_on: the day it was recorded; late_from: the day it
    happened on, of a late one."""

    booked_on: date
    recorded_on: date
    late_from: date | None
    lines: Sequence[Line]


class AccountTotals(NamedTuple):
    """An account in a currency, minor units, debits above zero: what it held at the start (in earlier_count lines) and
    what it moved since (in line_count lines)."""

    account: str
    currency: str
    opening: int
    moved: int
    earlier_count: int
    line_count: int

    @property
    def affiliate_id(self) -> str:
        """Whose account it is, '' for the program's own."""
        return owner(self.account)


class ControlTotal(NamedTuple):
    """A currency's lines: how many events and lines, and the sum of their amounts, minor units."""

    currency: str
    transaction_count: int
    line_count: int
    amount: int


class Facts(NamedTuple):
    """What a journal states about itself. first_day, last_day: of its transactions, None without any; checkpoint:
    (size, root) of the first seal that covers it; with_opening: whether it begins with the balances before it."""

    program: str
    scope: Scope
    accounts: Sequence[AccountTotals]
    totals: Sequence[ControlTotal]
    first_day: date | None
    last_day: date | None
    checkpoint: tuple[int, bytes] | None
    code_version: str
    mapping: str
    with_opening: bool

    @property
    def shown(self) -> Iterator[AccountTotals]:
        """The accounts that the journal names: those that moved in it, or held something at its start."""
        return (one for one in self.accounts if one.line_count or one.opening)

    @property
    def opening(self) -> list[AccountTotals]:
        """What is carried forward, where the journal says it."""
        return [one for one in self.accounts if one.opening] if self.with_opening else []

    @property
    def currencies(self) -> list[str]:
        """Every currency that the journal names."""
        return sorted({one.currency for one in self.shown})

    def closing(self, accounts: Accounts) -> dict[tuple[str, str], int]:
        """(the tool's account, currency) → what it holds in the end, sorted."""
        found: dict[tuple[str, str], int] = {}
        for one in self.shown:
            key = accounts.of(one.account), one.currency
            found[key] = found.get(key, 0) + one.opening + one.moved
        return dict(sorted(found.items()))


class Journal(Protocol):
    """A form of journal: text in pieces, in this order."""

    def head(self, facts: Facts) -> Iterator[str]:
        """What stands before the transactions, opening balances included."""
        ...

    def transaction(self, one: Transaction) -> str:
        """One event."""
        ...

    def tail(self, facts: Facts) -> Iterator[str]:
        """What stands behind them: assertions, so that the tool itself proves the closing balances."""
        ...


Form = Callable[[Accounts], Journal]


def decimal(amount: int, currency: str) -> str:
    """Minor units as an exact decimal by the currency's ISO 4217 exponent: 1234 KWD → 1.234."""
    return major_units(amount, currency)


def instant_text(instant: datetime) -> str:
    """RFC 3339 in UTC, with microseconds where there are some."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def about(facts: Facts) -> Iterator[str]:
    """What a journal says of itself in comments, a line each."""
    scope = facts.scope
    yield f"Commission ledger: the general ledger of program {facts.program}"
    if scope.period:
        yield f"period {scope.period}, " + (f"closed, version {scope.version}" if scope.version else "not closed yet")
    yield f"has: {_mark(scope.end)}"
    yield f"without: {_mark(scope.start)}" if scope.start else "without: nothing, it begins with the books"
    yield f"as of position {scope.end.position} of the books' log; days are those of {scope.zone}"
    yield (
        f"{len(facts.opening)} opening balances, {sum(one.transaction_count for one in facts.totals)} transactions,"
        f" {sum(one.line_count for one in facts.totals)} lines"
    )
    for one in facts.totals:
        yield (
            f"control total {one.currency}: {one.transaction_count} transactions, {one.line_count} lines,"
            f" debits = credits = {decimal(one.amount, one.currency)}"
        )
    if facts.checkpoint is None:
        yield "checkpoint: none covers it yet"
    else:
        yield f"checkpoint: size {facts.checkpoint[0]}, root {facts.checkpoint[1].hex()}"
    yield f"accounts: {facts.mapping}"
    yield f"code version {facts.code_version}"


def _mark(mark: Mark) -> str:
    when = f"what had happened before {instant_text(mark.instant)}" if mark.instant else "whatever had happened"
    return f"{when}, as far as known after position {mark.position}"


def kinds_of(facts: Facts, accounts: Accounts) -> Mapping[str, str]:
    """The tool's account → what kind it is ('asset', 'liability', 'expense'), '' where several of ours share it that
    are not of one kind; sorted."""
    found: dict[str, str] = {}
    for one in facts.shown:
        name, kind = accounts.of(one.account), _kind(one.account)
        found[name] = kind if found.get(name, kind) == kind else ""
    return dict(sorted(found.items()))


def _kind(account: str) -> str:
    if account == "tax:vat":
        return "asset"  # input tax: a tax office gives it back
    return "liability" if account == "tax:withholding" else account.partition(":")[0]
