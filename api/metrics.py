"""Figures for Prometheus: how requests fare, and what the books hold, asked by SQL when scraped.

They name every program and its volume: with LEDGER_METRICS_TOKEN set, whoever brings it may read them; without it,
only a client on this host.
"""

from __future__ import annotations

import hmac
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, LiteralString

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.errors import NOTHING_HERE, Problem
from api.tracking import Tracking
from ledger import reads
from ledger.application import CommissionLedger

MOST_PROGRAMS = 1000
REMEMBERED_SECONDS = 5.0  # a scrape is up to MOST_PROGRAMS statements, so many scrapes share one
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_PROGRAMS: LiteralString = "SELECT program_id, program FROM programs ORDER BY program LIMIT %(limit)s"
# One program a statement, so that each stays on one node of a distributed database.
_FIGURES: LiteralString = (
    "SELECT 'position', log, '', next_position - 1 FROM log_heads WHERE program_id = %(program_id)s"
    " UNION ALL SELECT 'exceptions', type, '', count(*) FROM directory WHERE program_id = %(program_id)s"
    "      AND kind = 'exception' AND status = 'open' GROUP BY type"
    # an order once, however many commissions on it are pending
    " UNION ALL SELECT 'queue', c.status, '', count(*) FROM conversions c WHERE c.program_id = %(program_id)s"
    "      AND c.status IN ('pending', 'waiting') AND (c.share_no = 1 OR NOT EXISTS (SELECT FROM conversions o"
    "      WHERE o.program_id = %(program_id)s AND o.originator_id = c.originator_id AND o.share_no < c.share_no"
    "      AND o.status = c.status)) GROUP BY c.status"
    " UNION ALL SELECT 'follower', follower, '', position FROM followers WHERE program_id = %(program_id)s"
)


class LedgerCollector(Collector):
    """Gauges read from the database at scrape, at most every REMEMBERED_SECONDS; none, and ledger_up 0, while it is
    down. Thread-safe."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._ledger: CommissionLedger = app.extensions["ledger"]
        self._lock = threading.Lock()
        self._read: list[Metric] = []
        self._read_at = -math.inf  # monotonic seconds

    def collect(self) -> Iterable[Metric]:
        """Every gauge."""
        with self._lock:
            if time.monotonic() - self._read_at >= REMEMBERED_SECONDS:
                self._read = self._ask()
                self._read_at = time.monotonic()
            read = self._read
        yield from read
        yield from self._clicks()

    def _ask(self) -> list[Metric]:
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
        return [up, *gauges.values()]

    def _clicks(self) -> Iterable[Metric]:
        """What the tracking links' queue holds and did, once this process has one."""
        here: Tracking | None = self._app.extensions.get("tracking")
        if here is not None:
            queue = here.queue
            yield GaugeMetricFamily("ledger_click_queue", "Clicks waiting to be recorded", queue.depth)
            yield CounterMetricFamily("ledger_clicks_recorded", "Clicks recorded through the queue", queue.recorded)
            yield CounterMetricFamily("ledger_clicks_dropped", "Clicks that a full queue dropped", queue.dropped)


def _is_on_this_host(environ: Mapping[str, Any]) -> bool:
    """Whether the peer is a process of this host that asks for itself. A proxy of this host is such a peer too, and
    is told by the headers that proxies add."""
    if any(name in environ for name in _FORWARDED) or any(name.startswith("HTTP_X_FORWARDED") for name in environ):
        return False
    try:
        address = ip_address(environ.get("REMOTE_ADDR") or "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def _admit(environ: Mapping[str, Any], token: str) -> None:
    """Raises Problem: 401 without the token where there is one, else 404 for strangers, as for what is not there."""
    if not token:
        if not _is_on_this_host(environ):
            raise Problem(404, NOTHING_HERE)
        return
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    good = hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), token.encode())
    if scheme.lower() != "bearer" or not good:
        headers = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        raise Problem(401, "These figures need the operator's token: Authorization: Bearer …", headers=headers)


def register(app: Flask) -> None:
    """Serve /metrics, and count every request. Setting (Flask's config, else the environment with LEDGER_ before the
    name): METRICS_TOKEN."""
    token = str(app.config.get("METRICS_TOKEN", os.environ.get("LEDGER_METRICS_TOKEN", ""))).strip()
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
        _admit(request.environ, token)
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
