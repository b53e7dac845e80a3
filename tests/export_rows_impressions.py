"""Impressions, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import AT, T0, Vector

from ledger.domain.impression import ImpressionRecorded

ROWS: list[Vector] = [
    Vector(
        "traffic",
        "impression:i1",
        1,
        ImpressionRecorded(impression_id="i1", affiliate_id="ada", offer_id="shoes", occurred_at=T0),
        cause="record_impression",
    ),
    Vector(
        "traffic",
        "impression:i2",
        1,
        ImpressionRecorded(
            impression_id="i2",
            affiliate_id="bob",
            offer_id="shoes",
            occurred_at=AT,
            customer_id="c1",
            visitor_id="v1",
            channel="display",
            duplicate=True,
        ),
        cause="record_impression",
    ),
]
