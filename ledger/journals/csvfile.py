"""A journal as CSV (RFC 4180, UTF-8), for bookkeeping software that imports rows with two accounts each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from ledger.journals.accounts import KEYS, OPENING, Accounts, Style
from ledger.journals.common import Facts, Transaction, decimal, instant_text
from ledger.payouts.text import cell, starts_formula

COLUMNS = (
    "date", "position", "line", "debit_account", "credit_account", "amount", "currency", "minor_units", "affiliate",
    "topic", "reference", "effective_at", "recorded_at", "late_from",
)  # fmt: skip


def _problem(name: str) -> str | None:
    if not name.strip() or not name.isprintable() or starts_formula(name) or cell(name) != name:
        return 'must be one line that no spreadsheet takes for a formula, without ; and " and double spaces'
    return None


STYLE = Style(
    defaults={key: key for key in KEYS},
    affiliate=lambda affiliate_id: affiliate_id,
    bucket=lambda bucket: bucket,
    problem=_problem,
)


class CsvJournal:
    """Journal. Amounts are decimal major units with a point; minor_units says how many decimals those are of."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer, lineterminator="\r\n")

    def _text(self, rows: Sequence[Sequence[object]]) -> str:
        self._writer.writerows(rows)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text

    def head(self, facts: Facts) -> Iterator[str]:
        """The heading, and a row for each opening balance, with the account for those on its other side."""
        yield self._text([COLUMNS])
        for one in facts.opening:
            account, other = cell(self._accounts.of(one.account)), cell(self._accounts.of(OPENING))
            debit, credit = (account, other) if one.opening > 0 else (other, account)
            amount = abs(one.opening)
            yield self._text(
                [
                    (facts.first_day, 0, 0, debit, credit, decimal(amount, one.currency), one.currency, amount,
                     cell(one.affiliate_id), "OpeningBalance", "", "", "", ""),
                ]
            )  # fmt: skip

    def transaction(self, one: Transaction) -> str:
        """A row a line."""
        return self._text(
            [
                (
                    one.booked_on, each.position, each.line_no, cell(self._accounts.of(each.debit)),
                    cell(self._accounts.of(each.credit)), decimal(each.amount, each.currency), each.currency,
                    each.amount, cell(each.affiliate_id), each.topic, cell(each.reference),
                    instant_text(each.effective_at), instant_text(each.recorded_at), one.late_from or "",
                )
                for each in one.lines
            ]
        )  # fmt: skip

    def tail(self, facts: Facts) -> Iterator[str]:
        """Nothing: a row that is no booking would be imported as one."""
        return iter(())
