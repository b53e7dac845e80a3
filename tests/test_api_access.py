"""Who may do what: every role × operation answers as the table says, and an affiliate key reads nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import World, make_world, open_service
from conftest import fresh_database
from flask import Flask
from proof_world import KEYS
from werkzeug.test import TestResponse

from api import access
from ledger.audit import sealing
from ledger.domain.access import ROLES
from ledger.store.database import urls
from ledger.store.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent
PATH_VALUES = {
    "terms_version": "7", "exception_id": "conversion:nobody", "order_id": "uk-order", "currency": "GBP",
    "method_version": "7", "rules_version": "7",
}  # fmt: skip
PATH_VALUES |= {"log": "books", "size": "7", "level": "0", "tile": "000"}
PATH_VALUES |= {"period": "2026-01", "year": "2026"}


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, template: str) -> Iterator[Flask]:
    with fresh_database(server, template) as name, open_service(urls(server, name)) as made:
        yield made


@pytest.fixture(scope="module")
def world(app: Flask) -> World:
    made = make_world(app)
    made.sell("uk-order")
    made.call("finance_maker", "POST", "/periods/2026-01/close")
    books = app.extensions["ledger"]
    sealing.seal(books, made.program, "books", KEYS.signers(made.program, "books"), books.clock())
    return made


def operations(app: Flask) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(operation id, method, path behind the program, its document) of everything in the OpenAPI document, but for the
    plans' schema, which is of no program."""
    document: Any = app.test_client().get("/openapi.json").json
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post", "put", "patch", "delete") and path.startswith("/v1"):
                behind = path.removeprefix("/v1/programs/{program}")
                found.append((operation["operationId"], method.upper(), behind, operation))
    return found


def fill(path: str, affiliate_id: str) -> str:
    """The path with an affiliate, and with ids of nothing for the rest."""
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    for name in names:
        path = path.replace(f"{{{name}}}", affiliate_id if name == "affiliate_id" else PATH_VALUES.get(name, "nobody"))
    return path


def same_but_for_the_request(a: TestResponse, b: TestResponse) -> bool:
    """Equal to the byte, except for the request id."""

    def seen(r: TestResponse) -> tuple[object, ...]:
        headers = {k: v for k, v in r.headers if k not in ("X-Request-Id", "Date")}
        return r.status_code, r.data.replace(r.headers["X-Request-Id"].encode(), b""), headers

    return seen(a) == seen(b)


def test_the_table_and_the_document_name_the_same_operations(app: Flask) -> None:
    """Nothing is served that is not in the table, and the roles in the document are the table's."""
    documented = {name: set(document["x-roles"]) for name, _, _, document in operations(app)}
    table = {name: set(roles) for name, roles in access.ACCESS.items()}
    assert documented == table | {name: set() for name in access.PUBLIC}


def test_every_route_of_a_program_is_an_operation(app: Flask) -> None:
    """A view that was forgotten in the document would be tried by no test: there is none."""
    served = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if rule.rule.startswith("/v1") and method not in ("HEAD", "OPTIONS")
    }
    assert len(served) == len(operations(app))


def test_every_role_by_every_operation(world: World) -> None:
    """A role that the table does not name gets 403; one that it names gets anything else."""
    wrong = []
    for name, method, path, document in operations(world.app):
        if name in access.PUBLIC:
            continue
        for role in ROLES:
            own = "uk" if role == "affiliate" else "nobody"
            body: dict[str, Any] | None = {} if "requestBody" in document else None
            status = world.call(role, method, fill(path, own), body).status_code
            if (status == 403) != (not access.may(role, name)) or status in (401, 405) or status >= 500:
                wrong.append((name, role, status))
    assert wrong == []


def test_without_a_key_nothing_opens(world: World) -> None:
    """Every operation that needs a key answers 401 without one, alike for what exists and what does not."""
    for name, method, path, _ in operations(world.app):
        if name not in access.PUBLIC:
            known = world.call("", method, fill(path, "uk"))
            assert (known.status_code, known.json["code"]) == (401, "unauthorized"), name
            assert "Bearer" in known.headers["WWW-Authenticate"]
            assert same_but_for_the_request(known, world.call("", method, fill(path, "nobody")))
            assert same_but_for_the_request(known, world.call("", method, fill(path, "uk"), program="nowhere"))


def test_an_affiliate_key_reads_nobody_else(world: World) -> None:
    """For every operation, another affiliate answers exactly as one that does not exist; its own is there to read."""
    world.sell("uk-order")
    profile = {"country": "GB", "tax_status": "business", "tax_number": "123456789"}
    assert world.call("finance_maker", "PUT", "/affiliates/uk/tax-profile", profile).status_code == 201
    world.sell("secret-order", affiliate_id="fr")
    secret = world.call("affiliate", "GET", "/affiliates/uk/conversions/secret-order")
    assert same_but_for_the_request(secret, world.call("affiliate", "GET", "/affiliates/uk/conversions/none"))
    allowed = 0
    for name, method, path, document in operations(world.app):
        if name in access.PUBLIC or name in access.OF_THE_PROGRAM:
            continue
        body: dict[str, Any] | None = {} if "requestBody" in document else None
        foreign = world.call("affiliate", method, fill(path, "fr"), body)
        missing = world.call("affiliate", method, fill(path, "nobody"), body)
        assert foreign.status_code == (404 if access.may("affiliate", name) else 403), name
        assert same_but_for_the_request(foreign, missing), name
        if access.may("affiliate", name):
            allowed += 1
            own = world.call("affiliate", method, fill(path, "uk"), body).status_code
            # a write gets past the door, to be told that its body is empty or its record unknown
            assert own in ((200,) if method == "GET" else (404, 422)), name
    of_affiliates = [name for name, roles in access.ACCESS.items() if "affiliate" in roles]
    assert allowed == len(of_affiliates) - len(access.OF_THE_PROGRAM)
    assert set(of_affiliates) >= access.OF_THE_PROGRAM


def test_what_an_affiliate_reads_of_the_program_names_no_affiliate(world: World) -> None:
    """Of the sealed logs it gets hashes, signatures and sizes, as everybody else does: nothing that was recorded."""
    for name, method, path, _ in operations(world.app):
        if name in access.OF_THE_PROGRAM:
            assert (method, path.partition("/{log}/")[0], "affiliate_id" in path) == ("GET", "/log", False), name


def test_personal_fields_are_shown_to_few(world: World) -> None:
    """An affiliate's e-mail is shown to admin and the affiliate itself, to no other role."""
    for role in ROLES:
        if access.may(role, "getAffiliate"):
            shown = "uk@example.org" in world.call(role, "GET", "/affiliates/uk").text
            assert shown == (role in ("admin", "affiliate")), role


def test_a_key_opens_one_program_only(world: World) -> None:
    """Another program's key answers as a made-up one does."""
    other = make_world(world.app)
    foreign = world.call("", "GET", "/affiliates/uk/balance", token=other.tokens["auditor"])
    made_up = world.call("", "GET", "/affiliates/uk/balance", token=f"clk_{'0' * 16}_{'x' * 43}")
    assert foreign.status_code == 401
    assert same_but_for_the_request(foreign, made_up)


def test_the_page_about_access_is_up_to_date() -> None:
    """docs/access.md is the table (write it anew with `python -m api.access`)."""
    assert (ROOT / "docs" / "access.md").read_text() == access.as_markdown()
