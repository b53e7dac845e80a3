"""Commission plans on the command line, before and after: trying one, its versions, and who decided them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pages import ROOT
from test_cli import Ledger, ledger, shop  # noqa: F401 - fixtures

from ledger.terms_history import differences

PLANS = ROOT / "examples" / "plans"
MARGINAL = PLANS / "marginal-tiers.json"


def test_a_right_plan_is_read_back_in_words(ledger: Ledger, tmp_path: Path) -> None:  # noqa: F811
    """So that 0.05 % is seen by whoever meant 5 %."""
    file = tmp_path / "plan.json"
    file.write_text('{"plan": 1, "rules": [{"id": "all", "pay": {"rate_bps": 5}}]}')
    said = ledger("plan", "check", str(file))
    assert said.code == 0
    assert "no mistakes; SHA-256" in said.out.splitlines()[0]
    assert "0.05 % of the amount" in said.out


TRIED = [
    ("marginal-tiers", "--amount 500.00", "28.00 USD"),
    ("marginal-tiers", "--amount 500.00 --counted revenue=400.00", "40.00 USD"),
    ("marginal-tiers", "--amount 500 --currency GBP --rate 2", "68.00 USD"),
    ("caps-and-goals", "--amount 500.00 --counted conversions=9", "25.00 EUR"),
    ("leads-and-clicks", "--amount 0 --clicks 20", "2.40 GBP"),
    ("saas-recurring", "--amount 100 --recruiter eve", "3.00 USD"),
    ("saas-recurring", "--amount 100 --customer returning --at 2026-11-01 --first-sale 2020-01-01", "0.00 USD"),
]


def test_an_imaginary_sale_is_priced(ledger: Ledger) -> None:  # noqa: F811
    """By the file alone, with the counters, the rate, the customer and the recruiter that are said."""
    for name, options, earns in TRIED:
        said = ledger("plan", "try", str(PLANS / f"{name}.json"), *options.split())
        assert (said.code, f"earns {earns}" in " ".join(said.out.split())) == (0, True), said


def test_what_cannot_be_tried_is_said(ledger: Ledger, tmp_path: Path) -> None:  # noqa: F811
    """Without a rate, with a wrong plan, with counters that there are not."""
    no_rate = ledger("plan", "try", str(MARGINAL), "--amount", "5", "--currency", "GBP")
    assert (no_rate.code, "no rate from GBP to USD" in no_rate.err) == (1, True)
    file = tmp_path / "plan.json"
    file.write_text("{}")
    assert "nothing was tried" in ledger("plan", "try", str(file), "--amount", "5").err
    assert "there is no file shoes" in ledger("plan", "try", "shoes", "--amount", "5").err
    odd = ledger("plan", "try", str(MARGINAL), "--amount", "5", "--counted", "sales=5")
    assert (odd.code, "'sales' is none of these" in odd.err) == (1, True)


def test_a_rule_that_asks_is_answered(ledger: Ledger, tmp_path: Path) -> None:  # noqa: F811
    """Each option reaches the condition that it is for, and an affiliate's group its override."""
    when = {"sku": ["s"], "product": ["p"], "category": ["c"], "country": ["DE"], "channel": ["blog"],
            "event": ["e"], "coupon": ["C5"], "customer": "returning"}  # fmt: skip
    rules: list[Any] = [{"id": "all-of-it", "when": when, "pay": {"amount_per_item": 700}}]
    gold = {"id": "gold", "groups": ["gold"], "rules": [{"id": "g", "pay": {"rate_bps": 9000}}]}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"plan": 1, "currency": "EUR", "rules": rules, "overrides": [gold]}))
    given = when | {"amount": "50", "quantity": "3"}
    options = [word for name, one in given.items() for word in (f"--{name}", one[0] if isinstance(one, list) else one)]
    tried = ("plan", "try", str(file))
    assert "earns 21.00 EUR" in ledger(*tried, *options).out
    for at in range(0, len(options), 2):
        without = options[:at] + options[at + 2 :]
        earns = "earns 7.00 EUR" if options[at] == "--quantity" else "earns 0.00 EUR"
        assert options[at] == "--amount" or earns in ledger(*tried, *without).out, options[at]
    said = json.loads(ledger(*tried, "--amount", "50", "--group", "gold", "--json").out)
    assert said["refused"] is None
    assert said["explanations"][0]["commissions"][0]["accrued"] == 4500


