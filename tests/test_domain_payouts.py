"""Payout runs: who is proposed and who is left out, approved by another as exactly that, and sent. Pure decisions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from memory_view import MemoryView, shop
from payout_desk import (
    FINGERPRINT,
    HASH,
    RUN,
    approve,
    bank,
    begin,
    earn,
    earners,
    events_of,
    finish,
    finish_initiation,
    hears,
    id_of,
    initiate,
    left_out,
    method,
    moved_by,
    of,
    on_its_way,
    payouts_of,
    propose,
    record_files,
    reject,
    run,
    say,
    tax,
)
from support import T0

from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Command
from ledger.domain.initiating import BeginInitiation, FinishInitiation, InitiatePayouts, RecordFiles
from ledger.domain.notice import NoticeQueued
from ledger.domain.payout import PayoutExcluded, PayoutInitiated
from ledger.domain.payout_run import FileFacts, PayoutRunBegun, PayoutRunProposed, parse_run_id
from ledger.domain.proposing import BeginRun, DecideRun, ExcludePayout, ProposePayouts
from ledger.domain.restore import ConfirmBankMatched, RecordRestore
from ledger.domain.tax import RecordTaxProfile

ADA = ("ada", 1000)


def test_a_payout_from_proposal_to_settlement() -> None:
    """What is payable leaves when it is initiated, arrives when it is settled; each step again changes nothing."""
    view = earners(ada=1000, bob=300)
    hears(view, begin())
    view.when(ProposePayouts(run_id=RUN, owed=[ADA, ("bob", 300)]), "ana")
    assert view.when(ProposePayouts(run_id=RUN, owed=[ADA, ("bob", 300)]), "ana")[1] == [], "lines are made once"
    assert view.again(finish(view), "ana").body == {"run_id": RUN, "status": "proposed"}
    view.again(approve(), "ben")
    view.again(BeginInitiation(run_id=RUN))
    view.when(InitiatePayouts(run_id=RUN, payout_ids=[id_of("ada"), id_of("bob"), id_of("ada")]))
    assert view.balances() == {
        "liability:ada:in_transit": -1000,
        "liability:bob:in_transit": -300,
        "expense:adjustment": 1300,
    }
    view.again(finish_initiation(view))
    view.again(record_files(view))
    assert run(view).status == "initiated"
    view.again(bank(view, id_of("ada"), -1000))
    view.again(say(id_of("bob"), "settle", fee_amount=20))
    assert [one.status for one in payouts_of(view)] == ["settled", "settled"]
    assert view.balances() == {
        "asset:bank:ada": -1000,
        "asset:bank:bob": -300,
        "expense:adjustment": 1300,
        "expense:bank_fee": 20,
        "asset:bank": -20,
    }
    notices = [e for _, e, _ in view.log if isinstance(e, NoticeQueued) and e.template == "payout_initiated"]
    assert [(e.affiliate_id, e.facts["amount"]) for e in notices] == [("ada", 1000), ("bob", 300)]


# --- transitions of a run ------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[MemoryView], Command]] = {
    "begin": lambda view: begin(),
    "propose": lambda view: ProposePayouts(run_id=RUN, owed=[ADA]),
    "finish": finish,
    "approve": lambda view: approve(),
    "reject": lambda view: reject(),
    "exclude": lambda view: ExcludePayout(payout_id=id_of("ada"), reason="stopped"),
    "begin_initiation": lambda view: BeginInitiation(run_id=RUN),
    "initiate": lambda view: InitiatePayouts(run_id=RUN, payout_ids=[id_of("ada")]),
    "finish_initiation": lambda view: FinishInitiation(
        run_id=RUN, payout_count=1, excluded_count=0, amount=1000, transfer_amount=1000
    ),
    "files": lambda view: RecordFiles(run_id=RUN, files=[FileFacts(name="f", sha256="a", count=1, control_sum=1000)]),
}
# status → (the steps that lead to it, what each other step then does: the new status, '=' for nothing, else refused)
RUN_TABLE: dict[str, tuple[str, dict[str, str]]] = {
    "begun": ("begin propose", {"begin": "=", "propose": "=", "finish": "proposed", "exclude": "begun"}),
    "proposed": (
        "begin propose finish",
        {"begin": "=", "propose": "=", "finish": "=", "approve": "approved", "reject": "rejected",
         "exclude": "proposed"},
    ),
    "approved": (
        "begin propose finish approve",
        {"begin": "=", "propose": "=", "finish": "=", "approve": "=", "exclude": "approved",
         "begin_initiation": "initiating"},
    ),
    "rejected": (
        "begin propose finish reject",
        {"begin": "rejected", "propose": "=", "finish": "=", "reject": "="},
    ),
    "nothing_to_pay": ("begin finish", {"begin": "nothing_to_pay", "propose": "=", "finish": "="}),
    "initiating": (
        "begin propose finish approve begin_initiation",
        {"begin": "=", "propose": "=", "finish": "=", "approve": "=", "exclude": "initiating",
         "begin_initiation": "=", "initiate": "initiating", "finish_initiation": "initiated"},
    ),
    "initiated": (
        "begin propose finish approve begin_initiation initiate finish_initiation",
        {"begin": "initiated", "propose": "=", "finish": "=", "approve": "=", "begin_initiation": "=",
         "initiate": "=", "finish_initiation": "=", "files": "initiated"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("status", RUN_TABLE)
def test_a_run_takes_each_step_in_its_turn_only(status: str) -> None:
    """Every step in every status: allowed, without effect, or refused with the status that it is in."""
    path, allowed = RUN_TABLE[status]
    for name, step in STEPS.items():
        view = earners(ada=1000)
        for before in path.split():
            view.when(STEPS[before](view), "ben" if before in ("approve", "reject") else "ana")
        assert run(view).status == status
        appended = len(view.log)
        try:
            view.when(step(view), "cyd")
        except (WrongState, NotFound):
            found = "refused"
        else:
            found = run(view).status if len(view.log) > appended else "="
        assert found == allowed.get(name, "refused"), f"{name} of a run that is {status}"


def test_a_run_that_is_over_frees_the_next_attempt() -> None:
    """Rejected, empty or initiated: the next is attempt 2, 3, 4; an open run is come back to; other series are
    numbered by themselves."""
    view = earners(ada=1000)
    propose(view, ADA)
    assert view.again(begin()).body == {"run_id": RUN, "status": "proposed"}
    view.when(reject(), "ben")
    assert propose(view) == "2026-03-GBP-paypal-2", "nobody is owed anything"
    assert run(view, "2026-03-GBP-paypal-2").status == "nothing_to_pay"
    third = on_its_way(view, ADA)
    assert third == "2026-03-GBP-paypal-3"
    assert view.one(PayoutRunBegun, begin()).attempt == 4
    assert view.one(PayoutRunBegun, begin(method="manual")).run_id == "2026-03-GBP-manual-1"
    assert view.one(PayoutRunBegun, begin(period="2026-04")).run_id == "2026-04-GBP-paypal-1"


def test_an_answer_is_about_the_attempt_that_was_asked_for() -> None:
    """However many attempts came since: the position of the decision about this one."""
    view = earners(ada=1000)
    propose(view, ADA)
    first, _ = view.when(reject(), "ben")
    second = propose(view, ADA)
    approved, _ = view.when(approve(second), "ben")
    assert view.when(reject(), "ben")[0].position == first.position != approved.position
    assert view.when(approve(second), "ben")[0].position == approved.position


@pytest.mark.parametrize("run_id", ["", "x", "2026-03-GBP-paypal", "2026-03-GBP-paypal-x", "2026-03-GBP-paypal-²", RUN])
def test_an_unknown_run_is_not_found(run_id: str) -> None:
    """Whatever its name looks like."""
    view = earners(ada=1000)
    for command in (approve(run_id), BeginInitiation(run_id=run_id), ProposePayouts(run_id=run_id, owed=[])):
        view.refused(NotFound, command, "ben")


def test_a_runs_id_says_what_it_is_of() -> None:
    """Also with a hyphen in the period's name."""
    assert parse_run_id("spring-sale-2-GBP-paypal-12") == ("spring-sale-2", "GBP", "paypal", 12)


