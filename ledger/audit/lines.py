"""An export line as the auditor reads it: from the bytes alone, with none of the ledger's event types.

docs/export-line.md says what stands in it. The state stays as it is, bytes.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct


class ExportLine(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One event of a log. Ids and instants as text, as they stand there."""

    v: int
    program_id: str
    log: str
    position: int
    originator_id: str
    originator_version: int
    topic: str
    recorded_at: str
    actor: str
    key_id: str
    request_id: str
    cause: str
    state: msgspec.Raw


_RECORDED_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ExportLine).decode
LINE_VERSIONS = (1,)


class UnreadableLine(ValueError):
    """Bytes that are no export line; the message says why."""


def read_line(line: bytes) -> ExportLine:
    """An export line without its newline. Raises UnreadableLine."""
    try:
        read = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise UnreadableLine(str(problem)) from None
    if read.v not in LINE_VERSIONS:
        raise UnreadableLine(f"version {read.v} is not known here")
    return read


def is_canonical(read: ExportLine, line: bytes) -> bool:
    """Whether the line is written as docs/export-line.md says, byte for byte: what two readers could understand
    differently (a member twice, another order, white space) is no export line. The state is another question."""
    return _encode(read) == line and _RECORDED_AT.fullmatch(read.recorded_at) is not None
