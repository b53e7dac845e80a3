"""A firm's sealed books, and an export of them as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import fresh_database
from proof_world import KEYS, lively_firm
from statement_world import Firm
from support import T0, Clock, by, open_ledger

from ledger.application import CommissionLedger
from ledger.audit import directory as names
from ledger.audit import sealing
from ledger.audit.directory import Manifest
from ledger.domain.click import RecordClick
from ledger.exporting.exporter import export
from ledger.store import database as store
from ledger.store import log
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer

Tree = dict[str, bytes]


def seal_both(ledger: CommissionLedger, program: str, clock: Clock) -> None:
    """Sign a checkpoint of both logs."""
    for name in names.LOGS:
        sealing.seal(ledger, program, name, KEYS.signers(program, name), clock())


def click(firm: Firm, number: int) -> None:
    """Clicks, now."""
    clicks = [
        RecordClick(click_id=f"k{firm.clock.now:%d%H}-{n}", affiliate_id="ada", offer_id="shoes", occurred_at=T0)
        for n in range(number)
    ]
    firm.ledger.record_clicks(firm.program, clicks, by())


@pytest.fixture(scope="module")
def database(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """One database for the module; a test that changes something takes it back or makes a program of its own."""
    with fresh_database(server, template) as name:
        yield store.urls(server, name)


@pytest.fixture(scope="module")
def firm(database: Database) -> Iterator[Firm]:
    """Three months with statements and a reissue, payouts and clicks; sealed, with events behind the seal."""
    clock = Clock(T0)
    with open_ledger(database, clock) as ledger:
        made = lively_firm(ledger, clock)
        click(made, 70)
        made.adjust("reasoned", 100)
        seal_both(ledger, made.program, clock)
        clock.advance(hours=1)
        click(made, 30)
        made.sell("behind the seal", 1_000)
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 40 positions."""
    monkeypatch.setattr(names, "SEGMENT_POSITIONS", 40)


def files_of(root: Path) -> Tree:
    """Every file below a directory, hidden ones included."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def manifest_of(root: Path) -> Manifest:
    """Its manifest."""
    return names.read_manifest((root / names.MANIFEST).read_bytes())


def export_firm(firm: Firm, root: Path, **more: Any) -> Manifest:
    """Export the firm."""
    return export(firm.ledger, firm.program, root, **more).manifest


def lines_in(root: Path, name: str) -> list[bytes]:
    """The export lines of a log, from its segments in the order of the manifest."""
    paths = [file.path for file in manifest_of(root).files if file.log == name]
    return [line for path in paths for line in (root / path).read_bytes().split(b"\n")[:-1]]


def stored_lines(firm: Firm, name: str, until: int) -> list[bytes]:
    """The export lines as the API gives them."""
    with firm.ledger.reading(firm.program) as (cur, id_):
        rows = log.select_rows(cur, id_, name, 0, until)
    return [log.stored_line(id_, name, row) for row in rows]


def sealed_size(firm: Firm, name: str) -> int:
    """How far a log is sealed."""
    with firm.ledger.reading(firm.program) as (cur, id_):
        cur.execute("SELECT max(size) FROM checkpoints WHERE program_id = %s AND log = %s", (id_, name))
        row = cur.fetchone()
    assert row is not None
    return int(row[0])
