"""Exchange rates, as the OpenAPI document describes them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from api.documents.problems import Position


class RateAnswer(Struct):
    """One major unit of base cost `rate` major units of quote at as_of."""

    base: str
    quote: str
    rate: str
    as_of: datetime
    source: str
    position: Position


class RateDocument(RateAnswer):
    """A rate as it was recorded, and by whom."""

    recorded_at: datetime
    recorded_by: str


class Rates(Struct):
    """A page of the rates of a pair, or of the newest of each pair."""

    items: list[RateDocument]
    next: str | None
