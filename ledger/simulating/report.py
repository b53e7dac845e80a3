"""What a simulation says: what each affiliate was credited with and would be, what differs, and why."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct
from psycopg import Connection
from psycopg.rows import TupleRow

from ledger.domain import money
from ledger.domain.conversion import RESERVED_PREFIX
from ledger.domain.conversion_state import Commission, ConversionState
from ledger.domain.simulation import Line, hash_of_lines
from ledger.simulating.kept import Kept
from ledger.simulating.reasons import why
from ledger.simulating.replay import Progress, Replayed, replayed
from ledger.simulating.trial import Trial
from ledger.store.vault import Secrets

SHOWN_ORDERS = 20
_ROWS_AT_ONCE = 2_000
_OVER = ("reversed", "rejected")


class Difference(Struct, array_like=True, frozen=True, gc=False):
    """One affiliate's commission on an order that would be another. was, would: the whole commission, minor units;
    was_net, would_net: less what was taken back of it; moves: whether an application has anything to move."""

    order_id: str
    affiliate_id: str
    level: int
    was: int
    would: int
    was_net: int
    would_net: int
    credited_amount: int
    currency: str
    reason: str
    words: str
    occurred_at: datetime
    matures_at: datetime
    moves: bool


class Figures(Struct):
    """An affiliate's, or all of them, in one currency; amounts in minor units."""

    conversions_was: int = 0
    conversions_would: int = 0
    commission_was: int = 0
    commission_would: int = 0
    reasons: dict[str, list[int]] = {}

    def add(self, was: int, would: int, reason: str) -> None:
        """An order's commission, net. reason: '' where nothing differs."""
        self.commission_was += was
        self.commission_would += would
        if reason:
            found = self.reasons.get(reason)
            if found is None:
                found = self.reasons[reason] = [0, 0]
            found[0] += 1
            found[1] += would - was

    def document(self) -> dict[str, Any]:
        """As it is reported."""
        return {
            "conversions_was": self.conversions_was,
            "conversions_would": self.conversions_would,
            "commission_was": self.commission_was,
            "commission_would": self.commission_would,
            "difference": self.commission_would - self.commission_was,
            "reasons": {
                reason: {"count": count, "amount": amount} for reason, (count, amount) in sorted(self.reasons.items())
            },
        }


_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], Difference] = msgspec.msgpack.Decoder(Difference).decode


