"""What becomes of a payout: what people and the bank's lines say, its taxes, its invoice. Pure decisions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_view import MemoryView
from naive_books import check_invoices
from payout_desk import (
    RUN,
    approve,
    bank,
    begin,
    earn,
    earners,
    events_of,
    finish,
    id_of,
    initiate,
    moved_by,
    of,
    on_its_way,
    payouts_of,
    propose,
    record_files,
    say,
    tax,
)
from support import T0, Logged

from ledger.domain import breaks, payout
from ledger.domain.bank import BankFeeBooked, BankLineRecorded, RecordBankLine, early_debit_id
from ledger.domain.errors import InvalidInput, NotFound, WrongState
from ledger.domain.event import Command, Event
from ledger.domain.initiating import BeginInitiation, InitiatePayouts
from ledger.domain.invoice_numbers import CreditNoteIssued
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout import PayoutReturned, PayoutSettled
from ledger.domain.program import ProgramOpened
from ledger.domain.proposing import ExcludePayout, ProposePayouts
from ledger.domain.topics import TOPIC_OF

ADA = ("ada", 1000)
PAID = id_of("ada")


def sent(**more: Any) -> MemoryView:
    """ada's 10.00 are on their way, the file is made, and a day has passed."""
    view = earners(ada=1000, **more)
    on_its_way(view, ADA, *more.items())
    return view


def came(view: MemoryView, amount: int, line_id: str = "l1", **more: Any) -> tuple[str, str]:
    """(outcome, the kind of break) of a bank line about ada's payout; the line again changes nothing."""
    answer = view.again(bank(view, PAID, amount, line_id, **more), "cyd")
    kind = ""
    if answer.body["break_id"]:
        state = breaks.break_(view, answer.body["break_id"])
        assert state is not None
        assert state.status == "open"
        kind = state.opened.type
    return answer.body["outcome"], kind


# --- each step in its turn -----------------------------------------------------------------------------------

SAY: dict[str, Callable[[MemoryView], Command]] = {
    "exclude": lambda view: ExcludePayout(payout_id=PAID, reason="stopped"),
    "initiate": lambda view: InitiatePayouts(run_id=RUN, payout_ids=[PAID]),
    "settle": lambda view: say(PAID, "settle"),
    "fail": lambda view: say(PAID, "fail"),
    "return": lambda view: say(PAID, "return"),
    "mark_unknown": lambda view: say(PAID, "mark_unknown"),
    "paid": lambda view: bank(view, PAID, -1000, "paid"),
    "back": lambda view: bank(view, PAID, 1000, "back"),
    "paid again": lambda view: bank(view, PAID, -1000, "paid again"),
    "back again": lambda view: bank(view, PAID, 1000, "back again"),
}
# status → (the steps from a run with files to it, what each step then does: the new status, '=' for nothing, the kind
# of the break that a bank line becomes, else refused; another line does what the first would have done, unless said)
TABLE: dict[str, tuple[str, dict[str, str]]] = {
    "proposed": ("", {"exclude": "excluded", "paid": "unknown_line", "back": "unknown_line"}),
    "excluded": ("exclude", {"exclude": "=", "paid": "unknown_line", "back": "unknown_line"}),
    "initiated": ("files", {"initiate": "=", "settle": "settled", "fail": "failed", "mark_unknown": "unknown",
                            "paid": "settled", "back": "return_before_settlement"}),
    "unknown": ("files mark_unknown", {"initiate": "=", "settle": "settled", "fail": "failed", "mark_unknown": "=",
                                       "paid": "settled", "back": "return_before_settlement"}),
    "settled": ("files settle", {"initiate": "=", "settle": "=", "return": "returned", "paid": "settled",
                                 "back": "returned"}),
    "settled confirmed": ("files settle paid", {"initiate": "=", "settle": "=", "return": "returned", "paid": "=",
                                                "paid again": "duplicate", "back": "returned"}),
    "settled by the bank": ("files paid", {"initiate": "=", "settle": "=", "return": "returned", "paid": "=",
                                           "paid again": "duplicate", "back": "returned"}),
    "failed": ("files fail", {"initiate": "=", "settle": "settled", "fail": "=", "paid": "settled",
                              "back": "duplicate"}),
    "returned": ("files settle return", {"initiate": "=", "return": "=", "paid": "duplicate", "back": "returned"}),
    "returned confirmed": ("files settle return back", {"initiate": "=", "return": "=", "paid": "duplicate",
                                                        "back": "=", "back again": "duplicate"}),
    "returned by the bank": ("files paid back", {"initiate": "=", "return": "=", "paid": "=", "back": "=",
                                                 "paid again": "duplicate", "back again": "duplicate"}),
    "settled late": ("files fail settle", {"initiate": "=", "settle": "=", "return": "returned", "paid": "settled",
                                           "back": "returned"}),
}  # fmt: skip


