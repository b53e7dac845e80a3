"""What each resource does, as its users see it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from api_world import SOLD_AT, World, make_world, open_service, sale
from conftest import fresh_database
from flask import Flask

from ledger.store import log
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture
def world(app: Flask) -> World:
    return make_world(app)


def test_a_sale_becomes_a_balance(world: World) -> None:
    """A sale of 19.70 at 10 % answers with its commission and position, and the affiliate's balance shows it."""
    sold = world.sell()
    assert sold.status_code == 201
    assert sold.json["commission"] == 197
    assert sold.json["matures_at"] == "2026-01-31T12:00:00Z"
    seen = world.call("affiliate", "GET", "/affiliates/uk/balance")
    assert seen.json == {
        "affiliate_id": "uk",
        "position": sold.json["position"],
        "balances": [{"currency": "GBP", "pending": 197, "held": 0, "payable": 0, "in_transit": 0, "paid": 0}],
    }


def test_the_same_sale_again_gets_the_same_answer(world: World) -> None:
    """A retry is 200 with the same body and position; other content is 409 naming what differs."""
    first = world.sell()
    again = world.sell()
    assert (again.status_code, again.json) == (200, first.json)
    other = world.sell(amount=2000)
    assert other.status_code == 409
    assert other.json["code"] == "differs_from_original"
    assert [e["pointer"] for e in other.json["errors"]] == ["/amount"]


def test_items_may_be_sent_again(world: World) -> None:
    """A sale with items is told apart from other items, and recognised when retried."""
    items = [{"sku": "a", "quantity": 2, "amount": 1000}, {"sku": "b", "amount": 970}]
    assert world.sell(items=items).status_code == 201
    assert world.sell(items=items).status_code == 200
    assert world.sell(items=items[:1]).json["errors"][0]["pointer"] == "/items"


def test_a_fact_that_cannot_be_applied_is_kept(world: World) -> None:
    """A sale of an unknown offer is 202, listed as an exception, and applied by a retry once the offer is there."""
    kept = world.sell(offer_id="winter")
    assert kept.status_code == 202
    assert kept.json["type"] == "unknown_offer"
    listed = world.call("finance_maker", "GET", "/exceptions?status=open&type=unknown_offer").json
    assert [one["exception_id"] for one in listed["items"]] == ["conversion:A-1"]
    path = "/exceptions/conversion:A-1"
    assert world.call("auditor", "GET", path).json == listed["items"][0]
    assert listed["items"][0]["position"] == kept.json["position"]
    assert listed["items"][0]["fact"]["offer_id"] == "winter"
    assert world.call("finance_maker", "POST", f"{path}/resolve", {"action": "retry"}).status_code == 409
    assert world.call("admin", "PUT", "/offers/winter", {"offer_name": "Winter"}).status_code == 201
    terms = {"percent": "2.9", "hold_days": 0, "window_days": 7}
    assert world.call("admin", "POST", "/offers/winter/terms", terms).status_code == 201
    assert world.call("finance_maker", "POST", f"{path}/resolve", {"action": "retry"}).status_code == 200
    assert world.call("auditor", "GET", path).json["status"] == "resolved"
    assert world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]["pending"] == 57


def test_many_sales_in_one_request(world: World) -> None:
    """NDJSON answers each line as if it were sent alone; a bad line spoils nothing else."""
    lines = [
        b'{"order_id":"1","offer_id":"spring","amount":1000,"occurred_at":"2026-01-01T12:00:00Z","affiliate_id":"uk"}',
        b'{"order_id":"1","offer_id":"spring","amount":1000,"occurred_at":"2026-01-01T12:00:00Z","affiliate_id":"uk"}',
        b"",
        b'{"order_id":"2","order_id":"3"}',
        b"not json",
        b'{"order_id":"4","offer_id":"nope","amount":1000,"occurred_at":"2026-01-01T12:00:00Z"}',
        b'{"order_id":"1","offer_id":"spring","amount":7,"occurred_at":"2026-01-01T12:00:00Z","affiliate_id":"uk"}',
        b'{"order_id":"5","offer_id":"spring","amount":-7,"occurred_at":"2026-01-01T12:00:00Z"}',
    ]
    answered = world.call("ingest", "POST", "/conversions", data=b"\n".join(lines), content_type="application/x-ndjson")
    assert answered.status_code == 200
    results = [world.app.json.loads(line) for line in answered.data.splitlines()]
    assert [(r["line"], r["status"]) for r in results] == [
        (1, 201), (2, 200), (4, 400), (5, 400), (6, 202), (7, 409), (8, 422),
    ]  # fmt: skip
    assert results[0]["result"] == results[1]["result"]
    assert results[5]["problem"]["errors"] == [{"pointer": "/amount", "detail": "differs from what was recorded"}]
    assert results[6]["problem"]["errors"][0]["pointer"] == "/amount"


