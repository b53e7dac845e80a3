"""The event of the affiliates' trees, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import Vector

from ledger.domain.period import AffiliateTreesRecorded

ROWS: list[Vector] = [
    Vector(
        "books",
        "calendar:periods",
        5,
        AffiliateTreesRecorded(
            period="2026-02", version=2, cut_position=34, affiliate_count=2, entry_count=7, root="cd" * 32
        ),
    ),
]
