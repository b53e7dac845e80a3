"""Paying affiliates over HTTP: where, who, how much, what the bank said of it, and what is owed the other way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import fake_bank
import pytest
from api_world import OPERATOR, World, make_world, open_service
from conftest import fresh_database
from fake_bank import Booked
from flask import Flask

from ledger.domain.breaks import ResolveBreak
from ledger.domain.restore import RecordRestore
from ledger.payouts import files
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer

IBANS = {
    "uk": "GB29NWBK60161331926819", "fr": "FR1420041010050500013M02606", "de": "DE89370400440532013000",
    "nl": "NL91ABNA0417164300",
}  # fmt: skip
OURS = {"name": "Shop GmbH", "iban": "DE02120300000000202051", "bic": "BYLADEM1001"}
AMOUNTS = {"uk": 10_000, "fr": 20_000, "de": 30_000, "nl": 40_000, "es": 50_000}  # commissions, EUR cents


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


def sepa(affiliate_id: str, minimum_amount: int = 100) -> dict[str, Any]:
    """A payout method's body."""
    details = {"name": f"{affiliate_id.title()} Lovelace", "iban": IBANS[affiliate_id]}
    return {"method": "sepa", "minimum_amount": minimum_amount, "details": details}


def method_path(affiliate_id: str, rest: str = "", currency: str = "EUR") -> str:
    return f"/affiliates/{affiliate_id}/payout-methods/{currency}{rest}"


def pay_to(world: World, affiliate_id: str, body: dict[str, Any], currency: str = "EUR") -> None:
    """Have a payout method proposed and approved."""
    proposed = world.call("finance_maker", "PUT", method_path(affiliate_id, currency=currency), body)
    assert proposed.status_code == 201, proposed.text
    approve = method_path(affiliate_id, f"/{proposed.json['method_version']}/approve", currency)
    seen = {"fingerprint": proposed.json["fingerprint"]}
    assert world.call("finance_checker", "POST", approve, seen).status_code == 200


def earn(world: World, currency: str, amounts: dict[str, int]) -> None:
    """Have affiliates, enrolled if need be, earn commissions that are payable now."""
    for affiliate_id, amount in amounts.items():
        if affiliate_id not in ("uk", "fr"):
            assert world.call("admin", "POST", "/affiliates", {"affiliate_id": affiliate_id}).status_code == 201
            assert world.call("admin", "POST", f"/affiliates/{affiliate_id}/approve").status_code == 200
        order = f"{affiliate_id}-{currency}"
        sold = world.sell(order, amount * 10, affiliate_id=affiliate_id, currency=currency)
        assert sold.json["commission"] == amount
    list(world.ledger.approve_due(world.program, world.now, OPERATOR))


def same_person(world: World, role: str, as_role: str) -> str:
    """A key of another role for the person who has the key of a role."""
    return world.issue(as_role, f"{role}-holder")


def payouts_of(world: World, run_id: str) -> dict[str, dict[str, Any]]:
    """A run's payouts by affiliate."""
    found = world.call("auditor", "GET", f"/payout-runs/{run_id}/payouts").json["items"]
    return {one["affiliate_id"]: one for one in found}


def camt(world: World, lines: list[tuple[str, int, str]], day: date | None = None) -> bytes:
    """A bank's statement of today. lines: (end-to-end id, amount, kind)."""
    day = day or world.now.date()
    booked = [
        Booked(day, amount, "EUR", reference, f"REF{number}", kind, 0)
        for number, (reference, amount, kind) in enumerate(lines)
    ]
    return fake_bank._camt(day, [("EUR", 10**9, booked)])


def upload(world: World, content: bytes, kind: str = "application/xml", query: str = "") -> Any:
    return world.call("finance_maker", "POST", f"/bank-statements{query}", data=content, content_type=kind)


# --- payees --------------------------------------------------------------------------------------------------


