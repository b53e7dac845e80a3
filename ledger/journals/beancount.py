"""A journal for beancount (https://beancount.github.io).

Format: "Beancount Language Syntax" and the lexer of beancount 3.2: parts of an account begin with a capital or a digit
and have letters, digits and '-'; a balance is asserted at the beginning of its day; years are 1700 to 2999.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta

from ledger.domain.errors import WrongState
from ledger.journals.accounts import Accounts, Style
from ledger.journals.common import Facts, Transaction, about, decimal, instant_text

_ACCOUNT = re.compile(r"(Assets|Liabilities|Equity|Income|Expenses)(:[A-Z0-9][A-Za-z0-9-]*)+")
_YEARS = range(1700, 3000)
_ESCAPES = {"-": "--", ".": "-d", "_": "-u"}
_WHOLE = "X-c"  # no other name has '-c' in it: '-' is followed by '-', 'd' or 'u'


def _problem(name: str) -> str | None:
    if _ACCOUNT.fullmatch(name):
        return None
    return (
        "is no account of beancount: Assets, Liabilities, Equity, Income or Expenses, then parts behind colons that"
        " begin with A-Z or 0-9 and have A-Z a-z 0-9 and -"
    )


def affiliate_part(affiliate_id: str) -> str:
    """An affiliate's id as a part of an account: 'ada' → 'Ada', 'a.b_c-1' → 'A-db-uc--1', 'Ada' → 'X-cAda'. No two ids
    have the same one."""
    made = "".join(_ESCAPES.get(character, character) for character in affiliate_id)
    first = affiliate_id[:1]
    return made[:1].upper() + made[1:] if first.isdigit() or first.islower() else _WHOLE + made


def affiliate_of(part: str) -> str:
    """The id of which affiliate_part made this."""
    whole = part.startswith(_WHOLE)
    text = part.removeprefix(_WHOLE) if whole else part[:1].lower() + part[1:]
    back = {escape: character for character, escape in _ESCAPES.items()}
    return re.sub("-.", lambda match: back[match[0]], text)


STYLE = Style(
    defaults={
        **{f"liability:{{affiliate}}:{one}": "Liabilities:Affiliates:{affiliate}:{bucket}"
           for one in ("pending", "held", "payable", "in_transit")},
        "asset:bank:{affiliate}": "Assets:Bank:Affiliates:{affiliate}",
        "asset:bank": "Assets:Bank:Program",
        "expense:commission": "Expenses:Commission",
        "expense:adjustment": "Expenses:Adjustment",
        "expense:bank_fee": "Expenses:BankFees",
        "tax:vat": "Assets:Tax:VAT",
        "tax:withholding": "Liabilities:Tax:Withholding",
        "equity:opening": "Equity:OpeningBalances",
    },
    affiliate=affiliate_part,
    bucket=lambda bucket: "".join(word.title() for word in bucket.split("_")),
    problem=_problem,
)  # fmt: skip


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _day(day: date | None, what: str) -> str:
    """Raises WrongState for a day that beancount cannot read."""
    assert day is not None
    if day.year not in _YEARS:
        raise WrongState(f"beancount reads the years 1700 to 2999, and {what} is of {day}; hledger reads it")
    return day.isoformat()


class BeancountJournal:
    """Journal."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def head(self, facts: Facts) -> Iterator[str]:
        """Facts, commodities, accounts and opening balances. Behind files of earlier periods, only what is new is
        declared: beancount refuses a second declaration."""
        yield "".join(f"; {line}\n" for line in about(facts)) + "\n"
        yield f'option "title" {_quoted(f"Commissions of {facts.program}")}\n'
        # An account takes every currency: one that its first period did not have may come later.
        known = {one for one in facts.accounts if one.earlier_count and not facts.with_opening}
        known_currencies = {one.currency for one in known}
        known_accounts = {self._accounts.of(one.account) for one in known}
        yield from (f'option "operating_currency" "{one}"\n' for one in facts.currencies)
        first = _day(facts.first_day, "the first transaction") if facts.currencies else ""
        yield from (f"{first} commodity {one}\n" for one in facts.currencies if one not in known_currencies)
        names = {self._accounts.of(one.account) for one in facts.shown}
        yield from (f"{first} open {name}\n" for name in sorted(names - known_accounts))
        if opening := facts.opening:
            yield f'\n{first} * "Opening balances"\n'
            for one in opening:
                yield f"  {self._accounts.of(one.account)}  {decimal(one.opening, one.currency)} {one.currency}\n"
                yield f"    affiliate: {_quoted(one.affiliate_id)}\n" if one.affiliate_id else ""

    def transaction(self, one: Transaction) -> str:
        """Payee: the topic; narration: the reference; the rest as metadata."""
        line, name = one.lines[0], self._accounts.of
        day = _day(one.booked_on, f"position {line.position}")
        late = f"  late_from: {_day(one.late_from, f'position {line.position}')}\n" if one.late_from else ""
        whose = f"  affiliate: {_quoted(line.affiliate_id)}\n" if line.affiliate_id else ""
        postings = "".join(
            f"  {name(each.debit)}  {(amount := decimal(each.amount, each.currency))} {each.currency}\n"
            f"  {name(each.credit)}  -{amount} {each.currency}\n"
            for each in one.lines
        )
        return (
            f"\n{day} * {_quoted(line.topic)} {_quoted(line.reference)}{' #late' if late else ''}\n"
            f"  position: {line.position}\n{whose}"
            f'  effective_at: "{instant_text(line.effective_at)}"\n  recorded_at: "{instant_text(line.recorded_at)}"\n'
            f"{late}{postings}"
        )

    def tail(self, facts: Facts) -> Iterator[str]:
        """Assertions at the beginning of the day after, without tolerance: beancount's own lets a cent pass. What it
        compares includes the accounts below."""
        closing = facts.closing(self._accounts)
        if not closing:
            return
        assert facts.last_day is not None
        day = _day(facts.last_day + timedelta(days=1), "the day after the last")
        held: dict[tuple[str, str], int] = {}
        for (account, currency), amount in closing.items():
            parts = account.split(":")
            for end in range(1, len(parts) + 1):
                key = ":".join(parts[:end]), currency
                held[key] = held.get(key, 0) + amount
        yield "\n"
        for account, currency in closing:
            expected = decimal(held[account, currency], currency)
            yield f"{day} balance {account}  {expected} ~ {decimal(0, currency)} {currency}\n"
