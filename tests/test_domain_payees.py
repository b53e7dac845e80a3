"""Where affiliates are paid, and from which account: every command, its retries, the second person and the wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from memory_view import MemoryView, shop

from ledger.domain import notice, paying_account
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.notice import NoticeQueued
from ledger.domain.paying_account import PayingAccountSet, SetPayingAccount
from ledger.domain.payout_method import (
    DecidePayoutMethod,
    MethodVersion,
    PayoutMethodApproved,
    PayoutMethodProposed,
    PayoutMethodRejected,
    PayoutMethodState,
    PayoutMethodWithdrawn,
    ProposePayoutMethod,
    WithdrawPayoutMethod,
    key,
    open_details,
    payout_method,
)
from ledger.domain.program import OpenProgram, ProgramOpened
from ledger.projections.listing import _DESCRIBE

HOUR = timedelta(hours=1)
FIRST, SECOND = "1" * 64, "2" * 64
IBAN = {"name": "Ada L", "iban": "DE89370400440532013000"}


def propose(fingerprint: str = FIRST, **more: Any) -> ProposePayoutMethod:
    """A SEPA method in EUR for ada."""
    fields: dict[str, Any] = {"method": "sepa", "minimum_amount": 2500, "details": IBAN, **more}
    return ProposePayoutMethod(affiliate_id="ada", currency="EUR", fingerprint=fingerprint, **fields)


def decide(version: int, fingerprint: str = FIRST, approve: bool = True) -> DecidePayoutMethod:
    return DecidePayoutMethod(
        affiliate_id="ada", currency="EUR", method_version=version, approve=approve, fingerprint=fingerprint
    )


def withdraw(version: int) -> WithdrawPayoutMethod:
    return WithdrawPayoutMethod(affiliate_id="ada", currency="EUR", method_version=version)


def state_of(view: MemoryView) -> PayoutMethodState:
    state = payout_method(view, "ada", "EUR")
    assert state is not None
    return state


def in_force(view: MemoryView) -> MethodVersion | None:
    return state_of(view).in_force(view.now)


def paid_to_the_first_account() -> MemoryView:
    """ada's first method was approved long ago."""
    view = shop()
    view.when(propose(), "ada")
    view.when(decide(1), "ben")
    view.now += 100 * HOUR
    return view


def told(view: MemoryView) -> list[str]:
    """The notices queued so far."""
    return [event.notice_id for _, event, _ in view.log if isinstance(event, NoticeQueued)]


def test_a_method_counts_once_another_person_approved_it_and_the_wait_is_over() -> None:
    """The very first one waits as well; 72 hours to the microsecond."""
    view = shop()
    view.again(propose(), "ada")
    assert in_force(view) is None
    approved = view.one(PayoutMethodApproved, decide(1), "ben")
    assert approved.effective_from == view.now + 72 * HOUR
    state = state_of(view)
    assert state.in_force(approved.effective_from - timedelta(microseconds=1)) is None
    version = state.in_force(approved.effective_from)
    assert version is not None
    assert (version.method, version.method_version, version.minimum_amount) == ("sepa", 1, 2500)
    assert (version.fingerprint, version.proposed_by) == (FIRST, "ada")


def test_the_wait_is_a_setting_of_the_program() -> None:
    """0 means at once; beyond 30 days is refused; it cannot be changed by opening the program again."""
    view = MemoryView()
    view.given("program:shop", ProgramOpened(program="shop", currency="EUR", payout_method_wait_hours=0))
    view.log += [entry for entry in shop().log if entry[0].startswith("affiliate:")]
    view.when(propose(), "ada")
    assert view.one(PayoutMethodApproved, decide(1), "ben").effective_from == view.now
    assert in_force(view) is not None
    view.again(OpenProgram(program="shop", currency="EUR", payout_method_wait_hours=0))
    for hours in (-1, 721):
        with pytest.raises(InvalidInput) as caught:
            OpenProgram(program="shop", currency="EUR", payout_method_wait_hours=hours)
        assert caught.value.field == "payout_method_wait_hours"


def test_details_are_ciphertext_under_the_affiliates_key() -> None:
    """Bound to the stream and the version; who may unseal reads them again; erased, they are gone."""
    view = shop()
    event = view.one(PayoutMethodProposed, propose(), "ada")
    text = '{"iban":"DE89370400440532013000","name":"Ada L"}'
    assert event.details == f"sealed|affiliate:ada|payout_method:ada/EUR|details.1|{text}"
    version = state_of(view).versions[0]
    assert open_details(view, "ada", "EUR", version) == IBAN
    view.erased.add("affiliate:ada")
    assert open_details(view, "ada", "EUR", version) is None


def test_nobody_approves_or_rejects_what_they_proposed() -> None:
    """Whatever the case or punctuation of their name."""
    view = shop()
    view.when(propose(), "Ada.L")
    for approve in (True, False):
        view.refused(SamePerson, decide(1, approve=approve), "ada-l")
    view.again(decide(1), "ben")


