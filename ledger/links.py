"""What a tracking link needs to know, kept in memory: landing pages and affiliates, also while the database is down.

One thread asks the database, for all who wait at the same time, so that strangers with made-up names cost one
query at a time however many they are. Nobody waits for a database that does not answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar
from uuid import UUID

from msgspec import Struct

from ledger.domain import offer
from ledger.domain.errors import InvalidInput, NotFound, Unavailable
from ledger.domain.event import Event, fold_all
from ledger.domain.ids import check_slug, program_id
from ledger.domain.offer import OfferState
from ledger.store import log as store
from ledger.store.database import Pool
from ledger.store.log import Rows

FRESH_SECONDS = 2.0  # how old an answer may be while the database is there
REFRESH_SECONDS = 1.0  # how often the programs in use are looked at
WAIT_SECONDS = 0.5  # how long a visitor waits for an answer that is not in memory
RETRY_SECONDS = 0.5
UNKNOWN_SECONDS = 1.0  # for how long 'does not exist' is believed
MOST_PROGRAMS = 5_000
WARM_PROGRAMS = 1_000
WARM_AT_ONCE = 20
MOST_AFFILIATES = 100_000
MOST_UNKNOWN = 5_000

K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)


class _Recent(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets what was used least recently."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: K, value: V) -> None:
        """Remember, as the most recent."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


class _Program(Struct):
    """A program's offers (id → landing page, '' for none) as of master_position; loaded_at, used_at: monotonic
    seconds."""

    offers: dict[str, str]
    master_position: int
    loaded_at: float
    used_at: float


Name = tuple[str, str, str]  # (program, "offer" or "affiliate" or "", id): what may be unknown


