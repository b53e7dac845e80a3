"""What the bank's lines say of each payout of a run, for the view that holds ledger, file and bank side by side."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from ledger import sql
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "threeway.sql")


class BankSide(NamedTuple):
    """A payout's bank lines, also those that became breaks. left, came_back: minor units, not below zero."""

    line_count: int = 0
    left: int = 0
    came_back: int = 0


def bank_of_run(cur: Rows, program_id: UUID, run_id: str) -> dict[str, BankSide]:
    """payout id → its bank lines, for the payouts of a run that have any."""
    cur.execute(QUERIES["select_bank_of_run"], {"program_id": program_id, "run_id": run_id})
    return {payout_id: BankSide(*side) for payout_id, *side in cur}
