"""A sale that several affiliates are credited with: each commission lives by itself, and nobody sees another's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_view import MemoryView, shop
from naive_books import check_prices
from support import T0, Logged, refund, sale

from ledger.audit.findings import Findings
from ledger.audit.naive_commissions import Prices
from ledger.audit.replay import Event as Read
from ledger.audit.replay import Replay
from ledger.audit.views import view as believed
from ledger.domain.affiliate import AffiliateApproved, AffiliateEnrolled, AffiliateRecruited, DecideAffiliate
from ledger.domain.conversion import CommissionRepriced, ConversionReversed
from ledger.domain.conversion_state import ConversionState
from ledger.domain.ids import program_id
from ledger.domain.lifecycle import ApproveDue, DecideConversion, ReleaseSuspended
from ledger.domain.offer import PublishTerms
from ledger.domain.plans.journey import Touch
from ledger.domain.topics import TOPIC_OF
from ledger.projections import conversions
from ledger.store import codec

PLAN = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "linear"},
    "rules": [{"id": "all", "pay": {"rate_bps": 1000}}],
    "second_level": {"of": "commission", "rate_bps": 1000},
}
SOLD_AT = T0 + timedelta(days=101)
WHOLE = 1971  # ada's part of it is 986 and bob's 985; they earn 99 and 98, and who recruited ada 10
ADA, BOB, ROB = ("ada", 1), ("bob", 1), ("rob", 2)
OWED = {ADA: 99, BOB: 98, ROB: 10}


def shared_shop() -> MemoryView:
    """A shop whose plan shares credit alike. A customer clicked at ada's, whom rob recruited, and then at bob's."""
    view = shop()
    view.given("affiliate:rob", AffiliateEnrolled(affiliate_id="rob"), AffiliateApproved(affiliate_id="rob"))
    view.given("affiliate:ada", AffiliateRecruited(affiliate_id="ada", recruiter_id="rob"))
    view.when(PublishTerms(offer_id="shoes", hold_days=30, window_days=30, plan=PLAN))
    for n, affiliate_id in enumerate(("ada", "bob"), 1):
        at = T0 + timedelta(days=100, hours=n)
        view.touched(Touch(position=n, affiliate_id=affiliate_id, occurred_at=at), customer_id="c1")
    view.now = SOLD_AT
    return view


def sell(view: MemoryView, order_id: str = "A", amount: int = WHOLE) -> ConversionState:
    view.when(sale(order_id, amount, None, customer_id="c1", occurred_at=SOLD_AT))
    return state_of(view, order_id)


def state_of(view: MemoryView, order_id: str = "A") -> ConversionState:
    state = view.conversion(order_id)
    assert isinstance(state, ConversionState)
    return state


def statuses(view: MemoryView) -> dict[str, str]:
    return {affiliate_id: one.status for (affiliate_id, _), one in state_of(view).commissions.items()}


def logged(view: MemoryView) -> list[Logged]:
    """The events as an auditor reads them."""
    return [
        Logged(n, TOPIC_OF[type(event)], SOLD_AT, msgspec.json.decode(codec.encode_state(event)))
        for n, (_, event, _) in enumerate(view.log, 1)
    ]


# --- what becomes of each commission -----------------------------------------------------------------------


def test_each_affiliate_earns_its_share_and_nobody_the_sale_twice() -> None:
    """10 % of 19.71 is 1.97, shared 0.99 and 0.98; the parts of the sale and of the commission add up."""
    state = sell(shared_shop())
    assert {whose: one.commission for whose, one in state.commissions.items()} == OWED
    assert [one.credited_amount for one in state.commissions.values() if one.level == 1] == [986, 985]


@given(st.lists(st.integers(0, WHOLE), max_size=6), st.integers(1, WHOLE))
@settings(max_examples=30, deadline=None)
def test_partial_reversals_return_exactly_each_commission(parts: list[int], amount: int) -> None:
    """However a sale is taken back, bit by bit and then all that is left, each commission is taken back to the cent and
    never more; the naive rules agree with every step."""
    view = shared_shop()
    before = {whose: one.commission for whose, one in sell(view, amount=amount).commissions.items()}
    left = amount
    for n, part in enumerate(parts):
        taken = min(part, left)
        left -= taken
        view.when(refund(f"r{n}", "A", taken, occurred_at=SOLD_AT))
        assert all(0 <= one.outstanding <= one.commission for one in state_of(view).commissions.values())
    view.when(refund("rest", "A", occurred_at=SOLD_AT))
    state = state_of(view)
    assert state.reversed_amount == amount
    assert {whose: one.reversed_commission for whose, one in state.commissions.items()} == before
    assert not {a: held for a, held in view.balances().items() if held}
    check_prices(logged(view))


def test_a_reversal_has_an_event_for_each_commission_and_counts_once() -> None:
    """Half of the sale is half of each, with the same part of the sale in each event."""
    view = shared_shop()
    sell(view)
    _, events = view.when(refund("r1", "A", 1000, occurred_at=SOLD_AT))
    taken = [event for event in events if isinstance(event, ConversionReversed)]
    assert [(e.affiliate_id, e.level, e.sale_amount, e.amount) for e in taken] == [
        ("ada", 1, 1000, 50), ("bob", 1, 1000, 50), ("rob", 2, 1000, 5),
    ]  # fmt: skip
    assert state_of(view).reversed_amount == 1000


def test_a_decision_about_the_order_is_one_about_each_commission() -> None:
    """Held, released and rejected together: one event each, and nothing is owed in the end."""
    view = shared_shop()
    sell(view)
    for decision, after in (("hold", "held"), ("release", "pending"), ("reject", "rejected")):
        _, events = view.when(DecideConversion(order_id="A", decision=decision, reason="checked"))
        assert len(events) == 3
        assert set(statuses(view).values()) == {after}
    assert view.balances() == {}
    check_prices(logged(view))


def test_a_suspension_holds_one_share_and_leaves_the_others() -> None:
    """bob is suspended before the sale: his share is held, the others mature and are approved; a refund takes each out
    of where it stands; and when bob is back, only his share is let go."""
    view = shared_shop()
    view.when(DecideAffiliate(affiliate_id="bob", decision="suspend"))
    sell(view)
    assert statuses(view) == {"ada": "pending", "bob": "held", "rob": "pending"}
    view.now = SOLD_AT + timedelta(days=31)
    view.when(ApproveDue(order_id="A", at=view.now))
    assert statuses(view) == {"ada": "approved", "bob": "held", "rob": "approved"}
    assert state_of(view).status == "held"
    _, events = view.when(refund("r1", "A", 1000, occurred_at=view.now))
    taken = {e.affiliate_id: e.bucket for e in events if isinstance(e, ConversionReversed)}
    assert taken == {"ada": "payable", "bob": "held", "rob": "payable"}
    view.when(DecideAffiliate(affiliate_id="bob", decision="reinstate"))
    _, events = view.when(ReleaseSuspended(order_id="A", affiliate_id="bob"))
    assert [TOPIC_OF[type(event)] for event in events] == ["ConversionReleased"]
    view.when(ApproveDue(order_id="A", at=view.now))
    assert view.balances() == {
        "expense:commission": 102, "liability:ada:payable": -49, "liability:bob:payable": -48,
        "liability:rob:payable": -5,
    }  # fmt: skip
    check_prices(logged(view))


# --- what a second opinion says ----------------------------------------------------------------------------


def repriced(affiliate_id: str, commission: int, amount: int, **more: Any) -> CommissionRepriced:
    what: dict[str, Any] = {"bucket": "pending", "cause": "tier_reached", "currency": "GBP", "effective_at": SOLD_AT}
    return CommissionRepriced(
        order_id="A", affiliate_id=affiliate_id, commission=commission, amount=amount, **{**what, **more}
    )


def test_a_top_up_after_a_refund_moves_only_what_is_not_taken_back_yet() -> None:
    """Half was refunded: a commission that rises from 99 to 199 rises by what is left of 100; the rest of the sale then
    takes back all of it."""
    view = shared_shop()
    sell(view)
    view.when(refund("r1", "A", 1000, occurred_at=SOLD_AT))
    left = 199 - round(199 * 1000 / 1971)
    view.given("conversion:A", repriced("ada", 199, left - 49))
    assert state_of(view).commissions[ADA].outstanding == left
    assert view.balances()["liability:ada:pending"] == -left
    view.when(refund("r2", "A", occurred_at=SOLD_AT))
    assert state_of(view).commissions[ADA].reversed_commission == 199
    assert view.balances() == {}
    check_prices(logged(view))


def changed(rows: list[Logged], affiliate_id: str, **change: Any) -> list[Logged]:
    """The log with another reversal of one affiliate's commission."""
    return [
        msgspec.structs.replace(row, state={**row.state, **change}) if is_reversal_of(row, affiliate_id) else row
        for row in rows
    ]


