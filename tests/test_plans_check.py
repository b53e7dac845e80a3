"""Checking a commission plan: every mistake at once, each with a pointer; the JSON Schema knows the same shapes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import plan_words
from ledger.domain.plans import plan, plan_check, plan_shape
from ledger.domain.plans.plan_check import mistakes
from ledger.domain.plans.plan_shape import SUGGESTED_MOST, fitted

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples" / "plans").glob("*.json"))
FROM_DOCS = json.loads(re.search(r"```json\n(.*?)```", (ROOT / "docs" / "plans.md").read_text(), re.DOTALL)[1])  # type: ignore[index]
DOCUMENTS = [FROM_DOCS, *(json.loads(path.read_text()) for path in EXAMPLES)]
SCHEMA = jsonschema.Draft202012Validator(plan_check.schema())


def rule(pay: Any, name: str = "r", **when: Any) -> dict[str, Any]:
    return {"id": name, "pay": pay} | ({"when": when} if when else {})


def a_plan(**members: Any) -> dict[str, Any]:
    return {"plan": 1, "currency": "EUR", "rules": [rule({"rate_bps": 500})]} | members


def tiers(**members: Any) -> dict[str, Any]:
    steps = [{"from": 0, "rate_bps": 400}, {"from": 100, "rate_bps": 600}]
    return a_plan(rules=[rule({"tiers": {"by": "revenue", "period": "month", "steps": steps} | members})])


def pointers(document: Any) -> list[str]:
    return [one.pointer for one in mistakes(document)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_plans(path: Path) -> None:
    """Each example can be published, the schema takes it, and it can be said in words."""
    document = json.loads(path.read_text())
    assert mistakes(document) == []
    SCHEMA.validate(document)
    assert len(plan_words.sentences(plan.read(document).plan)) >= 2 + len(document["rules"])


def test_there_are_six_examples_and_the_page_has_one_more() -> None:
    """The example of the page about plans is a plan, too."""
    assert len(EXAMPLES) == 6
    assert mistakes(FROM_DOCS) == []


# what is wrong → where, and a word of what would be right
CONTRADICTIONS: list[tuple[dict[str, Any], str, str]] = [
    (a_plan(rules=[rule({})]), "/rules/0/pay", "exactly one of"),
    (a_plan(rules=[rule({"rate_bps": 1, "amount": 1})]), "/rules/0/pay", "rate_bps and amount"),
    (a_plan(rules=[rule({"rate_bps": 1}, sku=["a"]), rule({"rate_bps": 1})]), "/rules/1/id", "differ"),
    (a_plan(rules=[rule({"rate_bps": 1}), rule({"rate_bps": 1}, "s")]), "/rules/1", "never be reached"),
    (a_plan(rules=[rule({"rate_bps": 1}, sku=[])]), "/rules/0/when/sku", "empty list"),
    (a_plan(rules=[rule({"rate_bps": 1}, sku=["a\nb"])]), "/rules/0/when/sku/0", "printable"),
    (a_plan(rules=[rule({"rate_bps": 1}, sku=["e\u0301"])]), "/rules/0/when/sku/0", "NFC"),
    (a_plan(rules=[rule({"rate_bps": 1}, currency=["eur"])]), "/rules/0/when/currency/0", "ISO 4217"),
    (tiers(steps=[{"from": 1, "rate_bps": 1}]), "/rules/0/pay/tiers/steps/0/from", "must be 0"),
    (tiers(steps=[{"from": 0, "rate_bps": 1}] * 2), "/rules/0/pay/tiers/steps/1/from", "above 0"),
    (
        tiers(steps=[{"from": 0, "rate_bps": 1}, {"from": 5, "amount": 1}]),
        "/rules/0/pay/tiers/steps/1/amount",
        "must be rate_bps",
    ),
    (tiers(steps=[{"from": 0}]), "/rules/0/pay/tiers/steps/0", "none"),
    (tiers(method="marginal", by="conversions"), "/rules/0/pay/tiers/by", "revenue"),
    (
        tiers(method="marginal", steps=[{"from": 0, "amount": 5}]),
        "/rules/0/pay/tiers/steps/0/amount",
        "rate_bps",
    ),
    (tiers(method="marginal", retroactive=True), "/rules/0/pay/tiers/retroactive", "whole"),
    (tiers(by="commission", retroactive=True), "/rules/0/pay/tiers/retroactive", "commission"),
    (tiers(on_reversal="take_back"), "/rules/0/pay/tiers/on_reversal", "retroactive"),
    (a_plan(min_amount=5, max_amount=4), "/min_amount", "at most max_amount"),
    (a_plan(min_amount=5, overrides=[{"id": "o", "groups": ["g"], "max_amount": 4}]), "/overrides/0/max_amount", "5"),
    (a_plan(recurring={}), "/recurring", "either sales or months"),
    (a_plan(recurring={"sales": "all", "months": 2}), "/recurring", "either"),
    (a_plan(overrides=[{"id": "o"}]), "/overrides/0", "affiliates or groups"),
    (
        a_plan(overrides=[{"id": "o", "affiliates": ["a"]}, {"id": "p", "affiliates": ["b", "a"]}]),
        "/overrides/1/affiliates/1",
        "/overrides/0/affiliates/0",
    ),
    (a_plan(overrides=[{"id": "o", "groups": ["a"]}, {"id": "o", "groups": ["b"]}]), "/overrides/1/id", "differ"),
    (a_plan(overrides=[{"id": "o", "groups": ["a"], "recurring": {}}]), "/overrides/0/recurring", "either"),
    (
        a_plan(overrides=[{"id": "o", "groups": ["a"], "rules": [rule({"rate_bps": 1}, sku=[])]}]),
        "/overrides/0/rules/0/when/sku",
        "at least one",
    ),
    (
        a_plan(caps=[{"id": "c", "level": "offer", "by": "conversions", "period": "day", "limit": 1, "over": "clamp"}]),
        "/caps/0/over",
        "commission or clicks",
    ),
    (a_plan(attribution={"weights": [1, 1, 1]}), "/attribution/weights", "position_based"),
    (a_plan(attribution={"model": "linear", "spread": "all"}), "/attribution/spread", "position_based"),
    (a_plan(attribution={"model": "linear", "half_life_days": 3}), "/attribution/half_life_days", "time_decay"),
    (a_plan(attribution={"model": "linear", "direct_channels": []}), "/attribution/direct_channels", "non_direct"),
    (a_plan(attribution={"model": "linear", "otherwise": "linear"}), "/attribution/otherwise", "coupon_wins"),
    (a_plan(attribution={"model": "position_based", "weights": [0, 0, 0]}), "/attribution/weights", "all be 0"),
    (a_plan(currency="EURO"), "/currency", "ISO 4217"),
]


@pytest.mark.parametrize(("document", "pointer", "says"), CONTRADICTIONS)
def test_a_contradiction_is_told_where_it_is(document: dict[str, Any], pointer: str, says: str) -> None:
    """What no schema can say is one mistake, at its place, with a word of what would be right."""
    (found,) = mistakes(document)
    assert found.pointer == pointer
    assert says in found.message
    SCHEMA.validate(document)  # its shape is right


@pytest.mark.parametrize(
    "document",
    [
        a_plan(match="best", rules=[rule({"rate_bps": 1}), rule({"amount_per_click": 1}, "s")]),
        a_plan(rules=[rule({"rate_bps": 1}, coupon=[]), rule({"rate_bps": 1}, "s")]),
        a_plan(attribution={"model": "coupon_wins", "otherwise": "time_decay", "half_life_days": 3}),
        a_plan(min_amount=5, max_amount=5, overrides=[{"id": "o", "groups": ["g"], "max_amount": None}]),
        tiers(retroactive=True, on_reversal="take_back"),
        tiers(on_reversal="keep"),
        a_plan(overrides=[{"id": "o", "affiliates": ["g"]}, {"id": "p", "groups": ["g"]}]),
        {"plan": 1, "rules": [rule({"rate_bps": 1, "amount": None})], "second_level": {"rate_bps": 1}},
        {"plan": 1, "rules": [rule({"rate_bps": 1})], "goals": [
            {"id": "g", "by": "conversions", "period": "day", "target": 1}]},
    ],
)  # fmt: skip
def test_what_looks_odd_but_is_right_is_taken(document: dict[str, Any]) -> None:
    """Nothing is refused that has a meaning."""
    assert mistakes(document) == []


def test_money_needs_a_currency() -> None:
    """Every member that is an amount of money is named where the plan has no currency."""
    document = a_plan(
        rules=[
            rule({"amount": 1}, "a", sku=["a"]),
            rule({"amount_per_item": 1}, "b", sku=["a"]),
            rule({"amount_per_click": 1}, "c", sku=["a"]),
            tiers()["rules"][0],
            rule({"tiers": {"by": "conversions", "period": "day", "steps": [{"from": 0, "amount": 1}]}}, "e"),
        ],
        min_amount=1,
        max_amount=2,
        caps=[{"id": "c", "level": "offer", "by": "commission", "period": "day", "limit": 1}],
        goals=[{"id": "g", "by": "revenue", "period": "day", "target": 1, "bonus_amount": 5}],
        overrides=[{"id": "o", "groups": ["g"], "min_amount": 0}],
    )
    document["rules"][3]["when"] = {"sku": ["b"]}
    assert mistakes(document) == []
    del document["currency"]
    assert pointers(document) == [
        "/caps/0/by", "/goals/0/bonus_amount", "/goals/0/by", "/max_amount", "/min_amount", "/overrides/0/min_amount",
        "/rules/0/pay/amount", "/rules/1/pay/amount_per_item", "/rules/2/pay/amount_per_click",
        "/rules/3/pay/tiers/by", "/rules/4/pay/tiers/steps/0/amount",
    ]  # fmt: skip


def test_all_mistakes_of_shape_and_sense_come_at_once() -> None:
    """A wrong type in one place does not hide what is wrong in another, nor is it blamed twice."""
    document = {
        "plan": 1,
        "currency": "EUR",
        "mach": "first",
        "rules": [
            rule({"rate_bps": "5"}, sku=["a"]),
            rule({"amount": 1, "rate_bps": 2}, "s"),
            {"pay": {"rate_bps": 1}},
            7,
        ],
        "a/b~c": 1,
    }
    assert [tuple(one) for one in mistakes(document)] == [
        ("/a~1b~0c", "is not known here; known are plan, rules, currency, match, attribution, min_amount, max_amount,"
         " recurring, caps, goals, second_level, overrides"),
        ("/mach", 'is not known here; did you mean "match"?'),
        ("/rules/0/pay/rate_bps", "must be an integer, not text"),
        ("/rules/1/pay", "must have exactly one of rate_bps, amount, amount_per_item, amount_per_click, tiers;"
         " it has rate_bps and amount"),
        ("/rules/2", "can never be reached: /rules/1 has no conditions, so it must stand last"),
        ("/rules/2/id", "is required"),
        ("/rules/3", "must be an object, not a number"),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [1.5, 1e3, 1.0, True, "5", -1, 100_001, 10**30, [], {}])
def test_a_rate_is_an_integer_within_its_range(wrong: Any) -> None:
    """No fraction, no exponent, no true, no text, nothing out of range."""
    (found,) = mistakes(a_plan(rules=[rule({"rate_bps": wrong})]))
    assert found.pointer == "/rules/0/pay/rate_bps"
    assert found.message.startswith("must be an integer" if type(wrong) is not int else "must be from 0 to 100000")
    assert ("decimal point" in found.message) == isinstance(wrong, float)


@pytest.mark.parametrize("wrong", ["", "a\n", "aB", "A", "ä", "x" * 41, "a b", 5, None])
def test_an_id_is_spelled_in_one_way(wrong: Any) -> None:
    """Lower case, digits, _ and -, up to 40, and no newline at the end."""
    assert pointers(a_plan(rules=[rule({"rate_bps": 1}, wrong)])) == ["/rules/0/id"]
    assert mistakes(a_plan(rules=[rule({"rate_bps": 1}, "a_b-9" * 8)])) == []


@pytest.mark.parametrize("version", [True, 1.0, 2, "1", None])
def test_the_version_is_the_number_one(version: Any) -> None:
    """Nothing else that equals it in some language."""
    assert [tuple(one) for one in mistakes(a_plan(plan=version))] == [("/plan", "must be 1")]


def test_a_plan_has_a_size() -> None:
    """256 KiB of canonical form; white space does not count, and long lists are not looked through."""
    many = [rule({"rate_bps": 1}, f"r{n}", sku=["x" * 128] * 2) for n in range(900)]
    (found,) = mistakes(a_plan(rules=many))
    assert (found.pointer, "262,144 bytes" in found.message) == ("", True)
    assert mistakes(a_plan(rules=many[:700])) == []
    assert [one.pointer for one in mistakes(a_plan(rules=[5] * 1001))] == ["/rules"]
    many_goals = [{"id": f"g{n}", "by": "revenue", "period": "day", "target": 1} for n in range(101)]
    assert pointers(a_plan(overrides=[{"id": "o", "groups": ["g"], "goals": many_goals}])) == ["/overrides/0/goals"]


def test_a_hopeless_document_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is too large only that is said; the look ends with the last mistake that is told; and only the first
    names are compared with those that are known."""
    looked: list[str] = []
    compared: list[str] = []
    for name, calls in (("_fitted", looked), ("get_close_matches", compared)):
        whole = getattr(plan_shape, name)

        def counted(*args: Any, whole: Any = whole, calls: list[Any] = calls) -> Any:
            calls.append(args[0])
            return whole(*args)

        monkeypatch.setattr(plan_shape, name, counted)
    (found,) = mistakes(a_plan(overrides=[{"id": "o", "rules": [{}] * 100}] * 1000))
    assert (found.pointer, "262,144 bytes" in found.message, looked) == ("", True, [])
    assert len(mistakes(a_plan(overrides=[{"id": "o", "rules": [{}] * 60}] * 1000))) == plan_check.MISTAKES_MOST
    assert len(looked) < 3 * plan_check.MISTAKES_MOST
    said = [one.message for one in mistakes(a_plan(**{f"mach{n}": 1 for n in range(10_000)}))]
    assert len(said) == plan_check.MISTAKES_MOST
    assert said.count('is not known here; did you mean "match"?') == SUGGESTED_MOST
    assert len(compared) == SUGGESTED_MOST
    # what only contradicts itself ends there, too
    named = [{"id": f"o{n}", "groups": ["g"] * 1000} for n in range(20)]
    assert len(mistakes(a_plan(overrides=named))) == plan_check.MISTAKES_MOST


