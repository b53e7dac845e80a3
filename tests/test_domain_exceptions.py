"""Facts that cannot be applied are kept, listed, tried again or dismissed; and history loads whatever the rules say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_view import MemoryView, balances, shop, terms
from support import T0, refund, sale

from ledger.domain import conversion_state, exceptions
from ledger.domain.adjustment import AdjustmentPosted
from ledger.domain.affiliate import (
    AffiliateApproved,
    AffiliateClosed,
    AffiliateEnrolled,
    DecideAffiliate,
    EnrolAffiliate,
)
from ledger.domain.conversion import CommissionAccrued, ConversionRecorded, ConversionReversed
from ledger.domain.errors import DiffersFromOriginal, InvalidInput, NotFound, WrongState
from ledger.domain.event import Event, fold_all
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved
from ledger.domain.offer import OfferPublished
from ledger.domain.recording import RecordConversion
from ledger.domain.resolution import RaiseException, ResolveException
from ledger.domain.topics import EVENT_OF, FOLDS
from ledger.store import codec

DAY = timedelta(days=1)


def resolve(exception_id: str, action: str = "retry", reason: str = "") -> ResolveException:
    return ResolveException(exception_id=exception_id, action=action, reason=reason)


def closed_shop() -> MemoryView:
    """A shop whose affiliate eve applied only and cy is closed; the offer 'euro' pays a flat amount of euros."""
    view = shop()
    view.given("affiliate:eve", AffiliateEnrolled(affiliate_id="eve"))
    view.given("affiliate:cy", AffiliateEnrolled(affiliate_id="cy"), AffiliateClosed(affiliate_id="cy"))
    view.given("offer:none", OfferPublished(offer_id="none"))
    flat = msgspec.structs.replace(terms(1, None, amount=500, currency="EUR"), offer_id="euro")
    view.given("offer:euro", OfferPublished(offer_id="euro"), flat)
    return view


@pytest.mark.parametrize(
    ("command", "type_"),
    [
        (sale("A", offer_id="gloves"), "unknown_offer"),
        (sale("A", offer_id="none"), "no_terms"),
        (sale("A", offer_id="euro"), "currency_mismatch"),
        (sale("A", affiliate_id="cy"), "affiliate_closed"),
        (sale("A", affiliate_id="eve"), "affiliate_not_approved"),
    ],
)
def test_a_sale_that_cannot_be_applied_is_kept_whole(command: RecordConversion, type_: str) -> None:
    """Answered as an exception, with the whole fact in its event; sent again it hears the same; nothing is booked."""
    view = closed_shop()
    answer = view.again(command)
    assert (answer.outcome, answer.body["type"]) == ("exception", type_)
    raised = view.exception("conversion:A").raised
    assert msgspec.convert(raised.fact, ConversionRecorded) == command.fact(view)
    assert view.balances() == {}
    changed = msgspec.structs.replace(command, amount=999)
    assert view.refused(DiffersFromOriginal, changed).fields == ["amount"]


def test_a_sale_is_applied_once_what_it_missed_is_there() -> None:
    """The affiliate is approved, the exception is tried again: priced by the terms of the day it occurred."""
    view = closed_shop()
    view.when(sale("A", affiliate_id="eve"))
    view.when(refund("r1", "A", 500))
    assert view.refused(WrongState, resolve("conversion:A")).details["type"] == "affiliate_not_approved"
    view.when(DecideAffiliate(affiliate_id="eve", decision="approve"))
    view.again(resolve("conversion:A"))
    assert not view.exception("conversion:A").open
    assert view.balances() == {"expense:commission": 50, "liability:eve:pending": -50}
    answer, events = view.when(sale("A", affiliate_id="eve"))
    assert (answer.outcome, answer.body["commission"], events) == ("unchanged", 100, [])


def test_a_reversal_is_applied_once_the_order_has_enough_left() -> None:
    """Above the rest first; after a dismissal nothing changes; the one tried again takes the rest of the commission."""
    view = shop()
    view.when(refund("r1", "A", 800))
    view.when(refund("r2", "A", 300))
    view.when(sale("A"))
    assert view.refused(WrongState, resolve("reversal:r2")).details["type"] == "reversal_above_rest"
    answer = view.again(resolve("reversal:r2", "dismiss", "they sent it twice"))
    assert answer.body == {"exception_id": "reversal:r2", "action": "dismiss"}
    view.refused(WrongState, resolve("reversal:r2"))
    assert view.balances() == {"expense:commission": 20, "liability:ada:pending": -20}


def test_a_reversal_that_can_be_applied_now_is() -> None:
    """A mistake of the rules kept it; tried again it is booked, and its retry is told where it stands."""
    view = shop()
    view.when(sale("A"))
    view.when(refund("r1", "A", 1500))
    view.log[-2] = (view.log[-2][0], msgspec.structs.replace(view.log[-2][1], sale_amount=500), view.log[-2][2])
    view.again(resolve("reversal:r1"))
    assert view.balances() == {"expense:commission": 50, "liability:ada:pending": -50}
    assert view.when(refund("r1", "A", 500))[0].outcome == "unchanged"


@pytest.mark.parametrize("command", [sale("A", affiliate_id="cy"), refund("r1", "A", 2000)])
def test_a_dismissed_fact_is_never_applied(command: Any) -> None:
    """Its sender hears what it heard at first, however often it asks."""
    view = closed_shop()
    if not isinstance(command, RecordConversion):
        view.when(sale("A"))
    first, _ = view.when(command)
    exception_id = str(first.body["exception_id"])
    dismissed = view.one(ExceptionResolved, resolve(exception_id, "dismiss", "not ours"))
    assert dismissed.reason.endswith("|not ours")
    before = view.balances()
    again, events = view.when(command)
    assert (again.outcome, again.body, again.position, events) == ("exception", first.body, first.position, [])
    assert view.balances() == before


def test_a_dismissed_sale_can_be_sent_corrected() -> None:
    """With other content it is a sale like any other."""
    view = closed_shop()
    view.when(sale("A", affiliate_id="cy"))
    view.when(resolve("conversion:A", "dismiss", "wrong affiliate"))
    assert view.one(CommissionAccrued, sale("A", affiliate_id="ada")).amount == 100


def test_dismissing_needs_a_reason_and_an_exception() -> None:
    """Each refusal names what would be right."""
    view = closed_shop()
    view.refused(NotFound, resolve("conversion:A"))
    with pytest.raises(InvalidInput) as caught:
        resolve("conversion:A", "dismiss", " ")
    assert caught.value.field == "reason"
    with pytest.raises(InvalidInput) as caught:
        resolve("conversion:A", "forget")
    assert caught.value.field == "action"


def test_a_line_of_an_import_is_kept_once_and_can_only_be_dismissed() -> None:
    """The same line again changes nothing, another line of its id is refused, and there is nothing to try again."""
    view = shop()
    line = RaiseException(exception_id="line:C1:3", type="unmatched_refund", detail="no order", fact={"sku": "x"})
    view.again(line)
    assert view.refused(DiffersFromOriginal, msgspec.structs.replace(line, fact={"sku": "y"})).fields == ["fact"]
    view.refused(WrongState, resolve("line:C1:3"))
    view.again(resolve("line:C1:3", "dismiss", "known"))
    assert not view.exception("line:C1:3").open


# --- history always loads -------------------------------------------------------------------------------

INSTANTS = st.datetimes(timezones=st.just(UTC))
KINDS: dict[str, tuple[type[Event], ...]] = {}
for _event in EVENT_OF.values():
    _module = _event.__module__.rpartition(".")[2]
    _kind = {"access": "key", "breaks": "break", "period": "calendar"}.get(_module, _module)
    if _kind in FOLDS:
        KINDS[_kind] = (*KINDS.get(_kind, ()), _event)
for _kind in ("conversion", "reversal"):
    KINDS[_kind] += (ExceptionRaised, ExceptionResolved)


def events_of(kind: str) -> st.SearchStrategy[list[Event]]:
    """A stream's first event, then any of its events in any order, with any content: what no rule of today allows."""
    first, *_ = KINDS[kind]
    text, number = st.text(max_size=5), st.integers(-(2**40), 2**40)
    by_type = {
        str: text, "str": text, int: number, datetime: INSTANTS, dict[str, Any]: st.just({}), bool: st.booleans(),
    }  # fmt: skip
    build = {event: st.builds(event, **fields_of(event, by_type)) for event in KINDS[kind]}
    return st.tuples(build[first], st.lists(st.one_of(*build.values()), max_size=12)).map(lambda p: [p[0], *p[1]])