def is_reversal_of(row: Logged, affiliate_id: str) -> bool:
    return row.topic == "ConversionReversed" and row.state["affiliate_id"] == affiliate_id


def followed(rows: list[Logged], event: CommissionRepriced) -> list[Logged]:
    """The log with another event behind it."""
    state = msgspec.json.decode(codec.encode_state(event))
    return [*rows, Logged(rows[-1].position + 1, "CommissionRepriced", SOLD_AT, state)]


TOP_UP = repriced("ada", 199, 49)
# what → the finding's kind, and what is done to the log of the sale and a refund of 1000
WRONG: dict[str, tuple[str, Callable[[list[Logged]], list[Logged]]]] = {
    "a top-up of another amount": ("price_differs", lambda rows: followed(rows, repriced("ada", 199, 100))),
    "a top-up elsewhere": ("price_differs", lambda rows: followed(rows, repriced("ada", 199, 49, bucket="payable"))),
    "a top-up of nothing": ("life_differs", lambda rows: followed(rows, repriced("eve", 199, 49))),
    "a top-up for no cause": ("life_differs", lambda rows: followed(rows, repriced("ada", 199, 49, cause="because"))),
    "a share that a reversal left out": (
        "life_differs", lambda rows: followed([row for row in rows if not is_reversal_of(row, "bob")], TOP_UP),
    ),
    "a share left out at the end": (
        "life_differs", lambda rows: [row for row in rows if not is_reversal_of(row, "rob")],
    ),
    "a share that is reversed twice": (
        "life_differs", lambda rows: [row for row in rows for _ in range(1 + is_reversal_of(row, "bob"))],
    ),
    "another part of the sale for one share": ("price_differs", lambda rows: changed(rows, "bob", sale_amount=999)),
    "more taken back of a share": ("price_differs", lambda rows: changed(rows, "bob", amount=51)),
}  # fmt: skip