@pytest.mark.parametrize("status", TABLE)
def test_a_payout_takes_each_step_in_its_turn_only(status: str) -> None:
    """Every step in every status: allowed, without effect, a break, or refused."""
    path, allowed = TABLE[status]
    for name, step in SAY.items():
        view = earners(ada=1000)
        propose(view, ADA)
        for before in path.split():
            if before == "files":
                initiate(view)
                view.when(record_files(view))
                view.now += timedelta(days=1)
            else:
                view.when(SAY[before](view))
        at = of(view, PAID).status
        assert at == status.split()[0]
        events = len(events_of(view, PAID))
        try:
            answer, _ = view.when(step(view))
        except WrongState:
            found = "refused"
        else:
            found = of(view, PAID).status if len(events_of(view, PAID)) > events else "="
            if broken := answer.body.get("break_id"):
                state = breaks.break_(view, broken)
                assert state is not None
                found = state.opened.type
        expected = allowed.get(name, allowed.get(name.removesuffix(" again"), "refused"))
        assert found == expected, f"{name} of a payout that is {status}"


def test_no_file_is_made_of_a_run_whose_payouts_are_decided() -> None:
    """What a person failed, or the bank's line settled, would stand in the file and be paid, or paid again."""
    for decided in (lambda view: say(PAID, "fail"), lambda view: bank(view, PAID, -1000, "paid")):
        view = earners(ada=1000)
        propose(view, ADA)
        initiate(view)
        view.when(decided(view))
        assert "decided" in view.refused(WrongState, record_files(view)).message


def test_the_banks_line_confirms_what_a_person_said_once() -> None:
    """A settlement by hand is confirmed by its line; a second line is money that left twice."""
    view = sent()
    view.when(say(PAID, "settle"))
    before = view.balances()
    assert came(view, -1000, "first") == ("confirmed", "")
    assert view.balances() == before
    assert came(view, -1000, "second") == ("break", "duplicate")
    opened = view.log[-2][1]
    assert isinstance(opened, breaks.BreakOpened)
    assert (opened.expected_amount, opened.found_amount) == (0, 1000)


def test_what_the_bank_paid_before_these_books_sent_it_is_never_sent() -> None:
    """Books restored from a backup propose the same payout under the same id: the bank's line of it forbids sending,
    also after the break is resolved."""
    view = earners(ada=1000)
    assert came(view, -1000, "before") == ("break", "unknown_line")
    closed = breaks.close_break(view, early_debit_id(PAID), "accepted", "bank")
    assert closed is not None
    view.given(*closed)
    propose(view, ADA)
    initiate(view)
    state = payout.payout(view, PAID)
    assert state is not None
    assert (state.status, state.code) == ("excluded", "paid_already")


