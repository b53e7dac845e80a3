"""What the worker does about proof: it seals each log in which something is new."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.application import CommissionLedger
from ledger.audit import sealing
from ledger.audit.keys import has_signing_key, load_signing_keys
from ledger.audit.sealing import SealRefused
from ledger.desk import Meta
from ledger.projections import job_runs
from ledger.service import home_of, sealed_checkpoints_file
from ledger.store.log import TABLES, Rows

NAME = "seal"
NO_KEY = {"signing_key": "none"}


def waiting_since(cur: Rows, program_id: UUID) -> datetime | None:
    """Since when an event waits to be sealed; None when nothing does, or without a signing key, once that was said."""
    since = sealing.unsealed_since(cur, program_id)
    if since and not has_signing_key(home_of(), os.environ):
        newest = job_runs.page(cur, program_id, limit=1, job=NAME)
        if newest and NO_KEY.items() <= newest[0].detail.items():
            return None
    return min(since.values(), default=None)


def seal(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Seal both logs up to their ends. A log that must not be sealed does not keep the other one from it."""
    keys = load_signing_keys(home_of(), os.environ)
    if keys is None:
        return NO_KEY
    counts: dict[str, Any] = {}
    refused: SealRefused | None = None
    file = sealed_checkpoints_file(os.environ)
    for log in TABLES:  # the books first: the clicks that they quote are recorded by then, and sealed behind them
        try:
            done = sealing.seal(ledger, program, log, keys.signers(program, log), ledger.clock(), kept=file)
        except SealRefused as problem:
            refused = refused or problem
        else:
            if done.checkpoint is not None and done.events:
                counts[log] = {"size": done.checkpoint.size, "new": done.events}
    if refused is not None:
        raise refused
    return counts