def test_a_payout_method_takes_two_people_and_a_wait(world: World) -> None:
    """Proposed by the affiliate, approved by another person who saw it, in force 72 hours later, and always masked."""
    proposed = world.call("affiliate", "PUT", method_path("uk"), sepa("uk"))
    assert (proposed.status_code, proposed.json["status"]) == (201, "proposed")
    again = world.call("affiliate", "PUT", method_path("uk"), sepa("uk"))
    assert (again.status_code, again.json) == (200, proposed.json)
    listed = world.call("affiliate", "GET", "/affiliates/uk/payout-methods")
    (method,) = listed.json["items"]
    assert method["versions"][0]["details"] == {"name": "U•••", "iban": "GB29 •••• 6819"}
    assert (method["status"], method["versions"][0]["proposed_by"]) == ("proposed", "affiliate-holder")
    assert world.call("auditor", "GET", "/affiliates/uk/payout-methods").json == listed.json

    approve, seen = method_path("uk", "/1/approve"), {"fingerprint": proposed.json["fingerprint"]}
    own = world.call("", "POST", approve, seen, token=same_person(world, "affiliate", "finance_checker"))
    assert (own.status_code, own.json["code"]) == (403, "same_person")
    assert world.call("admin", "POST", approve, seen).json["code"] == "forbidden"
    unseen = world.call("finance_checker", "POST", approve, {"fingerprint": "0" * 64})
    assert (unseen.status_code, unseen.json["code"]) == (409, "wrong_state")
    blind = world.call("finance_checker", "POST", approve, {})
    assert [one["pointer"] for one in blind.json["errors"]] == ["/fingerprint"]
    approved = world.call("finance_checker", "POST", approve, seen)
    assert (approved.status_code, approved.json["effective_from"]) == (200, "2026-06-04T00:00:00Z")

    def status() -> tuple[str, list[str]]:
        (shown,) = world.call("auditor", "GET", "/affiliates/uk/payout-methods").json["items"]
        return shown["status"], [one["status"] for one in shown["versions"]]

    assert status() == ("waiting", ["waiting"])
    for role, who in (("auditor", "finance_checker-holder"), ("affiliate", None)):
        (shown,) = world.call(role, "GET", "/affiliates/uk/payout-methods").json["items"]
        version = shown["versions"][0]
        assert (version["proposed_by"], version["decided_by"]) == ("affiliate-holder", who)
    world.now += timedelta(hours=72)
    assert status() == ("in_force", ["in_force"])
    assert world.call("affiliate", "POST", method_path("uk", "/1/withdraw")).status_code == 409
    assert world.call("finance_maker", "PUT", method_path("uk"), sepa("fr")).status_code == 201
    assert status() == ("proposed", ["in_force", "proposed"])
    assert world.call("affiliate", "POST", method_path("uk", "/2/withdraw")).json["status"] == "withdrawn"
    assert world.call("finance_maker", "PUT", method_path("uk"), sepa("de")).status_code == 201
    assert world.call("finance_checker", "POST", method_path("uk", "/3/reject"), {}).json["status"] == "rejected"
    assert status() == ("in_force", ["in_force", "withdrawn", "rejected"])
    told = world.call("affiliate", "GET", "/affiliates/uk/notices").json["items"]
    assert [one["template"].removeprefix("payout_method_") for one in told] == [
        "approved", "proposed", "proposed", "withdrawn", "proposed", "rejected",
    ]  # fmt: skip
    assert {one["status"] for one in told} == {"queued"}
    first = world.call("affiliate", "GET", "/affiliates/uk/notices?limit=4").json
    rest = world.call("affiliate", "GET", f"/affiliates/uk/notices?limit=4&after={first['next']}").json
    assert first["items"] + rest["items"] == told


def test_other_affiliates_are_not_there(world: World) -> None:
    """An affiliate's key neither reads nor writes what is another's: 404, as for nobody's."""
    pay_to(world, "fr", sepa("fr"))
    for method, path, body in (
        ("GET", "/affiliates/fr/payout-methods", None), ("PUT", method_path("fr"), sepa("uk")),
        ("POST", method_path("fr", "/1/withdraw"), None), ("GET", "/affiliates/fr/payouts", None),
        ("GET", "/affiliates/fr/notices", None), ("GET", "/affiliates/fr/tax-profile", None),
    ):  # fmt: skip
        assert world.call("affiliate", method, path, body).status_code == 404, path
    for path in ("/payouts", "/payout-runs", "/receivables", "/paying-accounts"):
        assert world.call("affiliate", "GET", path).status_code == 403
    for path in ("payouts", "notices", "payout-methods", "tax-profile"):
        assert world.call("auditor", "GET", f"/affiliates/nobody/{path}").status_code == 404


WRONG: list[tuple[str, str, dict[str, str], str]] = [
    ("EUR", "sepa", {"name": "Ada", "iban": "DE89370400440532013001"}, "pointer:/details/iban"),
    ("EUR", "sepa", {"name": "Ada", "iban": "US64SVBKUS6S3300958879"}, "pointer:/details/iban"),
    ("EUR", "sepa", {"name": "", "iban": IBANS["de"]}, "pointer:/details/name"),
    ("EUR", "sepa", {"name": "Ada", "iban": IBANS["de"], "bic": "BNPAFRPP"}, "pointer:/details/bic"),
    ("EUR", "sepa", {"name": "Ada", "iban": IBANS["de"], "secret-7": "x"}, "pointer:/details"),
    ("GBP", "sepa", {"name": "Ada", "iban": IBANS["uk"]}, "parameter:currency"),
    ("XXX", "paypal", {"email": "ada@example.com"}, "parameter:currency"),
    ("EUR", "paypal", {"email": "=ada@example.com"}, "pointer:/details/email"),
    ("EUR", "cheque", {"name": "Ada"}, "pointer:/method"),
]