def test_a_charge_for_the_way_back_is_booked() -> None:
    """What came back less the bank's charge is a return and a fee."""
    view = sent()
    came(view, -1000, "paid")
    assert came(view, 950, "back", charges=50) == ("returned", "")
    assert view.balances()["expense:bank_fee"] == 50
    assert view.balances()["asset:bank"] == -50
    assert view.payable("ada", "GBP") == 1000


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("outcome", {"outcome": "paid"}),
        ("reason", {"reason": "  "}),
        ("reason", {"reason": "r" * 2001}),
        ("fee_amount", {"fee_amount": -1}),
        ("fee_amount", {"outcome": "fail", "fee_amount": 1}),
        ("payout_id", {"payout_id": ""}),
        ("booked_on", {"booked_on": date.min}),
        ("booked_on", {"booked_on": date.max}),
    ],
)
def test_a_decision_that_cannot_be_is_refused_by_field(field: str, more: dict[str, Any]) -> None:
    """Before anything is looked at."""
    with pytest.raises(InvalidInput) as caught:
        DecidePayout(**{"payout_id": PAID, "outcome": "settle", "reason": "seen"} | more)
    assert caught.value.field == field
    assert sent().refused(NotFound, say("PONE", "settle"))


def test_a_persons_reason_is_sealed_for_the_affiliate() -> None:
    """Each decision's under a field of its own."""
    view = sent()
    view.when(say(PAID, "mark_unknown"))
    view.when(say(PAID, "fail"))
    sealed = [e.reason for e in events_of(view, PAID)[-2:]]  # type: ignore[attr-defined]
    assert [one.split("|")[1:4] for one in sealed] == [
        ["affiliate:ada", f"payout:{PAID}", "reason.2"],
        ["affiliate:ada", f"payout:{PAID}", "reason.3"],
    ]


# --- when an outcome takes effect ----------------------------------------------------------------------------


def test_an_outcome_takes_effect_on_the_banks_day_and_never_out_of_order() -> None:
    """At the day's beginning in the program's zone, not before what the payout went through already, not later than
    now."""
    view = earners(ada=1000)
    view.given("program:shop", ProgramOpened(program="shop", currency="GBP", zone="Europe/Berlin"))
    on_its_way(view, ADA)
    initiated_at = of(view, PAID).initiated_at
    assert initiated_at is not None
    view.now = datetime(2026, 5, 10, 12, tzinfo=UTC)
    view.refused(InvalidInput, say(PAID, "settle", booked_on=date(2026, 5, 11)))
    failed = view.when(say(PAID, "fail", booked_on=date(2026, 5, 5)))[1][-1]
    assert failed.effective_at == datetime(2026, 5, 4, 22, tzinfo=UTC)  # type: ignore[attr-defined]
    late = view.one(PayoutSettled, bank(view, PAID, -1000, booked_on=date(2026, 1, 2)))
    assert late.effective_at == datetime(2026, 5, 4, 22, tzinfo=UTC), "payable is not taken twice before it came back"
    back = view.one(PayoutReturned, say(PAID, "return", booked_on=date(2026, 1, 3)))
    assert back.effective_at == late.effective_at
    first = earners(ada=1000)
    on_its_way(first, ADA)
    early = first.one(PayoutSettled, bank(first, PAID, -1000, booked_on=date(2020, 1, 1)))
    assert early.effective_at == of(first, PAID).initiated_at


@pytest.mark.parametrize("zone", ["Pacific/Honolulu", "Pacific/Kiritimati", "UTC"])
def test_a_bank_whose_day_began_before_ours_is_believed(zone: str) -> None:
    """A line of the bank's today counts at once, though that day has not begun where the program is; a day after
    tomorrow is refused, and can be sent again when it has come."""
    view = earners(ada=1000)
    view.given("program:shop", ProgramOpened(program="shop", currency="GBP", zone=zone))
    on_its_way(view, ADA)
    view.now = datetime(2026, 5, 10, 5, tzinfo=UTC)
    ahead = bank(view, PAID, -1000, booked_on=date(2026, 5, 12))
    assert view.refused(InvalidInput, ahead).field == "booked_on"
    settled = view.one(PayoutSettled, bank(view, PAID, -1000, booked_on=date(2026, 5, 10)))
    assert settled.effective_at <= view.now
    returned = view.one(PayoutReturned, bank(view, PAID, 1000, "l2", booked_on=date(2026, 5, 10)))
    assert settled.effective_at <= returned.effective_at <= view.now


