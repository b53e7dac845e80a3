"""What is kept of an order while history is replayed: what it was, and what it would be."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from ledger.domain.conversion import ConversionRecorded, ReversalDeferred
from ledger.domain.conversion_state import Commission, ConversionState


class Kept(Struct):
    """position: of the sale in the log, for a goal's bonus that was never earned of what earned it. was and would: both
    by the conversion's own fold. decided: once history did. exception: why the simulated sale could not be applied.
    reversals: those that the simulated sale has had. earlier: whether a simulation that was applied has changed it."""

    position: int
    was: ConversionState
    would: ConversionState
    decided: bool = False
    exception: str = ""
    reversals: list[str] = []
    earlier: bool = False


def new_state(recorded: ConversionRecorded | None = None) -> ConversionState:
    """A state that keeps no answers for retries: there are none."""
    return ConversionState(recorded=recorded, answer={})


class _Side(Struct, array_like=True, gc=False):
    standing: str
    commissions: list[Commission]
    reversed_amount: int
    last_reversal_id: str
    deferred: list[ReversalDeferred]


class _Row(Struct, array_like=True, gc=False):
    position: int
    recorded: ConversionRecorded | None
    was_recorded: bool
    would_recorded: bool
    was: _Side
    would: _Side
    decided: bool
    exception: str
    reversals: list[str]
    earlier: bool


_encoder = msgspec.msgpack.Encoder()
_decode: Callable[[bytes], _Row] = msgspec.msgpack.Decoder(_Row).decode


def encode(kept: Kept) -> bytes:
    """As small as it comes."""
    was, would = kept.was, kept.would
    recorded = was.recorded or would.recorded
    return _encoder.encode(
        _Row(
            kept.position, recorded, was.recorded is not None, would.recorded is not None, _side(was), _side(would),
            kept.decided, kept.exception, kept.reversals, kept.earlier,
        )
    )  # fmt: skip


def _side(state: ConversionState) -> _Side:
    commissions = list(state.commissions.values())
    for one in commissions:
        if one.accrued is not None and one.accrued.steps:
            one.accrued = msgspec.structs.replace(one.accrued, steps=[])
    deferred = list(state.deferred.values())
    return _Side(state.standing, commissions, state.reversed_amount, state.last_reversal_id, deferred)


def decode(raw: bytes) -> Kept:
    """What was encoded."""
    row = _decode(raw)
    return Kept(
        row.position,
        _state(row.was, row.recorded if row.was_recorded else None),
        _state(row.would, row.recorded if row.would_recorded else None),
        row.decided,
        row.exception,
        row.reversals,
        row.earlier,
    )


def _state(side: _Side, recorded: ConversionRecorded | None) -> ConversionState:
    state = new_state(recorded)
    state.standing, state.reversed_amount = side.standing, side.reversed_amount
    state.last_reversal_id = side.last_reversal_id
    state.commissions = {(one.affiliate_id, one.level): one for one in side.commissions}
    state.deferred = {one.reversal_id: one for one in side.deferred}
    return state
