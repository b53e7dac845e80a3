"""Explanations of what is shared: shares that can be computed again, who gets the last cent, recruiters, and what an
affiliate must not be able to compute of the others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from explaining_world import explained, only, planned, sell, touched
from memory_view import MemoryView
from msgspec.structs import replace

from ledger.domain.affiliate import AffiliateRecruited
from ledger.domain.lifecycle import DecideConversion
from ledger.explaining.adding_up import mistakes
from ledger.explaining.explain import for_affiliate

LINEAR: dict[str, Any] = {"attribution": {"model": "linear"}}
OFFERS = {"id": "top", "level": "offer", "by": "commission", "period": "day", "over": "clamp"}


def _shared(amount: int, *touches: str, **plan: Any) -> MemoryView:
    view = planned(others=("cleo", "dora"), **LINEAR | plan)
    touched(view, *touches)
    sell(view, "A", amount, customer_id="c1")
    return view


# --- the last cent -----------------------------------------------------------------------------------------


def test_each_who_shares_a_sale_is_told_why_it_got_the_last_cent_or_not() -> None:
    """12.5 % of 100.00 is 12.50: two thirds of it to ada and a third to bob are 8.33 1/3 and 4.16 2/3."""
    found = explained(_shared(10000, "ada", "bob", "ada"), "A")
    ada, bob = found.commissions
    assert ada.rounding is not None
    assert bob.rounding is not None
    assert (ada.rounding.remainder, ada.rounding.reason, ada.rounding.left) == ("1/3", "smaller", 1)
    assert (bob.rounding.remainder, bob.rounding.reason, bob.rounding.together) == ("2/3", "larger", "1250")
    assert (
        "2/3 (about 66.67 %) of that is about 8.3333 GBP. The shares are rounded together, once: they come to 12.50"
        " GBP; beyond each one rounded down that is 0.01 GBP, which goes to the largest remainders, 0.01"
        " GBP each. Its remainder of 1/3 of 0.01 GBP is smaller than any that gets one (bob: 2/3 of"
        " 0.01 GBP), so it gets none: 8.33 GBP."
    ) in ada.sentence
    assert "Its remainder of 2/3 of 0.01 GBP is larger than any that gets none (ada: 1/3 of 0.01 GBP), so it gets" in (
        bob.sentence
    )


def test_of_equal_remainders_the_one_whose_touch_came_first_gets_the_cent() -> None:
    """Each of three has two thirds of a cent, and two cents are left."""
    found = explained(_shared(40, "cleo", "ada", "bob"), "A")
    assert [(one.affiliate_id, one.accrued, one.rounding and one.rounding.reason) for one in found.commissions] == [
        ("cleo", 2, "earlier_touch"), ("ada", 2, "earlier_touch"), ("bob", 1, "later_touch"),
    ]  # fmt: skip
    _, ada, bob = found.commissions
    assert "is as large as another's (bob: 2/3 of 0.01 GBP), but its first touch came earlier, so it gets" in (
        ada.sentence
    )
    assert "is as large as another's (ada: 2/3 of 0.01 GBP), whose first touch came earlier, so it gets none: 0.01" in (
        bob.sentence
    )


def test_where_rounding_leaves_nothing_or_a_cent_for_everybody_that_is_said() -> None:
    """A sum that is rounded down, and one of which each gets a cent more."""
    down = explained(_shared(2, "ada", "bob", "cleo"), "A").commissions[0]
    assert "they come to 0.0025 GBP, rounded half up 0.00 GBP; beyond each one rounded down that is 0.00 GBP. Its" in (
        down.sentence
    )
    assert "Its remainder of 1/12 of 0.01 GBP is dropped, as nothing is left to go round: 0.00 GBP." in down.sentence
    up = explained(_shared(15, "ada", "bob"), "A").commissions[0]
    assert up.rounding is not None
    assert (up.rounding.left, up.rounding.exact) == (2, "15/16")
    assert "Its remainder of 15/16 of 0.01 GBP gets one of these, as everybody does: 0.01 GBP." in up.sentence


@pytest.mark.parametrize("amount", [10000, 40, 2])
def test_an_affiliate_is_told_why_without_the_others_names_or_amounts(amount: int) -> None:
    """Its own remainder and whether others' were larger, nothing else."""
    found = explained(_shared(amount, "cleo", "ada", "bob"), "A")
    for who in ("cleo", "ada", "bob"):
        own = for_affiliate(found, who)
        (one,) = own.commissions
        assert one.rounding is not None
        assert one.rounding.reason
        assert (one.rounding.together, one.rounding.left, one.rounding.remainders) == (None, None, [])
        assert "Its remainder of " in one.sentence
        assert "they come to" not in one.sentence
        text = msgspec.json.encode(own).decode()
        assert not [other for other in ("cleo", "ada", "bob") if other != who and other in text]