def test_wrong_bank_details_are_named_and_never_repeated(world: World) -> None:
    """Each wrong field is a 422 that points at it, and does not say what was sent; nothing is stored."""
    before = world.books_position()
    for currency, method, details, where in WRONG:
        body = {"method": method, "minimum_amount": 0, "details": details}
        answer = world.call("finance_maker", "PUT", method_path("uk", currency=currency), body)
        assert answer.status_code == 422, (details, answer.text)
        assert where in [f"{kind}:{place}" for one in answer.json["errors"] for kind, place in one.items()], answer.text
        for value in details.values():
            assert len(value) < 4 or value not in answer.text
        assert "secret" not in answer.text
    for details in ({"name": "Ada", "iban": 7}, {"name": "Ada", "iban": None}):
        answer = world.call("finance_maker", "PUT", method_path("uk"), sepa("uk") | {"details": details})
        assert [one["pointer"] for one in answer.json["errors"]] == ["/details/iban"]
    for field, value in (("minimum_amount", -1), ("minimum_amount", 1.5), ("details", "DE89"), ("odd", 1)):
        answer = world.call("finance_maker", "PUT", method_path("uk"), sepa("uk") | {field: value})
        assert [one["pointer"] for one in answer.json["errors"]] == [f"/{field}"], answer.text
    account = world.call("admin", "PUT", "/paying-accounts/EUR", {"details": OURS | {"iban": "DE1"}})
    assert [one["pointer"] for one in account.json["errors"]] == ["/details/iban"]
    assert world.call("admin", "PUT", "/paying-accounts/GBP", {"details": OURS}).json["errors"][0]["parameter"]
    assert world.books_position() == before


# --- a run ---------------------------------------------------------------------------------------------------


def test_a_run_from_proposal_to_the_bank(world: World) -> None:
    """Earned, proposed, approved by another as exactly that, sent, rendered, and settled by the bank's statement."""
    earn(world, "EUR", AMOUNTS)
    for affiliate_id in IBANS:
        pay_to(world, affiliate_id, sepa(affiliate_id))
    ask = {"period": "2026-05", "currency": "EUR", "method": "sepa"}
    no_account = world.call("finance_maker", "POST", "/payout-runs", ask)
    assert (no_account.status_code, no_account.json["code"]) == (409, "wrong_state")
    account = world.call("admin", "PUT", "/paying-accounts/EUR", {"details": OURS})
    assert account.status_code == 201
    (shown,) = world.call("auditor", "GET", "/paying-accounts").json["items"]
    assert shown["details"] == {"name": "S•••", "iban": "DE02 •••• 2051", "bic": "BYLADEM1001"}
    assert (shown["set_by"], shown["fingerprint"]) == ("admin-holder", account.json["fingerprint"])

    early = world.call("finance_maker", "POST", "/payout-runs", ask)
    assert (early.status_code, early.json["status"]) == (201, "nothing_to_pay")  # nobody's method is in force yet
    world.now += timedelta(hours=72)
    proposed = world.call("finance_maker", "POST", "/payout-runs", ask)
    assert (proposed.status_code, proposed.json["status"]) == (201, "proposed")
    run_id, hash_ = proposed.json["run_id"], proposed.json["hash"]
    assert (proposed.json["payout_count"], proposed.json["transfer_amount"]) == (4, 100_000)
    again = world.call("finance_maker", "POST", "/payout-runs", ask)
    assert (again.status_code, again.json) == (200, proposed.json)
    left_out = world.call("auditor", "GET", f"/payout-runs/{run_id}/left-out").json["items"]
    assert left_out == [{"affiliate_id": "es", "amount": 50_000, "reason": "no_payout_method"}]

    _approve_as_others_may_not(world, run_id, hash_)
    made = payouts_of(world, run_id)
    taken_out = world.call("finance_maker", "POST", f"/payouts/{made['nl']['payout_id']}/exclude", {"reason": "fraud?"})
    assert taken_out.json["status"] == "excluded"
    names = _send(world, run_id)
    _settle_by_statement(world, run_id, made)
    _see_the_payouts(world, run_id, made)

    for name in names:  # whatever became of the payouts, the file is the one that was rendered
        assert world.call("finance_checker", "GET", f"/payout-runs/{run_id}/files/{name}").status_code == 200
    document = world.call("auditor", "GET", f"/payout-runs/{run_id}").json
    assert {one["status"]: one["payout_count"] for one in document["totals"]} == {
        "excluded": 1, "initiated": 1, "settled": 2,
    }  # fmt: skip
    assert (document["proposed_by"], document["decided_by"]) == ("finance_maker-holder", "finance_checker-holder")
    assert document["hash"] == hash_
    listed = world.call("auditor", "GET", "/payout-runs?limit=1").json
    rest = world.call("auditor", "GET", f"/payout-runs?after={listed['next']}").json
    assert [one["run_id"] for one in listed["items"] + rest["items"]] == ["2026-05-EUR-sepa-1", run_id]
    found = world.call("auditor", "GET", "/payout-runs?status=initiated").json["items"]
    assert [one["run_id"] for one in found] == [run_id]


