"""Periods and statements: every line in exactly one of them, and nothing that does not add up."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_view import shop
from statement_world import AFFILIATES, Firm, local, open_firm, random_history
from support import T0, owner

from ledger import presenting
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.period import (
    ClosePeriod,
    FinishClose,
    PeriodClosed,
    ReissuePeriod,
    following_month,
    month_of,
    span_of,
)
from ledger.domain.statement import Buckets
from ledger.presenting import StatementDiffers
from ledger.projections import books, tax_totals
from ledger.projections.books import AsOf
from ledger.store.database import Database

ZONES = ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo", "Asia/Beirut")
HOUR = timedelta(hours=1)


# --- the calendar --------------------------------------------------------------------------------------------

instants = st.datetimes(datetime(1900, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants, st.sampled_from(ZONES))
def test_every_instant_is_in_exactly_one_month(at: datetime, zone: str) -> None:
    """The month of an instant spans it, and the next begins where it ends: also where clocks change at midnight."""
    month = month_of(at, zone)
    span, after = span_of(month, zone), span_of(following_month(month), zone)
    assert span is not None
    assert after is not None
    assert span.starts_at <= at < span.ends_at == after.starts_at


@given(instants, st.sampled_from(ZONES))
def test_every_instant_is_in_exactly_one_week(at: datetime, zone: str) -> None:
    """Of the weeks around an instant exactly one spans it, and they leave no gap."""
    weeks = []
    for days in (-7, 0, 7):
        year, number, _ = (at + timedelta(days=days)).isocalendar()
        span = span_of(f"{year:04}-W{number:02}", zone)
        assert span is not None
        weeks.append(span)
    assert sum(span.starts_at <= at < span.ends_at for span in weeks) == 1
    assert all(a.ends_at == b.starts_at for a, b in pairwise(weeks))


def test_months_and_weeks_are_shorter_and_longer_where_clocks_change() -> None:
    """Berlin's March 2026 lacks an hour, October has one more; a week with the change has 167 or 169 hours."""
    hours = {}
    for period in ("2026-03", "2026-10", "2026-W13", "2026-W43", "2026-W14"):
        span = span_of(period, "Europe/Berlin")
        assert span is not None
        hours[period] = (span.ends_at - span.starts_at) / HOUR
    assert hours == {"2026-03": 743, "2026-10": 745, "2026-W13": 167, "2026-W43": 169, "2026-W14": 168}
    march = span_of("2026-03", "Europe/Berlin")
    assert march == (datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC))


def test_a_month_begins_where_the_clock_skips_midnight() -> None:
    """In Sao Paulo November 1966 had no first midnight: October ends, and November begins, when it was 1 o'clock."""
    october, november = span_of("1966-10", "America/Sao_Paulo"), span_of("1966-11", "America/Sao_Paulo")
    assert october is not None
    assert november is not None
    assert october.ends_at == november.starts_at == local("America/Sao_Paulo", 1966, 11, 1, 1)
    assert month_of(november.starts_at - timedelta(microseconds=1), "America/Sao_Paulo") == "1966-10"
    assert month_of(november.starts_at, "America/Sao_Paulo") == "1966-11"


@pytest.mark.parametrize("period", ["2026-W54", "2025-W53", "2026-W00", "0001-01", "9999-12"])
def test_a_period_that_no_calendar_has_is_refused(period: str) -> None:
    """Week 54, and week 53 of a year with 52, are named as what they are."""
    with pytest.raises(InvalidInput, match=r"period: .*(week|years 2 to 9998)"):
        ClosePeriod(period=period).decide(shop())