def test_a_reason_or_a_remainder_that_does_not_follow_is_found() -> None:
    """Also the order in which the cents are handed out."""
    found = explained(_shared(10000, "ada", "bob", "ada"), "A")
    ada, bob = found.commissions
    assert ada.rounding is not None
    for wrong, told in (
        ({"reason": "later_touch"}, "why the share was rounded so"),
        ({"reason": "larger"}, "the rounded share"),
        ({"remainder": "1/2"}, "what remains of the share"),
        ({"left": 2}, "what is left beyond the shares rounded down"),
        ({"remainders": ada.rounding.remainders[::-1]}, "the order of the remainders"),
    ):
        false = replace(ada, rounding=replace(ada.rounding, **wrong))
        assert told in str(mistakes(replace(found, commissions=[false, bob])))


# --- caps of the whole offer -------------------------------------------------------------------------------


def test_the_room_of_an_offers_cap_is_not_shown_to_those_who_share_a_sale() -> None:
    """bob's room is what ada's commission left: together with the limit it would say what ada earned."""
    found = explained(_shared(10000, "ada", "bob", "ada", caps=[OFFERS | {"limit": 1000}]), "A")
    assert [one.caps[0].room for one in found.commissions] == [1000, 167]
    for who, said in (("ada", "it fits."), ("bob", "it does not fit whole, so it is cut off there.")):
        (own,) = for_affiliate(found, who).commissions
        assert (own.caps[0].room, own.caps[0].asked) == (None, None)
        assert f"Cap top for all in 2026-01-01: {said}" in own.sentence
        assert "room" not in own.sentence
    found = explained(_shared(10000, "ada", "bob", "ada", caps=[OFFERS | {"limit": 833}]), "A")
    (own,) = for_affiliate(found, "bob").commissions
    assert "Cap top for all in 2026-01-01: it does not fit, so nothing is paid." in own.sentence


def test_the_room_of_ones_own_cap_and_of_a_sale_of_ones_own_is_shown() -> None:
    """Neither says anything of others on that sale."""
    own_cap = OFFERS | {"level": "affiliate", "limit": 1000}
    (own,) = for_affiliate(explained(_shared(10000, "ada", "bob", caps=[own_cap]), "A"), "ada").commissions
    assert own.caps[0].room == 1000
    view = planned(caps=[OFFERS | {"limit": 1000}])
    sell(view, "A", 10000)
    (own,) = for_affiliate(explained(view, "A"), "ada").commissions
    assert "Cap top for all had room for 10.00 GBP in 2026-01-01 of the 12.50 GBP asked for" in own.sentence


# --- recruiters --------------------------------------------------------------------------------------------


def test_staff_reads_who_was_recruited_and_the_recruiter_does_not() -> None:
    """Of three who share a sale cleo recruited two."""
    view = planned(others=("cleo", "dora"), second_level={"rate_bps": 1000}, **LINEAR)
    for who in ("ada", "dora"):
        view.given(f"affiliate:{who}", AffiliateRecruited(affiliate_id=who, recruiter_id="cleo"))
    touched(view, "ada", "bob", "dora")
    sell(view, "A", 10000, customer_id="c1")
    found = explained(view, "A")
    cleo = found.commissions[-1]
    assert cleo.second_level is not None
    assert [(one.affiliate_id, one.base) for one in cleo.second_level.recruited] == [("ada", 417), ("dora", 416)]
    assert cleo.sentence.startswith("Affiliate cleo recruited ada and dora, who are credited with this sale, and earns")
    (own,) = for_affiliate(found, "cleo").commissions
    assert own.second_level is not None
    assert own.second_level.recruited == []
    assert own.sentence.startswith("Affiliate cleo recruited an affiliate that is credited with this sale, and earns")
    part = replace(cleo.second_level, recruited=cleo.second_level.recruited[:1])
    false = replace(found, commissions=[*found.commissions[:-1], replace(cleo, second_level=part)])
    assert "what it is a part of" in str(mistakes(false))


# --- nothing -----------------------------------------------------------------------------------------------


def test_a_commission_of_nothing_does_not_say_that_it_may_be_paid() -> None:
    """One of something does."""
    view = planned([{"id": "x", "when": {"country": ["FR"]}, "pay": {"amount": 100}}])
    for order_id, country in (("A", "GB"), ("B", "FR")):
        sell(view, order_id, 1000, country=country)
        view.when(DecideConversion(order_id=order_id, decision="approve"))
    assert "it was approved by hand, with nothing to be paid." in only(view, "A").sentence
    assert "may be paid" not in only(view, "A").sentence
    assert "it was approved by hand: it may be paid." in only(view, "B").sentence
