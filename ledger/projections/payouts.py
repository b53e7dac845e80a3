"""Payout runs, payouts and bank lines as work lists, written in the append's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import sql
from ledger.domain.bank import BankLineState
from ledger.domain.payout import PayoutInitiated, PayoutProposed, PayoutSettled, PayoutState
from ledger.domain.payout_run import SeriesState
from ledger.projections.listing import Touched
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "payouts.sql")
COLUMNS = (
    "program_id, payout_id, run_id, affiliate_id, currency, method, method_version, fingerprint, status, amount,"
    " owed_amount, vat_amount, withholding_amount, fee_amount, invoice_number, reason, initiated_at,"
    " initiated_position, ended_at, bank_line_id, position"
)
_TYPES = (
    "uuid", "text", "text", "text", "text", "text", "int4", "text", "text", "int8", "int8", "int8", "int8", "int8",
    "text", "text", "timestamptz", "int8", "timestamptz", "text", "int8",
)  # fmt: skip
_BANK_TYPES = ("uuid", "text", "date", "int8", "int8", "text", "text", "text", "text", "int8")


class PayoutRow(NamedTuple):
    """A payout as it stands. reason: why it was excluded, a code."""

    payout_id: str
    affiliate_id: str
    currency: str
    method: str
    method_version: int
    fingerprint: str
    status: str
    amount: int
    owed_amount: int
    vat_amount: int
    withholding_amount: int
    fee_amount: int
    invoice_number: str
    reason: str
    initiated_at: datetime | None
    ended_at: datetime | None
    bank_line_id: str
    position: int
    run_id: str

    @property
    def transfer_amount(self) -> int:
        """What the affiliate's account receives, minor units."""
        return self.amount + self.vat_amount - self.withholding_amount


class RunRow(NamedTuple):
    """A run as it stands."""

    run_id: str
    period: str
    currency: str
    method: str
    attempt: int
    status: str
    cut_position: int
    ends_at: datetime
    position: int


class StatusTotal(NamedTuple):
    """A run's payouts in one status; amounts in minor units."""

    status: str
    payout_count: int
    amount: int
    transfer_amount: int
    vat_amount: int
    withholding_amount: int
    fee_amount: int


# --- writing -------------------------------------------------------------------------------------------


def store(cur: Rows, program_id: UUID, touched: Sequence[Touched]) -> None:
    """Write the rows of what a batch touched."""
    payouts = [stream for stream in touched if stream.kind == "payout"]
    if payouts:
        _store_payouts(cur, program_id, payouts)
    for stream in touched:
        if stream.kind == "payout_run":
            _store_runs(cur, program_id, stream)
    lines = [stream for stream in touched if stream.kind == "bank_line"]
    if lines:
        _store_bank_lines(cur, program_id, lines)


def _initiated_position(stream: Touched) -> int | None:
    """The position at which its money left the payable balance, if this batch says so."""
    for record in stream.records[-stream.fresh :]:
        body = record.body
        if isinstance(body, PayoutInitiated) or (isinstance(body, PayoutSettled) and body.after_failure):
            return record.position
    return None


