"""An affiliate disputes a line; finance answers, and accepts with a remedy or rejects; each once."""

from __future__ import annotations

from typing import Any

import pytest
from memory_view import MemoryView, shop
from support import sale

from ledger.domain import dispute
from ledger.domain.adjustment import AdjustmentPosted, AdjustmentProposed, DecideAdjustment
from ledger.domain.conversion import ConversionReleased
from ledger.domain.dispute import (
    AnswerDispute,
    DecideDispute,
    DisputeAccepted,
    DisputeAnswered,
    DisputeOpened,
    DisputeRejected,
    OpenDispute,
    WithdrawDispute,
)
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, KeyReused, NotFound, SamePerson, WrongState
from ledger.domain.lifecycle import DecideConversion

ID = "2026-01/ada/7.1"


def disputed(text: str = "I sold more, says Jane", **more: Any) -> OpenDispute:
    """ada disputes the line 7.1 of January."""
    fields: dict[str, Any] = {"affiliate_id": "ada", "period": "2026-01", "position": 7, "line_no": 1, "text": text}
    return OpenDispute(**fields | more)


def accept(amount: int | None = 500, text: str = "you are right", **more: Any) -> DecideDispute:
    return DecideDispute(**{"dispute_id": ID, "accept": True, "text": text, "amount": amount, **more})


def reject(text: str = "the line stands", dispute_id: str = ID) -> DecideDispute:
    return DecideDispute(dispute_id=dispute_id, accept=False, text=text)


def open_dispute() -> MemoryView:
    view = shop()
    view.when(disputed())
    return view


def status(view: MemoryView, dispute_id: str = ID) -> str:
    found = dispute.dispute(view, dispute_id)
    assert found is not None
    return found.status


def test_a_dispute_is_opened_once_under_the_affiliates_own_key() -> None:
    """Its id is the line's; its words are sealed, so that erasing the affiliate erases them."""
    view = shop()
    assert view.again(disputed()).body == {"dispute_id": ID, "status": "open"}
    (opened,) = [e for _, e, _ in view.log if isinstance(e, DisputeOpened)]
    assert opened.text == f"sealed|affiliate:ada|dispute:{ID}|text|I sold more, says Jane"
    assert view.refused(DiffersFromOriginal, disputed("no, less")).fields == ["text"]
    view.refused(NotFound, disputed(affiliate_id="zoe"))


def test_a_line_is_disputed_again_only_after_a_decision_and_in_other_words() -> None:
    """The second dispute is #2; a late retry of the first one finds the first one."""
    view = open_dispute()
    view.when(reject())
    assert view.again(disputed("but look")).body["dispute_id"] == f"{ID}#2"
    assert view.when(disputed())[0].body["dispute_id"] == ID
    view.when(reject(dispute_id=f"{ID}#2"))
    assert view.when(disputed("please"))[0].body["dispute_id"] == f"{ID}#3"


def test_answers_go_back_and_forth_until_a_decision() -> None:
    """Each answer is sealed for itself; the same one again is a retry; after the decision there is none."""
    view = open_dispute()
    view.again(AnswerDispute(dispute_id=ID, text="which order?"))
    assert status(view) == "answered"
    second = view.one(DisputeAnswered, AnswerDispute(dispute_id=ID, text="we look"))
    assert second.text == f"sealed|affiliate:ada|dispute:{ID}|answer.2|we look"
    view.again(reject())
    view.refused(WrongState, AnswerDispute(dispute_id=ID, text="more"))
    view.refused(NotFound, AnswerDispute(dispute_id="another", text="more"))


def test_accepting_proposes_an_adjustment_that_a_second_person_approves() -> None:
    """The dispute's event comes last; nobody approves the adjustment that their own decision proposed."""
    view = open_dispute()
    answer, events = view.when(accept(), actor="mia")
    assert [type(e) for e in events] == [AdjustmentProposed, DisputeAccepted]
    adjustment_id = f"dispute:{ID}"
    assert answer.body == {"dispute_id": ID, "status": "accepted", "adjustment_id": adjustment_id}
    assert (events[0].affiliate_id, events[0].amount, events[0].currency) == ("ada", 500, "GBP")  # type: ignore[attr-defined]
    assert view.balances() == {}
    view.refused(SamePerson, DecideAdjustment(adjustment_id=adjustment_id, approve=True), actor="mia")
    view.one(AdjustmentPosted, DecideAdjustment(adjustment_id=adjustment_id, approve=True), actor="cyd")
    assert view.balances()["liability:ada:payable"] == -500


