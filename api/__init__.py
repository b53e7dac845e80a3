"""The HTTP API: Flask and flask-smorest over the commission ledger. `create_app` is all that others need."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from flask import Flask

from api import errors, metrics, openapi, paths, requests
from api.auth import Authenticator
from api.body import NDJSON_LIMIT
from ledger.application import CommissionLedger

PREFIX = "/v1/programs/<slug:program>"
RESOURCES = (
    "affiliates", "offers", "conversions", "adjustments", "books", "exceptions", "events", "keys", "tracking", "postback",
)  # fmt: skip


def create_app(ledger: CommissionLedger | None = None, config: Mapping[str, Any] | None = None) -> Flask:
    """The service. Without a ledger one is opened from the environment (DATABASE_URL or LEDGER_HOME, and the master
    key); config overrides Flask's settings, and LOG_REQUESTS (default True). Raises what opening raises, but not for
    a database that is down: the service starts, answers 503, and recovers."""
    app = Flask("api", static_folder=None)
    app.config.from_mapping(MAX_CONTENT_LENGTH=NDJSON_LIMIT, LOG_REQUESTS=True, PROPAGATE_EXCEPTIONS=False)
    app.config.from_mapping(config or {})
    app.extensions["ledger"] = ledger = ledger or _from_environment()
    app.extensions["authenticator"] = Authenticator(ledger)
    paths.register(app)
    errors.register(app)
    requests.register(app, requests.make_log() if app.config["LOG_REQUESTS"] else None)
    metrics.register(app, ledger)
    app.register_blueprint(import_module("api.operators").blueprint)
    api = openapi.make_api(app)
    for name in RESOURCES:
        _register(app, api, import_module(f"api.{name}"))
    openapi.finish(app, api)
    return app


def _register(app: Flask, api: openapi.LedgerApi, resource: Any) -> None:
    if hasattr(resource, "register"):
        resource.register(app)
    api.register_blueprint(resource.blueprint, url_prefix=PREFIX)


def _from_environment() -> CommissionLedger:
    import os

    from ledger.store.database import make_pool, open_database
    from ledger.store.vault import Secrets, load_master_key

    home = os.environ.get("LEDGER_HOME")
    secrets = Secrets(load_master_key(Path(home) if home else None))
    stack = ExitStack()
    atexit.register(stack.close)
    database = stack.enter_context(open_database())
    pool = stack.enter_context(make_pool(database.app_url, min_size=2, max_size=10, name="ledger-api"))
    return CommissionLedger(pool, secrets)