class Simulated:
    """What a pass comes to. document: the report, as JSON has it."""

    def __init__(self, program: str, trial: Trial, found: Replayed, db: sqlite3.Connection) -> None:
        self._db, self._trial = db, trial
        self._seen = self._decided = self._differing = self._over_earlier = 0
        self._nobody = {"was": 0, "would": 0}
        self._exceptions: dict[str, int] = {}
        self._affiliates: dict[tuple[str, str], Figures] = {}
        self._rows: list[tuple[int, bytes]] = []
        db.execute("CREATE TABLE differences (position INTEGER NOT NULL, kept BLOB NOT NULL)")
        for one in found.view.orders.everything():
            self._take(one)
        self._store()
        db.execute("CREATE INDEX differences_in_order ON differences (position)")
        self.line_count, self.lines_hash = hash_of_lines(self.lines())
        self.position = found.position
        self.document = self._document(program, found)

    # --- adding up -------------------------------------------------------------------------------------------

    def _take(self, one: Kept) -> None:
        sale = one.was.recorded or one.would.recorded
        if sale is None:
            return
        if one.earlier and not self._trial.decides(sale.occurred_at):
            # two people decided it, and this trial does not: whatever counters lead to, it keeps what it has
            one = msgspec.structs.replace(one, would=one.was, exception="")
        ours = sale.order_id.startswith(f"{RESERVED_PREFIX}goal-")
        concerned = self._trial.concerns(sale.occurred_at)
        self._seen += not ours
        if not ours and concerned:
            self._count(one)
        differing = [self._compare(one, concerned, *place, *both) for place, both in _pairs(one).items()]
        if any(differing):
            self._differing += not ours
            self._over_earlier += one.earlier
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._store()

    def _count(self, one: Kept) -> None:
        """A sale that the trial concerns."""
        if one.decided:
            self._decided += 1
            self._nobody["was"] += not _has_credit(one, one.was)
            self._nobody["would"] += not _has_credit(one, one.would)
        if one.exception:
            self._exceptions[one.exception] = self._exceptions.get(one.exception, 0) + 1
        for commission in one.was.commissions.values():
            if _is_credit(commission):
                self._figures(commission.affiliate_id, commission.currency).conversions_was += 1
        for commission in one.would.commissions.values():
            if _is_credit(commission):
                self._figures(commission.affiliate_id, commission.currency).conversions_would += 1

    def _figures(self, affiliate_id: str, currency: str) -> Figures:
        found = self._affiliates.get((affiliate_id, currency))
        if found is None:
            found = self._affiliates[affiliate_id, currency] = Figures()
        return found

    def _compare(
        self, one: Kept, concerned: bool, affiliate_id: str, level: int, currency: str, was: Commission | None,
        would: Commission | None,
    ) -> bool:  # fmt: skip
        """Whether they differ. concerned: the figures count what does not differ, too."""
        whole = [x.commission if x is not None else 0 for x in (was, would)]
        net = [x.outstanding if x is not None else 0 for x in (was, would)]
        moves = whole[0] != whole[1] and not (_is_over(was) and _is_over(would))
        reason, words = "", ""
        differs = moves or net[0] != net[1]
        if differs:
            reason, words = why(one, was, would)
            sale, known = one.was.recorded or one.would.recorded, would or was
            assert sale is not None
            assert known is not None
            difference = Difference(
                sale.order_id, affiliate_id, level, whole[0], whole[1], net[0], net[1],
                would.credited_amount if would is not None else 0, currency, reason, words, sale.occurred_at,
                known.matures_at, moves,
            )  # fmt: skip
            self._rows.append((one.position, _encode(difference)))
        elif concerned and _is_credit(was) != _is_credit(would):
            # credit that moves no money, as of a sale that was taken back whole: the conversions differ by it
            reason, _ = why(msgspec.structs.replace(one, earlier=False), was, would)
        if differs or concerned:
            self._figures(affiliate_id, currency).add(net[0], net[1], reason)
        return differs

    def _store(self) -> None:
        self._db.executemany("INSERT INTO differences VALUES (?, ?)", self._rows)
        self._rows.clear()

    # --- what differs ----------------------------------------------------------------------------------------

    def differences(self) -> Iterator[Difference]:
        """Every commission that would be another, in the order in which their sales were recorded."""
        for (kept,) in self._db.execute("SELECT kept FROM differences ORDER BY position, rowid"):
            yield _decode(kept)

    def lines(self) -> Iterator[Line]:
        """What an application would work through."""
        for one in self.differences():
            if one.moves:
                yield Line(
                    one.order_id, one.affiliate_id, one.level, one.was, one.would, one.credited_amount, one.currency,
                    one.reason, one.occurred_at, one.matures_at,
                )  # fmt: skip

    def _document(self, program: str, found: Replayed) -> dict[str, Any]:
        trial, totals = self._trial, dict[str, Figures]()
        for (_, currency), figures in self._affiliates.items():
            total = totals.setdefault(currency, Figures())
            for field in ("conversions_was", "conversions_would", "commission_was", "commission_would"):
                setattr(total, field, getattr(total, field) + getattr(figures, field))
            for reason, (count, amount) in figures.reasons.items():
                sums = total.reasons.setdefault(reason, [0, 0])
                sums[0], sums[1] = sums[0] + count, sums[1] + amount
        return {
            "program": program,
            "offer_id": trial.offer_id,
            "terms": trial.terms,
            "terms_hash": trial.terms_hash,
            "model": trial.model,
            "from": trial.since,
            "to": trial.until,
            "as_of": found.position,
            "events": found.events,
            "conversions": {
                "seen": self._seen,
                "decided": self._decided,
                "differing": self._differing,
                "unattributed_was": self._nobody["was"],
                "unattributed_would": self._nobody["would"],
                "exceptions": self._exceptions,
                "over_earlier": self._over_earlier,
            },
            "affiliates": [
                {"affiliate_id": affiliate_id, "currency": currency, **figures.document()}
                for (affiliate_id, currency), figures in sorted(self._affiliates.items())
            ],
            "totals": [{"currency": currency, **figures.document()} for currency, figures in sorted(totals.items())],
            "orders": [{"order_id": order_id, "sentence": sentence} for order_id, sentence in self._first_orders()],
            "line_count": self.line_count,
            "lines_hash": self.lines_hash,
        }

    def _first_orders(self) -> Iterator[tuple[str, str]]:
        orders = groupby(self.differences(), key=attrgetter("order_id"))
        for _, (order_id, differences) in zip(range(SHOWN_ORDERS), orders, strict=False):
            yield order_id, "; ".join(sentence(one) for one in differences)


def sentence(one: Difference) -> str:
    """'ada would earn 0.50 instead of 1.00 GBP: …', less what was taken back."""
    second = " (second level)" if one.level > 1 else ""
    would, was = (money.major_units(amount, one.currency) for amount in (one.would_net, one.was_net))
    return f"{one.affiliate_id}{second} would earn {would} instead of {was} {one.currency}: {one.words}"


def _is_credit(one: Commission | None) -> bool:
    return one is not None and one.level == 1 and (one.commission > 0 or one.credited_amount > 0)


def _has_credit(one: Kept, state: ConversionState) -> bool:
    """Whether anybody is credited. What a simulation took away stays in the order as a commission of nothing."""
    return any(_is_credit(x) for x in state.commissions.values()) if one.earlier else bool(state.commissions)


def _is_over(one: Commission | None) -> bool:
    return one is None or one.status in _OVER


def _pairs(one: Kept) -> dict[tuple[str, int, str], tuple[Commission | None, Commission | None]]:
    """Each affiliate's commission as it was and would be, by affiliate, level and currency."""
    found = {(x.affiliate_id, x.level, x.currency): (x, None) for x in one.was.commissions.values()}
    pairs: dict[tuple[str, int, str], tuple[Commission | None, Commission | None]] = {**found}
    for would in one.would.commissions.values():
        place = (would.affiliate_id, would.level, would.currency)
        was = found.get(place)
        pairs[place] = (was[0] if was is not None else None, would)
    return pairs


@contextmanager
def simulated(
    conn: Connection[TupleRow], program: str, secrets: Secrets, trial: Trial, progress: Progress = lambda *_: None
) -> Iterator[Simulated]:
    """Simulate. What it found may be read until the context is left. conn: see replayed()."""
    with replayed(conn, program, secrets, trial, progress) as found:
        yield Simulated(program, trial, found, found.db)