def _approve_as_others_may_not(world: World, run_id: str, hash_: str) -> None:
    approve = f"/payout-runs/{run_id}/approve"
    own = world.call("", "POST", approve, {"hash": hash_}, token=same_person(world, "finance_maker", "finance_checker"))
    assert (own.status_code, own.json["code"]) == (403, "same_person")
    for role in ("admin", "finance_maker", "auditor"):
        assert world.call(role, "POST", approve, {"hash": hash_}).json["code"] == "forbidden"
    other = world.call("finance_checker", "POST", approve, {"hash": "0" * 64})
    assert (other.status_code, other.json["code"]) == (409, "wrong_state")
    early = world.call("finance_maker", "POST", f"/payout-runs/{run_id}/initiate")
    assert (early.status_code, early.json["code"]) == (409, "wrong_state")
    approved = world.call("finance_checker", "POST", approve, {"hash": hash_})
    assert (approved.status_code, approved.json["status"]) == (200, "approved")
    assert world.call("finance_checker", "POST", approve, {"hash": hash_}).json == approved.json


def _send(world: World, run_id: str) -> list[str]:
    """Initiate and render the run, and look at its file. Returns the names of its files."""
    past = world.call("finance_maker", "POST", f"/payout-runs/{run_id}/initiate", {"execution_on": "2026-06-03"})
    assert [one["pointer"] for one in past.json["errors"]] == ["/execution_on"]
    for day in ("20260605", "2026-W23-5", 5, "2026-02-30"):
        wrong = world.call("finance_maker", "POST", f"/payout-runs/{run_id}/initiate", {"execution_on": day})
        assert wrong.status_code == 422
    sent = world.call("finance_maker", "POST", f"/payout-runs/{run_id}/initiate", {"execution_on": "2026-06-05"})
    assert (sent.status_code, sent.json["status"]) == (200, "initiated")
    assert world.call("finance_checker", "GET", f"/payout-runs/{run_id}/files/x.xml").status_code == 404
    rendered = world.call("finance_maker", "POST", f"/payout-runs/{run_id}/render")
    (facts,) = rendered.json["files"]
    assert (facts["count"], facts["control_sum"]) == (3, 60_000)
    assert world.call("finance_checker", "POST", f"/payout-runs/{run_id}/render").json == rendered.json
    file = world.call("finance_checker", "GET", f"/payout-runs/{run_id}/files/{facts['name']}")
    assert (file.status_code, file.content_type) == (200, "application/xml")
    assert file.headers["Content-Disposition"] == f'attachment; filename="{facts["name"]}"'
    assert file.headers["Cache-Control"] == "no-store"
    assert sha256(file.data).hexdigest() == facts["sha256"]
    ids = {one["payout_id"] for one in payouts_of(world, run_id).values() if one["status"] == "initiated"}
    assert files.check(file.data, "sepa", "EUR") == (3, 60_000, frozenset(ids))
    assert IBANS["de"] in file.text
    for role in ("admin", "auditor"):
        assert world.call(role, "GET", f"/payout-runs/{run_id}/files/{facts['name']}").status_code == 403
    return [facts["name"]]


def _settle_by_statement(world: World, run_id: str, made: dict[str, dict[str, Any]]) -> None:
    """The bank books two payouts as they are and one with another amount."""
    world.now += timedelta(days=2)
    ids = {who: one["payout_id"] for who, one in made.items()}
    lines = [(ids["uk"], -10_000, "payment"), (ids["fr"], -20_000, "payment"), (ids["de"], -30_500, "payment")]
    first = upload(world, camt(world, lines))
    assert first.status_code == 200, first.text
    (told,) = first.json["statements"]
    assert (told["outcomes"], told["unchanged"], told["refused"]) == ({"settled": 2, "break": 1}, 0, [])
    before = world.books_position()
    (again,) = upload(world, camt(world, lines)).json["statements"]
    assert (again["unchanged"], again["position"]) == (3, told["position"])
    assert world.books_position() == before
    seen = world.call("auditor", "GET", f"/payout-runs/{run_id}/reconciliation").json
    (wrong,) = seen["open_breaks"]
    assert wrong["break_id"] in told["break_ids"]
    assert (wrong["type"], wrong["reference"]) == ("wrong_amount", ids["de"])
    assert (wrong["expected_amount"], wrong["found_amount"], wrong["affiliate_id"]) == (30_000, 30_500, "de")
    assert seen["in_transit_amount"] == 30_000
    assert [(one["name"], one["expected_amount"], one["difference"]) for one in seen["differences"]] == [
        ("files", 60_000, 0), ("settled", 30_000, 30_500), ("returned", 0, 0),
    ]  # fmt: skip
    assert seen["apart"] == [ids["de"]]
    assert [(one["outcome"], one["line_count"], one["amount"]) for one in seen["bank"]] == [
        ("break", 1, -30_500), ("settled", 2, -30_000),
    ]  # fmt: skip
    assert [(one["count"], one["control_sum"], one["as_rendered"]) for one in seen["files"]] == [(3, 60_000, True)]
    (statement,) = world.call("auditor", "GET", "/bank-statements").json["items"]
    assert (statement["line_count"], statement["break_count"], statement["booked_from"]) == (3, 1, "2026-06-06")
    assert fake_bank.ACCOUNT not in str(statement)
    settled = ResolveBreak(break_id=wrong["break_id"], resolution="accepted", cause="bank", reason="asked the bank")
    world.ledger.execute(world.program, settled, OPERATOR)
    assert world.call("auditor", "GET", f"/payout-runs/{run_id}/reconciliation").json["open_breaks"] == []