# --- two people ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", ["ana.l", "ANA-L", "Ana_L", "anal", "ana.l."])
def test_nobody_decides_about_the_run_they_proposed(same: str) -> None:
    """However they write their name; neither to approve nor to reject."""
    view = earners(ada=1000)
    view.when(begin(), "ana.l")
    view.when(ProposePayouts(run_id=RUN, owed=[ADA]), "job")
    view.when(finish(view), "job")
    for command in (approve(), reject()):
        view.refused(SamePerson, command, same)
    view.when(approve(), "ben")


def test_exactly_the_hash_that_was_proposed_is_approved() -> None:
    """Another is refused and told; without one nothing is approved; a rejection needs a reason instead."""
    view = earners(ada=1000)
    propose(view, ADA)
    refused = view.refused(WrongState, approve(hash_="cd" * 32), "ben")
    assert refused.details == {"hash": HASH}
    view.when(approve(), "ben")
    view.refused(WrongState, approve(hash_="cd" * 32), "ben")
    for command, field in (({"approve": True}, "hash"), ({"approve": False, "reason": " "}, "reason")):
        with pytest.raises(InvalidInput) as caught:
            DecideRun(run_id=RUN, **command)  # type: ignore[arg-type]
        assert caught.value.field == field


# --- who is left out -----------------------------------------------------------------------------------------


