"""A journal for hledger (https://hledger.org).

Format: the manual of hledger 1.25, "Journal format". An account's name ends at two spaces, a comment begins with ';', a
tag's value ends at a comma, and '|' parts payee and note; so in text from outside these are percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from ledger.domain.money import EXPONENTS
from ledger.journals.accounts import Accounts, Style
from ledger.journals.common import Facts, Transaction, about, decimal, instant_text, kinds_of

# No part begins with a sign that may open a virtual posting, a status, a comment or a directive.
_ACCOUNT = re.compile(r"[\w.-][\w .&/+#'-]*(?::[\w.-][\w .&/+#'-]*)*")
_UNSAFE = re.compile(r"[%;,|()\[\]{}\"*!=@]|[^ \w!-~]|^ | $|  ")
_TYPES = {"asset": "A", "liability": "L", "expense": "X"}


def _problem(name: str) -> str | None:
    if not _ACCOUNT.fullmatch(name) or "  " in name or re.search(r" :|: | $", name):
        return (
            "is no account that hledger reads safely: its parts, between colons, have letters, digits, single spaces"
            " and . _ - & / + # ', and begin with a letter, a digit or . _ -"
        )
    return None


STYLE = Style(
    defaults={
        **{f"liability:{{affiliate}}:{one}": "liabilities:affiliates:{affiliate}:{bucket}"
           for one in ("pending", "held", "payable", "in_transit")},
        "asset:bank:{affiliate}": "assets:bank:affiliates:{affiliate}",
        "asset:bank": "assets:bank:program",
        "expense:commission": "expenses:commission",
        "expense:adjustment": "expenses:adjustment",
        "expense:bank_fee": "expenses:bank fees",
        "tax:vat": "assets:tax:vat",
        "tax:withholding": "liabilities:tax:withholding",
        "equity:opening": "equity:opening balances",
    },
    affiliate=lambda affiliate_id: affiliate_id,
    bucket=lambda bucket: bucket,
    problem=_problem,
)  # fmt: skip


def escaped(text: str) -> str:
    """Text that no tool's syntax can end; percent-decoding gives it back."""
    return _UNSAFE.sub(lambda match: quote(match[0], safe=""), text)


class HledgerJournal:
    """Journal."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def head(self, facts: Facts) -> Iterator[str]:
        """Facts, commodities, accounts and opening balances."""
        yield "".join(f"; {line}\n" for line in about(facts))
        yield "\ndecimal-mark .\n"
        for currency in facts.currencies:
            places = EXPONENTS.get(currency, 2)
            yield f"commodity 1000.{'0' * places} {currency}\n"
        for account, kind in kinds_of(facts, self._accounts).items():
            yield f"account {account}{f'  ; type:{_TYPES[kind]}' if kind else ''}\n"
        if opening := facts.opening:
            yield f"\n{facts.first_day} * Opening balances\n"
            for one in opening:
                yield (
                    f"    {self._accounts.of(one.account)}  {decimal(one.opening, one.currency)} {one.currency}"
                    f"{f'  ; affiliate:{one.affiliate_id}' if one.affiliate_id else ''}\n"
                )

    def transaction(self, one: Transaction) -> str:
        """Code: the position; payee: the topic; note: the reference; the secondary date: when it was recorded."""
        line, name = one.lines[0], self._accounts.of
        reference = f" | {escaped(line.reference)}" if line.reference else ""
        tags = f"effective_at:{instant_text(line.effective_at)}, recorded_at:{instant_text(line.recorded_at)}"
        if line.affiliate_id:
            tags = f"affiliate:{line.affiliate_id}, {tags}"
        if one.late_from is not None:
            tags += f", late_from:{one.late_from}"
        postings = "".join(
            f"    {name(each.debit)}  {(amount := decimal(each.amount, each.currency))} {each.currency}\n"
            f"    {name(each.credit)}  -{amount} {each.currency}\n"
            for each in one.lines
        )
        head = f"{one.booked_on}={one.recorded_on} * ({line.position}) {line.topic}{reference}"
        return f"\n{head}\n    ; {tags}\n{postings}"

    def tail(self, facts: Facts) -> Iterator[str]:
        """A transaction of nothing, whose assertions fail unless each account holds what we say."""
        closing = facts.closing(self._accounts)
        if closing:
            yield f"\n{facts.last_day} * Closing balances\n"
        for (account, currency), amount in closing.items():
            yield f"    {account}  {decimal(0, currency)} {currency} = {decimal(amount, currency)} {currency}\n"
