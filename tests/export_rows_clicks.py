"""The event of counted clicks, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import Vector

from ledger.domain.click_tally import ClicksTallied

ROWS: list[Vector] = [
    Vector(
        "books",
        "click_tally:program",
        3,
        ClicksTallied(after=100, until=2500, click_count=731, bundle_count=12, terms_position=40),
    ),
]