def kinds_found(rows: list[Logged]) -> list[str]:
    """The kinds of what the naive rules find, in order."""
    findings = Findings()
    prices = Prices(findings)
    for row in rows:
        prices.event(row.position, row.topic, row.state)
    prices.end()
    return [one.kind for one in findings.in_order()]


@pytest.mark.parametrize("what", WRONG)
def test_a_step_that_cannot_be_is_found(what: str) -> None:
    """Each mistake that a log could hold about shares is told, and of the kind that it is."""
    kind, tampered = WRONG[what]
    view = shared_shop()
    sell(view)
    view.when(refund("r1", "A", 1000, occurred_at=SOLD_AT))
    assert kinds_found(followed(logged(view), TOP_UP)) == []
    assert kinds_found(tampered(logged(view)))[:1] == [kind]


def test_a_second_commission_under_simple_terms_is_found() -> None:
    """Without a plan an order has one commission, of the whole sale: another affiliate's, or a part, cannot be."""
    view = shop()
    view.when(sale("A", 1000))
    rows = logged(view)
    (accrued,) = [row for row in rows if row.topic == "CommissionAccrued"]

    def with_(**change: Any) -> Logged:
        return msgspec.structs.replace(accrued, state={**accrued.state, **change})

    for change in ({"affiliate_id": "bob"}, {"affiliate_id": "bob", "level": 2}):
        assert kinds_found([*rows, with_(**change)]) == ["life_differs"]
    for change in ({"credited_amount": 500}, {"level": 2}, {"sale_currency": "GBP"}):
        assert kinds_found([with_(**change) if row is accrued else row for row in rows]) == ["price_differs"]


# --- what is derived -----------------------------------------------------------------------------------------


def rows_of(view: MemoryView) -> list[dict[str, Any]]:
    """What the work list says of order A."""
    made = conversions.rows_of(program_id("shop"), (program_id("A"), state_of(view), len(view.log), None))
    return [dict(zip(conversions.COLUMNS, row, strict=True)) for row in made]


def test_the_rows_of_an_order_add_up_to_it() -> None:
    """Sale and reversed amount once, commissions each in its row; the second level has no part of the sale."""
    view = shared_shop()
    sell(view)
    for n in range(4):
        found = rows_of(view)
        assert [(row["share_no"], row["affiliate_id"], row["level"]) for row in found] == [
            (1, "ada", 1), (2, "bob", 1), (3, "rob", 2),
        ]  # fmt: skip
        assert [row["amount"] for row in found] == [986, 985, 0]
        assert sum(row["reversed_amount"] for row in found) == n * 333
        assert found[2]["reversed_amount"] == 0
        assert sum(row["commission"] - row["reversed_commission"] for row in found) == state_of(view).outstanding
        view.when(refund(f"r{n}", "A", 333, occurred_at=SOLD_AT))


def test_a_replay_believes_each_share() -> None:
    """The order counts once; amounts and commissions add up; one affiliate alone has its own part."""
    view = shared_shop()
    sell(view)
    view.when(refund("r1", "A", 1000, occurred_at=SOLD_AT))
    replayed = Replay()
    for row in logged(view):
        replayed.take(Read(row.position, SOLD_AT, row.topic, "ana", "", row.state))
    (all_,) = believed(replayed).conversions
    assert msgspec.structs.astuple(all_) == ("pending", "GBP", 1, WHOLE, 207, 1000, 105)
    (bobs,) = believed(replayed, "bob").conversions
    assert msgspec.structs.astuple(bobs) == ("pending", "GBP", 1, 985, 98, 500, 50)
    view.when(refund("r2", "A", occurred_at=SOLD_AT))
    for row in logged(view)[replayed.position :]:
        replayed.take(Read(row.position, SOLD_AT, row.topic, "ana", "", row.state))
    (all_,) = believed(replayed).conversions
    assert msgspec.structs.astuple(all_) == ("reversed", "GBP", 1, WHOLE, 207, WHOLE, 207)
