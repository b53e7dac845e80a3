"""A conversion's life: hold, release, approve, reject, reversals before and after; and every retry's answer."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from memory_view import seen, shop
from support import T0, refund, sale

from ledger.domain.click import ClickSeen
from ledger.domain.conversion import (
    CommissionAccrued,
    ConversionApproved,
    ConversionHeld,
    ConversionRecorded,
    ConversionRejected,
    ConversionReleased,
    ConversionReversed,
    Item,
    ReversalDeferred,
)
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState
from ledger.domain.event import Event
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.lifecycle import ApproveDue, DecideConversion
from ledger.domain.reversal import RecordReversal, ReversalRecorded

DAY = timedelta(days=1)
PENDING, HELD, PAYABLE = "liability:ada:pending", "liability:ada:held", "liability:ada:payable"


def decide(decision: str, reason: str = "", order_id: str = "A") -> DecideConversion:
    return DecideConversion(order_id=order_id, decision=decision, reason=reason)


# --- decisions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "decision", "event", "bucket"),
    [
        ([], "hold", ConversionHeld, HELD),
        (["hold"], "release", ConversionReleased, PENDING),
        ([], "approve", ConversionApproved, PAYABLE),
        ([], "reject", ConversionRejected, None),
        (["hold"], "reject", ConversionRejected, None),
    ],
)
def test_what_may_be_decided_of_a_conversion(
    history: list[str], decision: str, event: type[Event], bucket: str | None
) -> None:
    """Each decision moves the whole commission, once; its reason is ciphertext under the affiliate's key."""
    view = shop()
    view.when(sale("A"))
    for earlier in history:
        view.when(decide(earlier))
    view.again(decide(decision, "because"))
    stream, found, _ = view.log[-1]
    assert type(found) is event
    assert (stream, getattr(found, "amount", None)) == ("conversion:A", 100)
    assert getattr(found, "reason", "") == f"sealed|affiliate:ada|conversion:A|reason.{len(history) + 1}|because"
    assert view.balances() == ({"expense:commission": 100, bucket: -100} if bucket else {})


@pytest.mark.parametrize(
    ("history", "decision"),
    [
        (["hold"], "approve"),
        (["approve"], "hold"),
        (["approve"], "reject"),
        (["reject"], "hold"),
        (["reject"], "approve"),
        (["reject"], "release"),
    ],
)
def test_what_may_not_be_decided_of_a_conversion(history: list[str], decision: str) -> None:
    """Refused with the status that it is in, and nothing moves."""
    view = shop()
    view.when(sale("A"))
    for earlier in history:
        view.when(decide(earlier, "because"))
    before = view.balances()
    assert view.refused(WrongState, decide(decision, "because")).details["status"] == view.conversion("A").status
    assert view.balances() == before


def test_a_conversion_that_does_not_exist_cannot_be_decided() -> None:
    """Not even when a reversal of it came early."""
    view = shop()
    view.when(refund("r1", "A"))
    view.refused(NotFound, decide("hold"))


def test_approving_by_hand_before_maturity_needs_a_reason() -> None:
    """Early: effective now, with a reason. Late: effective when it matured."""
    view = shop()
    early = sale("A", occurred_at=view.now - DAY)
    view.when(early)
    assert view.refused(InvalidInput, decide("approve", " ")).field == "reason"
    approved = view.one(ConversionApproved, decide("approve", "they asked nicely"))
    assert (approved.effective_at, approved.by_hand) == (view.now, True)
    view.when(sale("B"))
    assert view.one(ConversionApproved, decide("approve", order_id="B")).effective_at == T0 + 30 * DAY