def _see_the_payouts(world: World, run_id: str, made: dict[str, dict[str, Any]]) -> None:
    (own,) = world.call("affiliate", "GET", "/affiliates/uk/payouts").json["items"]
    assert (own["status"], own["transfer_amount"]) == ("settled", 10_000)
    assert own["invoice_number"]
    assert world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]["paid"] == 10_000
    assert world.call("auditor", "GET", "/affiliates/nl/payouts").json["items"] == []  # it was never sent
    told = world.call("auditor", "GET", f"/payouts/{made['uk']['payout_id']}").json
    assert [one["topic"] for one in told["events"]] == ["PayoutProposed", "PayoutInitiated", "PayoutSettled"]
    assert [[line["debit"] for line in one["lines"]] for one in told["events"]] == [
        [], ["liability:uk:payable"], ["liability:uk:in_transit"],
    ]  # fmt: skip
    out = world.call("auditor", "GET", f"/payouts/{made['nl']['payout_id']}").json
    assert (out["status"], out["reason"], out["events"][-1]["reason"]) == ("excluded", "by_hand", "fraud?")
    listed = world.call("auditor", "GET", "/payouts?status=settled").json["items"]
    assert {one["affiliate_id"] for one in listed} == {"uk", "fr"}
    only = world.call("auditor", "GET", "/payouts?affiliate_id=de").json["items"]
    assert [one["status"] for one in only] == ["initiated"]
    page = world.call("auditor", "GET", f"/payout-runs/{run_id}/payouts?limit=3").json
    rest = world.call("auditor", "GET", f"/payout-runs/{run_id}/payouts?limit=3&after={page['next']}").json
    assert sorted(one["affiliate_id"] for one in page["items"] + rest["items"]) == ["de", "fr", "nl", "uk"]


def run_by_hand(world: World) -> dict[str, dict[str, Any]]:
    """A run in GBP that a person pays, rendered. Returns its payouts by affiliate."""
    for affiliate_id in ("uk", "fr"):
        details = {"instructions": f"Cash for {affiliate_id}"}
        pay_to(world, affiliate_id, {"method": "manual", "minimum_amount": 1, "details": details}, "GBP")
    world.now += timedelta(hours=72)
    proposed = world.call(
        "finance_maker", "POST", "/payout-runs", {"period": "2026-05", "currency": "GBP", "method": "manual"}
    ).json
    path = f"/payout-runs/{proposed['run_id']}"
    assert world.call("finance_checker", "POST", f"{path}/approve", {"hash": proposed["hash"]}).status_code == 200
    assert world.call("finance_checker", "POST", f"{path}/initiate").status_code == 200
    assert world.call("finance_checker", "POST", f"{path}/render").status_code == 200
    return payouts_of(world, proposed["run_id"])


def in_register(world: World, returned: dict[str, Any], failed_id: str) -> None:
    """Each payout names the credit note that cancels its invoice, and the year's register has every number in order."""
    assert returned["credit_notes"] == [{"number": "2026-000003", "cancels": returned["invoice_number"]}]
    failed = world.call("auditor", "GET", f"/payouts/{failed_id}").json
    assert failed["credit_notes"] == [{"number": "2026-000004", "cancels": failed["invoice_number"]}]
    numbered = sorted((returned["invoice_number"], failed["invoice_number"]))
    by_number = {one["invoice_number"]: one for one in (returned, failed)}
    expected = [(number, by_number[number]["payout_id"], "invoice", by_number[number]["amount"]) for number in numbered]
    for number, one in (("2026-000003", returned), ("2026-000004", failed)):
        expected.append((number, one["payout_id"], "credit_note", -one["amount"]))
    whole = world.call("auditor", "GET", "/invoices/2026").json
    seen = [(one["number"], one["payout_id"], one["kind"], one["amount"]) for one in whole["items"]]
    assert seen == expected
    assert [one["cancels"] for one in whole["items"][2:]] == [returned["invoice_number"], failed["invoice_number"]]
    assert {one["affiliate_id"] for one in whole["items"]} == {"uk", "fr"}
    assert {one["issued_on"] for one in whole["items"]} == {world.now.date().isoformat()}
    assert (whole["last_number"], whole["gaps"], whole["next"]) == (4, [], None)
    page = world.call("auditor", "GET", "/invoices/2026?limit=1").json
    rest = world.call("auditor", "GET", f"/invoices/2026?after={page['next']}").json
    assert page["items"] + rest["items"] == whole["items"]
    assert world.call("auditor", "GET", "/invoices/2025").json["items"] == []
    assert world.call("auditor", "GET", "/invoices/3").status_code == 422
    made = world.call("finance_checker", "GET", "/decisions").json["items"]
    assert sorted({one["kind"] for one in made}) == ["payout_method", "payout_run"]
    assert all(one["proposed_by"] != one["decided_by"] and not one["same_person"] for one in made)
    (run,) = (one for one in made if one["kind"] == "payout_run")
    assert (run["record_id"], run["decided_by"]) == (failed["run_id"], "finance_checker-holder")


