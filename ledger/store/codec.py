"""How an event is stored, and the line of it that is sealed.

The state is compact JSON, readable in SQL. The export line is one JSON object with the columns of the log in a fixed
order and the state exactly as stored; its leaf hash is SHA-256(0x00 || line) (RFC 6962, section 2.1). The line is
fixed byte for byte: it may gain a new version "v" for new events, and never changes for old ones
(tests/vectors/export_lines.ndjson).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder

from ledger.domain.event import Event, Recorded
from ledger.domain.topics import EVENT_OF, TOPIC_OF

LINE_VERSION = 1

_encode = msgspec.json.Encoder().encode
_DECODERS: dict[str, Callable[[bytes | str], Event]] = {
    topic: msgspec.json.Decoder(event).decode for topic, event in EVENT_OF.items()
}

# old topic → how its state becomes (today's topic, today's state). Nothing has changed its form yet.
UPCASTERS: dict[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]] = {}


class UnknownTopic(Exception):
    """A row of the log names a topic that is not on the list; nothing is ever imported by a name in a row."""


def encode_state(event: Event) -> bytes:
    """The state column of an event: compact JSON, UTF-8."""
    return _encode(event)


def decode_state(topic: str, state: bytes | str) -> Event:
    """The event of a row, of whatever age. Raises UnknownTopic, msgspec.DecodeError."""
    decoder = _DECODERS.get(topic)
    if decoder is not None:
        return decoder(state)
    upcast = UPCASTERS.get(topic)
    if upcast is None:
        raise UnknownTopic(topic)
    topic, fields = upcast(msgspec.json.decode(state))
    return msgspec.convert(fields, EVENT_OF[topic], strict=False)


@lru_cache(maxsize=8192)
def quoted(text: str) -> str:
    """A JSON string."""
    return _encode(text).decode()


def instant_text(instant: datetime) -> str:
    """RFC 3339 in UTC with exactly six decimals, as it stands in an export line."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def line_prefix(program_id: UUID | str, log: str) -> str:
    """What all export lines of a log begin with."""
    return f'{{"v":{LINE_VERSION},"program_id":"{program_id}","log":"{log}","position":'


def line_middle(topic: str, recorded_at: str, actor: str, key_id: str, request_id: str, cause: str) -> str:
    """The part of an export line between originator_version and state."""
    return (
        f',"topic":{quoted(topic)},"recorded_at":"{recorded_at}","actor":{quoted(actor)},"key_id":{quoted(key_id)}'
        f',"request_id":{quoted(request_id)},"cause":{quoted(cause)},"state":'
    )


def export_line(
    prefix: str, position: int, originator_id: UUID | str, originator_version: int, middle: str, state: bytes
) -> bytes:
    """The export line of an event, without a newline. prefix, middle: see line_prefix and line_middle."""
    head = f'{prefix}{position},"originator_id":"{originator_id}","originator_version":{originator_version}{middle}'
    return head.encode() + state + b"}"


def leaf_hash(line: bytes) -> bytes:
    """RFC 6962 leaf hash, 32 bytes."""
    return sha256(b"\x00" + line).digest()


class LedgerMapper(Mapper[UUID]):
    """The library's mapper, with our codec: events are structs, topics are names on a list."""

    def __init__(self) -> None:
        super().__init__(transcoder=_NoTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """Event to row."""
        assert isinstance(domain_event, Recorded)
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=TOPIC_OF[type(domain_event.body)],
            state=encode_state(domain_event.body),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Row to event. Raises UnknownTopic."""
        assert isinstance(stored_event.originator_id, UUID)
        return Recorded(
            stored_event.originator_id,
            stored_event.originator_version,
            decode_state(stored_event.topic, stored_event.state),
        )


class _NoTranscoder(Transcoder):
    """The library's mapper wants one; ours never asks it."""

    def encode(self, obj: Any) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> Any:
        raise NotImplementedError
