"""A log's own proof: gap-free, unaltered, every event in its stream, and sealed as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger import sql
from ledger.checking.findings import Findings
from ledger.checking.trees import TreeCheck
from ledger.domain.errors import Refusal
from ledger.domain.event import Recorded
from ledger.domain.ids import stream_id
from ledger.domain.program import ProgramOpened
from ledger.domain.stream_keys import stream_key
from ledger.domain.topics import MASTER_KINDS
from ledger.projections import shadow
from ledger.store import codec
from ledger.store.log import Rows, line_maker

QUERIES = sql.load("ledger.checking", "checking.sql")


class Row(NamedTuple):
    """A row of a log as it is stored. event: decoded, None where that was not possible."""

    position: int
    topic: str
    state: str
    recorded_at: datetime
    leaf_hash: bytes
    event: Recorded | None


class LogCheck:
    """Reads one log from its first row on. position: of the last row read; cur: for questions beside the rows."""

    def __init__(self, cur: Rows, program_id: UUID, log: str, findings: Findings) -> None:
        self._cur, self._program_id, self._log, self._findings = cur, program_id, log, findings
        self.position = 0
        self._recorded_at: datetime | None = None
        self._master_position = 0
        self._opened: ProgramOpened | None = None
        self._line = line_maker(program_id, log)
        self._tree = TreeCheck(cur, program_id, log, findings)

    def _params(self, **more: Any) -> dict[str, Any]:
        return {"program_id": self._program_id, "log": self._log, **more}

    def _add(self, kind: str, position: int | None, expected: Any, found: Any, what: str = "") -> None:
        self._findings.add(kind, what or f"{self._log} {position}", position, expected, found)

    def read(self, rows: Sequence[Any]) -> list[Row]:
        """Check the next rows, and decode them. rows: the columns of select_rows and the leaf hash."""
        leaves: list[bytes] = []
        read = [self._row(row, bytes(row[-1]), leaves) for row in rows]
        self._tree.extend(leaves)
        self._findings.checked[f"{self._log} events"] += len(read)
        return read

    def _row(self, row: Any, leaf: bytes, leaves: list[bytes]) -> Row:
        position, originator, _, topic, recorded_at = row[:5]
        if position != self.position + 1:
            self._add("position_gap", position, self.position + 1, position)
        self.position = position
        if self._recorded_at is not None and recorded_at < self._recorded_at:
            self._add("time_falls", position, f"not before {self._recorded_at.isoformat()}", recorded_at)
        self._recorded_at = recorded_at
        made = codec.leaf_hash(self._line(row))
        if made != leaf:
            self._add("leaf_differs", position, leaf.hex(), made.hex())
        leaves.append(made)
        return Row(position, topic, row[9], recorded_at, leaf, self._event(row, originator))

    def _event(self, row: Any, originator: UUID) -> Recorded | None:
        try:
            event = shadow.recorded(*row[:-1])
            key = stream_key(event.body)
        except codec.UnknownTopic:
            self._add("topic_unknown", row[0], "a topic on the list", row[3])
            return None
        except (msgspec.DecodeError, Refusal) as problem:
            self._add("event_unreadable", row[0], f"a {row[3]}", str(problem))
            return None
        named = stream_id(self._program_id, key)
        if named != originator:
            self._add("stream_id_differs", row[0], f"{named} ({key})", str(originator))
        if key.partition(":")[0] in MASTER_KINDS:
            self._master_position = row[0]
        if isinstance(event.body, ProgramOpened):
            self._opened = event.body
        return event

    # --- at the end --------------------------------------------------------------------------------------

    def end(self) -> None:
        """What can be said once the last row is read: the head, the streams, checkpoints beyond the end."""
        self._tree.end()
        self._check_head()
        self._cur.execute(QUERIES[f"select_broken_streams_of_{self._log}"], self._params())
        for originator, position, version, expected in self._cur:
            what = f"stream {originator}, event {position}"
            self._add("stream_version_gap", position, f"version {expected}, in the order of the log", version, what)
        if self._log == "books":
            self._check_program()
            self._cur.execute(QUERIES["select_followers_ahead"], self._params(last=self.position))
            for follower, position in self._cur:
                self._add("follower_ahead", position, f"at most {self.position}", position, f"follower {follower}")

    def _check_head(self) -> None:
        self._cur.execute(QUERIES["select_head"], self._params())
        row = self._cur.fetchone()
        what = f"head of {self._log}"
        if row is None:
            self._add("head_differs", None, "a row", None, what)
            return
        following, last_recorded_at, master, _ = row
        if following != self.position + 1:
            self._add("head_differs", self.position, self.position + 1, following, f"{what}: next_position")
        if self._recorded_at is not None and last_recorded_at != self._recorded_at:
            self._add("head_differs", self.position, self._recorded_at, last_recorded_at, f"{what}: last_recorded_at")
        # it is the last position of the batch that brought the master data's last event
        if self._log == "books" and not self._master_position <= master <= self.position:
            between = f"{self._master_position} to {self.position}"
            self._add("head_differs", self._master_position, between, master, f"{what}: master_position")

    def _check_program(self) -> None:
        self._cur.execute(QUERIES["select_program"], self._params())
        row = self._cur.fetchone()
        expected = (self._opened.program, self._opened.currency) if self._opened else None
        found = (row[0], row[1]) if row else None
        if expected != found:
            self._add("head_differs", 1 if self._opened else None, expected, found, "program")