def test_the_best_of_at_most_a_hundred_rules_pays() -> None:
    """In the plan and in an override, by the check and by the schema; by the first that fits there may be more."""
    rules = [rule({"rate_bps": 1}, f"r{n}", sku=["a"]) for n in range(101)]
    for document, pointer in (
        (a_plan(match="best", rules=rules), "/rules"),
        (a_plan(match="best", overrides=[{"id": "o", "groups": ["g"], "rules": rules}]), "/overrides/0/rules"),
    ):
        (found,) = mistakes(document)
        assert (found.pointer, "at most 100" in found.message) == (pointer, True)
        assert not SCHEMA.is_valid(document)
        for right in (document | {"match": "first"}, a_plan(match="best", rules=rules[:100])):
            assert mistakes(right) == []
            SCHEMA.validate(right)


# --- the schema ------------------------------------------------------------------------------------------------

_ODD = st.sampled_from(
    [None, True, False, 0, 1, -1, 10**14, 1.5, "", "x", "A", "x" * 200, "take_back", [], {}, [1], ["a"], {"id": "a"}]
).map(copy.deepcopy)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, one in inner for found in _places(one, (*path, name)))]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_the_schema_takes_what_the_check_of_shape_takes(data: st.DataObject) -> None:
    """Whatever is changed in a plan, the schema and the check refuse it for its shape alike; and whatever has no
    mistake at all can be read."""
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(_places(document)[1:] or [("plan",)]))
        owner = document
        for name in path:
            owner = owner[name]
        match data.draw(st.sampled_from(["change", "remove", "add"])):
            case "change":
                owner[last] = data.draw(_ODD)
            case "remove":
                del owner[last]
            case "add" if isinstance(owner, list):
                owner.append(data.draw(_ODD))
            case _:
                owner[data.draw(st.sampled_from(["odd", "rate_bps", "amount", "when", "id", "groups"]))] = data.draw(
                    _ODD
                )
    found: list[Any] = []
    fitted(document, plan.Plan, found, 1000)
    assert SCHEMA.is_valid(document) == (not found), (document, found)
    if not mistakes(document):
        plan.read(document)


def test_the_schema_is_one_and_says_what_it_is() -> None:
    """A valid schema of the 2020-12 draft with a name of its own; it refuses what the example with a slip has."""
    made = plan_check.schema()
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$id"] == "urn:commission-ledger:plan:1"
    assert not SCHEMA.is_valid(FROM_DOCS | {"currancy": "EUR"})


def test_the_hash_does_not_know_the_order_of_members() -> None:
    """The same content written otherwise is the same plan; another rate is another."""
    turned = dict(reversed(a_plan().items()))
    assert plan.hash_of(turned) == plan.hash_of(a_plan())
    assert plan.hash_of(a_plan(rules=[rule({"rate_bps": 501})])) != plan.hash_of(a_plan())
    assert msgspec.json.decode(plan.canonical(turned)) == a_plan()
