"""The events of rates, groups and recruiters, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import AT, T0, Vector

from ledger.domain.affiliate import AffiliateGrouped, AffiliateRecruited
from ledger.domain.rates import RateRecorded

ROWS: list[Vector] = [
    Vector("books", "rate:USD/EUR", 1, RateRecorded(base="USD", quote="EUR", rate="0.9213", as_of=T0, source="ECB")),
    Vector("books", "affiliate:ada", 6, AffiliateGrouped(affiliate_id="ada", group="gold", effective_from=AT)),
    Vector("books", "affiliate:ada", 7, AffiliateGrouped(affiliate_id="ada", group="", effective_from=AT)),
    Vector("books", "affiliate:ada", 8, AffiliateRecruited(affiliate_id="ada", recruiter_id="bob")),
]
