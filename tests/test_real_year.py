"""The real export: imported, six months closed, each paid with thirty days' hold, and every statement agrees."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from import_support import MAPPING, REAL
from naive_books import check_books
from support import PROGRAM, Clock, balance, by, open_ledger, paid_by_paypal, trial

from ledger import banking, payruns
from ledger.application import CommissionLedger
from ledger.closing import close_period
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.domain.proposing import DecideRun
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings, import_orders
from ledger.payouts.bank import BankLine, BankStatement
from ledger.projections import books, directory, payouts, periods
from ledger.store.database import Database

MONTHS = ("2009-12", "2010-01", "2010-02", "2010-03", "2010-04", "2010-05")


def pay(ledger: CommissionLedger, clock: Clock, period: str) -> int:
    """A period's run from proposal to bank statement. Returns what was paid, minor units."""
    proposed = payruns.propose(ledger, PROGRAM, period=period, currency="GBP", method="paypal", meta=by("maria"))
    if proposed.body["status"] == "nothing_to_pay":
        return 0
    run_id = proposed.body["run_id"]
    state = payruns.load_run(ledger, PROGRAM, run_id)
    assert state.proposed is not None
    ledger.execute(PROGRAM, DecideRun(run_id=run_id, approve=True, hash=state.proposed.hash), by("omar"))
    payruns.initiate(ledger, PROGRAM, run_id, by("maria"))
    _, files = payruns.render(ledger, PROGRAM, run_id, by("maria"))
    assert sum(file.control_sum for file in files) == state.proposed.amount
    clock.advance(days=2)
    lines = [
        BankLine(
            line_id=row.payout_id.lower(),
            booking_on=clock.now.date(),
            value_on=None,
            amount=-row.transfer_amount,
            currency="GBP",
            end_to_end_id=row.payout_id,
            bank_reference="",
            kind="payment",
            text="",
        )
        for row in payruns.all_payouts(ledger, PROGRAM, run_id)
    ]
    statement = BankStatement(
        statement_id=f"bank-{period}",
        account="GB",
        currency="GBP",
        opening_amount=None,
        closing_amount=None,
        booked_from=None,
        booked_until=None,
        lines=lines,
    )
    imported = banking.import_statement(ledger, PROGRAM, statement, by("maria"))
    assert imported.outcomes == {"settled": len(lines)}
    return state.proposed.amount


@pytest.mark.skipif(not REAL.exists(), reason="the real export is not beside this checkout")
def test_the_real_year_is_closed_and_paid_month_by_month(database: Database) -> None:
    """Every month's payouts are what its statements say is payable; in the end the books, the statements and the bank
    say the same, and what is left is what was still on hold or below the minimum."""
    clock = Clock(datetime(2010, 6, 7, tzinfo=UTC))
    with open_ledger(database, clock) as ledger:
        ledger.open_program(OpenProgram(program=PROGRAM, currency="GBP", zone="Europe/London"), by())
        ledger.execute(PROGRAM, PublishOffer(offer_id="all"), by())
        ledger.execute(PROGRAM, PublishTerms(offer_id="all", rate_bps=1000, hold_days=30, window_days=30), by())
        import_orders(ledger, Settings(PROGRAM, "all", REAL, load_mapping(MAPPING), True, "clerk"))
        with ledger.reading(PROGRAM) as (cur, id_):
            affiliates = [entry.record_id for entry in directory.page(cur, id_, "affiliate")]
        for affiliate_id in affiliates:
            paid_by_paypal(ledger, affiliate_id, 1000)
        clock.advance(hours=73)
        for _ in ledger.approve_due(PROGRAM, clock.now, by("job")):
            pass
        paid = 0
        for month in MONTHS:
            for _ in close_period(ledger, PROGRAM, month, by("maria")):
                pass
            paid += pay(ledger, clock, month)
        clock.now = datetime(2010, 7, 1, 8, tzinfo=UTC)
        for _ in close_period(ledger, PROGRAM, "2010-06", by("maria")):
            pass
        owed = trial(ledger)
        assert sum(owed.values()) == 0
        assert sum(-amount for (account, _), amount in owed.items() if account.startswith("asset:bank:")) == paid
        check_books(ledger, PROGRAM)
        for affiliate_id in affiliates:
            _statements_agree(ledger, affiliate_id)


def _statements_agree(ledger: CommissionLedger, affiliate_id: str) -> None:
    """The newest statement closes with the balance on both axes, and payouts are what was payable, to the cent."""
    with ledger.reading(PROGRAM) as (cur, id_):
        statements = periods.statements_of(cur, id_, affiliate_id)
        rows = payouts.page(cur, id_, "", 1000, affiliate_id=affiliate_id)
        cut = periods.cut(cur, id_, statements[0].period)
        assert cut is not None
    said = {section.currency: section.closing for section in statements[0].sections}["GBP"]
    as_of = balance(ledger, affiliate_id, books.AsOf(cut.position, cut.ends_at))
    assert {f: getattr(said, f) for f in books.BALANCE_FIELDS if getattr(said, f)} == as_of
    closing = {one.period: one.sections[0].closing.payable for one in statements}
    so_far = 0
    for row in sorted(rows, key=lambda row: row.run_id):
        so_far += row.amount
        assert closing[row.run_id[:7]] == so_far, "what was paid is what the statements said"