def test_the_approver_approves_exactly_the_version_they_saw() -> None:
    """Version and fingerprint must both fit; without a fingerprint nothing is approved, but it can be rejected."""
    view = shop()
    view.when(propose(), "ada")
    view.refused(WrongState, decide(1, SECOND), "ben")
    view.refused(NotFound, decide(2), "ben")
    view.refused(NotFound, decide(0), "ben")
    with pytest.raises(InvalidInput) as caught:
        decide(1, "")
    assert caught.value.field == "fingerprint"
    view.again(decide(1, "", approve=False), "ben")
    assert state_of(view).status == "none"


def test_a_change_keeps_the_old_account_until_its_wait_is_over() -> None:
    """Proposed, approved and waiting change nothing yet; then the new one takes over."""
    view = paid_to_the_first_account()
    view.when(propose(SECOND, details={"name": "Ada L", "iban": "X"}), "ada")
    assert (state_of(view).status_at(view.now), in_force(view)) == ("proposed", state_of(view).versions[0])
    view.when(decide(2, SECOND), "ben")
    assert (state_of(view).status_at(view.now), in_force(view)) == ("waiting", state_of(view).versions[0])
    view.now += 72 * HOUR
    assert (state_of(view).status_at(view.now), in_force(view)) == ("in_force", state_of(view).versions[1])


@pytest.mark.parametrize("approved", [False, True])
def test_a_change_can_be_withdrawn_until_it_is_in_force(approved: bool) -> None:
    """While it is proposed, and during its wait: this is how an affiliate stops a change it never asked for."""
    view = paid_to_the_first_account()
    view.when(propose(SECOND), "mallory")
    if approved:
        view.when(decide(2, SECOND), "ben")
    view.again(withdraw(2), "ada")
    view.now += 1000 * HOUR
    version = in_force(view)
    assert version is not None
    assert version.fingerprint == FIRST
    view.refused(WrongState, decide(2, SECOND), "ben")


def test_what_is_in_force_cannot_be_withdrawn() -> None:
    """From the first instant on; the refusal says what helps instead."""
    view = shop()
    view.when(propose(), "ada")
    approved = view.one(PayoutMethodApproved, decide(1), "ben")
    view.now = approved.effective_from
    assert "suspended" in view.refused(WrongState, withdraw(1), "ada").message
    view.now -= timedelta(microseconds=1)
    view.when(withdraw(1), "ada")
    assert (in_force(view), state_of(view).status_at(view.now)) == (None, "none")


def test_a_decided_version_is_not_decided_otherwise() -> None:
    """Rejected stays rejected, approved stays approved; the same decision again is the same answer."""
    view = shop()
    view.when(propose(), "ada")
    assert view.again(decide(1, approve=False), "ben").body["status"] == "rejected"
    view.refused(WrongState, decide(1), "ben")
    view.refused(WrongState, withdraw(1), "ada")
    view.when(propose(), "ada")
    answer = view.again(decide(2), "ben")
    assert answer.body["effective_from"] == notice.instant_text(view.now + 72 * HOUR)
    view.refused(WrongState, decide(2, approve=False), "ben")


def test_only_one_change_waits_for_a_decision() -> None:
    """A second is refused until the first is decided or withdrawn."""
    view = shop()
    view.when(propose(), "ada")
    assert "version 1" in view.refused(WrongState, propose(SECOND), "ada").message
    view.when(withdraw(1), "ada")
    assert view.one(PayoutMethodProposed, propose(SECOND), "ada").method_version == 2


def test_the_same_method_again_changes_nothing() -> None:
    """Also once it is in force; another minimum or method is a change; a withdrawn one can be proposed anew."""
    view = paid_to_the_first_account()
    assert view.when(propose(), "ada")[0].body["method_version"] == 1
    assert view.when(propose(), "ada")[1] == []
    assert view.one(PayoutMethodProposed, propose(minimum_amount=5000), "ada").minimum_amount == 5000
    view.when(withdraw(2), "ada")
    assert view.when(propose(), "ada")[1] == []
    # details that differ though the fingerprint does not: such as a name that the fingerprint leaves out
    other = {**IBAN, "name": "Ada Lovelace"}
    assert view.one(PayoutMethodProposed, propose(details=other), "ada").method_version == 3


