"""Bad input: 4xx with a pointer to what is wrong, never 5xx, and nothing stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_world import SOLD_AT, World, make_world, open_service, sale
from conftest import fresh_database
from flask import Flask, json

from api import body
from api.errors import Problem
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture(scope="module")
def world(app: Flask) -> World:
    return make_world(app)


# From RFC 8259, by section: what is not JSON, and (sections 4, 6, 8, 9) what it lets readers differ about, which we
# therefore refuse.
NOT_JSON: list[bytes] = [
    # 2: grammar
    b"", b" ", b"\n", b"{", b"}", b"[", b"]", b"{]", b"[}", b'{"a"}', b'{"a":}', b'{"a" 1}', b"{:1}", b"{1:1}",
    b"{a:1}",
    b"{'a':1}", b'{"a":1,}', b'{,"a":1}', b'{"a":1,,"b":2}', b'{"a":1 "b":2}', b'{"a":1}}', b'{"a":1}{"b":2}',
    b"[1,]", b"[,1]", b"[1 2]", b"[1,,2]", b"[", b"[1", b"[1,", b"[[]", b"{} {}", b"{}x", b"x{}", b'{"a":/**/1}',
    b'// c\n{"a":1}', b'{"a":1}#', b"{\x00}", b"\x00", b"\x0b{}", b"\x0c{}", b"\xc2\xa0{}", b"{\xe2\x80\xa8}",
    b"{\x85}",
    # 3: values
    b"True", b"TRUE", b"nul", b"nulll", b"undefined", b"None", b"tru", b"False", b'{"a":True}', b'{"a":undefined}',
    # 4: objects with a name twice
    b'{"a":1,"a":2}', b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'[{"a":1,"a":2}]', b'{"a":1,"\\u0061":2}',
    b'{"a" :1,"a":2}', b'{"a"\t:1, "b":2, "a"\n: 3}', b'{"":1,"":2}', b'{"a\\"":1,"a\\"":2}',
    # 6: numbers
    b"NaN", b"Infinity", b"-Infinity", b"+1", b"-", b"--1", b"01", b"-01", b"1.", b".1", b"-.1", b"1.e1", b"1e", b"1e+",
    b"1e+-1", b"0x1", b"1_000", b"1,000", b"1e400", b"-1e400", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":Infinity}',
    b"\xef\xbc\x91", b"9" * 5000, b"-" + b"9" * 5000,
    # 7: strings
    b'"', b'"a', b"'a'", b'"\n"', b'"\t"', b'"\x00"', b'"\x1f"', b'"\\"', b'"\\x41"', b'"\\a"', b'"\\u"', b'"\\u12"',
    b'"\\u12G4"', b'"\\U0041"', b'"\\\x00"', b'{"a":"\n"}',
    # 8.1: encoding
    b'\xef\xbb\xbf{}', b'"\xff"', b'"\xc0\x80"', b'"\xe2\x82"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
    b'\xfe\xff\x00{\x00}',
    b"{\x00}\x00", b'{"a":"\xe9"}', b'"\xc3"',
    # 8.2: unpaired surrogates
    b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\ud800"', b'"\\ud800x"', b'"\\udc00\\ud800"', b'{"\\ud800":1}',
    b'["\\uD83D"]',
    # 9: nesting
    b"[" * 33 + b"]" * 33, b'{"a":' * 33 + b"1" + b"}" * 33, b"[" * 30_000 + b"]" * 30_000, b"[" * 60_000,
    b'{"a":' * 12_000,
]  # fmt: skip
JSON: list[bytes] = [
    b"{}", b" {} ", b"\t\r\n{}\n", b"[]", b"null", b"true", b"false", b"0", b"-0", b"1", b"1.5", b"1e2",
    b"1E-2", b"-1.5e+3",
    b'""', b'"a"', b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\xf0\x9f\x98\x80"', b'"\x7f"',
    b'"\xe2\x80\xa8"', b'"\\u0000"', b'{"a":1,"b":{"a":1}}', b'[{"a":1},{"a":1}]', b'{"a":":"}', b'{"a":"\\":","b":1}',
    b'{"a" : 1, "b"\t:\n2}', b'{"":1}', b'{"a\\u0000b":1}', b"[" * 32 + b"]" * 32, b'["' + b"[" * 100 + b'"]',
    b"123456789012345678",
]  # fmt: skip


def test_strict_decoding_refuses_what_readers_could_differ_about() -> None:
    """Every document that RFC 8259 forbids, or lets readers differ about, is refused; every other one is taken."""
    for raw in NOT_JSON:
        with pytest.raises(Problem) as refused:
            body.decode(raw)
        assert refused.value.status == 400, raw[:60]
    for raw in JSON:
        assert body.decode(raw) == json.loads(raw), raw


@pytest.mark.parametrize("path", ["/conversions", "/clicks", "/conversions/A-1/reversals"])
def test_no_bad_document_is_stored_or_breaks_anything(world: World, path: str) -> None:
    """Sent to a hot or an ordinary endpoint, each is a 4xx problem, and the books do not move."""
    before = world.books_position()
    for raw in NOT_JSON:
        if raw:
            answer = world.call("ingest", "POST", path, data=raw, content_type="application/json")
            assert answer.status_code == 400, (raw[:60], answer.text)
            assert answer.json["code"] == "malformed_json"
    for raw in JSON:
        answer = world.call("ingest", "POST", path, data=raw, content_type="application/json")
        assert answer.status_code == 422, (raw[:60], answer.text)
        assert answer.json["errors"], raw
    assert world.books_position() == before


def test_bad_documents_inside_a_well_formed_sale(world: World) -> None:
    """A bad value in one field of a sale that is otherwise fine: 4xx, and no sale."""
    before = world.books_position()
    whole = json.dumps(sale("in-a-sale")).encode()
    for raw in NOT_JSON:
        for old, new in ((b"1970", raw), (b'"uk"', raw)):
            if raw.strip():
                bad = whole.replace(old, new)
                answer = world.call("ingest", "POST", "/conversions", data=bad, content_type="application/json")
                assert 400 <= answer.status_code < 500, (raw[:60], answer.text)
    for extra in (b',"order_id":"other"}', b',"amount":1}', b',"zz":1}', b',"items":[{"sku":"a","sku":"b"}]}'):
        answer = world.call("ingest", "POST", "/conversions", data=whole[:-1] + extra, content_type="application/json")
        assert 400 <= answer.status_code < 500, extra
    assert world.books_position() == before


LONG = "x" * 129
WRONG: list[tuple[str, str, Any, str]] = [
    # (method and path, field, value, pointer)
    ("POST /conversions", "order_id", "", "/order_id"),
    ("POST /conversions", "order_id", LONG, "/order_id"),
    ("POST /conversions", "order_id", "a\nb", "/order_id"),
    ("POST /conversions", "order_id", "a\x00b", "/order_id"),
    ("POST /conversions", "order_id", 5, "/order_id"),
    ("POST /conversions", "offer_id", "no spaces", "/offer_id"),
    ("POST /conversions", "amount", -1, "/amount"),
    ("POST /conversions", "amount", 1.5, "/amount"),
    ("POST /conversions", "amount", 1.0, "/amount"),
    ("POST /conversions", "amount", "1", "/amount"),
    ("POST /conversions", "amount", True, "/amount"),
    ("POST /conversions", "amount", None, "/amount"),
    ("POST /conversions", "amount", 2**63, "/amount"),
    ("POST /conversions", "amount", 10**400, "/amount"),
    ("POST /conversions", "amount", {}, "/amount"),
    ("POST /conversions", "currency", "gbp", "/currency"),
    ("POST /conversions", "currency", "XXZ", "/currency"),
    ("POST /conversions", "occurred_at", "2026-01-01", "/occurred_at"),
    ("POST /conversions", "occurred_at", "2026-01-01T00:00:00", "/occurred_at"),
    ("POST /conversions", "occurred_at", "0001-01-01T00:00:00+14:00", "/occurred_at"),
    ("POST /conversions", "occurred_at", "2026-02-30T00:00:00Z", "/occurred_at"),
    ("POST /conversions", "occurred_at", 1767225600, "/occurred_at"),
    ("POST /conversions", "customer_id", "jane@example.org", "/customer_id"),
    ("POST /conversions", "items", [{"sku": "a"}, {"sku": ""}], "/items/1/sku"),
    ("POST /conversions", "items", [{"sku": "a", "quantity": 10**30}], "/items/0/quantity"),
    ("POST /conversions", "items", [{"sku": "a"}, {"sku": "b", "quantity": -1_000_001}], "/items/1/quantity"),
    ("POST /conversions", "items", [{"sku": "a", "price": 1}], "/items/0/price"),
    ("POST /conversions", "items", [{"sku": "a\u0000b"}], "/items/0/sku"),
    ("POST /conversions", "items", [{"sku": "a", "category": "\u0000"}], "/items/0/category"),
    ("POST /conversions", "items", {"sku": "a"}, "/items"),
    ("POST /conversions", "zz~/", 1, "/zz~0~1"),
    ("POST /conversions/A-1/reversals", "amount", -1, "/amount"),
    ("POST /conversions/A-1/reversals", "amount", 1.9, "/amount"),
    ("POST /conversions/A-1/reversals", "amount", True, "/amount"),
    ("POST /conversions/A-1/reversals", "amount", 2**63, "/amount"),
    ("POST /conversions/A-1/reversals", "reversal_id", LONG, "/reversal_id"),
    ("POST /conversions/A-1/reversals", "reversal_id", "a\tb", "/reversal_id"),
    ("POST /conversions/A-1/reversals", "reason_code", "because", "/reason_code"),
    ("POST /conversions/A-1/reversals", "occurred_at", "2026-01-01 00:00", "/occurred_at"),
    ("POST /conversions/A-1/reversals", "currency", "ABCD", "/currency"),
    ("POST /conversions/A-1/reversals", "zz/", 1, "/zz~1"),
    ("PUT /offers/spring", "landing_url", "javascript:alert(1)", "/landing_url"),
    ("PUT /offers/spring", "landing_url", "https://user@evil.example", "/landing_url"),
    ("PUT /offers/spring", "landing_url", 5, "/landing_url"),
    ("PUT /offers/spring", "offer_name", "x" * 201, "/offer_name"),
    ("PUT /offers/spring", "offer_name", "a\x00", "/offer_name"),
    ("POST /offers/spring/terms", "rate_bps", 100_001, "/rate_bps"),
    ("POST /offers/spring/terms", "rate_bps", 1.5, "/rate_bps"),
    ("POST /offers/spring/terms", "percent", "ten", "/percent"),
    ("POST /offers/spring/terms", "percent", 10, "/percent"),
    ("POST /offers/spring/terms", "percent", "1e9999999", "/percent"),
    ("POST /offers/spring/terms", "percent", "NaN", "/percent"),
    ("POST /offers/spring/terms", "hold_days", -1, "/hold_days"),
    ("POST /offers/spring/terms", "hold_days", True, "/hold_days"),
    ("POST /offers/spring/terms", "effective_from", "now", "/effective_from"),
    ("PUT /coupons/TEN", "affiliate_id", "no spaces", "/affiliate_id"),
    ("PUT /coupons/TEN", "valid_until", "1999-01-01T00:00:00Z", "/valid_until"),
    ("POST /affiliates", "affiliate_id", "a/b", "/affiliate_id"),
    ("POST /affiliates", "email", "x" * 321, "/email"),
    ("POST /affiliates", "email", ["a"], "/email"),
    ("POST /adjustments", "amount", 0, "/amount"),
    ("POST /adjustments", "amount", -5, "/amount"),
    ("POST /adjustments", "amount", 1.5, "/amount"),
    ("POST /adjustments", "reason", "", "/reason"),
    ("POST /adjustments", "reason", "  ", "/reason"),
    ("POST /adjustments", "kind", "gift", "/kind"),
    ("POST /exceptions/conversion:x/resolve", "action", "ignore", "/action"),
    ("POST /exceptions/conversion:x/resolve", "reason", 7, "/reason"),
    ("POST /keys", "role", "root", "/role"),
    ("POST /keys", "expires_at", "never", "/expires_at"),
]  # fmt: skip
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "POST /conversions": ("ingest", sale("wrong")),
    "POST /conversions/A-1/reversals": ("ingest", {"reversal_id": "r", "occurred_at": SOLD_AT}),
    "PUT /offers/spring": ("admin", {"offer_name": "Spring"}),
    "POST /offers/spring/terms": ("admin", {"hold_days": 1, "window_days": 1}),
    "PUT /coupons/TEN": ("admin", {"affiliate_id": "uk", "offer_id": "spring", "valid_from": "2026-01-01T00:00:00Z"}),
    "POST /affiliates": ("admin", {"affiliate_id": "new"}),
    "POST /adjustments": (
        "finance_maker", {"affiliate_id": "uk", "kind": "bonus", "amount": 1, "reason": "because"},
    ),
    "POST /exceptions/conversion:x/resolve": ("finance_maker", {"action": "dismiss", "reason": "no"}),
    "POST /keys": (
        "admin", {"role": "auditor", "holder": "eve", "holder_kind": "person", "expires_at": "2027-01-01T00:00:00Z"},
    ),
}  # fmt: skip


def test_a_wrong_field_is_named(world: World) -> None:
    """Each wrong field of each resource is a 422 whose pointer names it; nothing is stored."""
    before = world.books_position()
    for what, field, value, pointer in WRONG:
        role, good = GOOD[what]
        method, path = what.split(" ", 1)
        headers = {"Idempotency-Key": "k"} if "adjustments" in path else {}
        answer = world.call(role, method, path, good | {field: value}, headers=headers)
        assert answer.status_code == 422, (what, field, value, answer.text)
        assert pointer in [error["pointer"] for error in answer.json["errors"]], (what, field, answer.text)
        assert answer.json["instance"] == answer.headers["X-Request-Id"]
    assert world.books_position() == before


def test_a_missing_field_is_named(world: World) -> None:
    """So is every required field that is not there, and an unknown one."""
    for what, (role, good) in GOOD.items():
        method, path = what.split(" ", 1)
        for field in good:
            answer = world.call(role, method, path, {k: 1 if k == field else v for k, v in good.items()} | {"odd": 1})
            assert answer.status_code == 422, (what, field)
        pointers = [e["pointer"] for e in world.call(role, method, path, good | {"odd": 1}).json["errors"]]
        assert pointers == ["/odd"], what
    assert world.call("ingest", "POST", "/conversions", {}).json["errors"] == [
        {"pointer": "/order_id", "detail": "is required"}
    ]


def test_bodies_over_the_limit(world: World) -> None:
    """64 KiB for JSON, 64 KiB a line, 10,000 lines and 16 MiB for NDJSON: beyond it 413, and nothing stored."""
    before = world.books_position()
    big = json.dumps(sale("big", coupon="x" * 65536)).encode()
    assert world.call("ingest", "POST", "/conversions", data=big, content_type="application/json").status_code == 413
    for path in ("/conversions/A-1/reversals",):
        spaces = b" " * 65537
        assert world.call("ingest", "POST", path, data=spaces, content_type="application/json").status_code == 413
    for lines in (b"{}\n" * 10_002, b" " * (16 * 1024 * 1024 + 1)):
        answer = world.call("ingest", "POST", "/conversions", data=lines, content_type="application/x-ndjson")
        assert (answer.status_code, answer.json["code"]) == (413, "too_large")
    mixed = big + b"\n" + b"{}"
    answer = world.call("ingest", "POST", "/conversions", data=mixed, content_type="application/x-ndjson")
    assert [json.loads(line)["status"] for line in answer.data.splitlines()] == [413, 422]
    assert world.books_position() == before


def test_other_content_types_are_refused(world: World) -> None:
    """What is not JSON by its own word is 415, on hot and ordinary endpoints alike."""
    for path, kind in (("/conversions", "text/plain"), ("/conversions", "application/x-www-form-urlencoded"),
                       ("/conversions", ""), ("/conversions/A/reversals", "text/plain"), ("/clicks",
                       "text/xml")):  # fmt: skip
        answer = world.call("ingest", "POST", path, data=b"{}", content_type=kind)
        assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type"), (path, kind)


def test_methods_and_addresses_that_are_not_there(world: World) -> None:
    """404 and 405 are problems too; 405 says what is allowed."""
    wrong = world.call("ingest", "DELETE", "/conversions")
    assert (wrong.status_code, wrong.json["code"]) == (405, "method_not_allowed")
    assert {m.strip() for m in wrong.headers["Allow"].split(",")} == {"POST", "OPTIONS"}
    assert wrong.content_type == "application/problem+json"
    for path in ("/nothing", "//offers", "/affiliates/no spaces/balance", "/affiliates/" + "x" * 65,
                 "/conversions/" + "x" * 129, "/conversions/%00",
                 "/conversions/a%0Ab", "/conversions/%FF", "/coupons/%00"):  # fmt: skip
        answer = world.call("auditor", "GET", path)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found"), path
        assert answer.content_type == "application/problem+json"
    for version in ("0", "-1", "1e3", "x", "99999999999999999999"):
        answer = world.call("finance_checker", "POST", f"/offers/spring/terms/{version}/approve")
        assert answer.status_code == 404, version


def test_queries_that_are_not_right(world: World) -> None:
    """Limits, cursors, points in time and unknown parameters are refused by name."""
    for path, name in (("/offers?limit=0", "limit"), ("/offers?limit=1001", "limit"), ("/offers?limit=x", "limit"),
                       ("/offers?limit=9" + "9" * 5000, "limit"), ("/offers?after=%00", "after"),
                       ("/offers?after=WyJcdTAwMDAiXQ", "after"), ("/offers?odd=1", "odd"),
                       ("/affiliates?status=odd", "status"),
                       ("/events?after=-1", "after"), ("/events?after=9223372036854775808", "after"),
                       ("/events?log=x", "log"), ("/trial-balance?as_of=-1", "as_of"),
                       ("/trial-balance?as_of=9999999999999999999", "as_of"), ("/trial-balance?effective=1",
                       "effective"),
                       ("/affiliates/uk/balance?as_of=", "as_of"), ("/affiliates/uk/balance?odd=1", "odd"),
                       ("/affiliates/uk/entries?after=WzEsMl0x", "after"), ("/exceptions?type=%00", "type"),
                       ("/exceptions?status=gone", "status"),
                       ("/affiliates/uk/entries?after=Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OSwxXQ", "after")):  # fmt: skip
        answer = world.call("auditor", "GET", path)
        assert answer.status_code == 422, (path, answer.text)
        assert name in [error["parameter"] for error in answer.json["errors"]], path
