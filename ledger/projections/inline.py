"""The read models that are written in the append's transaction, from the streams that a batch touched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from ledger.domain.conversion import ConversionRecorded
from ledger.projections import conversions, directory, payouts, periods
from ledger.projections.listing import Touched, directory_entries
from ledger.store.log import Rows


def store(cur: Rows, program_id: UUID, touched: Sequence[Touched], now: datetime) -> None:
    """Write what a batch's events mean for them. now: the instant at which the batch is recorded."""
    sales = [
        (s.id, s.state, s.records[-1].position, _began(s))
        for s in touched
        if s.kind == "conversion" and s.state.recorded is not None
    ]
    conversions.store(cur, program_id, sales)
    payouts.store(cur, program_id, touched)
    periods.store(cur, program_id, touched, now)
    directory.store(cur, program_id, directory_entries(touched))


def _began(stream: Touched) -> int | None:
    """Where the batch recorded the sale, None where an earlier one did."""
    fresh = stream.records[-stream.fresh :]
    return next((record.position for record in fresh if isinstance(record.body, ConversionRecorded)), None)
