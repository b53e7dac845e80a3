"""Each stream by itself: gap-free versions, the id its name leads to, every event through the ledger's own fold, and
the naive prices beside it.

A log's streams are spread over buckets by their ids, so that one bucket's states fit into memory however long the log
is. Buckets wait on disk, once they are large, and are read one by one or by several processes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger.audit.findings import Findings
from ledger.audit.lines import UnreadableLine, is_canonical, read_line
from ledger.audit.naive_commissions import Prices, Terms
from ledger.audit.naive_names import NAME_OF, stream_id
from ledger.domain import exceptions
from ledger.domain.conversion_state import ConversionState
from ledger.domain.event import Event
from ledger.domain.topics import FOLDS
from ledger.store.codec import UPCASTERS, UnknownTopic, decode_state, encode_state

EVENTS_A_BUCKET = 50_000
MOST_BUCKETS = 1024
MEMORY_BYTES = 64 << 20  # of lines that wait, before they go to disk
FLUSH_BYTES = 256 << 10
_PRICED = frozenset(topic for topic in NAME_OF if topic.startswith(("Conversion", "Commission")))
_exception_fold = exceptions.fold

Owed = dict[tuple[str, str, str], int]  # (affiliate id, currency, bucket) → minor units


class Buckets:
    """Lines of a log, by stream. folder: makes or names where they go once they are many."""

    def __init__(self, folder: Callable[[], Path], log: str, events: int) -> None:
        self._folder, self._log = folder, log
        self.count = max(1, min(MOST_BUCKETS, -(-events // EVENTS_A_BUCKET)))
        self.waiting: list[list[bytes]] = [[] for _ in range(self.count)]
        self._bytes = 0
        self._on_disk = False

    def number(self, originator_id: str) -> int:
        """Which bucket a stream is in."""
        return int(originator_id[:4], 16) * self.count >> 16

    def added(self, size: int) -> None:
        """So many bytes of lines were put into `waiting`."""
        self._bytes += size
        if self._bytes >= (FLUSH_BYTES * self.count if self._on_disk else MEMORY_BYTES):
            self._flush()

    def _flush(self) -> None:
        self._on_disk, self._bytes = True, 0
        for number, lines in enumerate(self.waiting):
            if lines:
                with self._path(number).open("ab") as file:
                    file.write(b"\n".join(lines) + b"\n")
                lines.clear()

    def _path(self, number: int) -> Path:
        return self._folder() / f"{self._log}-{number:04}"

    def parts(self) -> list[tuple[Path | None, list[bytes]]]:
        """What each bucket's lines are read from: a file of its own, or memory."""
        if self._on_disk:
            self._flush()
            return [(self._path(n), []) for n in range(self.count) if self._path(n).exists()]
        return [(None, lines) for lines in self.waiting]


class Folded(NamedTuple):
    """What a bucket came to. owed: what the folds' states say is in each affiliate's buckets; streams: how many."""

    findings: Findings
    owed: Owed
    streams: int


class _Stream:
    __slots__ = ("broken", "fold", "name", "state", "version")

    def __init__(self, name: str) -> None:
        self.name, self.version = name, 0
        self.state: Any = None
        kind = name.partition(":")[0]
        # what is no stream of the ledger's has exceptions only; clicks and impressions have no state
        self.fold: Any = FOLDS.get(kind) or (None if kind in ("click", "impression") else _exception_fold)
        self.broken = False


def fold_bucket(path: Path | None, lines: Iterable[bytes], log: str, program_id: str, terms: Terms) -> Folded:
    """Read one bucket. lines: its lines, in the order of positions, where it has no file."""
    bucket = _Bucket(log, UUID(program_id), terms)
    if path is None:
        return bucket.read(lines)
    with path.open("rb") as file:
        return bucket.read(line[:-1] for line in file)


