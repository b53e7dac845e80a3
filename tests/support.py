"""What the tests of the core share: a ledger on a test database, a settable clock, and a small shop to sell in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg

from ledger import reads
from ledger.application import CommissionLedger
from ledger.batches import Outcome
from ledger.desk import Meta
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.event import Answer, Command
from ledger.domain.ids import program_id
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.payout_method import DecidePayoutMethod, ProposePayoutMethod
from ledger.domain.program import OpenProgram
from ledger.domain.recording import RecordConversion
from ledger.domain.reversal import RecordReversal
from ledger.payouts import payees
from ledger.projections import books
from ledger.store import log
from ledger.store.database import Database, make_pool
from ledger.store.vault import Secrets

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PROGRAM = "shop"
MASTER_KEY = b"k" * 32
_requests = itertools.count(1)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = T0) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **units: float) -> datetime:
        """Move it by a timedelta's units, such as days=31."""
        self.now += timedelta(**units)
        return self.now


def by(actor: str = "ana") -> Meta:
    """Somebody's next request."""
    return Meta(actor=actor, key_id=f"key-of-{actor}", request_id=f"request-{next(_requests)}")


@contextmanager
def open_ledger(
    database: Database, clock: Clock | None = None, *, coalesce: bool = True, max_size: int = 4
) -> Iterator[CommissionLedger]:
    """A ledger on a test database, as the app role; without a clock it goes by the wall clock."""
    with make_pool(database.app_url, min_size=1, max_size=max_size, name="test") as pool:
        secrets = Secrets(MASTER_KEY)
        yield (
            CommissionLedger(pool, secrets, clock, coalesce=coalesce)
            if clock is not None
            else CommissionLedger(pool, secrets, coalesce=coalesce)
        )


def open_shop(
    ledger: CommissionLedger,
    program: str = PROGRAM,
    *,
    affiliates: Sequence[str] = ("ada", "bob"),
    rate_bps: int = 1000,
    hold_days: int = 30,
    window_days: int = 30,
) -> None:
    """A program in GBP with approved affiliates and the offer 'shoes' that pays a percentage."""
    ledger.open_program(OpenProgram(program=program, currency="GBP"), by())
    commands: list[Command] = []
    for affiliate_id in affiliates:
        commands.append(EnrolAffiliate(affiliate_id=affiliate_id))
        commands.append(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
    commands.append(PublishOffer(offer_id="shoes"))
    commands.append(PublishTerms(offer_id="shoes", rate_bps=rate_bps, hold_days=hold_days, window_days=window_days))
    for command in commands:
        ledger.execute(program, command, by())


def sale(order_id: str, amount: int = 1000, affiliate_id: str | None = "ada", **more: Any) -> RecordConversion:
    """A conversion on 'shoes' that names its affiliate, at T0 unless said otherwise."""
    fields = {"offer_id": "shoes", "occurred_at": T0, **more}
    return RecordConversion(order_id=order_id, amount=amount, affiliate_id=affiliate_id, **fields)


def refund(reversal_id: str, order_id: str, amount: int | None = None, **more: Any) -> RecordReversal:
    """A reversal three days after T0 unless said otherwise; without an amount of all that is left."""
    fields = {"occurred_at": T0 + timedelta(days=3), **more}
    return RecordReversal(reversal_id=reversal_id, order_id=order_id, sale_amount=amount, **fields)


def balance(
    ledger: CommissionLedger,
    affiliate_id: str,
    as_of: books.AsOf = books.AsOf(),  # noqa: B008
    program: str = PROGRAM,
) -> dict[str, int]:
    """An affiliate's balance in GBP by bucket, without the empty ones."""
    with ledger.reading(program) as (cur, id_):
        rows = books.account_balances(cur, id_, as_of, affiliate_id)
    for one in reads.owed(rows):
        if one["currency"] == "GBP":
            return {name: one[name] for name in books.BALANCE_FIELDS if one[name]}
    return {}


def trial(ledger: CommissionLedger, program: str = PROGRAM) -> dict[tuple[str, str], int]:
    """What every account holds now, without the empty ones."""
    with ledger.reading(program) as (cur, id_):
        rows = books.trial_balance(cur, id_, books.AsOf())
    return {(row["account"], row["currency"]): row["amount"] for row in rows if row["amount"]}


def paid_by_paypal(ledger: CommissionLedger, affiliate_id: str, minimum_amount: int = 100) -> None:
    """An approved payout method in GBP, in force 72 hours from now."""
    id_ = program_id(PROGRAM)
    details = payees.check_details("paypal", {"email": f"{affiliate_id}@example.com"}, "GBP")
    fingerprint = payees.fingerprint(id_, "paypal", details, ledger.secrets.fingerprint_key(id_))
    what: dict[str, Any] = {"affiliate_id": affiliate_id, "currency": "GBP", "fingerprint": fingerprint}
    propose = ProposePayoutMethod(method="paypal", minimum_amount=minimum_amount, details=details, **what)
    ledger.execute(PROGRAM, propose, by("maria"))
    ledger.execute(PROGRAM, DecidePayoutMethod(method_version=1, approve=True, **what), by("omar"))


class Logged(msgspec.Struct, frozen=True):
    """A row of the log as anybody with SQL sees it; state is plain JSON."""

    position: int
    topic: str
    recorded_at: datetime
    state: dict[str, Any]


def read_log(ledger: CommissionLedger, program: str = PROGRAM, name: str = "books") -> list[Logged]:
    """The whole log, decoded without any of the ledger's event types."""
    with ledger.reading(program) as (cur, id_):
        rows = log.select_rows(cur, id_, name, 0, 10**9)
    return [Logged(row[0], row[3], row[4], msgspec.json.decode(row[9])) for row in rows]


def topics(ledger: CommissionLedger, program: str = PROGRAM) -> list[str]:
    """The topics of the books' log, in order."""
    return [one.topic for one in read_log(ledger, program)]


def ok(outcome: Outcome) -> Answer:
    """An outcome that is no refusal."""
    assert isinstance(outcome, Answer), outcome
    return outcome


def owner(database: Database) -> psycopg.Connection[tuple[Any, ...]]:
    """The owner's connection, in autocommit."""
    assert database.owner_url
    return psycopg.connect(database.owner_url, autocommit=True)


def scalar(conn: psycopg.Connection[tuple[Any, ...]], query: str, *params: Any) -> Any:
    """The first column of the first row."""
    row = conn.execute(query.encode(), params).fetchone()
    assert row is not None
    return row[0]


__all__ = [
    "MASTER_KEY", "PROGRAM", "T0", "Clock", "Logged", "balance", "by", "ok", "open_ledger", "open_shop", "owner",
    "paid_by_paypal", "program_id", "read_log", "refund", "sale", "scalar", "topics", "trial",
]  # fmt: skip