# --- taxes ---------------------------------------------------------------------------------------------------


def test_vat_is_paid_on_top_and_withholding_taken_off() -> None:
    """19 % and 5 % of 10.00: 11.40 are transferred, and both stand in the books."""
    view = earners(ada=1000)
    tax(view, 1900, 500)
    on_its_way(view, ADA)
    state = of(view, PAID)
    assert (state.proposed.vat_amount, state.proposed.withholding_amount, state.transfer_amount) == (190, 50, 1140)
    assert moved_by(view, PAID) == {
        "liability:ada:payable": 1000,
        "liability:ada:in_transit": -1140,
        "tax:vat": 190,
        "tax:withholding": -50,
    }
    assert came(view, -1140) == ("settled", "")
    assert moved_by(view, PAID) == {
        "liability:ada:payable": 1000,
        "asset:bank:ada": -1140,
        "tax:vat": 190,
        "tax:withholding": -50,
    }


@pytest.mark.parametrize("path", [["fail"], ["mark_unknown", "fail"], ["settle", "return"],
                                  ["fail", "settle", "return"]])  # fmt: skip
def test_what_comes_back_leaves_no_trace_in_the_books(path: list[str]) -> None:
    """Commission, VAT and withholding: all of it is as it was before the payout."""
    view = earners(ada=1000)
    tax(view, 1900, 500)
    before = view.balances()
    on_its_way(view, ADA)
    for outcome in path:
        view.when(say(PAID, outcome))
    assert (moved_by(view, PAID), view.balances()) == ({}, before)


def test_a_payout_that_was_taken_for_failed_and_arrived_after_all() -> None:
    """It leaves the payable balance again, with its taxes and a new invoice; what was paid instead is owed back."""
    view = earners(ada=1000)
    tax(view, 1900, 500)
    on_its_way(view, ADA)
    view.when(say(PAID, "fail"))
    second = on_its_way(view, ADA, period="2026-04")
    assert view.payable("ada", "GBP") == 0
    assert came(view, -1140) == ("settled", "")
    assert view.payable("ada", "GBP") == -1000, "a receivable"
    settled = events_of(view, PAID)[-1]
    assert isinstance(settled, PayoutSettled)
    assert (settled.after_failure, settled.invoice_number) == (True, "2026-000004")
    assert moved_by(view, PAID)["asset:bank:ada"] == -1140
    earn(view, "ada", 1500)
    third = propose(view, ("ada", 1500), period="2026-05")
    assert [one.proposed.amount for one in payouts_of(view, third)] == [500], "netted by the next run"
    assert of(view, id_of("ada", second)).invoice_number == "2026-000003"


# --- the bank's lines ----------------------------------------------------------------------------------------


def test_only_an_exact_line_settles() -> None:
    """The amount, or the amount and the bank's charges inside it, in the payout's currency."""
    for amount, more, expected in (
        (-1000, {}, ("settled", "")),
        (-1015, {"charges": 15}, ("settled", "")),
        (-1000, {"charges": 15}, ("settled", "")),
        (-1015, {}, ("break", "wrong_amount")),
        (-1015, {"charges": 14}, ("break", "wrong_amount")),
        (-999, {}, ("break", "partial")),
        (-1000, {"currency": "EUR"}, ("break", "currency_differs")),
        (1000, {}, ("break", "return_before_settlement")),
        (999, {}, ("break", "partial")),
        (1001, {}, ("break", "wrong_amount")),
    ):
        view = sent()
        assert came(view, amount, **more) == expected, amount
        settled = expected[0] == "settled"
        assert of(view, PAID).status == ("settled" if settled else "initiated")
        fee = 15 if amount == -1015 and settled else 0
        assert (view.balances().get("expense:bank_fee", 0), of(view, PAID).fee_amount) == (fee, fee)
        assert view.balances().get("asset:bank:ada", 0) == (-1000 if settled else 0)