def test_a_reversal_takes_back_its_part(world: World) -> None:
    """Half of 19.70 takes back 0.99 of 1.97; a retry is one; the rest goes with a reversal without amount."""
    world.sell()
    half = {"reversal_id": "r1", "amount": 985, "occurred_at": SOLD_AT, "reason_code": "returned"}
    path = "/conversions/A-1/reversals"
    first = world.call("ingest", "POST", path, half)
    assert first.status_code == 201
    again = world.call("ingest", "POST", path, half)
    assert (again.status_code, again.json) == (200, first.json)
    assert world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]["pending"] == 98
    too_much = world.call("ingest", "POST", path, half | {"reversal_id": "r2", "amount": 986})
    assert too_much.status_code == 202
    rest = {"reversal_id": "r3", "occurred_at": SOLD_AT}
    assert world.call("ingest", "POST", path, rest).status_code == 201
    assert world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]["pending"] == 0
    story = world.call("finance_maker", "GET", "/conversions/A-1").json
    assert (story["status"], story["reversed_commission"]) == ("reversed", 197)
    topics = [event["topic"] for event in story["events"]]
    assert topics.count("ReversalRecorded") == 3
    assert "ExceptionRaised" in topics


def test_the_story_explains_the_commission(world: World) -> None:
    """The story has every event with its journal lines, and says in a sentence why the commission is what it is."""
    world.sell(amount=1975)
    hold = world.call("finance_maker", "POST", "/conversions/A-1/hold", {"reason": "looks odd: Jane Doe"})
    assert (hold.status_code, hold.json["status"]) == (200, "held")
    story = world.call("auditor", "GET", "/conversions/A-1").json
    assert [event["topic"] for event in story["events"]] == [
        "ConversionRecorded", "CommissionAccrued", "ConversionHeld",
    ]  # fmt: skip
    accrued = story["events"][1]
    assert accrued["lines"][0]["amount"] == 198
    assert accrued["actor"] == "ingest-holder"
    assert story["explanation"]["sentence"] == (
        "Affiliate uk is credited with the sale of 19.75 GBP as the affiliate that the sale names and earns 1.98 GBP by"
        " version 1 of the terms of offer spring. The terms pay 10 % of 19.75 GBP: 1.975 GBP. Rounded half up, that is"
        " 1.98 GBP."
        " It matures on 2026-01-31 12:00 UTC. On 2026-06-01 00:00 UTC it was held back."
    )
    assert story["explanation"]["steps"] == [{"rule": "affiliate_id", "result": "matched", "affiliate_id": "uk"}]
    assert "Jane" not in str(story)
    assert "reason" not in story["events"][2]["fields"]


def test_a_conversion_moves_between_buckets(world: World) -> None:
    """Hold, release, approve early with a reason, and no way back."""
    world.sell(occurred_at="2026-05-20T12:00:00Z")

    def balance() -> dict[str, int]:
        found: dict[str, int] = world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]
        return found

    world.call("finance_maker", "POST", "/conversions/A-1/hold")
    assert (balance()["held"], balance()["pending"]) == (197, 0)
    world.call("finance_maker", "POST", "/conversions/A-1/release")
    early = world.call("finance_maker", "POST", "/conversions/A-1/approve")
    assert (early.status_code, early.json["errors"][0]["pointer"]) == (422, "/reason")
    approved = world.call("finance_maker", "POST", "/conversions/A-1/approve", {"reason": "trusted"})
    assert approved.json["status"] == "approved"
    assert balance()["payable"] == 197
    rejected = world.call("finance_maker", "POST", "/conversions/A-1/reject")
    assert (rejected.status_code, rejected.json["code"]) == (409, "wrong_state")
    entries = world.call("affiliate", "GET", "/affiliates/uk/entries").json["items"]
    assert [entry["changes"] for entry in entries] == [
        {"pending": 197}, {"pending": -197, "held": 197}, {"held": -197, "pending": 197},
        {"pending": -197, "payable": 197},
    ]  # fmt: skip


