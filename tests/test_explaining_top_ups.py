"""Explanations of top-ups: the sum that each comes from, what a cap leaves of it, and long histories of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from explaining_world import explained, only, planned, reverse, sell, tiered, touched
from msgspec.structs import replace

from ledger.domain.conversion import Item
from ledger.explaining.adding_up import mistakes
from ledger.explaining.data import Change, ExplainedCommission, Repricing
from ledger.explaining.explain import for_affiliate

CAP = {"id": "budget", "level": "affiliate", "by": "commission", "period": "day"}


def _summed(change: Change) -> Repricing:
    assert change.repricing is not None
    return change.repricing


# --- the sum -----------------------------------------------------------------------------------------------


def test_a_shared_top_up_shows_its_sum_from_the_new_rate_to_what_it_adds() -> None:
    """The new step of its rule, what the other rules pay, the share of that, rounded by itself, less what was."""
    rules = [{"id": "boots", "when": {"category": ["boots"]}, "pay": {"rate_bps": 300}}, *tiered(retroactive=True)]
    view = planned(rules, attribution={"model": "linear"})
    touched(view, "ada", "bob", "ada")
    sell(view, "A", 12345, customer_id="c1", items=[Item(sku="b", amount=1001, category="boots")])
    sell(view, "B", 30000, affiliate_id="ada")
    ada = explained(view, "A").commissions[0]
    (change,) = ada.changes
    summed = _summed(change)
    assert [(rule.rule, rule.exact, rule.step) for rule in summed.rules] == [
        ("boots", "3003/100", None), ("all", "17016/25", 1),
    ]  # fmt: skip
    assert (summed.exact, summed.share_exact, summed.rounded) == ("71067/100", "23689/50", 474)
    assert (change.was, change.commission, change.amount) == (323, 474, 151)
    assert (
        "It pays 6 % of 113.44 GBP: 6.8064 GBP for the whole sale. With 0.3003 GBP by the other rules that is 7.1067"
        " GBP. 2/3 (about 66.67 %) of that is 4.7378 GBP. Rounded half up, that is 4.74 GBP. So the commission is 4.74"
        " GBP from then on instead of 3.23 GBP: 1.51 GBP more."
    ) in ada.sentence


def test_a_top_up_that_meets_the_maximum_says_so() -> None:
    """The table would pay 9.00."""
    view = planned(tiered(retroactive=True), max_amount=800)
    sell(view, "A", 15000)
    sell(view, "B", 10000)
    one = only(view, "A")
    assert _summed(one.changes[0]).bound == "max_amount"
    assert (
        "It pays 6 % of 150.00 GBP: 9.00 GBP. That is more than the maximum, so it is 8.00 GBP. So the commission is"
        " 8.00 GBP from then on instead of 6.00 GBP: 2.00 GBP more."
    ) in one.sentence


def test_a_top_up_of_a_sale_that_was_partly_given_back_says_what_stands() -> None:
    """Half the sale was given back: half of what the tier adds stands."""
    view = planned(tiered(retroactive=True))
    sell(view, "A", 15000)
    reverse(view, "A", 7500)
    sell(view, "B", 30000)
    one = only(view, "A")
    assert (
        "So the commission is 9.00 GBP from then on instead of 6.00 GBP; less what was taken back, 4.50 GBP of it"
        " stands instead of 3.00 GBP: 1.50 GBP more. 4.50 GBP stands."
    ) in one.sentence


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda one: replace(one, was=1), "what it was before it was repriced"),
        (lambda one: replace(one, step=2), "what rule 'all' earns then"),
        (lambda one: replace(one, repricing=replace(one.repricing, exact="1")), "the exact commission then"),
        (lambda one: replace(one, repricing=replace(one.repricing, share_exact="1")), "the exact share then"),
        (lambda one: replace(one, repricing=replace(one.repricing, rounded=1)), "the rounded commission then"),
        (lambda one: replace(one, repricing=replace(one.repricing, limit=None)), "the cap of the top-up"),
        (
            lambda one: replace(one, repricing=replace(one.repricing, limit=replace(one.repricing.limit, room=1))),
            "what it was repriced to is said to be 735, but 601 follows",
        ),
        (
            lambda one: replace(one, repricing=replace(one.repricing, limit=replace(one.repricing.limit, asked=1))),
            "what the top-up asked for is said to be 1, but 300 follows",
        ),
    ],
)
def test_a_figure_of_a_top_up_that_does_not_follow_is_found(wrong: Callable[[Change], Change], told: str) -> None:
    """Every figure from the rate to the cap."""
    view = planned(tiered(retroactive=True), caps=[CAP | {"limit": 1335, "over": "clamp"}])
    sell(view, "A", 15000)
    sell(view, "B", 10000)
    found = explained(view, "A")
    (one,) = found.commissions
    false = replace(found, commissions=[replace(one, changes=[wrong(one.changes[0])])])
    assert told in str(mistakes(false))


# --- caps --------------------------------------------------------------------------------------------------


def _topped_up(cap: dict[str, Any]) -> ExplainedCommission:
    """Of 6.00, which the tier that 6.00 more for B reaches would bring to 9.00."""
    view = planned(tiered(retroactive=True), caps=[CAP | cap])
    sell(view, "A", 15000)
    sell(view, "B", 10000)
    return only(view, "A")


def test_a_top_up_that_a_cap_cuts_says_what_it_would_have_been_and_the_room() -> None:
    """12.00 of 13.35 are used: there is room for 1.35 of 3.00."""
    one = _topped_up({"limit": 1335, "over": "clamp"})
    limit = _summed(one.changes[0]).limit
    assert limit is not None
    assert (limit.cap, limit.asked, limit.room, one.commission) == ("budget", 300, 135, 735)
    assert (
        "It pays 6 % of 150.00 GBP: 9.00 GBP. The commission would be 9.00 GBP instead of 6.00 GBP, but cap budget had"
        " room for 1.35 GBP of the 3.00 GBP more. So the commission is 7.35 GBP from then on instead of 6.00 GBP: 1.35"
        " GBP more."
    ) in one.sentence


@pytest.mark.parametrize(
    ("cap", "room", "said"),
    [
        ({"limit": 1200, "over": "clamp"}, 0, "but cap budget had room for 0.00 GBP of the 3.00 GBP more."),
        ({"limit": 1335}, None, "but the 3.00 GBP more did not fit whole into cap budget, so nothing of it is paid."),
    ],
)
def test_a_top_up_that_a_cap_blocks_is_told_all_the_same(cap: dict[str, Any], room: int | None, said: str) -> None:
    """Nothing is added, and it is said why, and of how much."""
    one = _topped_up(cap)
    (change,) = one.changes
    limit = _summed(change).limit
    assert limit is not None
    assert (change.amount, change.cap, limit.room, one.commission) == (0, "budget", room, 600)
    assert f"The commission would be 9.00 GBP instead of 6.00 GBP, {said} So the commission stays 6.00 GBP." in (
        one.sentence
    )


def test_an_affiliate_reads_of_a_top_up_of_a_shared_sale_only_that_it_did_not_fit() -> None:
    """What the others got of the offer's cap in the same moment would follow from its room."""
    cap = CAP | {"level": "offer", "limit": 2200, "over": "clamp"}
    view = planned(tiered(retroactive=True, level="offer"), caps=[cap], attribution={"model": "linear"})
    touched(view, "ada", "bob")
    sell(view, "A", 15000, customer_id="c1")
    sell(view, "B", 25000, affiliate_id="ada")
    whole = explained(view, "A")
    (change,) = whole.commissions[0].changes
    limit = _summed(change).limit
    assert limit is not None
    assert limit.room is not None
    (own,) = for_affiliate(whole, "ada").commissions
    shown = _summed(own.changes[0]).limit
    assert shown is not None
    assert (shown.asked, shown.room) == (limit.asked, None)
    assert f"but the {limit.asked / 100:.2f} GBP more did not fit whole into cap budget. So" in own.sentence
    assert "had room for" not in own.sentence


# --- long histories ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sales", "summary"), [(4, ""), (5, "once, from 1.00 GBP"), (8, "4 times, from 1.00 GBP")])
def test_of_many_top_ups_the_last_three_are_told_and_the_others_summed_up(sales: int, summary: str) -> None:
    """As data all of them are there."""
    steps = [{"from": number, "amount": 100 + 10 * max(number - 1, 0)} for number in range(10)]
    view = planned(tiered(by="conversions", retroactive=True, steps=steps))
    for number in range(sales):
        sell(view, f"o{number}", 1000)
    one = only(view, "o0")
    assert len(one.changes) == sales - 1
    assert one.sentence.count("was reached, as conversions") == min(sales - 1, 3)
    assert (" it was repriced " in one.sentence) == bool(summary)
    until = f"Until 2026-04-11 00:00 UTC it was repriced {summary} to {1 + (sales - 4) / 10:.2f} GBP; the last 3 times"
    assert not summary or until in one.sentence
    assert one.sentence.endswith(f"{1 + (sales - 1) / 10:.2f} GBP stands.")
