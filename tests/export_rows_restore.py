"""The events of restores, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import AT, CIPHER, T0, Vector

from ledger.domain.restore import BankMatched, BooksRestored, Loss

ROWS: list[Vector] = [
    Vector("books", "restores:books", 1, BooksRestored(position=12, traffic_position=0, backup_created_at=T0)),
    Vector("books", "restores:books", 2, BankMatched(position=12, reason=CIPHER)),
    Vector(
        "books",
        "restores:books",
        3,
        BooksRestored(
            position=20,
            traffic_position=9,
            backup_created_at=AT,
            lost=[Loss("books", 21, 23), Loss("traffic", 10, 10)],
        ),
        cause="record_restore",
    ),
]