class _Bucket:
    def __init__(self, log: str, program_id: UUID, terms: Terms) -> None:
        self._log, self._program_id = log, program_id
        self._findings = Findings()
        self._prices = Prices(self._findings, terms)
        self._streams: dict[str, _Stream] = {}

    def read(self, lines: Iterable[bytes]) -> Folded:
        """What all of the bucket's lines come to."""
        for line in lines:
            try:
                read = read_line(line)
                if not is_canonical(read, line):
                    expected = "a line as docs/export-line.md writes it"
                    self._tell("line_unreadable", read.position, expected, "another form")
                self._event(read.position, read.originator_id, read.originator_version, read.topic, bytes(read.state))
            except UnreadableLine:
                continue  # was told when the log was read
        self._prices.end()
        owed: Owed = defaultdict(int)
        for stream in self._streams.values():
            for affiliate_id, currency, bucket, amount in _owed(stream.name, stream.state):
                owed[affiliate_id, currency, bucket] += amount
        return Folded(self._findings, dict(owed), len(self._streams))

    def _event(self, position: int, originator_id: str, version: int, topic: str, raw: bytes) -> None:
        try:
            e = msgspec.json.decode(raw)
            name = NAME_OF[topic](e)
        except KeyError as problem:
            if topic not in NAME_OF and topic not in UPCASTERS:
                self._tell("topic_unknown", position, "a topic that this version knows", topic)
            else:
                self._tell("event_unreadable", position, f"a member {problem}", f"none in {topic}")
            return
        except (msgspec.DecodeError, ValueError, TypeError, AttributeError, RecursionError) as problem:
            self._tell("event_unreadable", position, f"a state of {topic}", problem)
            return
        stream = self._streams.get(originator_id)
        if stream is None:
            stream = self._begin(position, originator_id, name)
        if stream.name != name:
            self._tell("stream_id_differs", position, f"an event of {stream.name}", f"one of {name}", originator_id)
        if version != stream.version + 1:
            self._tell("stream_version_gap", position, f"version {stream.version + 1}", version, name)
        stream.version = version
        try:
            body = decode_state(topic, raw)
        except (msgspec.DecodeError, UnknownTopic, KeyError, TypeError, ValueError, RecursionError) as problem:
            self._tell("event_unreadable", position, f"a state of {topic}", problem, name)
            stream.broken = True
            return
        if topic not in UPCASTERS and encode_state(body) != raw:
            expected = "each member once, none that is unknown, none with its default value"
            self._tell("event_unreadable", position, expected, f"another form of {topic}", name)
        if not stream.broken and stream.fold is not None:
            self._fold(position, stream, topic, body)
        if topic in _PRICED:
            self._price(position, topic, e, name)

    def _begin(self, position: int, originator_id: str, name: str) -> _Stream:
        expected = stream_id(self._program_id, name)
        if expected != originator_id:
            self._tell("stream_id_differs", position, expected, originator_id, name)
        stream = self._streams[originator_id] = _Stream(name)
        return stream

    def _fold(self, position: int, stream: _Stream, topic: str, body: Event) -> None:
        try:
            stream.state = stream.fold(stream.state, body)
        except Exception as problem:  # whatever a fold cannot take is a finding, not an accident
            told = f"{type(problem).__name__} {problem}".strip()
            self._tell("fold_refused", position, f"that {topic} may follow", told, stream.name)
            stream.broken = True

    def _price(self, position: int, topic: str, e: dict[str, Any], name: str) -> None:
        try:
            self._prices.event(position, topic, e)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
            self._tell("event_unreadable", position, f"a state of {topic}", repr(problem), name)

    def _tell(self, kind: str, position: int, expected: object, found: object, subject: str = "") -> None:
        self._findings.report(kind, self._log, position, expected, found, subject)


def _owed(name: str, state: Any) -> Iterator[tuple[str, str, str, int]]:
    """(affiliate id, currency, bucket, minor units) that a stream's folded state stands for. paid: below zero, as the
    account says it."""
    kind = name.partition(":")[0]
    if kind == "conversion" and isinstance(state, ConversionState):
        for one in state.commissions.values():
            if one.bucket != "none" or one.outstanding:
                yield one.affiliate_id, one.currency, one.bucket, one.outstanding
    elif kind == "adjustment" and state is not None and state.status == "posted":
        yield state.proposed.affiliate_id, state.proposed.currency, "payable", state.proposed.amount
    elif kind == "payout" and state is not None and state.status in ("initiated", "unknown", "settled"):
        said = state.proposed
        bucket = "paid" if state.status == "settled" else "in_transit"
        yield said.affiliate_id, said.currency, "payable", -said.amount
        yield said.affiliate_id, said.currency, bucket, state.transfer_amount