def test_every_step_queues_one_notice_to_the_affiliate() -> None:
    """Named after its cause, with facts and nothing personal; retries queue none."""
    view = paid_to_the_first_account()
    view.when(propose(SECOND), "ada")
    view.when(decide(2, SECOND, approve=False), "ben")
    view.when(propose(SECOND), "ada")
    approved = view.one(PayoutMethodApproved, decide(3, SECOND), "ben")
    view.when(decide(3, SECOND), "ben")
    view.again(withdraw(3), "ada")
    steps = ["1/proposed", "1/approved", "2/proposed", "2/rejected", "3/proposed", "3/approved", "3/withdrawn"]
    assert told(view) == [f"payout_method/ada/EUR/{step}" for step in steps]
    queued = notice.notice(view, "payout_method/ada/EUR/3/approved")
    assert queued is not None
    assert (queued.queued.affiliate_id, queued.queued.template) == ("ada", "payout_method_approved")
    assert queued.queued.facts == {
        "currency": "EUR",
        "method": "sepa",
        "method_version": 3,
        "effective_from": notice.instant_text(approved.effective_from),
    }


def test_currencies_and_affiliates_have_methods_of_their_own() -> None:
    """An unknown affiliate has none."""
    view = paid_to_the_first_account()
    assert payout_method(view, "ada", "GBP") is None
    assert payout_method(view, "bob", "EUR") is None
    other = ProposePayoutMethod(
        affiliate_id="eve", currency="EUR", method="sepa", minimum_amount=0, details=IBAN, fingerprint=FIRST
    )
    view.refused(NotFound, other, "eve")


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("method", {"method": "cash"}),
        ("minimum_amount", {"minimum_amount": -1}),
        ("minimum_amount", {"minimum_amount": 10**13 + 1}),
        ("details", {"details": {}}),
        ("details", {"details": {"name": "x" * 4000}}),
        ("fingerprint", {"fingerprint": "DE89370400440532013000"}),
    ],
)
def test_bad_input_is_refused_by_the_name_of_its_field(field: str, bad: dict[str, Any]) -> None:
    """And nobody's bank details are repeated in the refusal."""
    with pytest.raises(InvalidInput) as caught:
        propose(**bad)
    assert caught.value.field == field
    assert "DE89" not in str(caught.value)


def test_the_directory_tells_what_can_be_told_without_a_clock() -> None:
    """Proposed and approved, with the method; none when nothing is left."""
    view = shop()
    seen = []
    for command in (propose(), decide(1), propose(SECOND, method="wise"), withdraw(2), withdraw(1)):
        view.when(command, "ben" if isinstance(command, DecidePayoutMethod) else "ada")
        seen.append(_DESCRIBE["payout_method"](view.state(key("ada", "EUR"))))
    assert seen == [
        ("proposed", "sepa", "ada"),
        ("approved", "sepa", "ada"),
        ("proposed", "wise", "ada"),
        ("approved", "sepa", "ada"),
        ("none", "", "ada"),
    ]


def test_the_own_events_stand_last_so_that_a_retry_finds_its_position() -> None:
    """The notice is in another stream and comes before."""
    view = shop()
    for command, own in (
        (propose(), PayoutMethodProposed),
        (decide(1, approve=False), PayoutMethodRejected),
        (propose(), PayoutMethodProposed),
        (withdraw(2), PayoutMethodWithdrawn),
    ):
        events = view.when(command, "ben" if isinstance(command, DecidePayoutMethod) else "ada")[1]
        assert [type(event) for event in events] == [NoticeQueued, own]


# --- the program's own account -----------------------------------------------------------------------------


def account(fingerprint: str = FIRST, **details: str) -> SetPayingAccount:
    return SetPayingAccount(
        currency="EUR", details={"name": "Shop Ltd", "iban": "DE02", **details}, fingerprint=fingerprint
    )


def test_the_paying_account_is_kept_in_versions_and_the_newest_counts() -> None:
    """Sealed under the program's own key; the same again changes nothing; other details make a version."""
    view = shop()
    assert paying_account.paying_account(view, "EUR") is None
    view.again(account())
    view.again(account(SECOND, iban="DE03", bic="COBADEFF"))
    assert view.when(account(SECOND, iban="DE03", bic="COBADEFF", name="Shop GmbH"))[0].body["account_version"] == 3
    state = paying_account.paying_account(view, "EUR")
    assert state is not None
    assert [version.account_version for version in state.versions] == [1, 2, 3]
    opened = paying_account.open_details(view, "EUR", state.current)
    assert opened == {"name": "Shop GmbH", "iban": "DE03", "bic": "COBADEFF"}
    assert paying_account.open_details(view, "EUR", state.versions[0]) == {
        "name": "Shop Ltd",
        "iban": "DE02",
        "bic": "",
    }
    sealed = [event.details for _, event, _ in view.log if isinstance(event, PayingAccountSet)]
    assert all(text.startswith("sealed|program|paying_account:EUR|details.") for text in sealed)


@pytest.mark.parametrize(
    ("field", "details"),
    [("details.iban", {"iban": ""}), ("details.name", {"name": " \n"}), ("details.swift", {"swift": "x"})],
)
def test_a_paying_account_needs_a_name_and_an_iban(field: str, details: dict[str, str]) -> None:
    """Nothing else but a BIC."""
    with pytest.raises(InvalidInput) as caught:
        account(**details)
    assert caught.value.field == field
