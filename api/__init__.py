"""The HTTP API: Flask and flask-smorest over the commission ledger. `create_app` is all that others need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask

from api import (
    adjustments,
    affiliates,
    auditing,
    books,
    breaks,
    conversions,
    disputes,
    erasures,
    errors,
    events,
    exceptions,
    jobs,
    keys,
    log,
    metrics,
    notices,
    offers,
    openapi,
    operators,
    paths,
    payout_methods,
    payout_runs,
    payouts,
    periods,
    plans,
    postback,
    rates,
    receivables,
    reports,
    requests,
    restores,
    simulations,
    startup,
    statement_proofs,
    statements,
    tax_years,
    taxes,
    timelines,
    tracking,
)
from api.auth import Authenticator
from api.body import NDJSON_LIMIT
from ledger.application import CommissionLedger
from ledger.service import erased_subjects_file

PREFIX = "/v1/programs/<slug:program>"
RESOURCES = (
    affiliates,
    offers,
    conversions,
    adjustments,
    books,
    exceptions,
    events,
    log,
    jobs,
    keys,
    tracking,
    postback,
    breaks,
    disputes,
    payout_methods,
    payout_runs,
    payouts,
    taxes,
    receivables,
    notices,
    restores,
    periods,
    statements,
    statement_proofs,
    tax_years,
    auditing,
    erasures,
    timelines,
    reports,
    rates,
    plans,
    simulations,
)


class _Service(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view is a coroutine; asking every view and hook at every request takes 5 µs."""
        return func


def create_app(ledger: CommissionLedger | None = None, config: Mapping[str, Any] | None = None) -> Flask:
    """The service. Without a ledger one is opened from the environment (DATABASE_URL or LEDGER_HOME, and the master
    key); config overrides Flask's settings, LOG_REQUESTS (default True) and, with a ledger,
    ERASED_SUBJECTS_FILE (default: none). Raises what opening raises, but not for
    a database that is down: the service starts, answers 503, and recovers."""
    app = _Service("api", static_folder=None)
    app.config.from_mapping(MAX_CONTENT_LENGTH=NDJSON_LIMIT, LOG_REQUESTS=True, PROPAGATE_EXCEPTIONS=False)
    app.config.from_mapping(config or {})
    looked: startup.Preflight | None = None
    if ledger is None:
        ledger, looked = startup.open_ledger()
    app.extensions["ledger"], app.extensions["preflight"] = ledger, looked
    erased_file = app.config.get("ERASED_SUBJECTS_FILE") if looked is None else erased_subjects_file()
    app.extensions["erased_subjects_file"] = erased_file
    app.extensions["authenticator"] = Authenticator(ledger)
    paths.register(app)
    errors.register(app)
    app.extensions["log"] = log = requests.make_log()
    requests.register(app, log if app.config["LOG_REQUESTS"] else None)
    metrics.register(app)
    app.register_blueprint(operators.blueprint)
    app.register_blueprint(plans.public)
    api = openapi.make_api(app)
    for resource in RESOURCES:
        api.register_blueprint(resource.blueprint, url_prefix=PREFIX)
    openapi.finish(app, api)
    if looked is not None:
        tracking.tracking(app).start()
    return app
