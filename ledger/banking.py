"""Bank statements into the books: every line decided once, then the statement itself."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ledger.application import CommissionLedger, Progress
from ledger.desk import Meta
from ledger.domain.bank import BankStatementImported, RecordBankLine, RecordBankStatement
from ledger.domain.errors import Refusal
from ledger.domain.event import Answer
from ledger.domain.ids import program_id
from ledger.payouts.bank import BankLine, BankStatement

LINES_AT_ONCE = 500


class Imported(NamedTuple):
    """What became of a statement's lines. outcomes: settled, returned, fee, break → how many; unchanged: how many of
    the lines were known already; refused: (line id, why)."""

    statement_id: str
    line_count: int
    outcomes: dict[str, int]
    unchanged: int
    refused: list[tuple[str, str]]
    break_ids: list[str]


def import_statement(
    ledger: CommissionLedger,
    program: str,
    statement: BankStatement,
    meta: Meta,
    told: Callable[[Progress], None] = lambda _: None,
) -> Imported:
    """Decide every line of a statement. Interrupted, it is imported again: lines that are known change nothing.
    Raises Unavailable."""
    lines = sorted(statement.lines, key=lambda line: (line.booking_on, line.amount > 0, line.line_id))
    outcomes: dict[str, int] = {}
    unchanged = 0
    refused: list[tuple[str, str]] = []
    break_ids: list[str] = []
    for start in range(0, len(lines), LINES_AT_ONCE):
        part: list[BankLine] = []
        commands: list[RecordBankLine] = []
        for line in lines[start : start + LINES_AT_ONCE]:
            if line.amount:  # banks also send notices of 0.00
                try:
                    commands.append(_command(line))
                    part.append(line)
                except Refusal as refusal:
                    refused.append((line.line_id, refusal.message))
        for line, outcome in zip(part, ledger.execute_many(program, commands, meta), strict=True):
            if isinstance(outcome, Refusal):
                refused.append((line.line_id, outcome.message))
                continue
            said = outcome.body["outcome"]
            outcomes[said] = outcomes.get(said, 0) + 1
            unchanged += outcome.outcome == "unchanged"
            if outcome.body["break_id"]:
                break_ids.append(outcome.body["break_id"])
        told(Progress(min(start + LINES_AT_ONCE, len(lines)), len(lines)))
    statement_id = _event_id(ledger.secrets.fingerprint_key(program_id(program)), statement)
    if not refused:
        _record(ledger, program, statement, len(break_ids), meta)
    return Imported(statement_id, len(lines), outcomes, unchanged, refused, break_ids)


def _command(line: BankLine) -> RecordBankLine:
    """Charges that cannot be inside the amount are none of it."""
    return RecordBankLine(
        line_id=line.line_id,
        booked_on=line.booking_on,
        amount=line.amount,
        currency=line.currency,
        end_to_end_id=line.end_to_end_id,
        kind=line.kind,
        charges=line.charges if 0 <= line.charges <= abs(line.amount) else 0,
        text=line.text,
    )


def import_statements(
    ledger: CommissionLedger,
    program: str,
    statements: Sequence[BankStatement],
    meta: Meta,
    told: Callable[[Progress], None] = lambda _: None,
) -> list[Imported]:
    """Several statements of a file, in its order."""
    return [import_statement(ledger, program, one, meta, told) for one in statements]


def _event_id(key: bytes, statement: BankStatement) -> str:
    """What the log calls a statement: a keyed hash of its account, the bank's own id and its lines. The bank's id may
    be an account number, or the same every month."""
    parts = [statement.account, statement.statement_id, *sorted(line.line_id for line in statement.lines)]
    return hmac.digest(key, "\n".join(["statement", *parts]).encode(), "sha256").hex()[:32]


def _record(ledger: CommissionLedger, program: str, statement: BankStatement, break_count: int, meta: Meta) -> Answer:
    key = ledger.secrets.fingerprint_key(program_id(program))
    account = hmac.digest(key, b"account\n" + statement.account.encode(), "sha256").hex()[:32]
    event = BankStatementImported(
        statement_id=_event_id(key, statement),
        account=account,
        currency=statement.currency,
        line_count=len(statement.lines),
        break_count=break_count,
        booked_from=statement.booked_from,
        booked_until=statement.booked_until,
        opening_amount=statement.opening_amount,
        closing_amount=statement.closing_amount,
    )
    return ledger.execute(program, RecordBankStatement(statement=event), meta)