def test_versions_are_listed_compared_and_decided(shop: Ledger) -> None:  # noqa: F811
    """A plan that reaches back waits, is decided by a second person, and takes the place of what was in force."""
    at, days = ("-p", "shop"), ("--hold-days", "9", "--window-days", "14")
    terms = (*at, "--hold-days", "30", "--window-days", "14", "--plan", str(MARGINAL))
    back = shop("offer", "publish", "shoes", *terms, "--effective-from", "2026-01-01")
    assert back.out == "offer shoes: terms version 2 waiting\n"
    assert "`ledger offer approve shoes 2`" in back.err
    assert json.loads(shop("plan", "show", "shoes", *at, "--version", "2", "--json").out)["status"] == "waiting"
    assert shop("offer", "approve", "shoes", "2", *at).code == 1  # the same person
    assert shop("offer", "approve", "shoes", "2", *at, "--by", "ben").out == ("offer shoes: terms version 2 in force\n")
    assert shop("offer", "publish", "shoes", *at, "--percent", "7", *days,
                "--effective-from", "2026-02-01").code == 0  # fmt: skip
    assert shop("offer", "reject", "shoes", "3", *at, "--by", "ben").out == "offer shoes: terms version 3 rejected\n"
    shop("offer", "publish", "shoes", *at, "--percent", "8", *days,
         "--effective-from", "2999-01-01")  # fmt: skip
    one, two, three, four = json.loads(shop("plan", "history", "shoes", *at, "--json").out)
    assert [each["status"] for each in (one, two, three, four)] == ["superseded", "in_force", "rejected", "to_come"]
    assert (one["effective_until"], two["effective_until"]) == ("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z")
    assert (one["published_by"], one["proposed_by"]) == ("olga", None)
    assert (two["proposed_by"], two["decided_by"], three["decided_by"]) == ("olga", "ben", "ben")
    assert (four["words"][-1], four["published_by"]) == ("Every sale pays 8 % of the amount.", "olga")
    table = shop("plan", "history", "shoes", *at).out
    assert "superseded" in table
    assert "proposed by olga, " in table
    simple = shop("plan", "show", "shoes", *at, "--version", "1").out
    assert simple.startswith("offer shoes, terms version 1, superseded: from the beginning on\n")
    assert simple.endswith("Every sale pays 10 % of the amount.\n")
    diff = shop("plan", "diff", "shoes", "1", "4", *at).out
    assert "/hold_days: 30 -> 9\n" in diff
    assert "/rate_bps: 1000 -> 800\n" in diff
    assert "/plan: nothing -> {" in shop("plan", "diff", "shoes", "1", "2", *at).out
    assert shop("plan", "diff", "shoes", "2", "2", *at).out == "they do not differ\n"
    tried = shop("plan", "try", "shoes", *at, "--amount", "500", "--affiliate", "ada", "--currency", "USD")
    assert "ada is credited with the sale of 500.00 USD as the affiliate that the sale names and earns 28" in (
        " ".join(tried.out.split())
    )


def test_rules_are_compared_by_their_ids() -> None:
    """One more rule in front is one difference, besides the order; a changed rate is one more."""
    was = {"rules": [{"id": "all", "pay": {"rate_bps": 500}}], "groups": ["a"]}
    is_ = {"rules": [{"id": "new", "pay": {}}, {"id": "all", "pay": {"rate_bps": 600}}], "groups": ["a", "b"]}
    assert [(one.pointer, one.before, one.after) for one in differences(was, is_)] == [
        ("/rules", ["all"], ["new", "all"]),
        ("/rules/all/pay/rate_bps", 500, 600),
        ("/rules/new", None, {"id": "new", "pay": {}}),
        ("/groups", ["a"], ["a", "b"]),
    ]
