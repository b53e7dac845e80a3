"""CommissionLedger: the only writer. Commands go in, answers come out, and everything between is one commit."""

from __future__ import annotations

import secrets as random_secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from ledger.batches import Committer, Guard, Outcome, ProgramWriter
from ledger.clicks import Clicks
from ledger.desk import Desk, Meta
from ledger.domain.access import IssueKey, RevokeKey
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.errors import DiffersFromOriginal, NotFound, Refusal, Unavailable
from ledger.domain.event import Answer, Command, in_utc
from ledger.domain.ids import check_slug, program_id
from ledger.domain.impression import RecordImpression
from ledger.domain.lifecycle import ApproveDue, ReleaseSuspended
from ledger.domain.program import OpenProgram
from ledger.domain.recording import AttributeWaiting
from ledger.impressions import Impressions
from ledger.projections import conversions
from ledger.store import log
from ledger.store.database import Pool
from ledger.store.log import Rows, UnknownProgram
from ledger.store.vault import Secrets
from ledger.traffic import TrafficWriter

KEY_PREFIX = "clk"
BATCH = 1000
RELEASES_AT_ONCE = 3  # batches


class Progress(NamedTuple):
    """How far long work has come. done and total count the work's own units."""

    done: int
    total: int | None


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class IssuedKey(NamedTuple):
    """A new access key. token is shown this once and stored nowhere."""

    answer: Answer
    key_id: str
    token: str


