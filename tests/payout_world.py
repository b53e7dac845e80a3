"""A program with many payees on a real database: what the tests of payouts at scale, of races and of crashes share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from hashlib import sha256

from support import PROGRAM, by, ok, owner, sale

from ledger import payruns
from ledger.application import CommissionLedger
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.event import Command
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout_method import DecidePayoutMethod, ProposePayoutMethod
from ledger.domain.program import OpenProgram
from ledger.domain.proposing import DecideRun
from ledger.payouts import files
from ledger.payouts.bank import BankLine, BankStatement
from ledger.payouts.files import Payment
from ledger.projections import payouts
from ledger.projections.payouts import PayoutRow
from ledger.store import log
from ledger.store.database import Database


def send(ledger: CommissionLedger, commands: Iterable[Command], actor: str = "ana") -> None:
    """Commands of which none is refused."""
    for outcome in ledger.execute_many(PROGRAM, list(commands), by(actor)):
        ok(outcome)


def open_payers(ledger: CommissionLedger, affiliates: Sequence[str], hold_days: int = 0) -> None:
    """A program in GBP that pays 10 % and whose payout methods need no wait; each affiliate is paid by PayPal."""
    ledger.open_program(OpenProgram(program=PROGRAM, currency="GBP", payout_method_wait_hours=0), by())
    terms = PublishTerms(offer_id="shoes", rate_bps=1000, hold_days=hold_days, window_days=30)
    send(ledger, [PublishOffer(offer_id="shoes"), terms])
    enrolled = [EnrolAffiliate(affiliate_id=a) for a in affiliates]
    approved = [DecideAffiliate(affiliate_id=a, decision="approve") for a in affiliates]
    send(ledger, [*enrolled, *approved])
    prints = {a: sha256(a.encode()).hexdigest() for a in affiliates}
    send(
        ledger,
        [
            ProposePayoutMethod(
                affiliate_id=a, currency="GBP", method="paypal", minimum_amount=0,
                details={"email": f"{a}@example.com"}, fingerprint=prints[a],
            )
            for a in affiliates
        ],
    )  # fmt: skip
    send(
        ledger,
        [
            DecidePayoutMethod(
                affiliate_id=a, currency="GBP", method_version=1, approve=True, fingerprint=prints[a]
            )
            for a in affiliates
        ],
        "ben",
    )  # fmt: skip


def sell(ledger: CommissionLedger, sales: Iterable[tuple[str, str, int, datetime]]) -> None:
    """(order, affiliate, amount, at): recorded, and approved if they are due."""
    send(ledger, [sale(order, amount, who, occurred_at=at) for order, who, amount, at in sales])
    for _ in ledger.approve_due(PROGRAM, ledger.clock(), by("job")):
        pass


def propose(ledger: CommissionLedger, period: str) -> str:
    """A run that ana proposes. Returns its id, '' when nobody is owed anything."""
    answer = payruns.propose(ledger, PROGRAM, period=period, currency="GBP", method="paypal", meta=by("ana"))
    return str(answer.body["run_id"])


def approve(ledger: CommissionLedger, run_id: str) -> None:
    """Ben approves exactly what was proposed."""
    proposed = payruns.load_run(ledger, PROGRAM, run_id).proposed
    assert proposed is not None
    ledger.execute(PROGRAM, DecideRun(run_id=run_id, approve=True, hash=proposed.hash), by("ben"))


def pay(ledger: CommissionLedger, run_id: str) -> list[Payment]:
    """Initiated and rendered. Returns what the files say, read from their bytes."""
    payruns.initiate(ledger, PROGRAM, run_id, by("ana"))
    _, made = payruns.render(ledger, PROGRAM, run_id, by("ana"))
    return [payment for file in made for payment in files.read(file.content, "paypal", "GBP")]


def run_for(ledger: CommissionLedger, period: str) -> list[Payment]:
    """A whole run, from proposal to file."""
    run_id = propose(ledger, period)
    approve(ledger, run_id)
    return pay(ledger, run_id)


def say(outcome: str, payout_ids: Iterable[str]) -> list[DecidePayout]:
    """The same decision about some payouts."""
    return [DecidePayout(payout_id=one, outcome=outcome, reason="what the bank said") for one in payout_ids]


def every_payout(ledger: CommissionLedger) -> list[PayoutRow]:
    """All payouts of the program."""
    found: list[PayoutRow] = []
    while True:
        with ledger.reading(PROGRAM) as (cur, id_):
            rows = payouts.page(cur, id_, found[-1].payout_id if found else "", 1000)
        found += rows
        if len(rows) < 1000:
            return found


def statement(statement_id: str, lines: Sequence[tuple[str, int, str]], on: date) -> BankStatement:
    """A bank statement in GBP: (line id, amount, end-to-end id)."""
    return BankStatement(
        statement_id=statement_id,
        account="GB29NWBK60161331926819",
        currency="GBP",
        opening_amount=None,
        closing_amount=None,
        booked_from=on,
        booked_until=on,
        lines=[
            BankLine(
                line_id=line_id, booking_on=on, value_on=on, amount=amount, currency="GBP", end_to_end_id=end_to_end_id,
                bank_reference="", kind="payment" if amount < 0 else "return", text="Commission",
            )
            for line_id, amount, end_to_end_id in lines
        ],
    )  # fmt: skip


def analyze(database: Database) -> None:
    """What autovacuum would have done by now."""
    with owner(database) as conn:
        conn.execute("ANALYZE")


def last_position(ledger: CommissionLedger) -> int:
    """How long the log is."""
    with ledger.reading(PROGRAM) as (cur, id_):
        return log.last_position(cur, id_, "books")
