"""An export directory: which files it has, and what its manifest says. docs/export-directory.md is the description.

What writes one (`ledger.exporting`) and what verifies one (`ledger.audit`) share this page and nothing else.
"""

from __future__ import annotations

import re
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Struct

from ledger.audit.merkle import EMPTY_ROOT

FORMAT = "commission-ledger-export/1"
LOGS = ("books", "traffic")
NDJSON, PARQUET = "ndjson", "parquet"  # forms of a segment
SEGMENT_POSITIONS = 100_000  # a segment has so many positions, the last one of a log fewer

MANIFEST = "manifest.json"  # written last: without it the directory is no export
README = "README.md"
KEYS = "keys.txt"
BALANCES = "balances.ndjson"
STATEMENTS = "statements.ndjson"
CHECKPOINT = "checkpoint"  # in the log's directory, as is the next one
CONSISTENCY = "consistency.json"
LEAVES = "leaves"  # every leaf hash of the log, 32 bytes each, side by side: they name the place of a difference
EARLIER = "checkpoints.ndjson"  # earlier checkpoints, by size
HIDDEN = ".export."  # what the names of files begin with that belong to an export on its way

PARQUET_COLUMNS = (
    "position", "originator_id", "originator_version", "topic", "recorded_at", "actor", "key_id", "request_id", "cause",
    "state", "line",
)  # fmt: skip

MOST_EVENTS = (1 << 63) - 1  # a position is a bigint
_NAMESPACE = uuid5(NAMESPACE_URL, "commission-ledger")  # docs/export-line.md
_SLUG = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SEGMENT = re.compile(r"(books|traffic)/([0-9]{12,19})\.(ndjson|parquet)")


class DataFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the export, the manifest excepted. path: relative, with slashes; sha256: hex. first, last: the
    positions in a segment, and log the log that they are of; else 0, 0 and ''."""

    path: str
    bytes: int
    sha256: str
    log: str = ""
    first: int = 0
    last: int = 0


class LogEnd(Struct, frozen=True, forbid_unknown_fields=True):
    """How far a log is exported. size: its last position, 0 for an empty one; root: RFC 9162, over the leaf hashes of
    the lines 1 to size, hex. checkpoint_size: of the checkpoint that lies beside the segments; 0: there is none."""

    size: int
    root: str
    checkpoint_size: int


class Totals(Struct, frozen=True, forbid_unknown_fields=True):
    """Control totals. journal_lines and turnover (currency → sum of the lines' amounts, minor units): the journal up to
    the exported position of the books; accounts: lines of balances.ndjson; statements: of statements.ndjson."""

    events: dict[str, int]
    journal_lines: int
    turnover: dict[str, int]
    accounts: int
    statements: int


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """manifest.json. segments: the form of the segments; sealed: whether signed checkpoints vouch for the logs."""

    format: str
    segments: str
    program: str
    program_id: str
    currency: str
    code_version: str
    exported_at: datetime
    sealed: bool
    logs: dict[str, LogEnd]
    totals: Totals
    files: list[DataFile]


class BalanceLine(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of balances.ndjson. amount: debits less credits, minor units."""

    account: str
    currency: str
    amount: int


class StatementEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of statements.ndjson. document: the canonical JSON; hash: its SHA-256, hex."""

    affiliate_id: str
    period: str
    version: int
    hash: str
    document: str


class Consistency(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """consistency.json: an RFC 9162 proof from the exported size to the checkpoint's. proof: base64, a hash each."""

    from_: int
    to: int
    proof: list[str]


class EarlierCheckpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of checkpoints.ndjson. note: the signed note as it was published."""

    size: int
    note: str


class NoExport(ValueError):
    """Bytes that are no manifest of a format that is known here; the message says why."""


_decode = msgspec.json.Decoder(Manifest).decode


def encode_manifest(manifest: Manifest) -> bytes:
    """manifest.json's bytes: indented, so that a person can read it."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read_manifest(raw: bytes) -> Manifest:
    """A manifest from its bytes. Raises NoExport."""
    try:
        says = msgspec.json.decode(raw)
        if not isinstance(says, dict) or says.get("format") != FORMAT:
            found = says.get("format") if isinstance(says, dict) else None
            raise NoExport(f"the format is {found!r}; {FORMAT} is known here")
        manifest = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise NoExport(str(problem)) from None
    _must_make_sense(manifest)
    return manifest


def _must_make_sense(manifest: Manifest) -> None:
    """What a manifest says of itself. Raises NoExport."""
    if not _SLUG.fullmatch(manifest.program):
        raise NoExport("program must be 1-64 of A-Z a-z 0-9 . _ -")
    if manifest.program_id != str(uuid5(_NAMESPACE, f"program:{manifest.program}")):
        raise NoExport("program_id is not the id that the program's name leads to")
    if set(manifest.logs) != set(LOGS):
        raise NoExport("it does not say how far both logs go")
    for log, end in manifest.logs.items():
        if not 0 <= end.size <= MOST_EVENTS or not 0 <= end.checkpoint_size <= MOST_EVENTS:
            raise NoExport(f"{log}: size and checkpoint_size must be from 0 to {MOST_EVENTS}")
        if not end.size and (end.checkpoint_size or end.root != EMPTY_ROOT.hex()):
            raise NoExport(f"{log}: an empty log has the root of no events and checkpoint_size 0")


def segment_path(log: str, first: int, segments: str) -> str:
    """A segment's path, by the first position that belongs to it."""
    return f"{log}/{first:012}.{segments}"


def segment_bounds(size: int) -> list[tuple[int, int]]:
    """(first, last) position of each segment of a log."""
    return [(at, min(at + SEGMENT_POSITIONS - 1, size)) for at in range(1, size + 1, SEGMENT_POSITIONS)]


def read_segment_path(path: str) -> tuple[str, int, str] | None:
    """(log, first position, form) of a segment's path; None for another file's."""
    found = _SEGMENT.fullmatch(path)
    return (found[1], int(found[2]), found[3]) if found else None