def test_what_is_due_is_approved_at_its_own_instant() -> None:
    """At matures_at and not before; effective at matures_at, however late the job ran; anything else is left alone."""
    view = shop()
    matures_at = view.one(CommissionAccrued, sale("A")).matures_at
    assert matures_at == T0 + 30 * DAY
    assert view.when(ApproveDue(order_id="A", at=matures_at - timedelta(microseconds=1)))[1] == []
    approved = view.one(ConversionApproved, ApproveDue(order_id="A", at=matures_at + 5 * DAY))
    assert (approved.effective_at, approved.by_hand, approved.amount) == (matures_at, False, 100)
    assert view.when(ApproveDue(order_id="A", at=matures_at + 6 * DAY))[1] == []
    view.when(sale("B"))
    view.when(decide("hold", order_id="B"))
    assert view.when(ApproveDue(order_id="B", at=matures_at))[1] == []
    assert view.when(ApproveDue(order_id="C", at=matures_at))[1] == []
    view.when(sale("D"))
    assert view.one(ConversionApproved, ApproveDue(order_id="D", at=matures_at)).effective_at == matures_at


# --- reversals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("history", "bucket"), [([], "pending"), (["hold"], "held"), (["approve"], "payable")])
def test_a_reversal_takes_out_of_where_the_commission_stands(history: list[str], bucket: str) -> None:
    """Pending, held or payable: payable may go below zero when it was paid, so nothing is asked but the bucket."""
    view = shop()
    view.when(sale("A"))
    for earlier in history:
        view.when(decide(earlier))
    taken = view.one(ConversionReversed, refund("r1", "A", 500))
    assert (taken.bucket, taken.amount, taken.effective_at) == (bucket, 50, T0 + 3 * DAY)
    assert view.balances() == {"expense:commission": 50, f"liability:ada:{bucket}": -50}


def test_a_reversal_of_what_was_rejected_moves_nothing() -> None:
    """The sale is reversed, but there is no commission left to take back."""
    view = shop()
    view.when(sale("A"))
    view.when(decide("reject"))
    assert (taken := view.one(ConversionReversed, refund("r1", "A"))).amount == 0
    assert (taken.bucket, taken.sale_amount) == ("none", 1000)
    assert view.balances() == {}


def test_two_refunds_are_two_and_a_retry_is_one() -> None:
    """Each reversal has an id of its own."""
    view = shop()
    view.when(sale("A"))
    view.again(refund("r1", "A", 100))
    view.again(refund("r2", "A", 100))
    assert view.conversion("A").reversed_amount == 200
    other = refund("r1", "A", 200, occurred_at=T0, currency="GBP", reason_code="fraud")
    assert sorted(view.refused(DiffersFromOriginal, other).fields) == [
        "currency", "occurred_at", "reason_code", "sale_amount",
    ]  # fmt: skip
    assert view.refused(DiffersFromOriginal, refund("r1", "B", 100)).fields == ["order_id"]


def test_an_early_reversal_is_kept_and_applied_when_its_sale_comes() -> None:
    """Nothing moves before; with the sale, both are booked; a retry of either is answered as before."""
    view = shop()
    first, events = view.when(refund("r1", "A", 985))
    assert [type(e) for e in events] == [ReversalDeferred, ReversalRecorded]
    assert view.balances() == {}
    view.again(sale("A", 1970))
    assert view.balances() == {"expense:commission": 98, PENDING: -98}
    again, events = view.when(refund("r1", "A", 985))
    assert (again.outcome, again.body, again.position, events) == ("unchanged", first.body, first.position, [])


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_end_does_not_depend_on_the_order_of_arrival(order: tuple[int, ...]) -> None:
    """A sale, two partial refunds and a late approval, in whatever order they come: the same books."""
    view = shop()
    commands = [
        sale("A", 1970),
        refund("r1", "A", 985),
        refund("r2", "A", 300, occurred_at=T0 + 4 * DAY),
        ApproveDue(order_id="A", at=T0 + 60 * DAY),
    ]
    for index in order:
        view.when(commands[index])
    view.when(ApproveDue(order_id="A", at=T0 + 60 * DAY))
    left = 197 - 129  # 197 x 1285 / 1970 = 128.5, rounded half up
    assert view.balances() == {"expense:commission": left, PAYABLE: -left}


def test_early_reversals_above_the_rest_become_exceptions_of_their_own() -> None:
    """The first takes 800 of 1000, the second cannot have 300: kept, the sale stands, and its answer is its own."""
    view = shop()
    view.when(refund("r1", "A", 800))
    view.when(refund("r2", "A", 300))
    answer = view.again(sale("A"))
    assert answer.body["commission"] == 100
    assert view.exception("reversal:r2").raised.type == "reversal_above_rest"
    assert view.balances() == {"expense:commission": 20, PENDING: -20}
    view.when(refund("r3", "A", None))
    assert view.conversion("A").status == "reversed"