def test_what_a_person_says_became_of_a_payout(world: World) -> None:
    """Unknown, failed, settled with a fee, returned: each with a reason, each in the books, none out of turn."""
    earn(world, "GBP", {"uk": 5000, "fr": 7000})
    made = run_by_hand(world)
    path = f"/payouts/{made['uk']['payout_id']}"

    def say(verb: str, **more: Any) -> Any:
        return world.call("finance_maker", "POST", f"{path}/{verb}", {"reason": f"because {verb}"} | more)

    assert say("return").json["code"] == "wrong_state"
    assert [one["pointer"] for one in say("settle", reason="").json["errors"]] == ["/reason"]
    assert [one["pointer"] for one in say("settle", booked_on="2030-01-01").json["errors"]] == ["/booked_on"]
    assert [one["pointer"] for one in say("fail", fee_amount=5).json["errors"]] == ["/fee_amount"]
    assert world.call("finance_checker", "POST", f"{path}/settle", {"reason": "x"}).status_code == 403
    unknown = say("mark-unknown")
    assert (unknown.status_code, unknown.json["status"]) == (200, "unknown")
    assert say("mark-unknown").json == unknown.json
    settled = say("settle", booked_on=world.now.date().isoformat(), fee_amount=35)
    assert (settled.status_code, settled.json["status"]) == (200, "settled")
    assert say("return").json["status"] == "returned"
    told = world.call("auditor", "GET", path).json
    assert [one.get("reason") for one in told["events"]] == [
        None, None, "because mark-unknown", "because settle", "because return",
    ]  # fmt: skip
    assert told["fee_amount"] == 35
    balance = world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]
    assert (balance["payable"], balance["in_transit"], balance["paid"]) == (5000, 0, 0)
    failed = world.call("finance_maker", "POST", f"/payouts/{made['fr']['payout_id']}/fail", {"reason": "no such till"})
    assert failed.json["status"] == "failed"
    in_register(world, told, made["fr"]["payout_id"])
    run_id = made["uk"]["run_id"]
    seen = world.call("auditor", "GET", f"/payout-runs/{run_id}/reconciliation").json
    # a person said so, but no line of the bank did
    assert [(one["name"], one["expected_amount"], one["found_amount"]) for one in seen["differences"]] == [
        ("files", 12_000, 12_000), ("settled", 5035, 0), ("returned", 5000, 0),
    ]  # fmt: skip
    (facts,) = world.call("auditor", "GET", f"/payout-runs/{run_id}").json["files"]
    assert world.call("finance_maker", "GET", f"/payout-runs/{run_id}/files/{facts['name']}").content_type == "text/csv"

    late = world.call(
        "finance_maker", "POST", f"/payouts/{made['fr']['payout_id']}/settle", {"reason": "paid after all"}
    )
    assert late.json["status"] == "settled"
    again = world.call("auditor", "GET", "/invoices/2026").json["items"][4:]
    assert [(one["number"], one["kind"], one["payout_id"]) for one in again] == [
        ("2026-000005", "invoice", made["fr"]["payout_id"]),
    ]  # fmt: skip


def test_a_rejected_run_frees_the_next(world: World) -> None:
    """A rejection takes a reason and another person; the next proposal is another run."""
    earn(world, "GBP", {"uk": 5000})
    details = {"email": "uk@example.com"}
    pay_to(world, "uk", {"method": "paypal", "minimum_amount": 1, "details": details}, "GBP")
    world.now += timedelta(hours=72)
    ask = {"period": "2026-05", "currency": "GBP", "method": "paypal"}
    first = world.call("finance_maker", "POST", "/payout-runs", ask).json
    reject = f"/payout-runs/{first['run_id']}/reject"
    assert world.call("finance_checker", "POST", reject, {}).json["errors"][0]["pointer"] == "/reason"
    own = world.call("", "POST", reject, {"reason": "x"}, token=same_person(world, "finance_maker", "finance_checker"))
    assert own.json["code"] == "same_person"
    assert world.call("finance_checker", "POST", reject, {"reason": "too much"}).json["status"] == "rejected"
    seen = world.call("auditor", "GET", f"/payout-runs/{first['run_id']}").json
    assert (seen["status"], seen["reason"]) == ("rejected", "too much")
    second = world.call("finance_maker", "POST", "/payout-runs", ask).json
    assert (second["run_id"], second["status"]) == ("2026-05-GBP-paypal-2", "proposed")
    assert "decided_by" not in world.call("auditor", "GET", f"/payout-runs/{second['run_id']}").json
    for field, value in (("period", "soon"), ("currency", "XXX"), ("method", "cheque"), ("as_of", 0), ("as_of", 10**9)):
        wrong = world.call("finance_maker", "POST", "/payout-runs", ask | {field: value})
        assert [one["pointer"] for one in wrong.json["errors"]] == [f"/{field}"], wrong.text
    for path in ("2026-05-GBP-paypal-9", "nonsense", "2026-05-GBP-paypal-9/payouts", "nonsense/left-out"):
        assert world.call("auditor", "GET", f"/payout-runs/{path}").status_code == 404, path