def fields_of(event: type[Event], by_type: dict[Any, Any]) -> dict[str, Any]:
    """A strategy for each required field of an event."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(event):
        if field.required:
            nested = isinstance(field.type, type) and issubclass(field.type, Event)
            strategy = st.builds(field.type, **fields_of(field.type, by_type)) if nested else by_type.get(field.type)
            found[field.name] = strategy if strategy is not None else st.from_type(field.type)
    return found


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_any_history_loads(kind: str) -> None:
    """Guards live in decisions: whatever was once appended to a stream folds, and is read back from its row."""

    @settings(max_examples=30)  # each is a history of up to 13 events
    @given(events_of(kind))
    def load(history: list[Event]) -> None:
        stored = [(type(event).__name__, codec.encode_state(event)) for event in history]
        assert [codec.decode_state(topic, state) for topic, state in stored] == history
        assert fold_all(FOLDS[kind], history) is not None
        fold_all(exceptions.fold, [e for e in history if isinstance(e, ExceptionRaised)])
        balances(history)

    load()


def test_history_that_todays_rules_would_refuse_still_counts() -> None:
    """More reversed than was sold, a closed affiliate approved, an amount above today's limit: it happened."""
    view = shop()
    view.when(EnrolAffiliate(affiliate_id="eve"))
    view.given("affiliate:eve", AffiliateClosed(affiliate_id="eve"), AffiliateApproved(affiliate_id="eve"))
    view.when(sale("A", affiliate_id="eve"))
    too_much = ConversionReversed(
        order_id="A", reversal_id="r0", amount=150, currency="GBP", sale_amount=1500, effective_at=T0, bucket="pending",
        affiliate_id="eve",
    )  # fmt: skip
    view.given("conversion:A", too_much)
    large = AdjustmentPosted(adjustment_id="j", affiliate_id="eve", amount=10**15, currency="GBP", effective_at=T0)
    view.given("adjustment:j", large)
    assert view.conversion("A").outstanding == -50
    assert view.balances()["liability:eve:payable"] == -(10**15)
    assert view.balances()["liability:eve:pending"] == 50
    assert view.when(refund("r1", "A", 1))[0].outcome == "exception"
    odd = ConversionRecorded(order_id="B", offer_id="gone", amount=10**14, currency="XXX", occurred_at=T0)
    assert conversion_state.fold(None, odd).recorded == odd