def _store_payouts(cur: Rows, program_id: UUID, streams: Sequence[Touched]) -> None:
    new = [s for s in streams if any(isinstance(r.body, PayoutProposed) for r in s.records[-s.fresh :])]
    changed = [s for s in streams if s not in new] if len(new) < len(streams) else []
    if new:
        with cur.copy(f"COPY payouts ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for stream in new:
                copy.write_row(_payout_row(program_id, stream))
    if changed:
        rows = [_changes(stream) for stream in changed]
        cur.execute(QUERIES["update_payouts"], {"program_id": program_id, "rows": msgspec.json.encode(rows).decode()})


def _payout_row(program_id: UUID, stream: Touched) -> tuple[Any, ...]:
    state: PayoutState = stream.state
    p = state.proposed
    return (
        program_id, p.payout_id, p.run_id, p.affiliate_id, p.currency, p.method, p.method_version, p.fingerprint,
        state.status, p.amount, p.owed_amount, p.vat_amount, p.withholding_amount, state.fee_amount,
        state.invoice_number, state.code, state.initiated_at, _initiated_position(stream), state.ended_at,
        state.bank_line_id, stream.records[-1].position,
    )  # fmt: skip


def _changes(stream: Touched) -> dict[str, Any]:
    state: PayoutState = stream.state
    return {
        "payout_id": state.proposed.payout_id,
        "status": state.status,
        "fee_amount": state.fee_amount,
        "invoice_number": state.invoice_number,
        "reason": state.code,
        "initiated_at": state.initiated_at,
        "initiated_position": _initiated_position(stream),
        "ended_at": state.ended_at,
        "bank_line_id": state.bank_line_id,
        "position": stream.records[-1].position,
    }


def _store_runs(cur: Rows, program_id: UUID, stream: Touched) -> None:
    state: SeriesState = stream.state
    ids = {r.body.run_id for r in stream.records[-stream.fresh :]}  # type: ignore[attr-defined]
    for one in state.runs:
        begun = one.begun
        if begun.run_id in ids:
            cur.execute(
                QUERIES["upsert_run"],
                {
                    "program_id": program_id,
                    "run_id": begun.run_id,
                    "period": begun.period,
                    "currency": begun.currency,
                    "method": begun.method,
                    "attempt": begun.attempt,
                    "status": one.status,
                    "cut_position": begun.cut_position,
                    "ends_at": begun.ends_at,
                    "position": stream.records[-1].position,
                },
            )


def _store_bank_lines(cur: Rows, program_id: UUID, streams: Sequence[Touched]) -> None:
    columns = "program_id, line_id, booked_on, amount, charges, currency, end_to_end_id, outcome, payout_id, position"
    with cur.copy(f"COPY bank_lines ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(_BANK_TYPES)
        for stream in streams:
            state: BankLineState = stream.state
            line = state.recorded
            # the end-to-end id only where it is one of ours: a stranger's may be personal
            copy.write_row(
                (
                    program_id, line.line_id, line.booked_on, line.amount, line.charges, line.currency,
                    line.payout_id, line.outcome, line.payout_id, stream.records[-1].position,
                )
            )  # fmt: skip


# --- reading -------------------------------------------------------------------------------------------


def proposed(cur: Rows, program_id: UUID, affiliates: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """(affiliate id, currency, payout id, run id) of what is proposed to some affiliates."""
    cur.execute(QUERIES["select_proposed"], {"program_id": program_id, "affiliates": list(affiliates)})
    return cur.fetchall()


def of_run(
    cur: Rows, program_id: UUID, run_id: str, after: str = "", limit: int = 1000, status: str | None = None
) -> list[PayoutRow]:
    """A run's payouts behind an id, in the order of ids."""
    cur.execute(
        QUERIES["select_run_payouts"],
        {"program_id": program_id, "run_id": run_id, "after": after, "limit": limit, "status": status},
    )
    return [PayoutRow(*row) for row in cur]


def page(
    cur: Rows, program_id: UUID, after: str, limit: int, status: str | None = None, affiliate_id: str | None = None
) -> list[PayoutRow]:
    """Payouts behind an id, in the order of ids."""
    cur.execute(
        QUERIES["select_payouts"],
        {"program_id": program_id, "after": after, "limit": limit, "status": status, "affiliate_id": affiliate_id},
    )
    return [PayoutRow(*row) for row in cur]


def initiated_between(
    cur: Rows, program_id: UUID, affiliate_id: str, from_: datetime, until: datetime
) -> list[PayoutRow]:
    """An affiliate's payouts initiated in a time."""
    cur.execute(
        QUERIES["select_affiliate_payouts"],
        {"program_id": program_id, "affiliate_id": affiliate_id, "from": from_, "until": until},
    )
    return [PayoutRow(*row) for row in cur]


def run_totals(cur: Rows, program_id: UUID, run_id: str) -> list[StatusTotal]:
    """A run's payouts by status."""
    cur.execute(QUERIES["select_run_totals"], {"program_id": program_id, "run_id": run_id})
    return [StatusTotal(*row) for row in cur]


def run_bank(cur: Rows, program_id: UUID, run_id: str) -> list[tuple[str, int, int]]:
    """(outcome, lines, sum in minor units) of the bank's lines about a run's payouts."""
    cur.execute(QUERIES["select_run_bank"], {"program_id": program_id, "run_id": run_id})
    return cur.fetchall()


def runs(cur: Rows, program_id: UUID, after: str, limit: int, status: str | None = None) -> list[RunRow]:
    """Runs behind an id, in the order of ids."""
    cur.execute(QUERIES["select_runs"], {"program_id": program_id, "after": after, "limit": limit, "status": status})
    return [RunRow(*row) for row in cur]


def missing_series(cur: Rows, program_id: UUID, period: str) -> list[tuple[str, str]]:
    """(currency, method) in use by affiliates, of which a period has no run yet."""
    cur.execute(QUERIES["select_missing_series"], {"program_id": program_id, "period": period})
    return cur.fetchall()


def run_moved(cur: Rows, program_id: UUID, run_id: str) -> tuple[int, int]:
    """(what left, what came back) for a run's payouts by the bank's lines, minor units above zero."""
    cur.execute(QUERIES["select_run_moved"], {"program_id": program_id, "run_id": run_id})
    row = cur.fetchone()
    assert row is not None
    return row[0], row[1]


def apart_from_bank(cur: Rows, program_id: UUID, run_id: str) -> list[str]:
    """Ids of a run's payouts of which books and bank say different sums, at most a hundred."""
    cur.execute(QUERIES["select_apart_from_bank"], {"program_id": program_id, "run_id": run_id})
    return [payout_id for (payout_id,) in cur]