# --- the bank ------------------------------------------------------------------------------------------------


def test_a_bank_file_that_cannot_be_read_says_where(world: World) -> None:
    """What is no statement is 422 with the place and what would be right, another kind 415, too much 413."""
    before = world.books_position()
    broken = camt(world, [("nobody's", -500, "payment")]).replace(b"5.00", b"6.00", 1)
    answer = upload(world, broken)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_input")
    assert "the file" in answer.json["detail"]
    assert "closing balance" in answer.json["detail"]
    assert "errors" not in answer.json  # the body is the file: no pointer leads into it
    assert upload(world, b"").status_code == 422
    assert upload(world, broken, query="?format=csv").status_code == 422
    assert upload(world, b"{}", kind="application/json").status_code == 415
    assert upload(world, b"x" * (16 * 1024 * 1024 + 1)).status_code == 413
    assert world.books_position() == before


def test_an_mt940_file_is_taken_too(world: World) -> None:
    """Lines that are nobody's become breaks, which the answer names."""
    booked = [Booked(date(2026, 5, 29), -1234, "EUR", "UNKNOWN1", "R1", "payment", 0)]
    content = fake_bank._mt940(date(2026, 5, 29), [("EUR", 10**8, booked)])
    answer = upload(world, content, kind="text/plain", query="?format=mt940")
    (told,) = answer.json["statements"]
    assert (told["outcomes"], len(told["break_ids"])) == ({"break": 1}, 1)
    assert told["break_ids"][0].startswith("bank:unknown_line:")


# --- taxes ---------------------------------------------------------------------------------------------------


def test_taxes_follow_rules_that_two_people_publish(world: World) -> None:
    """A run adds the VAT and takes off the tax that the rules in force say for each affiliate."""
    profile = {"country": "GB", "tax_status": "business", "tax_number": "GB123456789"}
    recorded = world.call("finance_maker", "PUT", "/affiliates/uk/tax-profile", profile)
    assert recorded.status_code == 201
    assert world.call("finance_maker", "PUT", "/affiliates/uk/tax-profile", profile).status_code == 200
    assert world.call("affiliate", "PUT", "/affiliates/uk/tax-profile", profile).status_code == 403
    own = world.call("affiliate", "GET", "/affiliates/uk/tax-profile").json
    assert own["tax_number"] == "GB123456789"
    staff = world.call("auditor", "GET", "/affiliates/uk/tax-profile")
    assert staff.json["tax_number"] == "•••• 89"
    assert world.call("auditor", "GET", "/tax-rules").json == {"versions": [], "position": 0}

    rule = {"country": "GB", "tax_status": "*", "vat_bps": 2000, "withholding_bps": 500}
    proposed = world.call("finance_maker", "POST", "/tax-rules", {"rules": [rule]})
    assert (proposed.status_code, proposed.json["status"]) == (201, "proposed")
    own_person = same_person(world, "finance_maker", "finance_checker")
    assert world.call("", "POST", "/tax-rules/1/approve", token=own_person).json["code"] == "same_person"
    assert world.call("finance_checker", "POST", "/tax-rules/2/approve").status_code == 404
    assert world.call("finance_checker", "POST", "/tax-rules/1/approve").json["status"] == "published"
    assert world.call("finance_maker", "POST", "/tax-rules", {"rules": []}).status_code == 201
    seen = world.call("auditor", "GET", "/tax-rules").json["versions"]
    assert [one["status"] for one in seen] == ["in_force", "proposed"]
    assert seen[0]["rules"] == [rule | {"note": ""}]
    assert world.call("finance_checker", "POST", "/tax-rules/2/reject").json["status"] == "rejected"
    for change, pointer in (
        ({"country": "XX"}, "/rules/0/country"), ({"vat_bps": 10_001}, "/rules/0/vat_bps"),
        ({"vat_bps": 19.5}, "/rules/0/vat_bps"), ({"odd": 1}, "/rules/0/odd"),
    ):  # fmt: skip
        wrong = world.call("finance_maker", "POST", "/tax-rules", {"rules": [rule | change]})
        assert [one["pointer"] for one in wrong.json["errors"]] == [pointer], wrong.text

    earn(world, "GBP", {"uk": 1000, "fr": 7000})
    made = run_by_hand(world)
    assert (made["uk"]["vat_amount"], made["uk"]["withholding_amount"]) == (200, 50)
    assert made["uk"]["transfer_amount"] == 1150
    left_out = world.call("auditor", "GET", f"/payout-runs/{made['uk']['run_id']}/left-out").json["items"]
    assert left_out == [{"affiliate_id": "fr", "amount": 7000, "reason": "no_tax_profile"}]