def suspend(view: MemoryView, affiliate_id: str = "ada") -> None:
    view.when(DecideAffiliate(affiliate_id=affiliate_id, decision="suspend"))


def without_method(view: MemoryView) -> None:
    view.log = [entry for entry in view.log if not entry[0].startswith("payout_method:ada/")]


def waiting_method(view: MemoryView) -> None:
    without_method(view)
    method(view, "ada")
    view.now += timedelta(hours=72) - timedelta(microseconds=1)


def paid_by_another_run(view: MemoryView) -> None:
    propose(view, ADA, period="2026-02")


def taxed_without_profile(view: MemoryView) -> None:
    tax(view, 1900, 0, affiliates=())


def taxed_without_rule(view: MemoryView) -> None:
    tax(view, 1900, 0, affiliates=())
    view.when(RecordTaxProfile(affiliate_id="ada", country="FR", tax_status="business"))


@pytest.mark.parametrize(
    ("happened", "reason"),
    [
        (suspend, "affiliate_suspended"),
        (without_method, "no_payout_method"),
        (waiting_method, "no_payout_method"),
        (lambda view: earn(view, "ada", -1000), "below_minimum"),
        (lambda view: earn(view, "ada", -1001), "below_minimum"),
        (lambda view: method(view, "ada", minimum=1001), ""),  # not in force yet
        (paid_by_another_run, "in_open_run"),
        (taxed_without_profile, "no_tax_profile"),
        (taxed_without_rule, "no_tax_rule"),
        (lambda view: tax(view, 0, 10_000), "below_minimum"),  # nothing would be left to transfer
    ],
)
def test_who_cannot_be_paid_is_left_out_with_the_reason(happened: Callable[[MemoryView], Any], reason: str) -> None:
    """And nobody else: bob, of whom it is not true, is paid by the same run."""
    view = earners(ada=1000, bob=300)
    happened(view)
    propose(view, ADA, ("bob", 300))
    assert left_out(view) == ([("ada", 1000, reason)] if reason else [])
    assert [one.proposed.affiliate_id for one in payouts_of(view)] == (["bob"] if reason else ["ada", "bob"])


def test_the_minimum_is_what_is_paid_at_least() -> None:
    """Exactly the minimum is paid, a penny less is not; nothing at all never is."""
    for amount, reasons in ((500, []), (499, ["below_minimum"]), (0, ["below_minimum"])):
        view = shop()
        method(view, "ada", minimum=500)
        earn(view, "ada", 1000)
        view.now += timedelta(days=4)
        propose(view, ("ada", amount))
        assert [reason for _, _, reason in left_out(view)] == reasons


def test_no_more_is_proposed_than_is_owed_or_than_is_payable_now() -> None:
    """What came after the cut waits; what was reversed since is not paid."""
    for owed, payable, amount in ((700, 1000, 700), (1000, 700, 700)):
        view = earners(ada=payable)
        propose(view, ("ada", owed))
        (line,) = payouts_of(view)
        assert (line.proposed.amount, line.proposed.owed_amount) == (amount, owed)


def test_whom_another_methods_run_pays_is_neither_paid_nor_left_out() -> None:
    """The run of the other method pays them."""
    view = earners(ada=1000)
    propose(view, ADA, method="manual")
    assert (payouts_of(view, "2026-03-GBP-manual-1"), left_out(view, "2026-03-GBP-manual-1")) == ([], [])


