"""A process that does the work of a payday piece by piece, each in a child of its own that can be killed at any step.

python paying_process.py    with DATABASE_URL and DIRECTORY in the environment; reads "PIECE N" from stdin and forks a
child that does the piece but is killed before its N-th commit or file operation (0: never); says "ended", "killed" or
"failed" on stdout. It starts no thread itself, so that forking it is safe.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from payout_world import every_payout, propose, statement
from support import PROGRAM, T0, Clock, by, open_ledger
from test_concurrency import patiently

from ledger import banking, closing, payruns
from ledger.application import CommissionLedger
from ledger.closing import close_period
from ledger.payouts import files
from ledger.store.database import Database

RUN = "2026-01-GBP-paypal-1"
PATIENCE_SECONDS = 60  # after which a child that hangs is killed, and has failed


class Payday(NamedTuple):
    """A payday's pieces, in order; small parts, so that each has many commits."""

    database: Database
    directory: Path

    @contextmanager
    def _ledger(self, day: int) -> Iterator[CommissionLedger]:
        with open_ledger(self.database, Clock(T0 + timedelta(days=day)), max_size=3) as ledger:
            yield ledger

    def propose(self) -> None:
        """A run for January."""
        with self._ledger(40) as ledger:
            assert patiently(lambda: propose(ledger, "2026-01")) == RUN

    def initiate(self) -> None:
        """Each of its payouts on its way."""
        with self._ledger(41) as ledger:
            patiently(lambda: payruns.initiate(ledger, PROGRAM, RUN, by("ana")))

    def render(self) -> None:
        """Its files."""
        with self._ledger(42) as ledger:
            _, made = patiently(lambda: payruns.render(ledger, PROGRAM, RUN, by("ana")))
            files.write(self.directory, made)

    def read_bank(self) -> None:
        """Payments, a return before its payment and one after, a wrong amount, and a stranger's line."""
        with self._ledger(44) as ledger:
            ids = {row.affiliate_id: (row.payout_id, row.transfer_amount) for row in every_payout(ledger)}
            told = [(f"paid-{who}", -amount, id_) for who, (id_, amount) in ids.items() if who != "p6"]
            told += [("wrong-p6", -5, ids["p6"][0]), ("back-p1", ids["p1"][1], ids["p1"][0]), ("rent", -900, "")]
            day = (T0 + timedelta(days=43)).date()
            early = statement("s1", [("back-p2", ids["p2"][1], ids["p2"][0])], day)
            for one in (early, statement("s2", told, day)):
                done = patiently(lambda one=one: banking.import_statement(ledger, PROGRAM, one, by("bank")))  # type: ignore[misc]
                assert done.refused == []

    def close(self) -> None:
        """Two months, one after the other."""
        with self._ledger(65) as ledger:
            for period in ("2026-01", "2026-02"):
                patiently(lambda period=period: list(close_period(ledger, PROGRAM, period, by("ana"))))  # type: ignore[misc]


class Scythe:
    """Kills its own process before the n-th commit of any connection, or the n-th time it makes, syncs, renames or
    removes a file; whichever comes first."""

    def __init__(self, n: int) -> None:
        self._left = n
        self._before(psycopg.Connection, "commit")
        for name in ("open", "fsync", "replace", "mkdir", "unlink"):
            self._before(os, name)

    def _before(self, place: Any, name: str) -> None:
        whole: Callable[..., Any] = getattr(place, name)

        def dangerous(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(*args, **kwargs)

        setattr(place, name, dangerous)


def attempt(payday: Payday, piece: str, n: int) -> str:
    """Do a piece in a child. Returns what became of it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE_SECONDS)
            Scythe(n)
            getattr(payday, piece)()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        return "ended"
    return "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "failed"


def main() -> None:
    """Until stdin ends."""
    payruns.MOST_AT_ONCE = banking.LINES_AT_ONCE = closing.STATEMENTS_AT_ONCE = 3
    payday = Payday(Database(os.environ["DATABASE_URL"], None, None), Path(os.environ["DIRECTORY"]))
    for order in sys.stdin:
        piece, n = order.split()
        print(attempt(payday, piece, int(n)), flush=True)


if __name__ == "__main__":
    main()
