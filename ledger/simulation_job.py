"""The worker's job for simulations: runs those that were asked for, and goes on with those that are being applied. One
at a time: each may take minutes, and other programs and jobs share the worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger import simulations
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain.errors import WrongState
from ledger.simulating.table import Simulations
from ledger.store.log import Rows

NAME = "run-simulations"


def waiting_since(cur: Rows, program_id: UUID) -> datetime | None:
    """When the first of those was asked for that still have to be run or applied; None without any."""
    return min((asked for _, _, asked in Simulations(cur, program_id).to_do()), default=None)


def work(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Apply the first that was approved and begun, or else run the first that waits, as they were asked for. The next
    one is done at the job's next due time."""
    with ledger.reading(program) as (cur, id_):
        to_do = Simulations(cur, id_).to_do()
    run = applied = 0
    for simulation_id, status, _ in to_do[:1]:
        if status == "applying":
            try:
                for _step in simulations.apply(ledger, program, simulation_id, meta):
                    pass
            except WrongState as refused:
                # its lines are not those that were approved: nothing of it is applied, and somebody has to look
                simulations.fail(ledger, program, simulation_id, str(refused))
            else:
                applied += 1
        else:
            simulations.run(ledger, program, simulation_id)
            run += 1
    return {"run": run, "applied": applied}
