"""Touches as attribution finds them: a click by its id, a customer's last click, and journeys. Written with the traffic
log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from operator import attrgetter
from struct import Struct as Packed
from typing import Protocol
from uuid import UUID

import msgspec

from ledger import sql
from ledger.domain.click import ClickRecorded, ClickSeen
from ledger.domain.plans.journey import MOST_TOUCHES, JourneyKey, Touch
from ledger.store import codec
from ledger.store.copy import BINARY_HEADER, BINARY_TRAILER, MICROSECOND, PG_EPOCH, text_field
from ledger.store.log import Rows, uuid_array

QUERIES = sql.load("ledger.projections", "touches.sql")

CustomerKey = tuple[str, str, datetime]  # (customer_id, offer_id, not after)

_COLUMNS = "program_id, person, occurred_at, position, originator_id, kind, offer_id, affiliate_id, channel, duplicate"
_NULL = b"\xff\xff\xff\xff"
_PROGRAM = Packed(">hi16s").pack  # so many fields, and the first
_PLACE = Packed(">iqiqi16s").pack  # occurred_at, position, originator_id
_FLAG = Packed(">i?").pack
_in_order = attrgetter("occurred_at", "position")


def of_customer(customer_id: str) -> str:
    """The person that a customer's touches are found by."""
    return f"customer:{customer_id}"


def of_visitor(visitor_id: str) -> str:
    """The person that a visitor's touches are found by."""
    return f"visitor:{visitor_id}"


# --- looking up ----------------------------------------------------------------------------------------------


def _seen(position: int, topic: str, state: str, leaf: bytes) -> ClickSeen:
    click = codec.decode_state(topic, state)
    assert isinstance(click, ClickRecorded)
    return ClickSeen(
        click.click_id, click.affiliate_id, click.offer_id, click.occurred_at, position, leaf.hex(), click.channel
    )


def clicks(cur: Rows, program_id: UUID, ids: Sequence[UUID]) -> list[ClickSeen]:
    """The recorded clicks among some stream ids."""
    cur.execute(QUERIES["select_clicks"], {"ids": uuid_array(ids), "program_id": program_id})
    return [_seen(*row) for row in cur]


def last_clicks(cur: Rows, program_id: UUID, keys: Sequence[CustomerKey]) -> dict[CustomerKey, ClickSeen | None]:
    """Each customer's last click on an offer at or before an instant: one index probe each, in one statement."""
    found: dict[CustomerKey, ClickSeen | None] = dict.fromkeys(keys)
    params = {
        "persons": [of_customer(key[0]) for key in keys],
        "offers": [key[1] for key in keys],
        "untils": [key[2] for key in keys],
        "program_id": program_id,
    }
    cur.execute(QUERIES["select_last_clicks"], params)
    for number, *row in cur:
        found[keys[number - 1]] = _seen(*row)
    return found


def journeys(cur: Rows, program_id: UUID, keys: Sequence[JourneyKey]) -> dict[JourneyKey, list[Touch]]:
    """Each journey in order of time: the newest MOST_TOUCHES clicks of its customer and its visitor, and, where they
    are asked for, as many impressions. One statement, one index probe for each person and kind."""
    found: list[dict[int, Touch]] = [{} for _ in keys]
    wanted = [{"n": number, **key._asdict()} for number, key in enumerate(keys)]
    params = {"keys": msgspec.json.encode(wanted).decode(), "program_id": program_id, "most": MOST_TOUCHES}
    cur.execute(QUERIES["select_touches"], params)
    for number, position, affiliate_id, occurred_at, kind, channel in cur.fetchall():
        # a click of somebody who is known as customer and as visitor has two rows
        found[number][position] = Touch(position, affiliate_id, occurred_at, kind, channel)
    return {key: _newest(touches.values()) for key, touches in zip(keys, found, strict=True)}


def _newest(touches: Collection[Touch]) -> list[Touch]:
    """Of each kind the newest ones: however many impressions there are, they leave no click out."""
    ordered = sorted(touches, key=_in_order)
    if len(ordered) <= MOST_TOUCHES:
        return ordered
    clicked = [touch for touch in ordered if touch.kind == "click"]
    seen = [touch for touch in ordered if touch.kind != "click"]
    return sorted(clicked[-MOST_TOUCHES:] + seen[-MOST_TOUCHES:], key=_in_order)


# --- writing -------------------------------------------------------------------------------------------------


class Touched(Protocol):
    """A click or an impression, as the table has it: a command, or the event that it led to."""

    @property
    def affiliate_id(self) -> str: ...
    @property
    def offer_id(self) -> str: ...
    @property
    def occurred_at(self) -> datetime: ...
    @property
    def customer_id(self) -> str | None: ...
    @property
    def visitor_id(self) -> str | None: ...
    @property
    def channel(self) -> str | None: ...
    @property
    def duplicate(self) -> bool: ...


class TouchRows:
    """Rows on their way into the table. What many share, an affiliate's link in a channel, is packed once."""

    def __init__(self, program_id: UUID) -> None:
        self._program = _PROGRAM(10, 16, program_id.bytes)
        self._shared: dict[tuple[str, str, str, str | None, bool], bytes] = {}
        self._parts: list[bytes] = []

    def add(self, kind: str, position: int, originator_id: bytes, touch: Touched) -> None:
        """A row for the customer and one for the visitor, as far as they are known. kind: 'click' or 'impression'."""
        if touch.customer_id is None and touch.visitor_id is None:
            return
        link = (kind, touch.offer_id, touch.affiliate_id, touch.channel, touch.duplicate)
        shared = self._shared.get(link) or self._pack(link)
        place = _PLACE(8, (touch.occurred_at - PG_EPOCH) // MICROSECOND, 8, position, 16, originator_id)
        if touch.customer_id is not None:
            self._parts += (self._program, text_field(of_customer(touch.customer_id)), place, shared)
        if touch.visitor_id is not None:
            self._parts += (self._program, text_field(of_visitor(touch.visitor_id)), place, shared)

    def _pack(self, link: tuple[str, str, str, str | None, bool]) -> bytes:
        kind, offer_id, affiliate_id, channel, duplicate = link
        packed = b"".join(
            (
                text_field(kind),
                text_field(offer_id),
                text_field(affiliate_id),
                _NULL if channel is None else text_field(channel),
                _FLAG(1, duplicate),
            )
        )
        self._shared[link] = packed
        return packed

    def store(self, cur: Rows) -> None:
        """Write them."""
        if not self._parts:
            return
        with cur.copy(f"COPY touches ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(b"".join((BINARY_HEADER, *self._parts, BINARY_TRAILER)))
