"""Erasures, as the OpenAPI document describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from api.documents.problems import Position


class ErasureAnswer(Struct):
    """The erasure's status after the command."""

    subject: str
    ground: Literal["request", "retention", "mistake"]
    status: Literal["proposed", "erased", "rejected"]
    position: Position


class ErasureDocument(Struct):
    """An erasure as it stands. subject: affiliate:ID or traffic:YYYY-MM. proposed_by: null where an erasure is only
    known from before a restore; decided_by: who approved or rejected it."""

    subject: str
    ground: Literal["request", "retention", "mistake"]
    status: Literal["proposed", "erased", "rejected"]
    proposed_by: str | None
    decided_by: str | None
    decided_at: datetime | None
    position: Position


class Erasures(Struct):
    """A page of erasures."""

    items: list[ErasureDocument]
    next: str | None
