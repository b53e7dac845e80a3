"""A break is opened once, keeps its owner, is settled with a reason, and comes back when its difference does."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from memory_view import MemoryView, shop

from ledger.domain import breaks
from ledger.domain.breaks import (
    AssignBreak,
    BreakAssigned,
    BreakChanged,
    BreakOpened,
    BreakReopened,
    BreakResolved,
    OpenBreak,
    ResolveBreak,
)
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState

ID = "orders:amount_differs:A"


def difference(found: int = 200, **more: Any) -> OpenBreak:
    """The merchant says something else of order A."""
    fields: dict[str, Any] = {
        "break_id": ID, "source": "orders", "type": "amount_differs", "detail": f"it is {found}", "affiliate_id": "ada",
        "reference": "A", "expected_amount": 197, "found_amount": found, "currency": "GBP",
        "occurred_on": date(2026, 1, 1),
    }  # fmt: skip
    return OpenBreak(**fields | more)


def resolve(resolution: str = "corrected", cause: str = "merchant", reason: str = "they say sorry") -> ResolveBreak:
    return ResolveBreak(break_id=ID, resolution=resolution, cause=cause, reason=reason)


def state(view: MemoryView) -> breaks.BreakState:
    found = breaks.break_(view, ID)
    assert found is not None
    return found


def test_a_difference_is_opened_once() -> None:
    """Found again it is the same break; the bank's own words are sealed under the program's key."""
    view = shop()
    answer = view.again(difference(text="REF 4711 Jane Doe"))
    assert answer.body == {"break_id": ID, "status": "open"}
    assert state(view).opened.text == f"sealed|program|break:{ID}|text|REF 4711 Jane Doe"
    assert (state(view).status, state(view).owner, state(view).found_amount) == ("open", "", 200)


def test_an_open_break_follows_its_figures() -> None:
    """Another amount next time changes the break, and opens no second one; an owner stays."""
    view = shop()
    view.when(difference())
    view.one(BreakAssigned, AssignBreak(break_id=ID, owner="ben"))
    changed = view.one(BreakChanged, difference(250))
    assert (changed.found_amount, changed.detail) == (250, "it is 250")
    assert (state(view).found_amount, state(view).owner, state(view).openings) == (250, "ben", 1)
    view.when(difference(250))
    assert len([e for _, e, _ in view.log if isinstance(e, BreakOpened | BreakChanged)]) == 2


def test_what_was_corrected_and_is_found_again_is_opened_again() -> None:
    """Also what had vanished; its old reason is not its reason any more, and each reason is sealed for itself."""
    view = shop()
    view.when(difference())
    view.again(resolve())
    assert (state(view).status, state(view).resolution, state(view).cause) == ("resolved", "corrected", "merchant")
    view.one(BreakReopened, difference())
    assert (state(view).status, state(view).resolution, state(view).reason) == ("open", "", "")
    resolved = view.one(BreakResolved, resolve(reason="again"))
    assert resolved.reason == f"sealed|program|break:{ID}|reason.2|again"
    view.when(difference())
    view.when(resolve("vanished", "timing", ""))
    view.one(BreakReopened, difference())
    assert state(view).openings == 4


def test_what_was_accepted_stays_accepted_while_its_figures_do() -> None:
    """Somebody lives with 3 pence; with 53 they have not been asked."""
    view = shop()
    view.when(difference())
    view.when(resolve("accepted"))
    assert view.when(difference())[1] == []
    assert state(view).status == "resolved"
    view.one(BreakReopened, difference(250))


def test_an_id_stands_for_one_kind_of_difference() -> None:
    """The same id with another type or order is a mistake of the caller's."""
    view = shop()
    view.when(difference())
    assert view.refused(DiffersFromOriginal, difference(type="missing")).fields == ["type"]
    assert view.refused(DiffersFromOriginal, difference(reference="B")).fields == ["reference"]


def test_who_looks_after_a_break() -> None:
    """It can pass from one person to another while it is open."""
    view = shop()
    view.refused(NotFound, AssignBreak(break_id=ID, owner="ben"))
    view.when(difference())
    view.again(AssignBreak(break_id=ID, owner="ben"))
    view.again(AssignBreak(break_id=ID, owner="cyd"))
    view.when(resolve())
    view.refused(WrongState, AssignBreak(break_id=ID, owner="ben"))
    with pytest.raises(InvalidInput, match="owner"):
        AssignBreak(break_id=ID, owner="b n")


def test_resolving_otherwise_is_refused() -> None:
    """Whoever comes second with another resolution or cause is told; a person has to give a reason."""
    view = shop()
    view.refused(NotFound, resolve())
    view.when(difference())
    view.when(resolve())
    view.refused(WrongState, resolve("accepted"))
    view.refused(WrongState, resolve(cause="bank"))
    for field, bad in (("resolution", {"resolution": "gone"}), ("cause", {"cause": "me"}), ("reason", {"reason": " "})):
        with pytest.raises(InvalidInput) as caught:
            resolve(**bad)
        assert caught.value.field == field


def test_other_commands_open_and_close_breaks_in_their_own_decisions() -> None:
    """The helpers give the event, or nothing when there is nothing new to say."""
    view = shop()
    given: dict[str, Any] = {"break_id": ID, "source": "bank", "type": "partial", "detail": "half came", "text": "x"}
    draft = breaks.open_break(view, **given)
    assert draft is not None
    assert draft[0] == f"break:{ID}"
    view.given(draft[0], draft[1])
    assert breaks.open_break(view, **given) is None
    closing = breaks.close_break(view, ID, "matched", "bank")
    assert closing is not None
    view.given(*closing)
    assert breaks.close_break(view, ID) is None
    assert breaks.close_break(view, "another") is None
    assert state(view).resolution == "matched"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("break_id", "x" * 129), ("source", "gossip"), ("type", "fee"), ("detail", " "), ("detail", "x" * 501),
        ("affiliate_id", "a b"), ("reference", "a\nb"), ("currency", "XXQ"), ("found_amount", 2**63),
        ("text", "x" * 2001),
    ],
)  # fmt: skip
def test_what_is_no_break_is_refused_naming_the_field(field: str, value: Any) -> None:
    """A fee is the bank's kind of difference, not the merchant's."""
    with pytest.raises(InvalidInput) as caught:
        difference(**{field: value})
    assert caught.value.field == field


def test_ids_are_made_of_what_differs_and_are_never_too_long() -> None:
    """An order's id may have 128 characters; two long ones stay two."""
    assert breaks.id_of("orders", "missing", "A") == "orders:missing:A"
    long, other = (breaks.id_of("orders", "missing", "x" * 127 + end) for end in "ab")
    assert len(long) == len(other) == 128
    assert long != other
