"""Writing a journal: one look at the books, counted by the database, written line by line, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from ledger.application import CommissionLedger
from ledger.journals import beancount, csvfile, hledger
from ledger.journals.accounts import Accounts, Style, read_mapping
from ledger.journals.common import AccountTotals, ControlTotal, Facts, Form, JournalDiffers, Line, Transaction
from ledger.journals.scope import QUERIES, Scope, resolve
from ledger.projections import books, programs
from ledger.projections.books import AsOf
from ledger.store.database import LONG_STATEMENT_TIMEOUT, allow_long
from ledger.store.log import Rows
from ledger.version import code_version

LINES_AT_ONCE = 10_000
PIECE_BYTES = 1 << 20
IDLE_TIMEOUT = LONG_STATEMENT_TIMEOUT  # whoever reads the journal may take a while


class _Kind(NamedTuple):
    form: Form
    style: Style
    with_opening: bool  # unless said otherwise


KINDS = {
    "hledger": _Kind(hledger.HledgerJournal, hledger.STYLE, True),
    "beancount": _Kind(beancount.BeancountJournal, beancount.STYLE, True),
    # Rows are added to books that have the earlier ones already.
    "csv": _Kind(csvfile.CsvJournal, csvfile.STYLE, False),
}


class Asked(NamedTuple):
    """What a journal shall hold: a period by its name, or from a day or instant until another, or everything.
    mapping: the name and content of a mapping file; opening None: as the kind has it."""

    kind: str
    period: str | None = None
    since: str | None = None
    until: str | None = None
    mapping: tuple[str, bytes] | None = None
    opening: bool | None = None


class Journalled(NamedTuple):
    """A journal as it was begun: what it states, and its text, which fails with JournalDiffers before its last piece
    where the lines are not what the database counted."""

    facts: Facts
    pieces: Iterator[bytes]


@contextmanager
def open_journal(ledger: CommissionLedger, program: str, asked: Asked) -> Iterator[Journalled]:
    """A journal of one look at the books; its text can be read once, inside. Memory grows with the accounts, not with
    the lines. Raises InvalidInput, UnknownProgram, JournalDiffers."""
    kind = KINDS[asked.kind]
    # Before the database is asked: a mistake in the mapping is said at once.
    accounts = read_mapping(*asked.mapping, kind.style) if asked.mapping else Accounts(kind.style)
    opening = kind.with_opening if asked.opening is None else asked.opening
    with ledger.reading(program) as (cur, id_):
        cur.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Long work, but finite; and who reads it (a pipe, a pager) may be slow.
        allow_long(cur, IDLE_TIMEOUT)
        facts = _facts(cur, id_, program, asked, accounts.about, opening)
        yield Journalled(facts, _pieces(_text(cur, id_, facts, kind.form, accounts)))


# --- reading ---------------------------------------------------------------------------------------------


def _facts(cur: Rows, id_: UUID, program: str, asked: Asked, mapping: str, with_opening: bool) -> Facts:
    zone = programs.state(cur, id_, program).zone
    scope = resolve(cur, id_, zone, asked.period, asked.since, asked.until)
    params = scope.params(id_)
    cur.execute(QUERIES["select_accounts"], params)
    accounts = [AccountTotals(a, c, int(opening), int(moved), *counts) for a, c, opening, moved, *counts in cur]
    cur.execute(QUERIES["select_control_totals"], params)
    rows = cur.fetchall()
    totals = [ControlTotal(currency, events, lines, int(amount)) for currency, events, lines, amount, _, _ in rows]
    cur.execute(QUERIES["select_checkpoint"], params)
    sealed = cur.fetchone()
    first = scope.first_day or (scope.day_of(min(row[4] for row in rows)) if rows else None)
    last = scope.last_day or (scope.day_of(max(row[5] for row in rows)) if rows else first)
    if scope.start is None and scope.end.instant is None:
        _compare("the balances", "the journal", _live(cur, id_), {(a.account, a.currency): a.moved for a in accounts})
    return Facts(
        program=program,
        scope=scope,
        accounts=accounts,
        totals=totals,
        first_day=first,
        last_day=last,
        checkpoint=(sealed[0], bytes(sealed[1])) if sealed else None,
        code_version=code_version(),
        mapping=mapping,
        with_opening=with_opening and scope.start is not None,
    )


def _live(cur: Rows, id_: UUID) -> dict[tuple[str, str], int]:
    return {(account, currency): amount for account, currency, amount in books.account_balances(cur, id_, AsOf())}


def _transactions(cur: Rows, id_: UUID, scope: Scope) -> Iterator[Transaction]:
    """Every event's lines, in the order of the log."""
    with cur.connection.cursor(name="journal_lines") as rows:
        rows.itersize = LINES_AT_ONCE
        lines = map(Line._make, rows.execute(QUERIES["select_lines"], scope.params(id_)))
        for _, group in groupby(lines, key=lambda line: (line.position, line.effective_at)):
            of_event = list(group)
            first = of_event[0]
            yield Transaction(
                booked_on=scope.booked_on(first.effective_at, first.recorded_at),
                recorded_on=scope.day_of(first.recorded_at),
                late_from=scope.day_of(first.effective_at) if scope.is_late(first.effective_at) else None,
                lines=of_event,
            )


def _text(cur: Rows, id_: UUID, facts: Facts, form: Form, accounts: Accounts) -> Iterator[str]:
    journal = form(accounts)
    yield from journal.head(facts)
    moved: dict[tuple[str, str], int] = {}
    for one in _transactions(cur, id_, facts.scope):
        for line in one.lines:
            debit, credit = (line.debit, line.currency), (line.credit, line.currency)
            moved[debit] = moved.get(debit, 0) + line.amount
            moved[credit] = moved.get(credit, 0) - line.amount
        yield journal.transaction(one)
    counted = {(a.account, a.currency): a.moved for a in facts.accounts}
    _compare("the database", "the lines written", counted, moved)
    yield from journal.tail(facts)


def _compare(one: str, other: str, expected: dict[tuple[str, str], int], found: dict[tuple[str, str], int]) -> None:
    """Raises JournalDiffers with the first account that two ways of adding up do not agree on."""
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key, 0) != found.get(key, 0):
            raise JournalDiffers(
                f"account {key[0]} in {key[1]}: {one} say {expected.get(key, 0)} minor units, {other}"
                f" {found.get(key, 0)}; nothing was exported. `ledger rebuild` compares the books with the log"
            )


def _pieces(text: Iterable[str]) -> Iterator[bytes]:
    """Text in pieces worth writing."""
    waiting: list[str] = []
    size = 0
    for part in text:
        waiting.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield "".join(waiting).encode()
            waiting.clear()
            size = 0
    yield "".join(waiting).encode()
