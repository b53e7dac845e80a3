"""Exceptions: well-formed facts that could not be applied. Kept, listed, and resolved by events; never dropped.

An exception stands in the stream of the fact it is about, and its id is that stream's key: conversion:<order_id>,
reversal:<reversal_id>, or line:<invoice>:<ordinal> for a line of an import that is no conversion at all.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ledger.domain.event import Event


class ExceptionRaised(Event, frozen=True):
    """type: unknown_offer, no_terms, affiliate_closed, affiliate_not_approved, currency_mismatch,
    reversal_above_rest, not_a_sale, unmatched_refund …; detail: one sentence; fact: what was sent, whole."""

    exception_id: str
    type: str
    detail: str
    fact: dict[str, Any]
    affiliate_id: str = ""


class ExceptionResolved(Event, frozen=True):
    """action: 'retry' (the fact was applied after all) or 'dismiss'. reason is ciphertext."""

    exception_id: str
    action: str
    reason: str = ""


class ExceptionState(Struct):
    """raised: the newest exception of the stream; open until resolved."""

    raised: ExceptionRaised
    open: bool
    resolution: ExceptionResolved | None = None


def line_key(invoice: str, ordinal: int) -> str:
    """The id of an exception about a line of an import."""
    return f"line:{invoice}:{ordinal}"


def fold(state: ExceptionState | None, event: Event) -> ExceptionState | None:
    """ExceptionState after an event; the stream's other events do not concern it."""
    if isinstance(event, ExceptionRaised):
        return ExceptionState(event, True)
    if isinstance(event, ExceptionResolved):
        assert state is not None
        state.open, state.resolution = False, event
    return state