def test_a_run_that_goes_on_after_an_interruption_decides_nobody_twice() -> None:
    """Also when the same affiliate is named twice, or was left out before and could be paid now."""
    view = earners(ada=1000, bob=300)
    view.when(begin())
    suspend(view)
    view.when(ProposePayouts(run_id=RUN, owed=[ADA, ADA, ("bob", 300), ("bob", 300)]))
    view.when(DecideAffiliate(affiliate_id="ada", decision="reinstate"))
    assert view.when(ProposePayouts(run_id=RUN, owed=[ADA, ("bob", 300)]))[1] == []
    event = view.one(PayoutRunProposed, finish(view))
    assert (event.payout_count, event.left_out_count, event.amount) == (1, 1, 300)
    assert (len(events_of(view, id_of("bob"))), left_out(view)) == (1, [("ada", 1000, "affiliate_suspended")])


def test_a_run_that_was_proposed_takes_no_more_lines() -> None:
    """Whoever comes late with some adds nothing to what is approved."""
    view = earners(ada=1000, bob=300)
    propose(view, ADA)
    for step in (approve(), BeginInitiation(run_id=RUN)):
        assert view.when(ProposePayouts(run_id=RUN, owed=[("bob", 300)]))[1] == []
        view.when(step, "ben")


def test_a_line_of_a_run_that_is_over_does_not_keep_the_next_one_from_paying() -> None:
    """Rejected with its line, or the line excluded: the next run takes the affiliate again."""
    view = earners(ada=1000)
    propose(view, ADA)
    view.when(reject(), "ben")
    second = propose(view, ADA)
    view.when(ExcludePayout(payout_id=id_of("ada", second), reason="wrong account"))
    third = propose(view, ADA, period="2026-04")
    assert [one.status for one in payouts_of(view, third)] == ["proposed"]


# --- what happens at the last moment --------------------------------------------------------------------------


def changed_method(view: MemoryView) -> None:
    method(view, "ada", fingerprint="ee" * 16)
    view.now += timedelta(hours=72)


def another_change_waits(view: MemoryView) -> None:
    changed_method(view)
    method(view, "ada", fingerprint="ff" * 16)


@pytest.mark.parametrize(
    ("happened", "code"),
    [
        (suspend, "affiliate_suspended"),
        (changed_method, "payout_method_changed"),
        (another_change_waits, "payout_method_changed"),
        (lambda view: method(view, "ada", fingerprint="ee" * 16), ""),  # it waits still: the old account is paid
        (lambda view: earn(view, "ada", -1), "payable_fell"),
        (lambda view: earn(view, "ada", 1), ""),
    ],
)
def test_what_changed_since_the_approval_takes_its_line_out(happened: Callable[[MemoryView], Any], code: str) -> None:
    """By an event that says why; the others leave, and the totals are of what left."""
    view = earners(ada=1000, bob=300)
    propose(view, ADA, ("bob", 300))
    happened(view)
    initiate(view)
    ada = of(view, id_of("ada"))
    assert (ada.status, ada.code) == (("excluded", code) if code else ("initiated", ""))
    assert of(view, id_of("bob")).status == "initiated"
    total = run(view).initiated
    assert total is not None
    assert (total.payout_count, total.excluded_count) == ((1, 1) if code else (2, 0))
    assert total.transfer_amount == (300 if code else 1300)
    view.refused(NotFound, ExcludePayout(payout_id="PONE", reason="r"))


def test_a_method_that_is_gone_and_back_is_another_version() -> None:
    """The same account approved anew is not what was approved with the run."""
    view = earners(ada=1000)
    propose(view, ADA)
    changed_method(view)
    method(view, "ada", fingerprint=FINGERPRINT)
    view.now += timedelta(hours=72)
    initiate(view)
    assert of(view, id_of("ada")).code == "payout_method_changed"


def test_a_person_takes_a_line_out_until_its_money_leaves() -> None:
    """Before and after the approval, never once it is initiated; a second time changes nothing; the reason is
    sealed."""
    view = earners(ada=1000, bob=300)
    propose(view, ADA, ("bob", 300))
    stop = ExcludePayout(payout_id=id_of("ada"), reason="her bank account is closed")
    view.again(stop)
    (event,) = [e for _, e, _ in view.log if isinstance(e, PayoutExcluded)]
    assert (event.code, event.reason.startswith("sealed|affiliate:ada|")) == ("by_hand", True)
    initiate(view)
    assert of(view, id_of("ada")).status == "excluded"
    view.refused(WrongState, ExcludePayout(payout_id=id_of("bob"), reason="too late"))
    assert view.payable("ada", "GBP") == 1000