def test_a_reversal_above_the_rest_or_in_another_currency_is_an_exception() -> None:
    """Well formed, so it is kept; the books do not move; the retry hears the same."""
    view = shop()
    view.when(sale("A"))
    above = view.again(refund("r1", "A", 1001))
    assert (above.outcome, above.body["type"]) == ("exception", "reversal_above_rest")
    other = view.again(refund("r2", "A", 10, currency="EUR"))
    assert (other.outcome, other.body["type"]) == ("exception", "currency_mismatch")
    assert view.balances() == {"expense:commission": 100, PENDING: -100}
    assert isinstance(view.log[-1][1], ExceptionRaised)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("amount", {"amount": -1}), ("currency", {"currency": "??"}), ("reason_code", {"reason_code": "whim"})],
)
def test_malformed_reversals_are_refused_by_name(field: str, wrong: dict[str, object]) -> None:
    """What is not well formed never becomes a command."""
    with pytest.raises(InvalidInput) as caught:
        refund("r1", "A", wrong.pop("amount", 1), **wrong)  # type: ignore[arg-type]
    assert caught.value.field == field


# --- retries --------------------------------------------------------------------------------------------

CLICK: ClickSeen = seen("k1", "bob")


@pytest.mark.parametrize("claim", [{}, {"affiliate_id": None}, {"affiliate_id": None, "click_id": "unseen"}])
def test_a_sale_sent_again_gets_its_first_answer_whatever_came_since(claim: dict[str, object]) -> None:
    """Accrued, unattributed or waiting: the answer and the position stay, after holds, reversals and attribution."""
    view = shop()
    command = sale("A", **claim)  # type: ignore[arg-type]
    first = view.again(command)
    view.when(refund("r1", "A", 10))
    if first.body["status"] == "pending":
        view.when(decide("hold"))
    view.clicks["unseen"] = CLICK
    again, events = view.when(command)
    assert (again.outcome, again.body, again.position, events) == ("unchanged", first.body, first.position, [])


def test_the_same_order_with_other_content_names_what_differs() -> None:
    """Every field of the sale counts, its items too."""
    view = shop()
    view.when(sale("A", items=[Item("sku", 1, 1000)]))
    other = sale("A", 999, affiliate_id="bob", currency="EUR", occurred_at=T0 + DAY, items=[Item("sku", 2, 1000)])
    assert sorted(view.refused(DiffersFromOriginal, other).fields) == [
        "affiliate_id", "amount", "currency", "items", "occurred_at",
    ]  # fmt: skip


@pytest.mark.parametrize("quantity", [1_000_001, -1_000_001, 2**63])
def test_a_line_has_at_most_a_million_pieces(quantity: int) -> None:
    """Either way; the line is named. What is paid by the piece is then a sum of money that the books can hold."""
    with pytest.raises(InvalidInput) as caught:
        sale("A", items=[Item("sku"), Item("sku", quantity)])
    assert (caught.value.field, "from -1000000 to 1000000" in caught.value.message) == ("items.1.quantity", True)
    assert sale("A", items=[Item("sku", 1_000_000), Item("sku", -1_000_000)]).items[1].quantity == -1_000_000


def test_a_sale_in_the_programs_currency_may_say_so_or_not() -> None:
    """Leaving the currency out means the program's: the retry that names it is the same sale."""
    view = shop()
    view.when(sale("A"))
    assert view.when(sale("A", currency="GBP"))[1] == []


def test_what_a_command_does_is_in_the_order_of_its_answer() -> None:
    """The answer's position is that of its last event, so that reading up to it shows all of its effect."""
    view = shop()
    answer, events = view.when(sale("A"))
    assert [type(e) for e in events] == [ConversionRecorded, CommissionAccrued]
    assert answer.position == len(view.log)
    answer, _ = view.when(RecordReversal(reversal_id="r", order_id="A", occurred_at=T0))
    assert answer.position == len(view.log)
