"""The real export: imported, six months closed, each paid with thirty days' hold, and every statement agrees."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import fresh_database
from import_support import MAPPING, REAL
from journal_tools import hledger_balances, in_major_units, needs_hledger, ours
from journal_world import held, journal
from naive_books import check_books
from support import PROGRAM, Clock, balance, by, open_ledger, paid_by_paypal, trial

from ledger import banking, batches, payruns
from ledger.application import CommissionLedger
from ledger.audit.keys import SigningKeys
from ledger.audit.sealing import seal
from ledger.audit.verifying_directory import Request, verify_directory
from ledger.closing import close_period
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.program import OpenProgram
from ledger.domain.proposing import DecideRun
from ledger.exporting.exporter import export
from ledger.imports.mapping import load_mapping
from ledger.imports.orders import Settings, import_orders
from ledger.payouts.bank import BankLine, BankStatement
from ledger.projections import books, directory, payouts, periods
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer
from ledger.store.log import TABLES

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


class Year(NamedTuple):
    """The real export's months, all closed; paid: minor units in all."""

    ledger: CommissionLedger
    affiliates: list[str]
    paid: int


@pytest.fixture(scope="module")
def year(server: EmbeddedServer, template: str) -> Iterator[Year]:
    """Imported, closed and paid month by month; no test changes it."""
    if not REAL.exists():
        pytest.skip("the real export is not beside this checkout")
    with pytest.MonkeyPatch.context() as patched, fresh_database(server, template) as name:
        patched.setattr(batches, "PATIENCE_SECONDS", 30.0)
        clock = Clock(datetime(2010, 6, 7, tzinfo=UTC))
        with open_ledger(store.urls(server, name), clock) as ledger:
            yield live_through(ledger, clock)


def live_through(ledger: CommissionLedger, clock: Clock) -> Year:
    """Six months closed, each paid, and June closed after them."""
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
    return Year(ledger, affiliates, paid)


def test_the_real_year_is_closed_and_paid_month_by_month(year: Year) -> None:
    """Every month's payouts are what its statements say is payable; in the end the books, the statements and the bank
    say the same, and what is left is what was still on hold or below the minimum."""
    owed = trial(year.ledger)
    assert sum(owed.values()) == 0
    assert sum(-amount for (account, _), amount in owed.items() if account.startswith("asset:bank:")) == year.paid
    check_books(year.ledger, PROGRAM)
    for affiliate_id in year.affiliates:
        _statements_agree(year.ledger, affiliate_id)


@needs_hledger
def test_hledger_comes_to_the_real_year_s_balances(year: Year, tmp_path: Path) -> None:
    """The whole journal, and a month of it behind its opening balances, are the ledger's to the penny."""
    with year.ledger.reading(PROGRAM) as (cur, id_):
        cut = periods.cut(cur, id_, "2010-03")
    assert cut is not None
    for period, as_of in ((None, books.AsOf()), ("2010-03", books.AsOf(cut.position, cut.ends_at))):
        file = tmp_path / "real.journal"
        file.write_bytes(journal(year.ledger, PROGRAM, "hledger", period=period))
        found = {(ours(account), currency): amount for (account, currency), amount in hledger_balances(file).items()}
        assert found == in_major_units(held(year.ledger, PROGRAM, as_of))
        assert len(found) > 40


def test_the_real_year_is_sealed_exported_and_verified_by_a_stranger(year: Year, tmp_path: Path) -> None:
    """Signed, written to a directory, and verified without the database: every balance and every statement."""
    keys = SigningKeys([b"\x07" * 32], "ledger.example")
    for log in TABLES:
        seal(year.ledger, PROGRAM, log, keys.signers(PROGRAM, log), year.ledger.clock())
    export(year.ledger, PROGRAM, tmp_path / "real")
    known = [keys.signers(PROGRAM, log)[0].key for log in TABLES]
    report = verify_directory(Request(tmp_path / "real", keys=known))
    assert report.result == "VERIFIED", report.findings
    assert report.witnessed is not None
    assert report.witnessed.statements >= len(MONTHS) * 10
    assert set(report.witnessed.sums.values()) == {0}


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