def test_an_adjustment_needs_two_people(world: World) -> None:
    """An adjustment needs an Idempotency-Key, and a second person; the proposer's own checker key does not help."""
    body = {"affiliate_id": "uk", "kind": "bonus", "amount": 500, "reason": "thank you, Jane"}
    missing = world.call("finance_maker", "POST", "/adjustments", body)
    assert (missing.status_code, missing.json["code"]) == (400, "idempotency_key_required")
    headers = {"Idempotency-Key": "thanks/1"}
    proposed = world.call("finance_maker", "POST", "/adjustments", body, headers=headers)
    assert (proposed.status_code, proposed.json["status"]) == (201, "proposed")
    assert world.call("finance_maker", "POST", "/adjustments", body, headers=headers).status_code == 200
    other = world.call("finance_maker", "POST", "/adjustments", body | {"amount": 501}, headers=headers)
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reused")
    both_hats = world.issue("finance_checker", "finance_maker-holder")
    same = world.call("", "POST", "/adjustments/thanks%2F1/approve", token=both_hats)
    assert (same.status_code, same.json["code"]) == (403, "same_person")
    assert world.call("finance_checker", "POST", "/adjustments/thanks%2F1/approve").json["status"] == "posted"
    seen = world.call("auditor", "GET", "/adjustments/thanks%2F1").json
    assert (seen["status"], seen["reason"], seen["proposed_by"]) == (
        "posted",
        "thank you, Jane",
        "finance_maker-holder",
    )
    assert (seen["decided_by"], bool(seen["decided_at"])) == ("finance_checker-holder", True)
    assert world.call("auditor", "GET", "/adjustments?status=posted").json["items"] == [seen]
    assert world.call("affiliate", "GET", "/affiliates/uk/balance").json["balances"][0]["payable"] == 500


def test_terms_that_reach_back_need_two_people(world: World) -> None:
    """Later terms that reach back wait for a checker; until then the old ones are in force."""
    body = {"rate_bps": 2000, "hold_days": 30, "window_days": 30, "effective_from": "2025-12-01T00:00:00Z"}
    proposed = world.call("admin", "POST", "/offers/spring/terms", body)
    assert proposed.json["status"] == "waiting"
    assert world.sell("A-1").json["commission"] == 197
    decided = world.call("finance_checker", "POST", "/offers/spring/terms/2/approve")
    assert (decided.status_code, decided.json["status"]) == (200, "in_force")
    assert world.sell("A-2").json["commission"] == 394
    offer = world.call("auditor", "GET", "/offers/spring").json
    assert [(t["terms_version"], t["rate_bps"], t["status"]) for t in offer["terms"]] == [
        (1, 1000, "superseded"), (2, 2000, "in_force"),
    ]  # fmt: skip
    # the first version took one person, the second two
    assert [(t["proposed_by"], t["decided_by"], bool(t["decided_at"])) for t in offer["terms"]] == [
        (None, None, False), ("admin-holder", "finance_checker-holder", True),
    ]  # fmt: skip
    listed = world.call("auditor", "GET", "/offers").json["items"][0]["terms"]
    assert [one | {"plan": None} for one in listed] == offer["terms"]
    (decision,) = world.call("auditor", "GET", "/decisions").json["items"]
    assert {name: decision[name] for name in ("kind", "record_id", "version", "decision", "same_person")} == {
        "kind": "terms", "record_id": "spring", "version": 2, "decision": "approved", "same_person": False,
    }  # fmt: skip
    assert (decision["position"], decision["decided_by"]) == (decided.json["position"], "finance_checker-holder")
    assert (decision["proposed_position"], decision["proposed_by"]) == (proposed.json["position"], "admin-holder")
    assert world.call("finance_checker", "POST", "/offers/spring/terms/3/reject").status_code == 404


