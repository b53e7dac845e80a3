"""What the worker does about proof: it seals each log in which something is new."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.application import CommissionLedger
from ledger.audit import sealing
from ledger.audit.keys import FILE_NAME, SigningKeys, SigningKeyWrong, has_signing_key, load_signing_keys
from ledger.audit.sealing import SealRefused
from ledger.audit.tree import sealing_keys
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


def keys_for(ledger: CommissionLedger, program: str) -> SigningKeys | None:
    """The keys that sign a program's logs; None without a place for any. A key is made only for a program that was
    never sealed: after a restore, or on another host, a stranger's key would sign and the real one seem retired.
    Raises SigningKeyWrong."""
    with ledger.reading(program) as (cur, id_):
        ever = [str(one.key) for log in TABLES for one in sealing_keys(cur, id_, log)]
    keys = load_signing_keys(home_of(), os.environ, make=not ever)
    if keys is None and ever and home_of() is not None:
        raise SigningKeyWrong(
            f"the key that signed this program's checkpoints is not here ({ever[-1]}): bring back {FILE_NAME} or set"
            " LEDGER_SIGNING_KEY_FILE; if it is lost, `ledger sealing-key new` makes another"
        )
    return keys


def seal(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Seal both logs up to their ends. A log that must not be sealed does not keep the other one from it."""
    keys = keys_for(ledger, program)
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
