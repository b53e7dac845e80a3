"""Terms that carry a plan, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import T0, Vector

from ledger.domain.offer import TermsProposed, TermsPublished

PLANNED = TermsPublished(
    offer_id="shoes",
    terms_version=3,
    effective_from=T0,
    hold_days=30,
    window_days=14,
    plan={
        "currency": "EUR",
        "plan": 1,
        "rules": [{"id": "all", "pay": {"rate_bps": 1000}, "when": {"sku": ["Größe"]}}],
    },
    plan_hash="16b0115d6120e1092fadf9fde6bf0d5e0ed2caa026387299221e30a6c9fcfc90",
)
ROWS: list[Vector] = [
    Vector("books", "offer:shoes", 5, PLANNED),
    Vector("books", "offer:shoes", 6, TermsProposed(terms=PLANNED, proposed_by="ana")),
]