def test_an_affiliate_from_application_to_closing(world: World) -> None:
    """Enrol, approve, suspend (holds), reinstate (releases), close (exception); lists by status."""
    enrolment = {"affiliate_id": "de", "display_name": "Erika", "email": "e@example.org"}
    assert world.call("admin", "POST", "/affiliates", enrolment).status_code == 201
    assert world.call("admin", "POST", "/affiliates", enrolment).status_code == 200
    assert world.call("admin", "POST", "/affiliates", enrolment | {"email": "x@y"}).status_code == 409
    listed = world.call("auditor", "GET", "/affiliates?status=applied").json["items"]
    assert [one["affiliate_id"] for one in listed] == ["de"]
    for decision, status in (("approve", "approved"), ("suspend", "suspended")):
        decided = world.call("admin", "POST", f"/affiliates/de/{decision}", {})
        assert (decided.status_code, decided.json["status"]) == (200, status)
    assert world.sell(affiliate_id="de").json["status"] == "held"
    assert world.call("admin", "POST", "/affiliates/de/reinstate").json["status"] == "approved"
    assert world.call("auditor", "GET", "/conversions/A-1").json["status"] == "pending"
    assert world.call("admin", "POST", "/affiliates/de/close", {"reason": "gone"}).json["status"] == "closed"
    assert world.sell("A-2", affiliate_id="de").json["type"] == "affiliate_closed"
    assert world.call("admin", "GET", "/affiliates/de").json["display_name"] == "Erika"
    assert "Erika" not in world.call("auditor", "GET", "/affiliates/de").text


def test_a_coupon_credits_its_affiliate(world: World) -> None:
    """A coupon with a nasty code credits its affiliate; the list and the record show its assignments."""
    body = {"affiliate_id": "fr", "offer_id": "spring", "valid_until": "2026-02-01T00:00:00Z"}
    put = world.call("admin", "PUT", "/coupons/10%25%2Foff%20%C3%A9t%C3%A9", body)
    assert (put.status_code, put.json["coupon"]) == (201, "10%/off été")
    assert world.call("admin", "PUT", "/coupons/10%25%2Foff%20%C3%A9t%C3%A9", body).status_code == 200
    sold = world.call("ingest", "POST", "/conversions", sale(coupon="10%/off été", affiliate_id=None))
    assert sold.json["affiliate_id"] == "fr"
    seen = world.call("auditor", "GET", "/coupons/10%25%2Foff%20%C3%A9t%C3%A9").json
    assert seen["assignments"][0]["affiliate_id"] == "fr"
    assert world.call("auditor", "GET", "/coupons").json == {"items": [seen], "next": None}


NASTY = [
    "a/b",
    "/a",
    "a/",
    "a//b",
    "x/hold",
    "hold",
    "../../etc/passwd",
    "ü/é 'quoted' \"x\"",
    "%2F",
    "a?b#c",
    "日本語/注文",
    "-",
    "🧾",
]


def test_ids_may_hold_any_printable_character(world: World) -> None:
    """An order whose id holds slashes, quotes or other scripts is found, held and reversed under its encoded id."""
    for order_id in NASTY:
        _live_through(world, order_id)


def _live_through(world: World, order_id: str) -> None:
    assert world.sell(order_id).json["order_id"] == order_id
    path = f"/conversions/{quote(order_id, safe='')}"
    assert world.call("auditor", "GET", path).json["order_id"] == order_id
    assert world.call("finance_maker", "POST", f"{path}/hold").json["order_id"] == order_id
    back = world.call("ingest", "POST", f"{path}/reversals", {"reversal_id": order_id, "occurred_at": SOLD_AT})
    assert (back.status_code, back.json["order_id"]) == (201, order_id)


def test_balances_as_of_a_point_in_time(world: World) -> None:
    """As of a position or a recorded instant; before an effective instant; beyond the end is the end."""
    first = world.sell("A-1", 1000).json["position"]
    seen_at = world.now.isoformat().replace("+00:00", "Z")
    world.now = world.now.replace(day=2)
    last = world.sell("A-2", 2000, occurred_at="2026-03-01T00:00:00Z").json["position"]

    def balance(query: str) -> tuple[int, int]:
        found = world.call("affiliate", "GET", f"/affiliates/uk/balance?{query}").json
        return found["position"], found["balances"][0]["pending"] if found["balances"] else 0

    assert balance(f"as_of={first}") == (first, 100)
    assert balance(f"as_of={seen_at}") == (first, 100)
    assert balance(f"as_of={10**18 - 1}") == (last, 300)
    assert balance("as_of=0") == (0, 0)
    assert balance("effective=2026-02-01T00:00:00Z") == (last, 100)
    assert balance("as_of=0&effective=2026-02-01T00:00:00Z") == (0, 0)
    trial = world.call("auditor", "GET", f"/trial-balance?as_of={first}").json
    assert trial["totals"] == {"GBP": 0}
    assert {one["account"]: one["amount"] for one in trial["accounts"]} == {
        "expense:commission": 100, "liability:uk:pending": -100,
    }  # fmt: skip
    bad = world.call("auditor", "GET", "/trial-balance?as_of=yesterday&effective=2026-01-01T00:00:00")
    assert sorted(e["parameter"] for e in bad.json["errors"]) == ["as_of", "effective"]


