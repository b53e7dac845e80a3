"""What the worker does about witnesses: it tells each of them the newest checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.application import CommissionLedger
from ledger.audit import publishing
from ledger.audit.tree import newest_checkpoint
from ledger.audit.witnesses import load_witnesses
from ledger.desk import Meta
from ledger.store.log import Rows

NAME = "publish-checkpoints"


class WitnessRefused(Exception):
    """A witness knows another history of a log than the one that was sealed. detail: which, and what it says."""

    def __init__(self, detail: dict[str, Any]) -> None:
        super().__init__(f"witness {detail['witness']} refused {detail['log']}: {detail['reason']}")
        self.detail = detail


def waiting_since(cur: Rows, program_id: UUID) -> datetime | None:
    """When the oldest checkpoint was signed that a witness has not been told; None when all know the newest."""
    waiting = {log for _, log in publishing.untold(cur, program_id, load_witnesses())}
    found = [newest_checkpoint(cur, program_id, log) for log in waiting]
    return min((one.sealed_at for one in found if one is not None), default=None)


def publish(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Tell every witness what it lacks. One that is not reached is told by the next run; one that refuses fails this
    one, for a person to see."""
    told = publishing.publish(ledger, program, load_witnesses(), ledger.clock)
    refused = next((one for one in told if one.outcome == "refused"), None)
    if refused is not None:
        raise WitnessRefused({"witness": refused.witness, "log": refused.log, "size": refused.size,
                              "reason": refused.reason})  # fmt: skip
    unreached = [f"{one.witness}/{one.log}: {one.reason}" for one in told if one.outcome == "unreached"]
    return {"told": sum(one.outcome == "took" for one in told)} | ({"unreached": unreached} if unreached else {})