def test_accepting_again_is_a_retry_and_otherwise_is_refused() -> None:
    """The same decision answers the same at the same position; another amount, text or remedy is told apart."""
    view = open_dispute()
    view.again(accept())
    view.refused(KeyReused, accept(501))
    assert view.refused(DiffersFromOriginal, accept(text="well")).fields == ["text"]
    assert view.refused(DiffersFromOriginal, accept(None, order_id="A")).fields == ["order_id", "amount"]
    view.refused(WrongState, reject())
    view.refused(WrongState, WithdrawDispute(dispute_id=ID, affiliate_id="ada"))


def test_accepting_may_release_what_is_held() -> None:
    """All of the commission leaves held; the affiliate reads why."""
    view = open_dispute()
    view.when(sale("A"))
    view.when(DecideConversion(order_id="A", decision="hold"))
    assert view.balances()["liability:ada:held"] == -100
    command = accept(None, order_id="A")
    assert view.again(command).body == {"dispute_id": ID, "status": "accepted", "order_id": "A"}
    (released,) = [e for _, e, _ in view.log if isinstance(e, ConversionReleased)]
    assert released.reason.endswith("|you are right")
    assert view.balances()["liability:ada:pending"] == -100


def test_only_a_held_conversion_of_the_same_affiliate_is_released() -> None:
    """One that is not held needs no release, and another affiliate's is none of this dispute's business."""
    view = open_dispute()
    view.when(sale("A"))
    view.when(sale("B", affiliate_id="bob"))
    view.when(DecideConversion(order_id="B", decision="hold"))
    view.refused(WrongState, accept(None, order_id="A"))
    view.refused(NotFound, accept(None, order_id="B"))
    view.refused(NotFound, accept(None, order_id="C"))
    assert status(view) == "open"


def test_rejecting_needs_words_and_happens_once() -> None:
    """The affiliate is told why; the same again is a retry, other words are not."""
    view = open_dispute()
    view.again(reject())
    (rejected,) = [e for _, e, _ in view.log if isinstance(e, DisputeRejected)]
    assert rejected.text == f"sealed|affiliate:ada|dispute:{ID}|decision|the line stands"
    assert view.refused(DiffersFromOriginal, reject("no")).fields == ["text"]
    view.refused(WrongState, accept())


def test_an_affiliate_withdraws_its_own_dispute_only() -> None:
    """Another affiliate is told that there is none."""
    view = open_dispute()
    view.refused(NotFound, WithdrawDispute(dispute_id=ID, affiliate_id="bob"))
    view.again(WithdrawDispute(dispute_id=ID, affiliate_id="ada"))
    view.refused(WrongState, accept())
    assert status(view) == "withdrawn"


def test_an_erased_affiliates_retry_is_still_a_retry() -> None:
    """Nobody can compare the words any more, so they count as the same."""
    view = open_dispute()
    view.erased.add("affiliate:ada")
    assert view.when(disputed("whatever"))[1] == []


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("text", lambda: disputed(" ")), ("text", lambda: disputed("x" * 2001)),
        ("period", lambda: disputed(period="a/b")),
        ("position", lambda: disputed(position=0)), ("line_no", lambda: disputed(line_no=0)),
        ("affiliate_id", lambda: disputed(affiliate_id="a b")), ("amount", lambda: accept(None)),
        ("amount", lambda: accept(5, order_id="A")), ("amount", lambda: accept(0)),
        ("currency", lambda: accept(None, order_id="A", currency="GBP")), ("currency", lambda: accept(currency="XXQ")),
        ("amount", lambda: DecideDispute(dispute_id=ID, accept=False, text="no", amount=5)),
        ("text", lambda: AnswerDispute(dispute_id=ID, text="")),
    ],
)  # fmt: skip
def test_what_is_no_dispute_is_refused_naming_the_field(field: str, make: Any) -> None:
    """Accepting needs exactly one remedy, rejecting none."""
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field


def test_the_longest_names_still_make_an_adjustments_id() -> None:
    """64 characters each for period and affiliate: the id is shortened, and two lines stay two."""
    view = shop()
    long = "p" * 64
    ids = [dispute.id_of(long, "a" * 64, 2**62, n) for n in (1, 2)]
    assert ids[0] != ids[1]
    assert all(len(dispute.adjustment_id_of(f"{id_}#99")) <= 128 for id_ in ids)
    opened = view.when(disputed(period=long, position=2**62))[0].body["dispute_id"]
    assert opened == f"{long}/ada/{2**62}.1"