class CommissionLedger:
    """One process's door to the ledger. Thread-safe. pool: connections as the app role, not in autocommit.

    guard: called at the start of every transaction that commands or writing() make; what it raises ends them. It is
    the calling thread's only without coalescing, which lets one thread commit for another.
    """

    def __init__(
        self,
        pool: Pool,
        secrets: Secrets,
        clock: Callable[[], datetime] = utc_now,
        coalesce: bool = True,
        guard: Guard | None = None,
    ) -> None:
        self.pool, self.secrets, self.clock, self.guard = pool, secrets, clock, guard
        self._coalesce = coalesce
        self._lock = threading.Lock()
        self._writers: dict[str, tuple[ProgramWriter, Committer, TrafficWriter]] = {}

    # --- writing ---------------------------------------------------------------------------------------

    def open_program(self, command: OpenProgram, meta: Meta) -> Answer:
        """Open a program's books, once. Raises DiffersFromOriginal."""
        with self.pool.connection() as conn, conn.cursor() as cur:
            id_ = program_id(command.program)
            currency = log.create_heads(cur, id_, command.program, command.currency, self.clock())
        if currency != command.currency:
            raise DiffersFromOriginal(f"program {command.program}", ["currency"])
        return self.execute(command.program, command, meta)

    def execute(self, program: str, command: Command, meta: Meta) -> Answer:
        """One command, coalesced with those that other threads send at the same time.

        Raises Refusal (NotFound for an unknown program), or Unavailable when the database cannot be reached in time.
        """
        try:
            return self._of(program)[1].submit(command, meta)
        except UnknownProgram:
            raise NotFound(f"program {program} does not exist") from None

    def execute_many(self, program: str, commands: Sequence[Command], meta: Meta) -> list[Outcome]:
        """Commands in order, in as few commits as there are thousands of them; each succeeds or is refused alone."""
        writer = self._of(program)[0]
        outcomes: list[Outcome] = []
        try:
            for start in range(0, len(commands), BATCH):
                outcomes += writer.execute([(c, meta) for c in commands[start : start + BATCH]])
        except UnknownProgram:
            raise NotFound(f"program {program} does not exist") from None
        return outcomes

    def record_clicks(self, program: str, clicks: Sequence[RecordClick], meta: Meta) -> list[Outcome]:
        """Clicks, in one commit."""
        try:
            return self._of(program)[2].record(Clicks, clicks, meta)
        except UnknownProgram:
            raise NotFound(f"program {program} does not exist") from None

    def record_impressions(self, program: str, impressions: Sequence[RecordImpression], meta: Meta) -> list[Outcome]:
        """Impressions, in one commit."""
        try:
            return self._of(program)[2].record(Impressions, impressions, meta)
        except UnknownProgram:
            raise NotFound(f"program {program} does not exist") from None

    def _of(self, program: str) -> tuple[ProgramWriter, Committer, TrafficWriter]:
        found = self._writers.get(program)
        if found is None:
            check_slug("program", program)
            writer = ProgramWriter(self.pool, self.secrets, program, self.clock, self.guard)
            traffic = TrafficWriter(self.pool, self.secrets, program, self.clock)
            with self._lock:
                found = self._writers.setdefault(program, (writer, Committer(writer, self._coalesce), traffic))
        return found

    def decide_affiliate(self, program: str, command: DecideAffiliate, meta: Meta) -> Answer:
        """Decide about an affiliate. A reinstatement also releases what the suspension held: the first few thousand
        now, so that the answer does not wait for more; the rest when approve_due next runs. Raises Refusal."""
        answer = self.execute(program, command, meta)
        if command.decision == "reinstate":
            with suppress(Unavailable):
                for _ in islice(self.release_suspended(program, meta, command.affiliate_id), RELEASES_AT_ONCE):
                    pass
        return answer

    @contextmanager
    def writing(self, program: str) -> Iterator[tuple[Rows, UUID]]:
        """A transaction for what is written beside the log, such as a work list; committed when left without an
        error. Yields (cursor, program_id). Raises what the guard raises."""
        id_ = program_id(program)
        with self.pool.connection() as conn, conn.cursor() as cur:
            if self.guard is not None:
                self.guard(cur, id_)
            yield cur, id_

    # --- long work -------------------------------------------------------------------------------------

    def release_suspended(self, program: str, meta: Meta, affiliate_id: str | None = None) -> Iterator[Progress]:
        """Release what only a suspension held, of affiliates that are approved again (or of one). Yields after each
        commit; stopping in between loses nothing, and running again, or approve_due, goes on."""
        with self.reading(program) as (cur, id_):
            held = conversions.held_of_approved(cur, id_, affiliate_id)
        done = 0
        for start in range(0, len(held), BATCH):
            part = [ReleaseSuspended(order_id=o, affiliate_id=a) for o, a in held[start : start + BATCH]]
            outcomes = self.execute_many(program, part, meta)
            done += sum(isinstance(o, Answer) and o.outcome == "recorded" for o in outcomes)
            yield Progress(done, len(held))

    def approve_due(self, program: str, now: datetime, meta: Meta) -> Iterator[Progress]:
        """Approve every pending conversion that has matured at an instant. Yields after each commit; stopping in
        between loses nothing, and running again goes on."""
        now = in_utc("now", now)
        for _ in self.release_suspended(program, meta):
            pass  # a reinstatement that was interrupted
        yield from self._work_off(program, "pending", now, lambda order_id: ApproveDue(order_id=order_id, at=now), meta)

    def attribute_waiting(self, program: str, at: datetime, meta: Meta) -> Iterator[Progress]:
        """Try again to attribute the conversions that wait for their click; those whose wait has ended at an instant
        are decided by the other steps."""
        at = in_utc("now", at)
        yield from self._work_off(
            program, "waiting", None, lambda order_id: AttributeWaiting(order_id=order_id, at=at), meta
        )

    def _work_off(
        self, program: str, status: str, at: datetime | None, make: Callable[[str], Command], meta: Meta
    ) -> Iterator[Progress]:
        done = 0
        tried: set[str] = set()
        while True:
            with self.reading(program) as (cur, id_):
                order_ids = conversions.due(cur, id_, status, at, BATCH + len(tried))
            order_ids = [o for o in order_ids if o not in tried][:BATCH]
            if not order_ids:
                return
            outcomes = self.execute_many(program, [make(o) for o in order_ids], meta)
            for order_id, outcome in zip(order_ids, outcomes, strict=True):
                if isinstance(outcome, Refusal) or outcome.outcome == "unchanged":
                    tried.add(order_id)
                else:
                    done += 1
            yield Progress(done, None)

    # --- access keys -----------------------------------------------------------------------------------

    def issue_key(
        self,
        program: str,
        *,
        role: str,
        holder: str,
        holder_kind: str,
        expires_at: datetime,
        meta: Meta,
        affiliate_id: str = "",
        rotates: str = "",
    ) -> IssuedKey:
        """Issue an access key. Raises SamePerson when the issuer is the holder, InvalidInput, NotFound."""
        key_id = random_secrets.token_hex(8)
        secret = random_secrets.token_urlsafe(32)
        command = IssueKey(
            access_key_id=key_id,
            role=role,
            holder=holder,
            holder_kind=holder_kind,
            expires_at=expires_at,
            affiliate_id=affiliate_id,
            rotates=rotates,
        )

        def store(cur: Rows, desk: Desk) -> None:
            if desk.appended:
                self._store_key(cur, program_id(program), command, secret, meta, desk.now)

        answer = self._alone(program, command, meta, store)
        return IssuedKey(answer, key_id, f"{KEY_PREFIX}_{key_id}_{secret}")

    def _store_key(self, cur: Rows, id_: UUID, command: IssueKey, secret: str, meta: Meta, now: datetime) -> None:
        issuer = f"rotation-by-{meta.actor}" if command.rotates else meta.actor
        cur.execute(
            "INSERT INTO api_keys (program_id, key_id, role, holder, holder_kind, affiliate_id, secret_hmac, issued_by,"
            " issued_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                id_, command.access_key_id, command.role, command.holder, command.holder_kind, command.affiliate_id,
                self.secrets.access_hmac(secret), issuer, now, command.expires_at,
            ),
        )  # fmt: skip

    def revoke_key(self, program: str, key_id: str, meta: Meta) -> Answer:
        """Revoke an access key. Raises NotFound."""

        def store(cur: Rows, desk: Desk) -> None:
            cur.execute(
                "UPDATE api_keys SET revoked_at = %s WHERE program_id = %s AND key_id = %s AND revoked_at IS NULL",
                (desk.now, program_id(program), key_id),
            )

        return self._alone(program, RevokeKey(access_key_id=key_id), meta, store)

    def _alone(self, program: str, command: Command, meta: Meta, also: Callable[[Rows, Desk], None]) -> Answer:
        try:
            outcome = self._of(program)[0].execute([(command, meta)], also)[0]
        except UnknownProgram:
            raise NotFound(f"program {program} does not exist") from None
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome

    # --- reading ---------------------------------------------------------------------------------------

    def reading(self, program: str) -> _Reading:
        """A read-only look: `with ledger.reading(program) as (cursor, program_id)`."""
        return _Reading(self.pool, program)


class _Reading:
    """A cursor of the pool for reading one program. One statement sees one state; nothing is written."""

    def __init__(self, pool: Pool, program: str) -> None:
        self._pool, self._program = pool, program

    def __enter__(self) -> tuple[Rows, UUID]:
        self._lent = self._pool.connection()
        conn = self._lent.__enter__()
        self._cur = conn.cursor()
        return self._cur, program_id(self._program)

    def __exit__(self, *exc: object) -> None:
        self._cur.close()
        self._lent.__exit__(*exc)  # type: ignore[arg-type]
