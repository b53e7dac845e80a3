"""Simulations, constructed by hand, for tests/vectors."""

from __future__ import annotations

from export_rows import T0, Vector

from ledger.domain.simulation import (
    SimulatedTotal,
    SimulationApplied,
    SimulationApproved,
    SimulationProposed,
    SimulationRejected,
)

HASH = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
STREAM = "simulation:sim-1"
ROWS: list[Vector] = [
    Vector(
        "books",
        STREAM,
        1,
        SimulationProposed(
            simulation_id="sim-1",
            offer_id="shoes",
            as_of_position=4711,
            line_count=2,
            totals=[SimulatedTotal("EUR", 1500, 1620)],
            lines_hash=HASH,
            proposed_by="ana",
            terms={"hold_days": 30, "rate_bps": 1200, "window_days": 14},
            terms_hash="16b0115d6120e1092fadf9fde6bf0d5e0ed2caa026387299221e30a6c9fcfc90",
            model="linear",
            since=T0,
        ),
    ),
    Vector("books", STREAM, 2, SimulationApproved(simulation_id="sim-1", lines_hash=HASH)),
    Vector("books", STREAM, 3, SimulationApplied(simulation_id="sim-1", applied=1, skipped=1)),
    Vector("books", "simulation:sim-2", 2, SimulationRejected(simulation_id="sim-2")),
]