def test_a_line_about_no_payout_is_a_break_or_a_fee() -> None:
    """A fee is one as far as the bank says so, also where it names a payout; nothing else moves money."""
    view = sent()
    for n, (about, amount, kind, expected) in enumerate(
        [
            ("", -5, "fee", "fee"),
            (PAID, -5, "fee", "fee"),
            (PAID, -1000, "fee", "fee"),
            ("", 5, "fee", "break"),
            ("", -5, "payment", "break"),
            ("PONE", -5, "fee", "break"),
            ("PONE", -1000, "payment", "break"),
        ]
    ):
        answer = view.again(bank(view, about, amount, f"line-{n}", kind=kind, text="Rent"))
        assert answer.body["outcome"] == expected, n
    assert of(view, PAID).status == "initiated"
    fees = [e.amount for _, e, _ in view.log if isinstance(e, BankFeeBooked)]
    assert (fees, view.balances()["asset:bank"]) == ([5, 5, 1000], -1010)
    lines = [e for _, e, _ in view.log if isinstance(e, BankLineRecorded)]
    assert [e.payout_id for e in lines] == ["", PAID, PAID, "", "", "", ""], "a stranger's id is not kept"
    assert all(e.text.startswith("sealed|program|") == (e.outcome == "break") for e in lines)


def test_a_second_payment_and_a_second_return_are_breaks() -> None:
    """Under a line of their own each; the same line told again is not."""
    view = sent()
    assert came(view, -1000, "a") == ("settled", "")
    assert came(view, -1000, "b") == ("break", "duplicate")
    assert came(view, 1000, "c") == ("returned", "")
    assert came(view, 1000, "d") == ("break", "duplicate")
    assert came(view, -1000, "e") == ("break", "duplicate")
    assert view.balances() == {"liability:ada:payable": -1000, "expense:adjustment": 1000}


def test_a_return_that_comes_before_its_payment_waits_for_it() -> None:
    """In either order the books are the same and no break stays open; a second return is a break of its own."""
    ends = []
    for order in ("payment first", "return first"):
        view = sent()
        lines = [(-1000, "paid"), (1000, "back")]
        for amount, line_id in lines if order == "payment first" else reversed(lines):
            came_outcome = view.again(bank(view, PAID, amount, line_id), "cyd").body["outcome"]
            assert came_outcome == ("break" if (order, amount) == ("return first", 1000) else came_outcome)
            view.now += timedelta(days=1)
        state = of(view, PAID)
        ends.append((view.balances(), state.status, state.bank_line_id, moved_by(view, PAID)))
        early = breaks.break_(view, breaks.id_of("bank", "return_before_settlement", PAID))
        assert early is None or (early.status, early.resolution) == ("resolved", "matched")
    assert ends[0] == ends[1] == (ends[0][0], "returned", "back", {})
    view = sent()
    assert came(view, 1000, "back") == ("break", "return_before_settlement")
    assert came(view, 1000, "again") == ("break", "duplicate")
    view.when(bank(view, PAID, -1000, "paid"))
    assert of(view, PAID).status == "returned"


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("amount", {"amount": 0}),
        ("amount", {"amount": -10, "charges": 11}),
        ("amount", {"amount": -10, "charges": -1}),
        ("amount", {"amount": -(2**63)}),
        ("currency", {"currency": "XYZ"}),
        ("line_id", {"line_id": ""}),
        ("booked_on", {"booked_on": date.min}),
        ("booked_on", {"booked_on": date.max}),
    ],
)
def test_a_line_that_cannot_be_is_refused_by_field(field: str, more: dict[str, Any]) -> None:
    """Before anything is looked at."""
    fields: dict[str, Any] = {"line_id": "l", "booked_on": date(2026, 5, 1), "amount": -10, "currency": "GBP"}
    with pytest.raises(InvalidInput) as caught:
        RecordBankLine(**fields | more)
    assert caught.value.field == field


# --- whatever happens ----------------------------------------------------------------------------------------

