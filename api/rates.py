"""Exchange rates: recorded by the merchant's systems or by finance's second person, one or many, and listed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from flask import Response, request
from msgspec import Meta
from msgspec.structs import asdict

from api import answers, body, documents, ndjson, openapi, schemas_earning
from api.auth import Caller, operation
from api.blueprint import Blueprint
from ledger import reads
from ledger.domain import rates
from ledger.domain.event import BEGINNING, Instant, Recorded
from ledger.domain.ids import Currency
from ledger.domain.rates import RateRecorded, RecordRate

blueprint = Blueprint("rates", __name__, description="Exchange rates, by which sales in another currency are paid.")
RATES_AT_ONCE = 1000
_MICROSECOND = timedelta(microseconds=1)


class RateInput(RecordRate, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One major unit of base costs `rate` major units of quote."""

    base: Currency
    quote: Currency
    rate: Annotated[
        str,
        Meta(
            description="above 0, at most 12 digits before the point, 12 behind it, 20 in all, such as '0.9213'",
            extra_json_schema={"pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"},
        ),
    ]
    as_of: Instant
    source: Annotated[
        str,
        Meta(
            description="1-64 printable characters, such as ECB",
            extra_json_schema={"minLength": 1, "maxLength": rates.SOURCE_MAX},
        ),
    ]


_decode = body.StrictDecoder(
    RateInput,
    {
        # 0.79 and 0.790 are one number, and a number read as a float may be another
        "/rate": 'must be text such as "0.79"',
        "/as_of": 'must be an instant with a zone, such as "2026-01-31T00:00:00Z"',
    },
)


@blueprint.route("/rates", methods=["POST"])
@operation(
    "recordRates",
    {201: documents.RateAnswer, 200: documents.RateAnswer},
    writes=True,
    streams=documents.LineResult,
    requestBody=openapi.one_or_many(RateInput),
)
def record_rates(caller: Caller) -> Response:
    """Record an exchange rate, or up to 1,000 (NDJSON)."""
    if body.is_json():
        return answers.written(caller.execute(_decode(body.read())))
    if request.mimetype == body.NDJSON:
        return ndjson.record_lines(
            _decode,
            RATES_AT_ONCE,
            lambda some: caller.ledger.execute_many(caller.program, some, caller.meta),
            most=RATES_AT_ONCE,
        )
    raise body.unsupported("application/json", body.NDJSON)


@blueprint.route("/rates", methods=["GET"])
@operation("listRates", {200: documents.Rates})
@blueprint.arguments(schemas_earning.RatesPage, location="query")
def list_rates(caller: Caller, page: dict[str, Any]) -> Response:
    """The rates of a pair of currencies, the newest as_of first; of one as_of, the one in force first. Without base and
    quote: the newest rate of each pair, by pair."""
    if page["base"] is None:
        return _newest(caller, page)
    after = answers.place(page["after"], int, int)
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.events([rates.key(page["base"], page["quote"])])
    found.sort(key=_place, reverse=True)
    behind = [one for one in found if after is None or _place(one) < after]
    items = [_rate(one) for one in behind[: page["limit"] + 1]]
    return answers.read(
        answers.page(items, page["limit"], lambda item: answers.cursor(_ticks(item["as_of"]), item["position"]))
    )


def _newest(caller: Caller, page: dict[str, Any]) -> Response:
    with reads.reading(caller.ledger, caller.program) as look:
        pairs = look.listed("rate", answers.after_id(page), page["limit"] + 1)
        events = look.events([f"rate:{pair.record_id}" for pair in pairs])
    newest: dict[UUID, Recorded] = {}
    for one in sorted(events, key=_place):
        newest[one.originator_id] = one
    items = [_rate(newest[pair.originator_id]) for pair in pairs]
    return answers.read(
        answers.page(items, page["limit"], lambda item: answers.cursor(f"{item['base']}/{item['quote']}"))
    )


def _ticks(instant: datetime) -> int:
    """An instant as a number from 0, which is what a cursor can hold."""
    return (instant - BEGINNING) // _MICROSECOND


def _place(recorded: Recorded) -> tuple[int, int]:
    assert isinstance(recorded.body, RateRecorded)
    return _ticks(recorded.body.as_of), recorded.position


def _rate(recorded: Recorded) -> dict[str, Any]:
    who = {"position": recorded.position, "recorded_at": recorded.recorded_at, "recorded_by": recorded.actor}
    return asdict(recorded.body) | who
