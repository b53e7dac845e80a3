"""Paying affiliates over HTTP: where, who, how much, what the bank said of it, and what is owed the other way."""

from __future__ import annotations

from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import fake_bank
from api_payout_world import IBANS, OURS, app, earn, pay_to, payouts_of, run_by_hand, same_person, sepa, world
from api_world import OPERATOR, World
from fake_bank import Booked

from ledger.domain.breaks import ResolveBreak
from ledger.payouts import files

__all__ = ["app", "world"]  # the fixtures

AMOUNTS = {"uk": 10_000, "fr": 20_000, "de": 30_000, "nl": 40_000, "es": 50_000}  # commissions, EUR cents


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
