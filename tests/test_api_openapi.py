"""The OpenAPI document: valid, complete, in agreement with what is decoded, and shown without anybody's help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from api_world import make_world, open_service, sale
from conftest import fresh_database
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import validate

from api import body
from api.errors import Problem
from api.inputs import ConversionInput
from ledger.domain.errors import InvalidInput
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    found: Any = app.test_client().get("/openapi.json").json
    assert isinstance(found, dict)
    return found


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    """It is what it says it is."""
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_errors_are_documented_as_problems(document: dict[str, Any]) -> None:
    """Every error response of every operation is a problem document."""
    for methods in document["paths"].values():
        for operation in methods.values():
            if not isinstance(operation, dict):
                continue
            for status, response in operation["responses"].items():
                if status == "default" or int(status) >= 400:
                    name = response["$ref"].rpartition("/")[2]
                    assert list(document["components"]["responses"][name]["content"]) == ["application/problem+json"]


def test_the_page_loads_nothing_from_elsewhere(app: Flask) -> None:
    """/docs and everything that it loads is served by us."""
    client = app.test_client()
    page = client.get("/docs/")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded
    for address in loaded:
        assert "//" not in address.replace("/docs/", "", 1), address
        path = address if address.startswith("/") else f"/docs/{address.removeprefix('./')}"
        assert client.get(path).status_code == 200, path
    assert "/openapi.json" in page.text


# --- what is decoded is what is documented ---------------------------------------------------------------

_NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.just([])
)
_IDS = st.one_of(st.text(max_size=3), st.sampled_from(["a", "ü", "x" * 128, "x" * 129, "a@b", "bad\nid"]))
_FIELDS: dict[str, Any] = {
    "order_id": _IDS,
    "offer_id": st.sampled_from(["spring", "no spaces", "", "x" * 64, "x" * 65]),
    "amount": st.sampled_from([0, 1, 10**13, 10**13 + 1, -1]),
    "occurred_at": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00+02:00"]),
    "currency": st.sampled_from(["GBP", "gbp", "EURO", None]),
    "customer_id": _IDS,
    "affiliate_id": st.sampled_from(["uk", "u k", None]),
    "items": st.sampled_from([[], [{"sku": "a"}], [{"sku": ""}], [{"sku": "a", "quantity": 1, "odd": 1}], None]),
    "odd": st.just(1),
}


def _accepts_schema(document: dict[str, Any], value: Any) -> bool:
    schema = {"$ref": "#/components/schemas/ConversionInput", "components": document["components"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def _accepts_decoder(value: Any) -> bool:
    try:
        body.StrictDecoder(ConversionInput)(msgspec.json.encode(value))
    except InvalidInput:
        return True  # what a schema cannot say: printable characters, real currencies
    except Problem:
        return False
    return True


@given(st.data())
def test_the_decoder_and_the_documented_schema_agree(document: dict[str, Any], data: st.DataObject) -> None:
    """Whatever fields a sale has, the struct that decodes it and its documented schema take or refuse it alike."""
    value = sale() | data.draw(st.fixed_dictionaries({}, optional=_FIELDS))
    if data.draw(st.booleans()):
        value[data.draw(st.sampled_from(sorted(value)))] = data.draw(_NASTY)
    if data.draw(st.booleans()):
        del value[data.draw(st.sampled_from(sorted(value)))]
    occurred_at = value.get("occurred_at")
    if isinstance(occurred_at, str) and len(occurred_at) < 20:
        return  # 'format' is an annotation, not a promise, to JSON Schema
    assert _accepts_schema(document, value) == _accepts_decoder(value), value


def test_answers_are_as_documented(app: Flask, document: dict[str, Any]) -> None:
    """A sale's answer, its story and the books validate against the documented schemas."""
    world = make_world(app)
    world.sell()
    world.now = datetime(2026, 7, 1, tzinfo=UTC)

    def check(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)

    check("ConversionAnswer", world.sell("A-2").json)
    check("ConversionDocument", world.call("auditor", "GET", "/conversions/A-1").json)
    check("Entries", world.call("auditor", "GET", "/affiliates/uk/entries").json)
    check("TrialBalance", world.call("auditor", "GET", "/trial-balance").json)
    check("Keys", world.call("auditor", "GET", "/keys").json)
    check("Offers", world.call("auditor", "GET", "/offers").json)
    check("Events", world.call("auditor", "GET", "/events").json)
    check("Problem", world.call("auditor", "GET", "/nothing").json)