# --- receivables and restores --------------------------------------------------------------------------------


def adjust(world: World, key: str, affiliate_id: str, amount: int, currency: str = "GBP") -> None:
    body = {"affiliate_id": affiliate_id, "kind": "correction", "amount": amount, "currency": currency, "reason": "x"}
    headers = {"Idempotency-Key": key}
    assert world.call("finance_maker", "POST", "/adjustments", body, headers=headers).status_code == 201
    assert world.call("finance_checker", "POST", f"/adjustments/{key}/approve").status_code == 200


def test_receivables_age_from_their_last_fall_below_zero(world: World) -> None:
    """A debt counts from the line that took the balance below zero last, however it went before and after."""
    start = world.now
    adjust(world, "a1", "uk", -500)  # owes, and is even again on day 10
    world.now = start + timedelta(days=10)
    adjust(world, "a2", "uk", 500)
    world.now = start + timedelta(days=20)
    adjust(world, "a3", "uk", -300)  # owes from day 20 on
    adjust(world, "e1", "uk", 250, "EUR")
    world.now = start + timedelta(days=50)
    adjust(world, "a4", "uk", -100)
    adjust(world, "a5", "uk", 50)  # less, but still below zero
    adjust(world, "f1", "fr", -70)
    adjust(world, "f2", "fr", -1, "EUR")
    adjust(world, "f3", "fr", -10, "USD")
    adjust(world, "f4", "fr", 10, "USD")  # even
    world.now = start + timedelta(days=81, hours=1)
    found = world.call("auditor", "GET", "/receivables").json
    assert [(one["affiliate_id"], one["currency"], one["amount"], one["age_days"], one["age"]) for one in
            found["items"]] == [("fr", "EUR", 1, 31, "31-60"), ("fr", "GBP", 70, 31, "31-60"),
                                ("uk", "GBP", 350, 61, "61-90")]  # fmt: skip
    assert found["items"][2]["since"] == "2026-06-21T00:00:00Z"
    assert found["ageing"] == [
        {"currency": "EUR", "age": "31-60", "receivable_count": 1, "amount": 1},
        {"currency": "GBP", "age": "31-60", "receivable_count": 1, "amount": 70},
        {"currency": "GBP", "age": "61-90", "receivable_count": 1, "amount": 350},
    ]
    first = world.call("auditor", "GET", "/receivables?limit=2").json
    rest = world.call("auditor", "GET", f"/receivables?limit=2&after={first['next']}").json
    assert first["items"] + rest["items"] == found["items"]
    assert (rest["next"], rest["ageing"]) == (None, found["ageing"])
    world.now = start + timedelta(days=200)
    assert {one["age"] for one in world.call("auditor", "GET", "/receivables").json["items"]} == {">90"}


def test_restored_books_pay_nobody_until_the_bank_is_matched(world: World) -> None:
    """After a restore runs are neither initiated nor rendered nor handed out, until a person says that they match."""
    assert world.call("auditor", "GET", "/restores").json == {"payouts": "allowed", "position": 0}
    earn(world, "GBP", {"uk": 5000, "fr": 7000})
    made = run_by_hand(world)
    path = f"/payout-runs/{made['uk']['run_id']}"
    (facts,) = world.call("auditor", "GET", path).json["files"]
    restored = RecordRestore(position=world.books_position(), backup_created_at=world.now)
    world.ledger.execute(world.program, restored, OPERATOR)
    assert world.call("auditor", "GET", "/restores").json["payouts"] == "blocked"
    for method, rest in (("POST", "/render"), ("GET", f"/files/{facts['name']}")):
        blocked = world.call("finance_maker", method, path + rest)
        assert (blocked.status_code, blocked.json["code"]) == (409, "wrong_state")
    confirm = "/restores/confirm-bank-match"
    assert world.call("finance_checker", "POST", confirm, {"reason": " "}).json["errors"][0]["pointer"] == "/reason"
    done = world.call("finance_checker", "POST", confirm, {"reason": "compared with May's statement"})
    assert (done.status_code, done.json["payouts"]) == (200, "allowed")
    seen = world.call("auditor", "GET", "/restores").json
    assert (seen["payouts"], seen["reason"]) == ("allowed", "compared with May's statement")
    assert seen["confirmed_by"] == "finance_checker-holder"
    assert world.call("finance_maker", "GET", f"{path}/files/{facts['name']}").status_code == 200