def test_periods_are_closed_in_turn_when_they_are_over() -> None:
    """A future period, one out of turn, a custom one without an end or with one too early: refused, in clear words."""
    view = shop()
    view.now = datetime(2026, 3, 15, tzinfo=UTC)
    first = view.one(PeriodClosed, ClosePeriod(period="2026-01"))
    assert (first.starts_at, first.ends_at) == (T0, datetime(2026, 2, 1, tzinfo=UTC))
    unfinished = view.refused(WrongState, ClosePeriod(period="2026-02"))
    assert "statements of period 2026-01 are not all issued" in unfinished.message
    view.when(FinishClose(period="2026-01", version=1, statement_count=0, line_count=0, totals=[], digest="0" * 64))
    out_of_turn = view.refused(WrongState, ClosePeriod(period="2026-03"))
    assert "closed in turn: 2026-01 ends at 2026-02-01" in out_of_turn.message
    assert "required for a custom period" in view.refused(InvalidInput, ClosePeriod(period="carnival")).message
    early = ClosePeriod(period="carnival", ends_at=datetime(2026, 1, 20, tzinfo=UTC))
    assert "later than 2026-02-01" in view.refused(InvalidInput, early).message
    late = ClosePeriod(period="carnival", ends_at=datetime(2026, 3, 16, tzinfo=UTC))
    assert "is not over until 2026-03-16" in view.refused(WrongState, late).message
    wrong_end = ClosePeriod(period="2026-02", ends_at=datetime(2026, 2, 20, tzinfo=UTC))
    assert "must be left out" in view.refused(InvalidInput, wrong_end).message
    carnival = view.one(PeriodClosed, ClosePeriod(period="carnival", ends_at=datetime(2026, 2, 17, 5, tzinfo=UTC)))
    assert carnival.starts_at == first.ends_at
    view.when(FinishClose(period="carnival", version=1, statement_count=0, line_count=0, totals=[], digest="0" * 64))
    rest = ClosePeriod(period="rest", ends_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert view.one(PeriodClosed, rest).starts_at == carnival.ends_at
    view.when(FinishClose(period="rest", version=1, statement_count=0, line_count=0, totals=[], digest="0" * 64))
    assert "not over until 2026-04-01" in view.refused(WrongState, ClosePeriod(period="2026-03")).message


def test_closing_again_says_the_same_and_a_reissue_needs_its_turn_and_a_reason() -> None:
    """A second close changes nothing; a reissue takes the next version of the last closed period, once it is issued."""
    view = shop()
    view.again(ClosePeriod(period="2026-01"))
    reissue = ReissuePeriod(period="2026-01", version=2, reason="a late import")
    assert "not all issued" in view.refused(WrongState, reissue).message
    view.when(FinishClose(period="2026-01", version=1, statement_count=0, line_count=0, totals=[], digest="0" * 64))
    assert "stands at version 1" in view.refused(WrongState, ReissuePeriod("2026-01", 3, "x")).message
    assert view.again(reissue).body == {"period": "2026-01", "version": 2}
    with pytest.raises(InvalidInput, match="reason: is required"):
        ReissuePeriod(period="2026-01", version=2, reason=" ")
    with pytest.raises(NotFound):
        ReissuePeriod(period="2026-02", version=2, reason="x").decide(view)


# --- the books -----------------------------------------------------------------------------------------------


def closing_balance(firm: Firm, affiliate_id: str, period: str) -> Buckets:
    """An affiliate's balance as of a period's cut, by the books' own account of the effective axis."""
    cut = firm.cut(period)
    with firm.ledger.reading(firm.program) as (cur, id_):
        rows = books.account_balances(cur, id_, AsOf(cut.position, cut.ends_at), affiliate_id)
    held = {"paid" if account.startswith("asset:") else account.rpartition(":")[2]: -n for account, _, n in rows}
    return Buckets(**held)


@pytest.mark.parametrize(("seed", "zone"), [(1, "Asia/Kathmandu"), (2, "America/Sao_Paulo"), (3, "Europe/Berlin")])
def test_statements_and_books_agree_whatever_happened(database: Database, seed: int, zone: str) -> None:
    """Random months: openings follow closings, lines lead from one to the other, closings are the balances as of the
    cut, every line stands on exactly one statement, and the statements' sum is the movement of the books."""
    with open_firm(database, zone=zone) as firm:
        closed = random_history(firm, seed)
        assert len(closed) >= 2
        seen: Counter[tuple[int, int]] = Counter()
        for affiliate_id in AFFILIATES:
            last = Buckets()
            for period in closed:
                found = firm.statement(affiliate_id, period)
                (section,) = found.head.sections
                lines = firm.lines(found)
                assert section.opening == last
                assert section.closing == closing_balance(firm, affiliate_id, period)
                for bucket in Buckets.__struct_fields__:
                    moved = sum(n.amount * ((n.target == bucket) - (n.source == bucket)) for n in lines)
                    assert getattr(section.opening, bucket) + moved == getattr(section.closing, bucket)
                # on the first statements nothing is late: there were none it could have stood on
                starts_at = found.head.starts_at if period != closed[0] else None
                assert [n.late for n in lines] == [bool(starts_at) and n.effective_at < starts_at for n in lines]
                assert all(n.effective_at < found.head.ends_at for n in lines)
                assert section.late_count == sum(n.late for n in lines)
                seen.update((n.position, n.line_no) for n in lines)
                last = section.closing
        cut = firm.cut(closed[-1])
        known = {
            (m.position, m.line_no)
            for m in firm.journal()
            if m.position <= cut.position and m.effective_at < cut.ends_at
        }
        assert set(seen) == known
        assert set(seen.values()) == {1}
        assert any(firm.statement(who, period).head.sections[0].late_count for who in AFFILIATES for period in closed)
        _movements_agree(firm, closed)


def _movements_agree(firm: Firm, closed: list[str]) -> None:
    """What a closed period says it moved is what the trial balance moved between its two cuts."""
    before: Counter[str] = Counter()
    for period in closed:
        figures = presenting.find_period(firm.ledger, firm.program, period)
        document = presenting.period_document(figures)
        with firm.ledger.reading(firm.program) as (cur, id_):
            rows = books.trial_balance(cur, id_, AsOf(figures.cut.position, figures.cut.ends_at))
        now: Counter[str] = Counter()
        for row in rows:
            if row["account"].startswith("liability:"):
                now[row["account"].rpartition(":")[2]] -= row["amount"]
            elif row["account"].startswith("asset:bank:"):
                now["paid"] -= row["amount"]
        moved = {one["bucket"]: one["movement"] for one in document["totals"] if one["movement"]}
        assert moved == {bucket: now[bucket] - before[bucket] for bucket in now if now[bucket] != before[bucket]}
        before = now


def test_what_comes_late_is_marked_on_the_next_statement_once(database: Database) -> None:
    """A January sale recorded after January was closed stands on February's statement, marked, and on no other; what
    January's cut knew of February stands on February's, unmarked."""
    with open_firm(database) as firm:
        firm.clock.advance(days=3)
        firm.sell("early", 10_000, at=firm.clock.now)
        firm.clock.now = datetime(2026, 2, 3, tzinfo=UTC)
        firm.sell("already-february", 20_000)
        january = firm.close("2026-01")
        firm.sell("late", 30_000, at=T0 + timedelta(days=20))
        firm.clock.now = datetime(2026, 4, 2, tzinfo=UTC)
        february, march = firm.close("2026-02"), firm.close("2026-03")
        assert (january.ends_at, february.ends_at) == (february.starts_at, march.starts_at)
        told = {
            period: {(n.reference, n.late) for n in firm.lines(firm.statement("ada", period))}
            for period in ("2026-01", "2026-02", "2026-03")
        }
        assert told == {
            "2026-01": {("early", False)},
            "2026-02": {("already-february", False), ("late", True)},
            "2026-03": set(),
        }
        assert presenting.find_period(firm.ledger, firm.program, "2026-02").late_count == 1


def test_closing_twice_changes_nothing(database: Database) -> None:
    """The same close again leaves log, cut, hashes and digest as they were; the other affiliate's statement too."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.sell("b", 5_000, "bob")
        firm.clock.advance(days=40)
        before = firm.close("2026-01")
        said = presenting.find_period(firm.ledger, firm.program, "2026-01")
        hashes = [firm.statement(who, "2026-01").hash for who in AFFILIATES]
        firm.clock.advance(days=3)
        assert firm.close("2026-01") == before
        assert presenting.find_period(firm.ledger, firm.program, "2026-01") == said
        assert [firm.statement(who, "2026-01").hash for who in AFFILIATES] == hashes
        assert said.issued is not None
        assert said.issued.statement_count == len(hashes)


def test_a_reissue_is_a_new_version_for_those_it_changes(database: Database) -> None:
    """Version 2 has the late sale of one affiliate, unmarked because it is of the period; version 1 stays readable, and
    the other affiliate keeps version 1. The next period opens with what version 2 closed with."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.sell("b", 5_000, "bob")
        firm.clock.advance(days=40)
        firm.close("2026-01")
        first = firm.statement("ada", "2026-01")
        firm.sell("forgotten", 700, at=T0 + timedelta(days=9))
        firm.reissue("2026-01")
        second = firm.statement("ada", "2026-01")
        assert (second.head.version, firm.statement("bob", "2026-01").head.version) == (2, 1)
        assert firm.statement("ada", "2026-01", 1) == first
        assert second.hash != first.hash
        found = presenting.compare_versions(firm.ledger, firm.program, "ada", "2026-01")
        with found.lines as lines:
            assert [(n.reference, n.amount, n.late) for n in lines()] == [("forgotten", 70, False)]
        assert [(c.bucket, c.before, c.after) for c in found.changes] == [("pending", 1000, 1070)]
        same = presenting.compare_versions(firm.ledger, firm.program, "bob", "2026-01")
        with same.lines as lines:
            assert (list(lines()), same.changes) == ([], [])
        firm.clock.advance(days=30)
        firm.close("2026-02")
        assert firm.statement("ada", "2026-02").head.sections[0].opening == Buckets(pending=1070)
        with pytest.raises(WrongState, match="a later period is closed"):
            firm.reissue("2026-01", 3)


def test_custom_periods_and_weeks_follow_one_another(database: Database) -> None:
    """A program may go from a custom cut to weeks: each begins where the last ended, and the sums follow."""
    with open_firm(database, zone="Europe/Berlin") as firm:
        for day in range(60):
            firm.sell(f"o{day}", 1_000 + day)
            firm.clock.advance(days=1)
        opening = firm.close("opening", local("Europe/Berlin", 2026, 1, 26))
        week = firm.close("2026-W05")
        assert (opening.starts_at, opening.ends_at) == (None, week.starts_at)
        assert week.ends_at == local("Europe/Berlin", 2026, 2, 2)
        assert len(firm.lines(firm.statement("ada", "2026-W05"))) == 7
        assert firm.statement("ada", "opening").head.sections[0].line_count == 25
        with pytest.raises(WrongState, match=r"closed in turn: 2026-W05 ends .* 2026-02 begins"):
            firm.close("2026-02")


def test_a_changed_line_is_noticed(database: Database) -> None:
    """If anybody changes the journal behind a statement, the statement is not shown: its hash gives it away."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.clock.advance(days=40)
        firm.close("2026-01")
        firm.statement("ada", "2026-01")
        with owner(database) as conn:
            conn.execute("ALTER TABLE journal DISABLE TRIGGER ALL")
            conn.execute("UPDATE journal SET amount = amount + 1 WHERE affiliate_id = 'ada'")
        with pytest.raises(StatementDiffers, match="ada for 2026-01, version 1"):
            firm.statement("ada", "2026-01")


# --- what stands beside the lines ------------------------------------------------------------------------------


def test_a_statement_tells_its_payouts_taxes_and_year(database: Database) -> None:
    """The payouts of the period with VAT and withholding, and for each of the last months what was earned (without
    taxes) and paid."""
    with open_firm(database) as firm:
        firm.register_payees()
        firm.sell("a", 100_000, at=T0)
        firm.sell("b", 60_000, "bob", at=T0)
        firm.clock.now = datetime(2026, 2, 2, tzinfo=UTC)
        firm.approve_due()
        firm.close("2026-01")
        paid = {row.affiliate_id: row for row in firm.pay("2026-01")}
        firm.outcome(paid["ada"].payout_id, "settle", date(2026, 2, 2))
        firm.outcome(paid["bob"].payout_id, "settle", date(2026, 2, 2))
        firm.sell("c", 7_000)
        firm.clock.now = datetime(2026, 3, 2, tzinfo=UTC)
        firm.close("2026-02")
        shown = {
            who: presenting.present(firm.ledger, firm.program, firm.statement(who, "2026-02")) for who in AFFILIATES
        }
        (ada,), (bob,) = shown["ada"].payouts, shown["bob"].payouts
        assert (ada.amount, ada.vat_amount, ada.transferred, ada.status) == (10_000, 1_900, 11_900, "settled")
        assert (bob.amount, bob.withholding_amount, bob.transferred) == (6_000, 900, 5_100)
        assert {ada.invoice_number, bob.invoice_number} == {"2026-000001", "2026-000002"}
        year = {(who, m.period): (m.earned, m.paid) for who in AFFILIATES for m in shown[who].year}
        assert year == {
            ("ada", "2026-01"): (10_000, 0),
            ("ada", "2026-02"): (700, 11_900),
            ("bob", "2026-01"): (6_000, 0),
            ("bob", "2026-02"): (0, 5_100),
        }
        assert shown["ada"].affiliate_name == ""
        own = presenting.present(firm.ledger, firm.program, firm.statement("ada", "2026-02"), named=True)
        assert own.affiliate_name == "Ada & Co <b>"


def test_the_year_has_the_last_twelve_periods(database: Database) -> None:
    """A year after, the chart begins twelve periods back; months without a statement are zero."""
    with open_firm(database) as firm:
        firm.sell("a", 10_000)
        firm.clock.now = datetime(2027, 3, 2, tzinfo=UTC)
        for period in [f"2026-{n:02}" for n in range(1, 13)] + ["2027-01", "2027-02"]:
            firm.close(period)
        last = presenting.present(firm.ledger, firm.program, firm.statement("ada", "2027-02"))
        assert [m.period for m in last.year] == [f"2026-{n:02}" for n in range(3, 13)] + ["2027-01", "2027-02"]
        assert {(m.earned, m.paid) for m in last.year} == {(0, 0)}
        early = presenting.present(firm.ledger, firm.program, firm.statement("ada", "2026-02"))
        assert [(m.period, m.earned) for m in early.year] == [("2026-01", 1000), ("2026-02", 0)]


def test_a_years_totals_go_by_the_banks_day_in_the_programs_zone(database: Database) -> None:
    """A payout booked on 1 April counts in the second quarter, though in UTC that day begins in March; one that came
    back in May is subtracted there; one that was taken for failed counts when the bank has it after all."""
    with open_firm(database, zone="Asia/Kathmandu") as firm:
        firm.register_payees()
        firm.sell("a", 100_000, at=T0 + timedelta(days=1))
        firm.sell("b", 60_000, "bob", at=T0 + timedelta(days=1))
        firm.clock.now = local("Asia/Kathmandu", 2026, 3, 31, 9)
        firm.approve_due()
        firm.close("2026-01")
        paid = {row.affiliate_id: row.payout_id for row in firm.pay("2026-01")}
        firm.clock.now = local("Asia/Kathmandu", 2026, 3, 31, 23)
        firm.outcome(paid["ada"], "settle", date(2026, 3, 31))
        firm.outcome(paid["bob"], "fail")
        firm.clock.now = local("Asia/Kathmandu", 2026, 4, 2, 9)
        firm.outcome(paid["bob"], "settle", date(2026, 4, 1))  # the bank had it after all
        firm.clock.now = local("Asia/Kathmandu", 2026, 5, 4, 9)
        firm.outcome(paid["ada"], "return")
        with firm.ledger.reading(firm.program) as (cur, id_):
            made = {one.affiliate_id: one for one in tax_totals.totals(cur, id_, 2026, firm.zone)}
            assert tax_totals.totals(cur, id_, 2025, firm.zone) == []
        ada, bob = made["ada"], made["bob"]
        assert (ada.country, ada.tax_status, bob.country) == ("DE", "business", "US")
        first, second = ada.quarters[0], ada.quarters[1]
        assert (first.payout_count, first.gross_amount, first.vat_amount, first.transferred_amount) == (
            1,
            10_000,
            1_900,
            11_900,
        )
        assert (second.returned_count, second.gross_amount, second.transferred_amount) == (1, -10_000, -11_900)
        assert (ada.total.payout_count, ada.total.returned_count, ada.total.gross_amount) == (1, 1, 0)
        assert [q.gross_amount for q in bob.quarters] == [0, 6_000, 0, 0]
        assert (bob.total.withholding_amount, bob.total.transferred_amount) == (900, 5_100)
