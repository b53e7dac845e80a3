"""The events of erasures, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import Vector

from ledger.domain.erasure import ErasureProposed, ErasureRejected, SubjectErased

SUBJECT = "affiliate:ada"
MONTH = "traffic:2026-01"

ROWS: list[Vector] = [
    Vector("books", f"erasure:{SUBJECT}", 1, ErasureProposed(subject=SUBJECT, ground="request", proposed_by="maria")),
    Vector("books", f"erasure:{SUBJECT}", 2, ErasureRejected(subject=SUBJECT), cause="decide_erasure"),
    Vector("books", f"erasure:{SUBJECT}", 3, SubjectErased(subject=SUBJECT, ground="request")),
    Vector("books", f"erasure:{MONTH}", 1, SubjectErased(subject=MONTH, ground="retention", reapplied=True)),
]
