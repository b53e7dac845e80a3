"""What is open between the program and one affiliate: money, payouts, decisions that wait, keys that open something."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from ledger import sql
from ledger.domain import money
from ledger.projections import books
from ledger.store.log import Rows

QUERIES = sql.load("ledger.projections", "obligations.sql")
MOST_OF_A_KIND = 20


def unsettled(cur: Rows, program_id: UUID, affiliate_id: str, now: datetime) -> list[tuple[str, str]]:
    """(what, which) of everything open, the first few of each kind; empty when nothing is. now: for keys' ends.

    What was paid is no obligation, nor is a record that somebody has decided.
    """
    owed = [
        (account.rpartition(":")[2], f"{money.major_units(-amount, currency)} {currency}")
        for account, currency, amount in books.account_balances(cur, program_id, books.AsOf(), affiliate_id)
        if amount and account.startswith("liability:")
    ]
    params = {"program_id": program_id, "affiliate_id": affiliate_id, "now": now, "limit": MOST_OF_A_KIND}
    found = sorted(owed)
    for name in ("select_open_payouts", "select_open_records", "select_keys_in_force"):
        cur.execute(QUERIES[name], params)
        found += [(what, which) for what, which in cur]
    return found
