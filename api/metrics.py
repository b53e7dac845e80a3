"""Figures for Prometheus: how requests fare, and what the books hold, asked by SQL when scraped."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import LiteralString

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.tracking import Tracking
from ledger import reads
from ledger.application import CommissionLedger

MOST_PROGRAMS = 1000
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_PROGRAMS: LiteralString = "SELECT program_id, program FROM programs ORDER BY program LIMIT %(limit)s"
# One program a statement, so that each stays on one node of a distributed database.
_FIGURES: LiteralString = (
    "SELECT 'position', log, '', next_position - 1 FROM log_heads WHERE program_id = %(program_id)s"
    " UNION ALL SELECT 'exceptions', type, '', count(*) FROM directory WHERE program_id = %(program_id)s"
    "      AND kind = 'exception' AND status = 'open' GROUP BY type"
    " UNION ALL SELECT 'queue', status, '', count(*) FROM conversions WHERE program_id = %(program_id)s"
    "      AND status IN ('pending', 'waiting') GROUP BY status"
    " UNION ALL SELECT 'follower', follower, '', position FROM followers WHERE program_id = %(program_id)s"
)


class LedgerCollector(Collector):
    """Gauges read from the database at scrape; none, and ledger_up 0, while it is down."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._ledger: CommissionLedger = app.extensions["ledger"]

    def collect(self) -> Iterable[Metric]:
        """Every gauge."""
        up = GaugeMetricFamily("ledger_up", "Whether the database answered this scrape")
        gauges = {
            "position": GaugeMetricFamily("ledger_log_position", "Last position of a log", labels=["program", "log"]),
            "exceptions": GaugeMetricFamily("ledger_exceptions_open", "Open exceptions", labels=["program", "type"]),
            "queue": GaugeMetricFamily(
                "ledger_conversions", "Conversions that wait to mature or for their click", labels=["program", "status"]
            ),
            "follower": GaugeMetricFamily(
                "ledger_follower_position", "Position of a follower", labels=["program", "follower"]
            ),
        }
        try:
            pool = self._ledger.pool
            for program_id, program in reads.fetch(pool, _PROGRAMS, {"limit": MOST_PROGRAMS}):
                for name, label, _, value in reads.fetch(pool, _FIGURES, {"program_id": program_id}):
                    gauges[name].add_metric([program, label], value)
            up.add_metric([], 1)
        except Exception:
            up.add_metric([], 0)
        yield up
        yield from self._clicks()
        yield from gauges.values()

    def _clicks(self) -> Iterable[Metric]:
        """What the tracking links' queue holds and did, once this process has one."""
        here: Tracking | None = self._app.extensions.get("tracking")
        if here is not None:
            queue = here.queue
            yield GaugeMetricFamily("ledger_click_queue", "Clicks waiting to be recorded", queue.depth)
            yield CounterMetricFamily("ledger_clicks_recorded", "Clicks recorded through the queue", queue.recorded)
            yield CounterMetricFamily("ledger_clicks_dropped", "Clicks that a full queue dropped", queue.dropped)


def register(app: Flask) -> None:
    """Serve /metrics, and count every request."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(app))
    counted = Counter("ledger_requests", "Requests", ["operation", "status"], registry=registry)
    timed = Histogram(
        "ledger_request_seconds", "Seconds a request took", ["operation"], buckets=_BUCKETS, registry=registry
    )
    children: dict[tuple[str | None, int], tuple[Counter, Histogram]] = {}
    app.extensions["metrics"] = registry

    @app.after_request
    def count(response: Response) -> Response:
        key = (request.endpoint, response.status_code)
        known = children.get(key)
        if known is None:
            name = request.endpoint or "none"
            known = children[key] = (counted.labels(name, str(response.status_code)), timed.labels(name))
        known[0].inc()
        known[1].observe(time.perf_counter() - g.began)
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
