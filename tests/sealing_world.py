"""Traffic of one program, to be sealed, changed behind the ledger's back, and sealed again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from conftest import fresh_database
from support import T0, Clock, by, open_ledger, open_shop, owner, program_id

from ledger.application import CommissionLedger
from ledger.audit import sealing
from ledger.audit.keys import SigningKeys
from ledger.audit.merkle import leaf_hash, root_of
from ledger.audit.notes import Signer
from ledger.audit.sealing import Sealing, seal
from ledger.audit.tree import SealedCheckpoint
from ledger.domain.click import RecordClick
from ledger.store import log
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer
from ledger.store.log import Rows

OLD, NEW = b"\x01" * 32, b"\x02" * 32
KEYS = SigningKeys([OLD], "ledger.example")
numbers = itertools.count(1)


class Traffic:
    """A program of its own with clicks, and who seals it."""

    def __init__(self, ledger: CommissionLedger, database: Database) -> None:
        self.ledger, self.database = ledger, database
        self.program = f"sealed{next(numbers)}"
        self.id = program_id(self.program)
        open_shop(ledger, self.program)
        self._clicks = itertools.count()

    def click(self, count: int) -> None:
        """Record so many clicks."""
        while count:
            some = min(count, 5000)
            clicks = [
                RecordClick(click_id=f"c{next(self._clicks)}", affiliate_id="ada", offer_id="shoes", occurred_at=T0)
                for _ in range(some)
            ]
            self.ledger.record_clicks(self.program, clicks, by())
            count -= some

    def signers(self, keys: SigningKeys = KEYS) -> list[Signer]:
        return keys.signers(self.program, "traffic")

    def seal(self, keys: SigningKeys = KEYS, **more: Any) -> Sealing:
        return seal(self.ledger, self.program, "traffic", self.signers(keys), self.ledger.clock(), **more)

    def sealed(self) -> SealedCheckpoint:
        found = self.seal().checkpoint
        assert found is not None
        return found

    def lines(self) -> list[bytes]:
        """The export lines."""
        with self.ledger.reading(self.program) as (cur, id_):
            return [log.stored_line(id_, "traffic", row) for row in log.select_rows(cur, id_, "traffic", 0, 10**9)]

    def root(self, size: int | None = None) -> bytes:
        return root_of(leaf_hash(line) for line in self.lines()[:size])

    def checkpoints(self) -> list[int]:
        with owner(self.database) as conn:
            query = "SELECT size FROM checkpoints WHERE program_id = %s ORDER BY size"
            return [size for (size,) in conn.execute(query, (self.id,))]

    def tiles(self) -> list[tuple[int, int]]:
        with owner(self.database) as conn:
            query = "SELECT level, tile_index FROM tiles WHERE program_id = %s ORDER BY level, tile_index"
            return [(level, number) for level, number in conn.execute(query, (self.id,))]

    def tamper(self, table: str, statement: str, *params: Any) -> None:
        """What a superuser can do to this program's rows."""
        with owner(self.database) as conn:
            conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            changed = conn.execute(statement.format(table=table).encode(), (*params, self.id)).rowcount
            assert changed, "nothing was tampered with"

    def rewrite(self, position: int, *, hashed: bool) -> None:
        """Exchange an event for another; hashed: with its own leaf hash beside it."""
        self.tamper(
            "traffic_events", "UPDATE {table} SET actor = 'eve' WHERE position = %s AND program_id = %s", position
        )
        if hashed:
            leaf = leaf_hash(self.lines()[position - 1])
            self.tamper("traffic_events", "UPDATE {table} SET leaf_hash = %s WHERE position = %s AND program_id = %s",
                        leaf, position)  # fmt: skip


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """One database for all the tests here, each with a program of its own."""
    with fresh_database(server, template) as name:
        yield urls(server, name)


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def traffic(shared: Database, clock: Clock) -> Iterator[Traffic]:
    with open_ledger(shared, clock) as ledger:
        yield Traffic(ledger, shared)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit for every tile, so that a few hundred events have several."""
    monkeypatch.setattr(sealing, "BATCH", 256)


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """A ledger whose process dies at the n-th transaction that writes: before it, or after it was committed."""

    def __init__(self, ledger: CommissionLedger, writes: int, *, committed: bool) -> None:
        self._ledger, self._left, self._committed = ledger, writes, committed
        self.reading = ledger.reading

    @contextmanager
    def writing(self, program: str) -> Iterator[tuple[Rows, UUID]]:
        self._left -= 1
        if self._left == 0 and not self._committed:
            raise Killed
        with self._ledger.writing(program) as found:
            yield found
        if self._left == 0:
            raise Killed