class Links:
    """The landing pages of tracking links. Thread-safe; its thread starts with the first question."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changed = threading.Condition()
        self._programs: _Recent[str, _Program] = _Recent(MOST_PROGRAMS)
        self._affiliates: _Recent[tuple[str, str], None] = _Recent(MOST_AFFILIATES)
        self._unknown: _Recent[Name, float] = _Recent(MOST_UNKNOWN)
        self._wanted: dict[str, set[str]] = {}  # program → affiliates to look for
        self._asked = self._answered = 0  # rounds
        self._round_began: float | None = None
        self._failed = False
        self._thread: threading.Thread | None = None
        self._closing = False

    @property
    def healthy(self) -> bool:
        """Whether the database answered when it was last asked, and is not taking too long just now."""
        began = self._round_began
        return not self._failed and (began is None or time.monotonic() - began < WAIT_SECONDS)

    def landing_page(self, program: str, affiliate_id: str, offer_id: str) -> str:
        """Where an offer's visitors go, not older than FRESH_SECONDS while the database answers.

        Raises NotFound for what does not exist; Unavailable when the offer is not in memory and the database does
        not say. While it is silent, an affiliate that is not in memory is taken on trust.
        """
        for field, value in (("program", program), ("affiliate", affiliate_id), ("offer", offer_id)):
            try:
                check_slug(field, value)
            except InvalidInput:
                raise NotFound(f"{field} does not exist") from None
        current = self._look(program, affiliate_id, offer_id)
        if not current:
            current = self._ask(program, affiliate_id)
        known = self._programs.get(program)
        if known is None:
            if current:
                raise self._absent((program, "", ""), f"program {program} does not exist")
            raise Unavailable()
        page = known.offers.get(offer_id)
        if page is None and not current:
            raise Unavailable()
        if page is None:
            raise self._absent((program, "offer", offer_id), f"offer {offer_id} does not exist")
        if current and (program, affiliate_id) not in self._affiliates:
            raise self._absent((program, "affiliate", affiliate_id), f"affiliate {affiliate_id} does not exist")
        if not page:
            raise NotFound(f"offer {offer_id} has no landing page")
        return page

    def start(self) -> None:
        """Begin to fill the memory, so that the first visitor after this may come in an outage."""
        with self._changed:
            self._start()

    def close(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(WAIT_SECONDS)

    # --- asking ----------------------------------------------------------------------------------------

    def _look(self, program: str, affiliate_id: str, offer_id: str) -> bool:
        """Whether memory has a current answer, be it that something does not exist."""
        with self._changed:
            now = time.monotonic()
            names: tuple[Name, ...] = (
                (program, "", ""), (program, "offer", offer_id), (program, "affiliate", affiliate_id),
            )  # fmt: skip
            if any(self._unknown.get(name, 0.0) > now for name in names):
                return True
            known = self._programs.get(program)
            if known is None:
                return False
            known.used_at = now
            self._programs.move_to_end(program)
            if (program, affiliate_id) not in self._affiliates or offer_id not in known.offers:
                return False
            self._affiliates.move_to_end((program, affiliate_id))
            return now - known.loaded_at <= FRESH_SECONDS

    def _ask(self, program: str, affiliate_id: str) -> bool:
        """Wait for the database's answer to a question asked after now. False when there is none in time."""
        with self._changed:
            self._start()
            if not self.healthy:
                return False
            self._wanted.setdefault(program, set()).add(affiliate_id)
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= mine or self._failed, timeout=WAIT_SECONDS)
            return self._answered >= mine

    def _absent(self, name: Name, message: str) -> NotFound:
        with self._changed:
            if self._unknown.get(name, 0.0) <= time.monotonic():
                self._unknown.put(name, time.monotonic() + UNKNOWN_SECONDS)
        return NotFound(message)

    # --- the thread ------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="tracking-links", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        cold: list[str] | None = None  # programs to load while nobody waits; None: not looked up yet
        while True:
            with self._changed:
                pause = RETRY_SECONDS if self._failed else 0.0 if cold or cold is None else REFRESH_SECONDS
                self._changed.wait_for(lambda: self._wanted or self._closing, timeout=pause)
                if self._closing:
                    return
                asked, wanted = self._asked, self._wanted
                self._wanted = {}
                self._round_began = time.monotonic()
                for program in [*self._in_use(), *(cold or ())[:WARM_AT_ONCE]]:
                    wanted.setdefault(program, set())
            try:
                found = self._round(wanted, list_programs=cold is None)
                cold = found if cold is None else cold[WARM_AT_ONCE:]
                failed = False
            except Exception as error:
                failed = True
                if not self._failed:
                    log.warning("tracking links go on from memory: %s", type(error).__name__)
            with self._changed:
                self._failed, self._round_began = failed, None
                if not failed:
                    self._answered = asked
                self._changed.notify_all()

    def _in_use(self) -> list[str]:
        """The programs that were asked about since they were loaded."""
        return [name for name, one in self._programs.items() if one.used_at >= one.loaded_at]

    def _round(self, wanted: dict[str, set[str]], *, list_programs: bool) -> list[str]:
        """Load programs. Returns the newest of all that there are, if asked to (across programs, once in a life):
        they are to be known when an outage begins."""
        with self._pool.connection() as conn, conn.cursor() as cur:
            for program, affiliates in wanted.items():
                self._load(cur, program, affiliates)
            if not list_programs:
                if not wanted:
                    cur.execute("SELECT 1")  # is it there again?
                return []
            cur.execute("SELECT program FROM programs ORDER BY opened_at DESC LIMIT %s", (WARM_PROGRAMS,))
            return [program for (program,) in cur if program not in self._programs]

    def _load(self, cur: Rows, program: str, affiliates: Iterable[str]) -> None:
        id_, began = program_id(program), time.monotonic()
        cur.execute("SELECT master_position FROM log_heads WHERE program_id = %s AND log = 'books'", (id_,))
        row = cur.fetchone()
        if row is None:
            return
        (position,) = row
        known = self._programs.get(program)
        if known is None:
            changed, offers = _landing_pages(cur, id_, -1), {}
        elif known.master_position != position:
            changed, offers = _landing_pages(cur, id_, known.master_position), known.offers
        else:
            changed, offers = {}, known.offers
        looked_for = [one for one in affiliates if (program, one) not in self._affiliates]
        found = _existing(cur, id_, looked_for) if looked_for else []
        with self._changed:
            used_at = known.used_at if known else -1.0
            # A new dict, because readers look at the old one without the lock.
            self._programs.put(program, _Program({**offers, **changed}, position, began, used_at))
            for one in found:
                self._affiliates.put((program, one), None)


def _landing_pages(cur: Rows, id_: UUID, after: int) -> dict[str, str]:
    """The landing pages of the offers that changed behind a position of the books."""
    cur.execute(
        "SELECT originator_id FROM directory WHERE program_id = %s AND kind = 'offer' AND position > %s",
        (id_, after),
    )
    streams: dict[UUID, list[Event]] = {stream: [] for (stream,) in cur.fetchall()}
    if not streams:
        return {}
    for record in store.select_streams(cur, id_, list(streams)):
        streams[record.originator_id].append(record.body)
    states = [fold_all(offer.fold, events) for events in streams.values()]
    return {state.offer_id: checked_page(state) for state in states if state is not None}


def checked_page(state: OfferState) -> str:
    """The landing page, if it is one: it is checked when it is stored, and again before anybody is sent there."""
    try:
        if state.landing_url:
            offer.check_landing_url(state.landing_url)
    except InvalidInput:
        log.error("offer %s has a landing page that is not an http(s) address", state.offer_id)
        return ""
    return state.landing_url


def _existing(cur: Rows, id_: UUID, affiliates: list[str]) -> list[str]:
    cur.execute(
        "SELECT record_id FROM directory WHERE program_id = %s AND kind = 'affiliate' AND record_id = ANY(%s)",
        (id_, affiliates),
    )
    return [record_id for (record_id,) in cur]