def test_pages_lose_and_repeat_nothing(world: World) -> None:
    """Following next from page to page shows every entry once, in order; a made-up cursor is 422."""
    for n in range(5):
        world.sell(f"A-{n}")
    whole = world.call("affiliate", "GET", "/affiliates/uk/entries").json["items"]
    seen, after = [], ""
    while True:
        page = world.call("affiliate", "GET", f"/affiliates/uk/entries?limit=2&after={after}").json
        seen += page["items"]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == whole
    assert len(seen) == 5
    for cursor in ("x", "WzFd", "!!!", "a" * 3000):
        bad = world.call("affiliate", "GET", f"/affiliates/uk/entries?after={cursor}")
        assert (bad.status_code, bad.json["errors"][0]["parameter"]) == (422, "after")


def test_what_has_not_changed_is_not_sent_again(world: World) -> None:
    """A GET with the ETag it gave answers 304 until something changes."""
    world.sell()
    first = world.call("affiliate", "GET", "/affiliates/uk/balance")
    headers = {"If-None-Match": first.headers["ETag"]}
    same = world.call("affiliate", "GET", "/affiliates/uk/balance", headers=headers)
    assert (same.status_code, same.data) == (304, b"")
    world.sell("A-2")
    assert world.call("affiliate", "GET", "/affiliates/uk/balance", headers=headers).status_code == 200


def test_auditors_read_the_log_itself(world: World) -> None:
    """Pages hold export lines as objects; the stream holds them byte for byte, whole or from a position."""
    world.sell()
    page = world.call("auditor", "GET", "/events?limit=2").json
    assert [item["position"] for item in page["items"]] == [1, 2]
    assert page["next"] == "2"
    stream = world.call("auditor", "GET", "/events?after=2", headers={"Accept": "application/x-ndjson"})
    assert stream.content_type == "application/x-ndjson"
    with world.ledger.reading(world.program) as (cur, program_id):
        rows = log.select_rows(cur, program_id, "books", 2, 1000)
        assert stream.data.splitlines() == [log.stored_line(program_id, "books", row) for row in rows]
    two = world.call("auditor", "GET", "/events?limit=2", headers={"Accept": "application/x-ndjson"})
    assert len(two.data.splitlines()) == 2
    assert world.call("auditor", "GET", "/events?log=traffic").json == {"items": [], "next": None}
    assert world.call("auditor", "GET", "/events?log=secrets").status_code == 422


def test_operators_see_that_it_is_up_and_its_figures(world: World) -> None:
    """Health, readiness, and gauges of log positions, open exceptions and what waits."""
    world.sell("A-1")
    world.sell("A-2", offer_id="nope")
    assert world.client.get("/healthz").json == {"status": "ok"}
    assert world.client.get("/").location == "/docs/", "who opens the bare address is led to the documentation"
    assert world.client.get("/readyz").json == {"status": "ready"}
    text = world.client.get("/metrics").text
    assert f'ledger_log_position{{log="books",program="{world.program}"}} {world.books_position()}.0' in text
    assert f'ledger_exceptions_open{{program="{world.program}",type="unknown_offer"}} 1.0' in text
    assert f'ledger_conversions{{program="{world.program}",status="pending"}} 1.0' in text
    assert 'ledger_requests_total{operation="conversions.record_conversions",status="202"}' in text


def test_an_affiliate_sees_why_it_is_credited(world: World) -> None:
    """The affiliate reads the explanation and what moved its account, but not who in the program did it."""
    world.sell("mine")
    world.call("finance_maker", "POST", "/conversions/mine/hold", {"reason": "a closer look"})
    seen = world.call("affiliate", "GET", "/affiliates/uk/conversions/mine")
    assert seen.status_code == 200
    assert seen.json["explanation"]["sentence"].startswith("Affiliate uk is credited with the sale of 19.70 GBP")
    assert [change["topic"] for change in seen.json["changes"]] == ["CommissionAccrued", "ConversionHeld"]
    assert "finance_maker-holder" not in seen.text
    assert "a closer look" not in seen.text
