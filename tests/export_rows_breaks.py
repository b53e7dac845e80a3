"""One event of every topic of breaks and disputes, constructed by hand, for tests/export_rows.py."""

from __future__ import annotations

from datetime import date

from export_rows import AT, CIPHER, Vector

from ledger.domain.breaks import BreakAssigned, BreakChanged, BreakOpened, BreakReopened, BreakResolved
from ledger.domain.dispute import (
    DisputeAccepted,
    DisputeAnswered,
    DisputeOpened,
    DisputeRejected,
    DisputeWithdrawn,
)

BREAK = "orders:amount_differs:A"
LINE = "2026-01/ada/7.1"
ROWS: list[Vector] = [
    Vector(
        "books",
        f"break:{BREAK}",
        1,
        BreakOpened(
            break_id=BREAK,
            source="orders",
            type="amount_differs",
            detail="order A of 2026-01-01 is 2.00 GBP in the export and 1.97 GBP here",
            affiliate_id="ada",
            reference="A",
            expected_amount=197,
            found_amount=200,
            currency="GBP",
            occurred_on=date(2026, 1, 1),
        ),
    ),
    Vector(
        "books",
        "break:bank:unknown_line:9",
        1,
        BreakOpened(break_id="bank:unknown_line:9", source="bank", type="unknown_line", detail="a line", text=CIPHER),
    ),
    Vector(
        "books",
        f"break:{BREAK}",
        2,
        BreakChanged(break_id=BREAK, detail="2.01", expected_amount=197, found_amount=201, currency="GBP"),
    ),
    Vector("books", f"break:{BREAK}", 3, BreakAssigned(break_id=BREAK, owner="ben")),
    Vector(
        "books",
        f"break:{BREAK}",
        4,
        BreakResolved(break_id=BREAK, resolution="corrected", cause="merchant", reason=CIPHER),
    ),
    Vector(
        "books",
        f"break:{BREAK}",
        5,
        BreakReopened(break_id=BREAK, detail="2.01", expected_amount=None, found_amount=201, currency="GBP"),
    ),
    Vector(
        "books",
        f"dispute:{LINE}",
        1,
        DisputeOpened(dispute_id=LINE, affiliate_id="ada", period="2026-01", position=7, line_no=1, text=CIPHER),
        actor="eve",
    ),
    Vector("books", f"dispute:{LINE}", 2, DisputeAnswered(dispute_id=LINE, text=CIPHER)),
    Vector(
        "books",
        f"dispute:{LINE}",
        3,
        DisputeAccepted(dispute_id=LINE, text=CIPHER, adjustment_id=f"dispute:{LINE}"),
        AT,
    ),
    Vector("books", f"dispute:{LINE}#2", 3, DisputeAccepted(dispute_id=f"{LINE}#2", text=CIPHER, order_id="Ä/1")),
    Vector("books", f"dispute:{LINE}#3", 2, DisputeRejected(dispute_id=f"{LINE}#3", text=CIPHER)),
    Vector("books", f"dispute:{LINE}#4", 2, DisputeWithdrawn(dispute_id=f"{LINE}#4"), actor="eve"),
]
