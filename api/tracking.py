"""Clicks and impressions that merchants' systems send, and our tracking links, which answer without the database."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from flask import Flask, Response, current_app, request
from msgspec import Meta as Limits
from msgspec import Struct
from werkzeug.urls import iri_to_uri

from api import answers, body, ndjson, openapi
from api.auth import Caller, operation, public
from api.blueprint import Blueprint
from api.documents import LineResult, Position
from api.errors import Problem
from api.ratelimit import RateLimiter, bucket_of, client_address
from ledger.application import CommissionLedger
from ledger.batches import Outcome
from ledger.clickqueue import ClickQueue
from ledger.desk import Meta
from ledger.domain.click import RecordClick
from ledger.domain.errors import InvalidInput, Refusal
from ledger.domain.event import Instant
from ledger.domain.ids import CLICK_ID_MAX, SLUG_PATTERN, check_pseudonym, program_id
from ledger.domain.impression import RecordImpression
from ledger.links import Links

blueprint = Blueprint("tracking", __name__, description="Clicks and impressions, and the links that make clicks.")

TOUCHES_AT_ONCE = 5_000
PER_SECOND, BURST = 20.0, 60
DUPLICATE_SECONDS = 10.0
MOST_VISITORS = 50_000
SUBS = ("sub1", "sub2", "sub3", "sub4", "sub5")
LONGEST_SUB, LONGEST_REFERRER, LONGEST_USER_AGENT = 500, 1000, 500
CLICK_ID = "click_id"
T = TypeVar("T")
QUERY = [
    {"in": "query", "name": name, "required": False, "schema": {"type": "string"}} for name in (*SUBS, "visitor_id")
]

# Told to readers of the document, and checked by the domain's command itself, at half the cost: a click is decoded
# in the time of a regular expression.
Name = Annotated[str, Limits(description="1-64 of A-Z a-z 0-9 . _ -", extra_json_schema={"pattern": SLUG_PATTERN})]
Id = Annotated[
    str, Limits(description="1-128 printable characters", extra_json_schema={"minLength": 1, "maxLength": 128})
]
ClickId = Annotated[
    str,
    Limits(description="1-256 printable characters", extra_json_schema={"minLength": 1, "maxLength": CLICK_ID_MAX}),
]
Alias = Annotated[
    str,
    Limits(
        description="1-128 printable characters, no e-mail address",
        extra_json_schema={"minLength": 1, "maxLength": 128, "pattern": "^[^@]*$"},
    ),
]
Text = Annotated[str, Limits(max_length=2000)]


# --- what others saw and counted -------------------------------------------------------------------------------


class ClickInput(RecordClick, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A click. ip is hashed and never stored; sub1-sub5, referrer and user_agent are stored as ciphertext."""

    affiliate_id: Name
    offer_id: Name
    occurred_at: Instant
    click_id: ClickId | None = None
    customer_id: Alias | None = None
    visitor_id: Alias | None = None
    channel: Id | None = None
    ip: Annotated[str, Limits(max_length=64)] | None = None
    sub1: Text | None = None
    sub2: Text | None = None
    sub3: Text | None = None
    sub4: Text | None = None
    sub5: Text | None = None
    referrer: Text | None = None
    user_agent: Text | None = None
    duplicate: bool = False


class ClickAnswer(Struct):
    """The click is recorded; a sale may name its click_id."""

    click_id: str
    position: Position


_decode = body.StrictDecoder(ClickInput)


