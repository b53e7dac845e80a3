"""What is payable to some affiliates, and proposed to them already, while a batch is being decided: the stored truth
and what the batch itself has appended so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from ledger.domain.event import Recorded
from ledger.domain.payout import PayoutFailed, PayoutProposed, PayoutReturned, PayoutSettled
from ledger.domain.postings import liability, postings
from ledger.projections import books, payouts
from ledger.store.log import Rows

Payable = tuple[str, str]  # (affiliate id, currency)


class Payables:
    """The caller holds the program's lock."""

    def __init__(self, cur: Rows, program_id: UUID, generation: int) -> None:
        self._cur, self._program_id, self._generation = cur, program_id, generation
        self._stored: dict[Payable, int] = {}
        self._proposed: dict[Payable, list[tuple[str, str]]] = {}
        self._moved: dict[tuple[str, str], int] = {}  # (account, currency) → by the batch's own events
        self._seen = 0  # how many of the batch's events are in _moved

    def load(self, wanted: Iterable[Payable]) -> None:
        """Read some of them in two statements."""
        missing = [one for one in wanted if one not in self._stored]
        if not missing:
            return
        accounts = {(liability(affiliate_id, "payable"), currency): (affiliate_id, currency)
                    for affiliate_id, currency in missing}  # fmt: skip
        self._stored.update(dict.fromkeys(missing, 0))
        known = books.amounts_now(self._cur, self._program_id, self._generation, {account for account, _ in accounts})
        for account, amount in known.items():
            if account in accounts:
                self._stored[accounts[account]] = -amount
        affiliates = sorted({affiliate_id for affiliate_id, _ in missing})
        wanted_now = set(missing)
        for affiliate_id, currency, payout_id, run_id in payouts.proposed(self._cur, self._program_id, affiliates):
            if (affiliate_id, currency) in wanted_now:
                self._proposed.setdefault((affiliate_id, currency), []).append((payout_id, run_id))

    def _catch_up(self, appended: Sequence[Recorded]) -> None:
        for record in appended[self._seen :]:
            body = record.body
            if isinstance(body, PayoutProposed):
                place = (body.affiliate_id, body.currency)
                self._proposed.setdefault(place, []).append((body.payout_id, body.run_id))
            for transfer in postings(body):
                for account, amount in ((transfer.debit, -transfer.amount), (transfer.credit, transfer.amount)):
                    moved = (account, transfer.currency)
                    self._moved[moved] = self._moved.get(moved, 0) + amount
        self._seen = len(appended)

    def payable(self, affiliate_id: str, currency: str, appended: Sequence[Recorded]) -> int:
        """See View.payable. appended: the batch's events so far."""
        place = (affiliate_id, currency)
        self.load([place])
        self._catch_up(appended)
        return self._stored[place] + self._moved.get((liability(affiliate_id, "payable"), currency), 0)

    def decided(self, run_id: str, appended: Sequence[Recorded]) -> int:
        """See View.decided_payouts. What this very batch decides counts, of whichever run it is."""
        stored = payouts.run_totals(self._cur, self._program_id, run_id)
        fresh = sum(isinstance(r.body, PayoutSettled | PayoutFailed | PayoutReturned) for r in appended)
        return fresh + sum(one.payout_count for one in stored if one.status in ("settled", "failed", "returned"))

    def proposed(self, affiliate_id: str, currency: str, appended: Sequence[Recorded]) -> list[tuple[str, str]]:
        """See View.proposed_payouts."""
        place = (affiliate_id, currency)
        self.load([place])
        self._catch_up(appended)
        return self._proposed.get(place, [])
