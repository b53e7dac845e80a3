"""Tax as data: which rule counts, what it comes to, what keeps a payout back, and invoice numbers without a gap."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pycountry
import pytest
from memory_view import MemoryView, shop
from support import T0

from ledger.domain import invoice_numbers
from ledger.domain.countries import COUNTRIES
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Event, Recorded
from ledger.domain.invoice_numbers import (
    CreditNoteIssued,
    InvoiceNumbersTaken,
    format_number,
    invoice_series,
    issue_credit_note,
    take_numbers,
)
from ledger.domain.tax import (
    Assessment,
    DecideTaxRules,
    ProposeTaxRules,
    RecordTaxProfile,
    TaxProfileRecorded,
    TaxRule,
    TaxRulesProposed,
    TaxRulesPublished,
    assess,
    tax_profile,
    tax_rules,
)
from ledger.projections import invoices

DAY = timedelta(days=1)
EVERYBODY = TaxRule("*", "*", 0, 3000, "backup withholding")
BUSINESS = TaxRule("*", "business", 0, 0, "reverse charge")
GERMANY = TaxRule("DE", "*", 1900, 0)
GERMAN_SMALL = TaxRule("DE", "small_business", 0, 0, "§ 19 UStG")
RULES = [EVERYBODY, BUSINESS, GERMANY, GERMAN_SMALL]


def publish(view: MemoryView, rules: list[TaxRule], effective_from: datetime | None = None) -> TaxRulesPublished:
    """A version of the rules, proposed by ana and published by ben."""
    proposed = view.one(TaxRulesProposed, ProposeTaxRules(rules=rules, effective_from=effective_from), "ana")
    return view.one(TaxRulesPublished, DecideTaxRules(rules_version=proposed.rules_version, approve=True), "ben")


def profile(view: MemoryView, country: str, tax_status: str, **more: Any) -> TaxProfileRecorded:
    command = RecordTaxProfile(affiliate_id="ada", country=country, tax_status=tax_status, **more)
    return view.one(TaxProfileRecorded, command)


def assessed(view: MemoryView, amount: int = 10_000, at: datetime | None = None) -> Assessment:
    """What a payout of an amount to ada bears."""
    return assess(tax_rules(view), tax_profile(view, "ada"), amount, at or view.now)


@pytest.mark.parametrize(
    ("country", "tax_status", "rule"),
    [
        ("DE", "small_business", GERMAN_SMALL),
        ("DE", "business", GERMANY),  # a country's own rule goes before one for a status anywhere
        ("DE", "private", GERMANY),
        ("PT", "business", BUSINESS),
        ("PT", "private", EVERYBODY),
    ],
)
def test_the_most_specific_rule_counts(country: str, tax_status: str, rule: TaxRule) -> None:
    """Country and status, then the country, then the status, then everybody; however the rules are ordered."""
    for rules in (RULES, RULES[::-1]):
        view = shop()
        publish(view, rules)
        profile(view, country, tax_status)
        found = assessed(view)
        assert (found.rule, found.rules_version, found.missing) == (rule, 1, "")
        assert (found.vat_amount, found.withholding_amount) == (rule.vat_bps, rule.withholding_bps)


@pytest.mark.parametrize(
    ("amount", "vat", "withholding"), [(0, 0, 0), (1, 0, 1), (50, 10, 25), (10_001, 1900, 5001), (-50, -10, -25)]
)
def test_vat_and_withholding_round_half_up_once_each(amount: int, vat: int, withholding: int) -> None:
    """19 % and 50 % of the net amount: 9.5 becomes 10, 0.5 becomes 1."""
    view = shop()
    publish(view, [TaxRule("DE", "*", 1900, 5000)])
    profile(view, "DE", "business")
    found = assessed(view, amount)
    assert (found.vat_amount, found.withholding_amount) == (vat, withholding)


def test_without_rules_there_is_no_tax_and_with_them_nobody_is_guessed_at() -> None:
    """No rules in force: nothing, profile or not. In force: no profile, or no rule that fits, is said."""
    view = shop()
    assert assessed(view) == Assessment()
    view.when(ProposeTaxRules(rules=[GERMANY]))
    assert assessed(view) == Assessment()  # proposed is not in force
    view.when(DecideTaxRules(rules_version=1, approve=True), "ben")
    assert assessed(view, at=view.now - DAY) == Assessment()
    assert assessed(view) == Assessment(rules_version=1, missing="no_tax_profile")
    profile(view, "PT", "private")
    assert assessed(view) == Assessment(rules_version=1, missing="no_tax_rule")
    profile(view, "DE", "private")
    assert assessed(view).vat_amount == 1900


def test_rules_are_dated() -> None:
    """The latest start not after the instant counts; of two with the same start the newer."""
    view = shop()
    profile(view, "DE", "business")
    first, second = T0 + 10 * DAY, T0 + 20 * DAY
    publish(view, [TaxRule("DE", "*", 1600, 0)], first)
    publish(view, [TaxRule("DE", "*", 1900, 0)], second)
    at = [first - DAY, first, second - timedelta(microseconds=1), second]
    assert [assessed(view, at=instant).vat_amount for instant in at] == [0, 1600, 1600, 1900]
    publish(view, [TaxRule("DE", "*", 700, 0)], first)  # a correction of the first
    assert [assessed(view, at=instant).vat_amount for instant in at] == [0, 700, 700, 1900]
    assert assessed(view, at=first).rules_version == 3


def test_a_version_is_published_by_a_second_person() -> None:
    """Without a start of its own from then on; rejected, nothing changes; decided once."""
    view = shop()
    view.again(ProposeTaxRules(rules=RULES), "ana")
    view.refused(SamePerson, DecideTaxRules(rules_version=1, approve=True), "Ana")
    view.refused(NotFound, DecideTaxRules(rules_version=2, approve=True), "ben")
    view.now += DAY
    view.again(DecideTaxRules(rules_version=1, approve=True), "ben")
    (published,) = [event for _, event, _ in view.log if isinstance(event, TaxRulesPublished)]
    assert published.effective_from == view.now
    view.refused(WrongState, DecideTaxRules(rules_version=1, approve=False), "ben")
    view.when(ProposeTaxRules(rules=[]), "ana")
    view.again(DecideTaxRules(rules_version=2, approve=False), "ben")
    view.refused(WrongState, DecideTaxRules(rules_version=2, approve=True), "ben")
    profile(view, "DE", "private")
    assert assessed(view).rules_version == 1


def test_the_same_rules_again_are_the_same_version() -> None:
    """In any order, proposed or published; others wait until the proposed ones are decided."""
    view = shop()
    view.when(ProposeTaxRules(rules=RULES))
    answer, events = view.when(ProposeTaxRules(rules=RULES[::-1]))
    assert (answer.body, events) == ({"rules_version": 1, "status": "proposed"}, [])
    view.refused(WrongState, ProposeTaxRules(rules=[EVERYBODY]))
    view.when(DecideTaxRules(rules_version=1, approve=True), "ben")
    answer, events = view.when(ProposeTaxRules(rules=RULES))
    assert (answer.body, events) == ({"rules_version": 1, "status": "published"}, [])
    assert view.one(TaxRulesProposed, ProposeTaxRules(rules=RULES, effective_from=T0 + 400 * DAY)).rules_version == 2
    view.when(DecideTaxRules(rules_version=2, approve=True), "ben")
    # others are to come: the same from now on is a version of its own again
    assert view.one(TaxRulesProposed, ProposeTaxRules(rules=RULES)).rules_version == 3


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("rules.0.country", TaxRule("UK", "*", 0, 0)),
        ("rules.0.country", TaxRule("de", "*", 0, 0)),
        ("rules.0.tax_status", TaxRule("DE", "small business", 0, 0)),
        ("rules.0.vat_bps", TaxRule("DE", "*", 10_001, 0)),
        ("rules.0.withholding_bps", TaxRule("DE", "*", 0, -1)),
        ("rules.0.note", TaxRule("DE", "*", 0, 0, "a\nb")),
    ],
)
def test_a_bad_rule_is_refused_by_its_place_and_field(field: str, rule: TaxRule) -> None:
    """And so is a second rule for the same case, which would leave open which one counts."""
    with pytest.raises(InvalidInput) as caught:
        ProposeTaxRules(rules=[rule])
    assert caught.value.field == field
    with pytest.raises(InvalidInput) as caught:
        ProposeTaxRules(rules=[GERMANY, EVERYBODY, TaxRule("DE", "*", 700, 0)])
    assert caught.value.field == "rules.2"


def test_a_tax_profile_is_kept_in_versions_with_its_number_sealed() -> None:
    """The same again changes nothing; the newest counts; after erasure it still says country and status."""
    view = shop()
    view.again(RecordTaxProfile(affiliate_id="ada", country="DE", tax_status="business", tax_number=" DE123 "))
    again = RecordTaxProfile(affiliate_id="ada", country="DE", tax_status="business", tax_number="DE123")
    assert view.when(again)[1] == []
    sealed = profile(view, "DE", "business", tax_number="DE999")
    assert (sealed.profile_version, sealed.tax_number) == (
        2,
        "sealed|affiliate:ada|tax_profile:ada|tax_number.2|DE999",
    )
    view.erased.add("affiliate:ada")
    found = tax_profile(view, "ada")
    assert found is not None
    assert (found.profile_version, found.country, found.tax_status) == (2, "DE", "business")
    view.refused(NotFound, RecordTaxProfile(affiliate_id="eve", country="DE", tax_status="business"))
    for field, bad in (("country", {"country": "*"}), ("tax_status", {"tax_status": "*"})):
        with pytest.raises(InvalidInput) as caught:
            RecordTaxProfile(**{"affiliate_id": "ada", "country": "DE", "tax_status": "business"} | bad)
        assert caught.value.field == field


def test_countries_are_those_of_iso_3166() -> None:
    """And Kosovo, which has none of its own there."""
    assert {country.alpha_2 for country in pycountry.countries} | {"XK"} == COUNTRIES


def test_invoice_numbers_have_no_gap_and_start_anew_each_year() -> None:
    """Credit notes take theirs from the same series."""
    view = shop()
    numbers: list[str] = []

    def append(year: int, drafted: tuple[int, tuple[str, Event]], count: int = 1) -> None:
        first, (key, event) = drafted
        view.given(key, event)
        numbers.extend(format_number(year, first + n) for n in range(count))

    append(2026, take_numbers(view, 2026, 3, "run-1"), 3)
    append(2026, issue_credit_note(view, 2026, "p-2", numbers[1]))
    append(2026, take_numbers(view, 2026, 2, "run-2"), 2)
    append(2027, issue_credit_note(view, 2027, "p-3", numbers[2]))
    assert numbers == [f"2026-{n:06}" for n in range(1, 7)] + ["2027-000001"]
    assert invoice_series(view, 2026).next_number == 7
    assert invoice_series(view, 2028).next_number == 1
    assert invoice_numbers.key(2026) == "invoice_numbers:2026"


def test_a_number_that_nothing_took_is_a_gap() -> None:
    """The register names what is missing between 1 and the last number, and nothing where all is there."""
    bodies = [
        InvoiceNumbersTaken(year=2026, first=1, count=3, run_id="run-1"),
        CreditNoteIssued(year=2026, number=4, payout_id="p-2", cancels="2026-000002"),
        InvoiceNumbersTaken(year=2026, first=5, count=2, run_id="run-2"),
    ]
    events = [Recorded(UUID(int=1), number, body, number, T0) for number, body in enumerate(bodies, 1)]
    assert (invoices.last_number(events), invoices.gaps(events)) == (6, [])
    assert invoices.gaps(events[::2]) == [invoices.Span(4, 4)]
    assert invoices.gaps(events[1:]) == [invoices.Span(1, 3)]
    assert (invoices.last_number([]), invoices.gaps([])) == (0, [])