class ImpressionInput(RecordImpression, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An impression: an offer was seen with an affiliate."""

    affiliate_id: Name
    offer_id: Name
    occurred_at: Instant
    impression_id: Id | None = None
    customer_id: Alias | None = None
    visitor_id: Alias | None = None
    channel: Id | None = None
    duplicate: bool = False


class ImpressionAnswer(Struct):
    """The impression is recorded."""

    impression_id: str
    position: Position


_decode_impression = body.StrictDecoder(ImpressionInput)


@blueprint.route("/clicks", methods=["POST"])
@operation(
    "recordClicks",
    {200: ClickAnswer, 201: ClickAnswer},
    writes=True,
    streams=LineResult,
    requestBody=openapi.one_or_many(ClickInput),
)
def record_clicks(caller: Caller) -> Response:
    """Record a click, or up to 10,000 (NDJSON)."""
    return _record(_decode, lambda clicks: caller.ledger.record_clicks(caller.program, clicks, caller.meta))


@blueprint.route("/impressions", methods=["POST"])
@operation(
    "recordImpressions",
    {200: ImpressionAnswer, 201: ImpressionAnswer},
    writes=True,
    streams=LineResult,
    requestBody=openapi.one_or_many(ImpressionInput),
)
def record_impressions(caller: Caller) -> Response:
    """Record an impression, or up to 10,000 (NDJSON)."""
    return _record(
        _decode_impression,
        lambda impressions: caller.ledger.record_impressions(caller.program, impressions, caller.meta),
    )


def _record(decoder: body.StrictDecoder[T], record: Callable[[Sequence[T]], Sequence[Outcome]]) -> Response:
    """Record the request's touch, or its many."""
    if request.mimetype == body.NDJSON:
        return ndjson.record_lines(decoder, TOUCHES_AT_ONCE, record)
    if not body.is_json():
        raise body.unsupported("application/json", body.NDJSON)
    (outcome,) = record([decoder(body.read())])
    if isinstance(outcome, Refusal):
        raise outcome
    return answers.written(outcome)


# --- the tracking link -------------------------------------------------------------------------------------


class Tracking:
    """What the tracking links of one app share. For the metrics: queue.depth, queue.recorded, queue.dropped,
    links.healthy.

    settings (Flask's config, else the environment with LEDGER_ before the name): TRACKING_PER_SECOND and
    TRACKING_BURST, clicks per client address and process; TRUSTED_PROXIES, how many of our own stand in front (0).
    Raises ValueError for a setting that is no number.
    """

    def __init__(self, ledger: CommissionLedger, settings: Mapping[str, Any]) -> None:
        def setting(name: str, default: float) -> float:
            given = settings.get(name, os.environ.get(f"LEDGER_{name}") or default)
            try:
                return float(given)
            except ValueError:
                raise ValueError(f"LEDGER_{name} must be a number") from None

        self.ledger = ledger
        self.links = Links(ledger.pool)
        self.queue = ClickQueue(ledger.record_clicks, Meta("tracking-link"))
        self.limiter = RateLimiter(setting("TRACKING_PER_SECOND", PER_SECOND), int(setting("TRACKING_BURST", BURST)))
        self.trusted_proxies = int(setting("TRUSTED_PROXIES", 0))
        self.visitors = Visitors()

    def start(self) -> None:
        """Fill the memory of landing pages now, so that the first visitor may come in an outage."""
        self.links.start()

    def close(self) -> None:
        """Record what is queued, and stop."""
        self.links.close()
        self.queue.close()


class Visitors:
    """Who clicked what a moment ago. Remembers a number instead of an address, and not for ever. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[int, float] = OrderedDict()

    def seen_before(self, *marks: str) -> bool:
        """Whether the same marks came within the last DUPLICATE_SECONDS; they are remembered from now on."""
        visitor, now = hash(marks), time.monotonic()
        with self._lock:
            last = self._seen.get(visitor)
            self._seen[visitor] = now
            self._seen.move_to_end(visitor)
            if len(self._seen) > MOST_VISITORS:
                self._seen.popitem(last=False)
        return last is not None and now - last <= DUPLICATE_SECONDS


_making = threading.Lock()


def tracking(app: Flask) -> Tracking:
    """The app's tracking, made on first use, in the process that serves."""
    found: Tracking | None = app.extensions.get("tracking")
    if found is None:
        with _making:
            found = app.extensions.get("tracking") or Tracking(app.extensions["ledger"], app.config)
            app.extensions["tracking"] = found
    return found


@blueprint.route("/c/<slug:affiliate_id>/<slug:offer_id>", methods=["GET"])
@public("followTrackingLink", {302: None}, errors=(403, 404, 429, 503), parameters=QUERY)
def follow_tracking_link(program: str, affiliate_id: str, offer_id: str) -> Response:
    """Send a visitor to the offer's landing page, with a signed click_id.

    sub1-sub5 and visitor_id of the query are kept with the click, as are the referrer and the browser's name.
    HEAD and prefetching browsers make no click. The target is the stored landing page, whatever the request says.
    """
    here = tracking(current_app)
    address = client_address(request.remote_addr, request.headers.get("X-Forwarded-For"), here.trusted_proxies)
    if wait := here.limiter.take(bucket_of(address)):
        headers = {"Retry-After": str(math.ceil(wait)), "Cache-Control": "no-store"}
        raise Problem(429, "This address follows links too quickly; slow down.", headers=headers)
    if _is_prefetch():
        # Anything but 2xx makes a browser ask again once the visitor really follows the link, and that is the click.
        raise Problem(403, "This link is not for prefetching.", headers={"Cache-Control": "no-store"})
    page = here.links.landing_page(program, affiliate_id, offer_id)
    if request.method == "HEAD":
        return _redirect(page)
    return _redirect(with_click_id(page, _click(here, program, affiliate_id, offer_id, address)))


def _is_prefetch() -> bool:
    """Whether the browser only looks ahead. Source: the Fetch standard's Sec-Purpose, and its two older forms."""
    headers = request.headers
    purposes = (headers.get("Sec-Purpose", ""), headers.get("Purpose", ""), headers.get("X-Moz", ""))
    return any(purpose.lower().startswith("prefetch") for purpose in purposes)


def _click(here: Tracking, program: str, affiliate_id: str, offer_id: str, address: str) -> str:
    """Queue this request as a click. Returns its id."""
    now = here.ledger.clock()
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # what the signed id can say
    agent = request.headers.get("User-Agent", "")[:LONGEST_USER_AGENT]
    click_id = here.ledger.secrets.sign_click(program_id(program), affiliate_id, offer_id, now)
    subs = {name: value[:LONGEST_SUB] for name in SUBS if (value := request.args.get(name))}
    click = RecordClick(
        affiliate_id=affiliate_id,
        offer_id=offer_id,
        occurred_at=now,
        click_id=click_id,
        visitor_id=_visitor_id(),
        ip=address or None,
        referrer=request.headers.get("Referer", "")[:LONGEST_REFERRER] or None,
        user_agent=agent or None,
        duplicate=here.visitors.seen_before(program, address, agent, affiliate_id, offer_id),
        **subs,
    )
    here.queue.put(program, click)
    return click_id


def _visitor_id() -> str | None:
    """The query's visitor_id, if it is one: a visitor is not stopped for what a link's maker got wrong."""
    given = request.args.get("visitor_id")
    try:
        return check_pseudonym("visitor_id", given) if given else None
    except InvalidInput:
        return None


def with_click_id(page: str, click_id: str) -> str:
    """A landing page's address with click_id as the last parameter of its query, before any fragment."""
    address, hash_sign, fragment = page.partition("#")
    path, _, query = address.partition("?")
    kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] != CLICK_ID]
    return f"{path}?{'&'.join([*kept, f'{CLICK_ID}={click_id}'])}{hash_sign}{fragment}"


def _redirect(target: str) -> Response:
    """302. The target's own letters decide where it leads; nothing of the request is in it but the click_id."""
    headers = {
        "Location": iri_to_uri(target),
        "Cache-Control": "no-store",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "X-Robots-Tag": "noindex, nofollow",
    }
    return Response(status=302, headers=headers)
