"""The mistakes that newcomers make in a plan: each is told with what was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain.plans.plan_check import mistakes, schema
from ledger.domain.plans.plan_described import DESCRIPTIONS


def a_plan(**members: Any) -> dict[str, Any]:
    return {"plan": 1, "currency": "EUR", "rules": [{"id": "all", "pay": {"rate_bps": 500}}]} | members


def paying(pay: Any, **when: Any) -> dict[str, Any]:
    return a_plan(rules=[{"id": "all", "pay": pay, "when": when}])


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        (5.5, "basis points: 5.5 % is 550"),
        (5.0, "basis points: 5 % is 500"),
        (0.12, "basis points: 12 % is 1200, 0.12 % is 12"),
        ("12 %", "basis points: 12 % is 1200"),
        ("5.5", "basis points: 5.5 % is 550"),
        (5.12345, "decimal point or an exponent"),
        (1e3, "decimal point or an exponent"),
    ],
)
def test_a_percentage_for_a_rate_is_told_as_basis_points(rate: Any, says: str) -> None:
    """In a rule, a step and for the recruiter alike."""
    steps = [{"from": 0, "rate_bps": rate}]
    for document in (
        paying({"rate_bps": rate}),
        paying({"tiers": {"by": "conversions", "period": "day", "steps": steps}}),
        a_plan(second_level={"rate_bps": rate}),
    ):
        (found,) = mistakes(document)
        assert found.pointer.endswith("/rate_bps")
        assert found.message.endswith(says)


@pytest.mark.parametrize("name", ["percent", "rate", "percentage"])
def test_a_member_called_percent_is_told_as_the_rate(name: str) -> None:
    """With the number that would be right."""
    found = mistakes(paying({name: 12}))[-1]
    assert found.pointer == f"/rules/0/pay/{name}"
    assert found.message == 'is not known here; did you mean "rate_bps"? It is in basis points: 12 % is 1200'


def test_weights_as_fractions_are_one_mistake() -> None:
    """At the weights, with numbers that would be right."""
    document = a_plan(attribution={"model": "position_based", "weights": [0.4, 0.2, 0.4]})
    (found,) = mistakes(document)
    assert found == ("/attribution/weights", "must be whole numbers such as [40, 20, 40]")


def test_what_belongs_to_the_terms_is_told_so() -> None:
    """A member of the terms in the plan, and the terms in place of the plan."""
    (inside,) = mistakes(a_plan(attribution={"model": "linear", "window_days": 30}))
    assert inside.pointer == "/attribution/window_days"
    assert "belongs to the terms (--window-days" in inside.message
    (whole,) = mistakes({"hold_days": 30, "window_days": 30, "plan": a_plan()})
    assert whole == ("", "is a document of terms: the plan is its member plan")


@pytest.mark.parametrize(
    ("country", "meant"),
    [("germany", '"DE"'), ("de", '"DE"'), ("UK", '"GB"'), ("XX", ""), ("DEU", "")],
)
def test_a_country_is_two_letters(country: str, meant: str) -> None:
    """Sales name countries by their ISO codes; another word would never be met, and nobody would notice."""
    (found,) = mistakes(paying({"rate_bps": 1}, country=["FR", country]))
    assert found.pointer == "/rules/0/when/country/1"
    assert found.message.startswith("must be the two letters of a country, upper case (ISO 3166), such as DE")
    assert found.message.removesuffix("?").endswith(meant or "such as DE")


def test_the_schema_says_what_each_member_means() -> None:
    """Each that there is, and no other."""
    members = {name: set(struct["properties"]) for name, struct in schema()["$defs"].items()}
    assert members == {name: set(said) for name, said in DESCRIPTIONS.items()}
    assert "500 is 5 %" in schema()["$defs"]["Pay"]["properties"]["rate_bps"]["description"]
