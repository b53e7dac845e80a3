"""Timelines, as the OpenAPI document describes them. Amounts are minor units."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from api.documents.books import Posting
from api.documents.problems import Position


class TimelineEntry(Struct):
    """An event. sentence: what happened; stream: the record in whose stream it stands, kind and id; lines: the journal
    lines it made. key_id is empty for a command on the server, cause names what led to it."""

    position: Position
    log: Literal["books", "traffic"]
    recorded_at: datetime
    topic: str
    sentence: str
    stream: str
    lines: list[Posting]
    actor: str
    request_id: str
    key_id: str
    cause: str


class OwnTimelineEntry(Struct):
    """An event of an affiliate's timeline; actor, request_id, key_id and cause are left out for the affiliate
    itself."""

    position: Position
    log: Literal["books", "traffic"]
    recorded_at: datetime
    topic: str
    sentence: str
    stream: str
    lines: list[Posting]
    actor: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET


class Timeline(Struct):
    """A page of a timeline, oldest first."""

    items: list[TimelineEntry]
    next: str | None


class AffiliateTimeline(Struct):
    """A page of an affiliate's timeline, oldest first."""

    items: list[OwnTimelineEntry]
    next: str | None
