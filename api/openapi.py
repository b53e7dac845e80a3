"""The OpenAPI document and its page: made from the code, served by us, nothing loaded from elsewhere."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response
from flask_smorest import Api
from flask_swagger_ui import get_swaggerui_blueprint

from api import documents, paths
from api.body import NDJSON
from api.errors import PROBLEM_TYPE

JSON = "application/json"
_REF = "#/components/schemas/{name}"
_structs: set[type] = {documents.Problem}
_PLAN_SCHEMA = {  # public, and so no operation of a blueprint
    "operationId": "planSchema",
    "summary": "The JSON Schema of commission plans.",
    "tags": ["plans"],
    "security": [],
    "x-roles": [],
    "responses": {"200": {"description": "OK", "content": {"application/schema+json": {"schema": {"type": "object"}}}}},
}
Answers = Mapping[int, type | None]


class LedgerApi(Api):  # type: ignore[misc]
    """flask-smorest's Api with problem documents for errors."""

    def _register_error_handlers(self) -> None:
        """api.errors has them."""

    def _register_responses(self) -> None:
        schema = {"$ref": _REF.format(name="Problem")}
        for status in http.HTTPStatus:
            described: dict[str, Any] = {"description": status.phrase}
            if status >= 400:
                described["content"] = {PROBLEM_TYPE: {"schema": schema}}
            self.spec.components.response(status.name, described, lazy=True)
        default = {"description": "A problem", "content": {PROBLEM_TYPE: {"schema": schema}}}
        self.spec.components.response("DEFAULT_ERROR", default, lazy=True)

    def _openapi_json(self) -> Response:
        return Response(msgspec.json.encode(self.spec.to_dict()), content_type=JSON)


def schema_of(struct: type) -> dict[str, str]:
    """A reference to a struct's schema, which will be among the components."""
    _structs.add(struct)
    return {"$ref": _REF.format(name=struct.__name__)}


def content(struct: type, kind: str = JSON) -> dict[str, Any]:
    """A body of a kind."""
    return {kind: {"schema": schema_of(struct)}}


def responses(answers: Answers, errors: tuple[int, ...]) -> dict[str, Any]:
    """An operation's responses: what it answers, and which problems it may give."""
    found: dict[str, Any] = {}
    for status, struct in answers.items():
        found[str(status)] = {"description": http.HTTPStatus(status).phrase}
        if struct is not None:
            found[str(status)]["content"] = content(struct)
    for status in errors:
        found[str(status)] = http.HTTPStatus(status).name
    return found


def one_or_many(struct: type) -> dict[str, Any]:
    """The request body of an endpoint that takes one (JSON) or many (NDJSON, an object a line)."""
    return {"required": True, "content": {**content(struct), **content(struct, NDJSON)}}


def make_api(app: Flask) -> LedgerApi:
    """The app's API, ready to take blueprints."""
    app.config.setdefault("API_TITLE", "Commission ledger")
    app.config.setdefault("API_VERSION", "v1")
    app.config.setdefault("OPENAPI_VERSION", "3.1.0")
    app.config.setdefault("OPENAPI_URL_PREFIX", "/")
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "clk_<key id>_<secret>"}
    description = (
        "Affiliate commissions as an event-sourced, double-entry ledger. Amounts are integer minor units. Every write"
        " answers with its `position` in the log; sending the same again gives the same answer. Errors are problem"
        " documents (RFC 9457)."
    )
    spec = {
        "info": {"description": description},
        "components": {"securitySchemes": {"bearer": bearer}},
        "paths": {"/plan-schema": {"get": _PLAN_SCHEMA}},
    }
    api = LedgerApi(spec_kwargs=spec)
    for converter, schema in paths.schemas():
        api.register_converter(converter, schema)
    api.init_app(app)
    return api


def finish(app: Flask, api: LedgerApi) -> None:
    """Once every blueprint is registered: the schemas that they named, and the page."""
    _, components = msgspec.json.schema_components(_structs, ref_template=_REF)
    for name, schema in sorted(components.items()):
        api.spec.components.schema(name, schema)
    app.register_blueprint(get_swaggerui_blueprint("/docs", "/openapi.json", {"app_name": "Commission ledger"}))