OUTCOMES = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["settle", "fail", "return", "mark_unknown", "paid", "back", "more", "less", "again", "new run"]),
    st.integers(0, 250),
)


@given(steps=st.lists(OUTCOMES, max_size=25), vat=st.integers(0, 2500), withholding=st.integers(0, 4000))
@settings(max_examples=40)
def test_invoices_are_numbered_without_a_gap_and_finished_payouts_hold_nothing(
    steps: list[tuple[int, str, int]], vat: int, withholding: int
) -> None:
    """Whatever outcomes come in whatever order over two years: each number is used once, each payout that stands has
    one invoice, in transit is what is on its way, and a bank line that is told again changes nothing."""
    view = earners(ada=1001, bob=3)
    tax(view, vat, withholding, affiliates=("ada",))
    runs = [on_its_way(view, ("ada", 1001), ("bob", 3))]
    said: list[RecordBankLine] = []
    for number, (who, what, days) in enumerate(steps):
        view.now += timedelta(days=days)
        if what == "new run":
            earn(view, "ada", 777)
            owed = [(a, view.payable(a, "GBP")) for a in ("ada", "bob") if view.payable(a, "GBP") > 0]
            if owed:  # nobody, when what they still owe us is more than what they earned
                runs.append(on_its_way(view, *owed, period=f"p{number}"))
            continue
        ids = [one.proposed.payout_id for run_id in runs for one in payouts_of(view, run_id)]
        payout_id = ids[who % len(ids)]
        amount = of(view, payout_id).transfer_amount
        lines = {"paid": -amount, "back": amount, "more": -amount - 1, "less": amount - 1 or 5}
        if what == "again":
            assert all(view.when(line)[1] == [] for line in said)
            continue
        before = len(view.log)
        command: Command = (
            say(payout_id, what) if what not in lines else bank(view, payout_id, lines[what], f"l{number}")
        )
        try:
            view.again(command)
        except WrongState:
            assert len(view.log) == before
        if isinstance(command, RecordBankLine):
            said.append(command)
    log = [Logged(n, TOPIC_OF[type(e)], T0, _plain(e)) for n, (_, e, _) in enumerate(view.log, 1)]
    check_invoices(log)
    assert sum(view.balances().values()) == 0
    for run_id in runs:
        for one in payouts_of(view, run_id):
            _holds_what_it_should(view, one)
    notes = [e.cancels for _, e, _ in view.log if isinstance(e, CreditNoteIssued)]
    assert len(notes) == len(set(notes))


def _plain(event: Event) -> dict[str, Any]:
    return {field: getattr(event, field) for field in event.__struct_fields__}


def _holds_what_it_should(view: MemoryView, state: payout.PayoutState) -> None:
    p, moved = state.proposed, moved_by(view, state.proposed.payout_id)
    for account in ("expense:bank_fee", "asset:bank"):
        moved.pop(account, None)
    if state.status in ("proposed", "excluded", "failed", "returned"):
        assert moved == {}
        return
    place = f"asset:bank:{p.affiliate_id}" if state.status == "settled" else f"liability:{p.affiliate_id}:in_transit"
    expected = {
        f"liability:{p.affiliate_id}:payable": p.amount,
        place: -state.transfer_amount,
        "tax:vat": p.vat_amount,
        "tax:withholding": -p.withholding_amount,
    }
    assert moved == {account: amount for account, amount in expected.items() if amount}


def test_the_taxes_of_the_proposal_are_those_that_are_paid() -> None:
    """Rules that change between proposal and initiation are for the next run: the hash that was approved stands."""
    view = earners(ada=1000)
    view.when(begin())
    view.when(ProposePayouts(run_id=RUN, owed=[ADA]))
    view.when(finish(view))
    tax(view, 1900, 0)
    view.when(approve(), "ben")
    view.when(BeginInitiation(run_id=RUN))
    view.when(InitiatePayouts(run_id=RUN, payout_ids=[PAID]))
    assert moved_by(view, PAID) == {"liability:ada:payable": 1000, "liability:ada:in_transit": -1000}
