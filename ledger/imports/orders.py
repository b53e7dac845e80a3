"""`import orders`: a merchant's export into a program's books, all of it or, interrupted, the rest of it next time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import psycopg
import psycopg_pool

from ledger.application import CommissionLedger
from ledger.domain.errors import Unavailable
from ledger.domain.ids import program_id
from ledger.imports.errors import ImportRefused
from ledger.imports.mapping import Mapping
from ledger.imports.reading import content_digest
from ledger.imports.recording import Recording, Totals
from ledger.imports.staging import QUERIES, ImportFile, Progress, import_id, stage
from ledger.store.log import currency_of

PATIENCE = 60.0  # seconds to go on trying while the database is away, since the last progress
PAUSE = 0.5  # seconds between tries


class Settings(NamedTuple):
    """What is imported, and for whom. enrol: enrol and approve affiliates that are not known; actor: who imports."""

    program: str
    offer_id: str
    path: Path
    mapping: Mapping
    enrol: bool
    actor: str


def _no_progress(what: str, done: int, total: int | None) -> None:
    """Nobody watches."""


def import_orders(ledger: CommissionLedger, settings: Settings, progress: Progress = _no_progress) -> Totals:
    """Import a file. The same file again changes nothing and says the same.

    progress(what, done, total) is called as the work goes on. The database may go away and come back meanwhile.
    Raises ImportRefused for a file, mapping or program that does not allow it (nothing was recorded then), NotFound
    for an unknown program, Refusal or psycopg.Error when the database stays away: the same again goes on.
    """
    file = _identify(ledger, settings)
    run = _Run(ledger, settings, file, progress)
    while True:
        try:
            return run.attempt()
        except psycopg.errors.LockNotAvailable:
            run.wait_for_another()
        except psycopg.errors.QueryCanceled:
            raise  # somebody stopped it, or it took too long: the database is there
        except (psycopg.OperationalError, psycopg_pool.PoolTimeout, Unavailable):
            if time.monotonic() - run.last_progress > PATIENCE:
                raise
            time.sleep(PAUSE)


def _identify(ledger: CommissionLedger, settings: Settings) -> ImportFile:
    """The import's identity; checks that the program and the offer are there."""
    id_ = program_id(settings.program)
    with ledger.reading(settings.program) as (cur, _):
        of_program = currency_of(cur, id_)
        cur.execute(
            "SELECT 1 FROM directory WHERE program_id = %s AND kind = 'offer' AND record_id = %s"
            " AND status <> 'no_terms'",
            (id_, settings.offer_id),
        )
        if cur.fetchone() is None:
            raise ImportRefused(
                f"offer {settings.offer_id} has no terms in program {settings.program}: publish them first"
                " (`ledger offer publish`)"
            )
    currency = settings.mapping.constants.currency or of_program
    identity = import_id(id_, content_digest(settings.path), settings.mapping, settings.offer_id, currency)
    return ImportFile(settings.program, id_, identity, settings.path.name, settings.offer_id, currency, settings.enrol)


class _Run:
    """One call of import_orders, over as many attempts as the database makes it need."""

    def __init__(self, ledger: CommissionLedger, settings: Settings, file: ImportFile, progress: Progress) -> None:
        self._ledger, self._settings, self._file, self._progress = ledger, settings, file, progress
        self._changed = False
        self.last_progress = self._began = time.monotonic()

    def attempt(self) -> Totals:
        """Go on from wherever this import stands."""
        while True:
            state, totals = self._state()
            if state == "recorded":
                assert totals is not None
                totals.unchanged = not self._changed
                return totals
            if state == "matched":
                self._record(self._file)
            elif not self._stage():
                for other in self._unfinished():
                    self._record(other)

    def wait_for_another(self) -> None:
        """Another import of the program is reading its file: it may take as long as it takes."""
        self._told("another import is running; seconds waited", int(time.monotonic() - self._began), None)
        time.sleep(PAUSE)

    def _told(self, what: str, done: int, total: int | None) -> None:
        self.last_progress = time.monotonic()
        self._progress(what, done, total)

    def _state(self) -> tuple[str | None, Totals | None]:
        with self._ledger.pool.connection() as conn:
            row = conn.execute(QUERIES["select_file"], self._file.params).fetchone()
        if row is None:
            return None, None
        return row[0], msgspec.json.decode(row[1], type=Totals) if row[1] else None

    def _stage(self) -> bool:
        with self._ledger.pool.connection() as conn:
            settings = self._settings
            return stage(conn, self._file, settings.path, settings.mapping, self._ledger.clock(), self._told)

    def _unfinished(self) -> list[ImportFile]:
        with self._ledger.pool.connection() as conn:
            rows = conn.execute(QUERIES["select_unfinished"], self._file.params).fetchall()
        return [ImportFile(self._file.program, self._file.program_id, *row) for row in rows]

    def _record(self, file: ImportFile) -> None:
        recording = Recording(self._ledger, file, self._settings.actor, self._told)
        try:
            recording.run()
        finally:
            # Also when it was cut short: what came before the cut was new.
            if file.import_id == self._file.import_id and not recording.totals.unchanged:
                self._changed = True