def test_only_the_lines_of_the_approved_run_are_initiated() -> None:
    """Another run's payouts, which nobody approved, stay where they are; each of its own leaves once."""
    view = earners(ada=1000, bob=300)
    propose(view, ADA)
    other = propose(view, ("bob", 300), period="2026-04")
    view.when(approve(), "ben")
    view.when(BeginInitiation(run_id=RUN))
    ids = [id_of("bob", other), id_of("ada"), id_of("ada"), "PONE"]
    assert view.one(PayoutInitiated, InitiatePayouts(run_id=RUN, payout_ids=ids)).affiliate_id == "ada"
    assert of(view, id_of("bob", other)).status == "proposed"


def test_a_run_of_which_every_line_was_excluded_has_no_file() -> None:
    """It is initiated and rendered all the same, once."""
    view = earners(ada=1000)
    propose(view, ADA)
    view.when(ExcludePayout(payout_id=id_of("ada"), reason="stopped"))
    initiate(view)
    view.again(record_files(view))
    assert run(view).files == []


def test_files_must_be_the_runs() -> None:
    """Another count or sum is refused, and so are other bytes later."""
    view = earners(ada=1000)
    propose(view, ADA)
    initiate(view)
    (good,) = record_files(view).files
    for count, control_sum in ((1, 999), (2, 1000), (0, 0)):
        facts = FileFacts(name=good.name, sha256=good.sha256, count=count, control_sum=control_sum)
        view.refused(WrongState, RecordFiles(run_id=RUN, files=[facts]))
    view.again(RecordFiles(run_id=RUN, files=[good]))
    other = FileFacts(name=good.name, sha256="00" * 32, count=1, control_sum=1000)
    view.refused(WrongState, RecordFiles(run_id=RUN, files=[other]))


def test_the_execution_day_is_today_or_soon() -> None:
    """Not yesterday, not in three months."""
    view = earners(ada=1000)
    propose(view, ADA)
    view.when(approve(), "ben")
    for days in (-1, 61):
        command = BeginInitiation(run_id=RUN, execution_on=(view.now + timedelta(days=days)).date())
        assert view.refused(InvalidInput, command).field == "execution_on"
    view.when(BeginInitiation(run_id=RUN, execution_on=(view.now + timedelta(days=60)).date()))


@pytest.mark.parametrize("at", ["approved", "initiating", "initiated"])
def test_restored_books_send_nothing_until_the_bank_is_matched(at: str) -> None:
    """Neither begin, nor go on, nor a file; then where it stopped."""
    view = earners(ada=1000)
    propose(view, ADA)
    view.when(approve(), "ben")
    if at != "approved":
        view.when(BeginInitiation(run_id=RUN))
    if at == "initiated":
        view.when(InitiatePayouts(run_id=RUN, payout_ids=[id_of("ada")]))
        view.when(finish_initiation(view))
    view.when(RecordRestore(position=1, backup_created_at=T0))
    step = {
        "approved": BeginInitiation(run_id=RUN),
        "initiating": InitiatePayouts(run_id=RUN, payout_ids=[id_of("ada")]),
    }.get(at) or record_files(view)
    view.refused(WrongState, step)
    view.when(ConfirmBankMatched(reason="seen"), "ben")
    assert view.when(step)[1]


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("period", {"period": "2026/03"}),
        ("currency", {"currency": "XYZ"}),
        ("method", {"method": "cash"}),
        ("currency", {"method": "sepa", "currency": "GBP"}),
    ],
)
def test_a_run_that_cannot_be_is_refused_by_field(field: str, more: dict[str, str]) -> None:
    """Before anything is looked at."""
    with pytest.raises(InvalidInput) as caught:
        BeginRun(**{"period": "2026-03", "currency": "EUR", "method": "sepa", "cut_position": 1, "ends_at": T0} | more)
    assert caught.value.field == field


def test_sepa_needs_the_account_that_is_paid_from() -> None:
    """It says so before anything is proposed."""
    assert "EUR" in shop().refused(WrongState, begin(method="sepa", currency="EUR")).message


def test_a_payout_that_was_only_proposed_moves_no_money() -> None:
    """Nor does one that was excluded."""
    view = earners(ada=1000)
    before = view.balances()
    propose(view, ADA)
    view.when(ExcludePayout(payout_id=id_of("ada"), reason="stopped"))
    assert (moved_by(view, id_of("ada")), view.balances()) == ({}, before)
