"""Over HTTP: where payees are paid and how they are taxed, what they owe, and books that were restored."""

from __future__ import annotations

from datetime import timedelta

from api_payout_world import IBANS, OURS, app, earn, method_path, pay_to, run_by_hand, same_person, sepa, world
from api_world import OPERATOR, World

from ledger.domain.restore import RecordRestore

__all__ = ["app", "world"]  # the fixtures


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
