"""Simulations from the question to the books: asked for, run, proposed, approved by a second person, applied in parts
that go on where they were interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from ledger.application import CommissionLedger, Progress
from ledger.desk import Meta
from ledger.domain import offer, simulation
from ledger.domain.errors import KeyReused, NotFound, Refusal, WrongState
from ledger.domain.event import Answer, fold_all
from ledger.domain.ids import check_external_id, stream_id
from ledger.domain.offer import OfferState
from ledger.domain.simulation import (
    ORDERS_AT_ONCE,
    ApplyLines,
    DecideSimulation,
    FinishSimulation,
    ProposeSimulation,
    SimulatedTotal,
    SimulationState,
    hash_of_lines,
)
from ledger.simulating.report import Simulated, simulated
from ledger.simulating.table import Row, Simulations
from ledger.simulating.trial import Trial, trial_of
from ledger.store import log
from ledger.store.database import allow_long

SHOWN_SKIPPED = 100
WAITING_MOST = 10  # that a program's worker still has to run: each reads all of history
TOLD_SECONDS = 2.0  # between two notes of how far a run has come


def request_of(trial: Trial) -> dict[str, Any]:
    """What was asked for, as it is kept and shown."""
    return {
        "offer_id": trial.offer_id,
        "terms": trial.terms,
        "model": trial.model,
        "from": trial.since,
        "to": trial.until,
    }


def trial_in(request: Mapping[str, Any]) -> Trial:
    """The trial of a request as it is kept."""
    since, until = (None if request[x] is None else datetime.fromisoformat(request[x]) for x in ("from", "to"))
    return trial_of(request["offer_id"], request["terms"], request["model"], since, until)


# --- asking and running --------------------------------------------------------------------------------------


def ask(ledger: CommissionLedger, program: str, simulation_id: str, trial: Trial, meta: Meta) -> Answer:
    """Note a simulation for the worker. Raises NotFound for a program or an offer that there is not, InvalidInput for a
    model that does not go with the offer's terms, KeyReused, WrongState while WAITING_MOST others wait (of those asked
    for at the same instant, one more may be let in)."""
    check_external_id("simulation_id", simulation_id)
    request = msgspec.json.encode(request_of(trial)).decode()
    with ledger.reading(program) as (cur, id_):
        last = log.last_position(cur, id_, "books")
    the_offer = offer_of(ledger, program, trial.offer_id)
    for terms in the_offer.terms:
        trial.tried(terms)  # what cannot be tried is said now, not once the worker comes to it
    with ledger.writing(program) as (cur, id_):
        table = Simulations(cur, id_)
        row = table.one(simulation_id)
        if row is None and (waiting := table.waiting()) >= WAITING_MOST:
            detail = f"{waiting} simulations wait or are being run, which is as many as may: ask again once one is done"
            raise WrongState(detail, waiting=waiting)
        fresh = table.ask(simulation_id, meta.actor, ledger.clock(), request)
        row = table.one(simulation_id)
    assert row is not None
    if not fresh and row.request != request:
        raise KeyReused("this Idempotency-Key was used before, for another simulation", fields=["simulation_id"])
    body = {"simulation_id": simulation_id, "status": row.status}
    return Answer("recorded" if fresh else "unchanged", body, last)


def offer_of(ledger: CommissionLedger, program: str, offer_id: str) -> OfferState:
    """An offer as it is now. Raises NotFound for a program or an offer that there is not."""
    with ledger.reading(program) as (cur, id_):
        known = [record.body for record in log.select_streams(cur, id_, [stream_id(id_, offer.key(offer_id))])]
    state = fold_all(offer.fold, known)
    if state is None:
        raise NotFound(f"offer {offer_id} does not exist")
    return state


def run(ledger: CommissionLedger, program: str, simulation_id: str) -> None:
    """Run a simulation that waits. What it is refused for is kept with it. Raises what the ledger's guard and the
    database raise; the same again then begins anew."""
    row = must(ledger, program, simulation_id)
    told = _Teller(ledger, program, simulation_id)
    told(0, 0)
    try:
        trial = trial_in(msgspec.json.decode(row.request))
        with ledger.pool.connection() as conn, simulated(conn, program, ledger.secrets, trial, told) as found:
            keep(ledger, program, simulation_id, found)
    except Refusal as refusal:
        fail(ledger, program, simulation_id, str(refusal))


def fail(ledger: CommissionLedger, program: str, simulation_id: str, why: str) -> None:
    """Note that a simulation was refused, and why."""
    with ledger.writing(program) as (cur, id_):
        Simulations(cur, id_).stands(simulation_id, "failed", ledger.clock(), why)


class _Teller:
    """Notes how far a run has come, every few seconds."""

    def __init__(self, ledger: CommissionLedger, program: str, simulation_id: str) -> None:
        self._ledger, self._program, self._simulation_id = ledger, program, simulation_id
        self._last = -TOLD_SECONDS

    def __call__(self, position: int, last: int) -> None:
        now = time.monotonic()
        if now - self._last >= TOLD_SECONDS:
            self._last = now
            with self._ledger.writing(self._program) as (cur, id_):
                Simulations(cur, id_).runs(self._simulation_id, position, last or None, self._ledger.clock())


def keep(
    ledger: CommissionLedger,
    program: str,
    simulation_id: str,
    found: Simulated,
    asked: tuple[Trial, Meta] | None = None,
) -> None:
    """Keep what was found, in one commit. asked: of a simulation that was not noted before it was run."""
    with ledger.writing(program) as (cur, id_):
        allow_long(cur)
        table = Simulations(cur, id_)
        if asked is not None:
            trial, meta = asked
            table.ask(simulation_id, meta.actor, ledger.clock(), msgspec.json.encode(request_of(trial)).decode())
        table.done(simulation_id, found.document, found.lines(), ledger.clock())


# --- looking -------------------------------------------------------------------------------------------------


def must(ledger: CommissionLedger, program: str, simulation_id: str) -> Row:
    """A simulation. Raises NotFound, UnknownProgram."""
    with ledger.reading(program) as (cur, id_):
        log.last_position(cur, id_, "books")
        row = Simulations(cur, id_).one(simulation_id)
    if row is None:
        raise NotFound(f"simulation {simulation_id} does not exist")
    return row


def state_of(ledger: CommissionLedger, program: str, simulation_id: str) -> SimulationState | None:
    """What was decided about a simulation, None where it was not proposed."""
    state: SimulationState | None = None
    with ledger.reading(program) as (cur, id_):
        for record in log.select_streams(cur, id_, [stream_id(id_, simulation.key(simulation_id))]):
            state = simulation.fold(state, record.body)
    return state


def status_of(row: Row, state: SimulationState | None) -> str:
    """Where it stands: as the log says, once it says anything."""
    if state is None:
        return row.status
    return "applying" if (state.status, row.status) == ("approved", "applying") else state.status


def document_of(row: Row, state: SimulationState | None) -> dict[str, Any]:
    """A simulation for people, without its report."""
    return {
        "simulation_id": row.simulation_id,
        "status": status_of(row, state),
        "requested_by": row.requested_by,
        "requested_at": row.requested_at,
        "changed_at": row.changed_at,
        "request": msgspec.json.decode(row.request),
        "progress": row.progress,
        "as_of": row.as_of,
        "line_count": row.line_count,
        "lines_hash": row.lines_hash,
        "failure": row.failure,
    }


def shown(ledger: CommissionLedger, program: str, simulation_id: str) -> dict[str, Any]:
    """A simulation with its report, and how far its application has come. Raises NotFound."""
    row, state = must(ledger, program, simulation_id), state_of(ledger, program, simulation_id)
    found = document_of(row, state)
    found["report"] = msgspec.json.decode(row.report) if row.report else None
    found["application"] = None
    if found["status"] in ("applying", "applied"):
        with ledger.reading(program) as (cur, id_):
            allow_long(cur)
            table = Simulations(cur, id_)
            tally, skipped = table.tally(simulation_id), table.skipped(simulation_id, SHOWN_SKIPPED)
        found["application"] = {**tally._asdict(), "skipped_orders": skipped}
    return found


def page(ledger: CommissionLedger, program: str, after: str, limit: int) -> list[dict[str, Any]]:
    """Simulations behind one, in the order of ids. Raises UnknownProgram."""
    with ledger.reading(program) as (cur, id_):
        log.last_position(cur, id_, "books")
        rows = Simulations(cur, id_).page(after, limit)
    return [document_of(row, None) for row in rows]


# --- deciding ------------------------------------------------------------------------------------------------


def over_earlier(report: Mapping[str, Any], asked: bool) -> int:
    """How many orders it takes from earlier simulations. Raises WrongState where there are any and nobody asked."""
    count: int = report["conversions"].get("over_earlier", 0)
    if count and not asked:
        raise WrongState(
            f"it would undo what earlier simulations decided about {count:,} orders: try it with from and to that leave"
            " them out, or say that it shall (--over-earlier, over_earlier)",
            over_earlier=count,
        )
    return count


def propose(
    ledger: CommissionLedger, program: str, simulation_id: str, meta: Meta, undo_earlier: bool = False
) -> Answer:
    """Propose what a simulation has found. undo_earlier: also where it undoes what an earlier one decided. Raises
    NotFound, WrongState, KeyReused."""
    row = must(ledger, program, simulation_id)
    if not row.report:
        raise WrongState(f"simulation {simulation_id} is {row.status}: it must be done first", status=row.status)
    trial, report = trial_in(msgspec.json.decode(row.request)), msgspec.json.decode(row.report)
    assert row.as_of is not None
    command = ProposeSimulation(
        simulation_id=simulation_id,
        offer_id=trial.offer_id,
        as_of_position=row.as_of,
        line_count=row.line_count,
        totals=[
            SimulatedTotal(one["currency"], one["commission_was"], one["commission_would"]) for one in report["totals"]
        ],
        lines_hash=row.lines_hash,
        terms=trial.terms,
        terms_hash=trial.terms_hash,
        model=trial.model,
        since=trial.since,
        until=trial.until,
        over_earlier=over_earlier(report, undo_earlier),
    )
    return _and_note(ledger, program, simulation_id, command, meta)


def decide(
    ledger: CommissionLedger, program: str, simulation_id: str, approve: bool, meta: Meta, lines_hash: str = ""
) -> Answer:
    """Approve or reject what was proposed. Raises NotFound, SamePerson, WrongState."""
    row = must(ledger, program, simulation_id)
    if state_of(ledger, program, simulation_id) is None:
        raise WrongState(f"simulation {simulation_id} is {row.status}: it must be proposed first", status=row.status)
    command = DecideSimulation(simulation_id=simulation_id, approve=approve, lines_hash=lines_hash)
    return _and_note(ledger, program, simulation_id, command, meta)


def _and_note(
    ledger: CommissionLedger,
    program: str,
    simulation_id: str,
    command: ProposeSimulation | DecideSimulation | FinishSimulation,
    meta: Meta,
) -> Answer:
    answer = ledger.execute(program, command, meta)
    state = state_of(ledger, program, simulation_id)
    row = must(ledger, program, simulation_id)
    if state is not None and status_of(row, state) != row.status:
        with ledger.writing(program) as (cur, id_):
            Simulations(cur, id_).stands(simulation_id, state.status, ledger.clock())
    return answer


# --- applying ------------------------------------------------------------------------------------------------


def begin(ledger: CommissionLedger, program: str, simulation_id: str) -> bool:
    """Note that an approved simulation is being applied; whoever is interrupted, the worker goes on. False: it has been
    applied already. Raises NotFound, WrongState where it is not approved, or its lines are not those that were."""
    row, state = must(ledger, program, simulation_id), state_of(ledger, program, simulation_id)
    status = status_of(row, state)
    if state is None or status not in ("approved", "applying", "applied"):
        raise WrongState(f"simulation {simulation_id} is {status}: it must be approved first", status=status)
    if status == "applied":
        return False
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        found = hash_of_lines(Simulations(cur, id_).lines(simulation_id))
    if found != (state.proposed.line_count, state.proposed.lines_hash):
        raise WrongState(f"the lines of simulation {simulation_id} are not those that were approved")
    if row.status != "applying":
        with ledger.writing(program) as (cur, id_):
            Simulations(cur, id_).stands(simulation_id, "applying", ledger.clock())
    return True


def apply(ledger: CommissionLedger, program: str, simulation_id: str, meta: Meta) -> Iterator[Progress]:
    """Apply an approved simulation, some hundred orders a commit. Yields after each; stopping in between loses nothing,
    and running again goes on. Raises as begin()."""
    if not begin(ledger, program, simulation_id):
        return
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        tally = Simulations(cur, id_).tally(simulation_id)
    done, total = tally.applied + tally.skipped, sum(tally)
    while True:
        with ledger.reading(program) as (cur, id_):
            first, last, lines = Simulations(cur, id_).lines_left(simulation_id, ORDERS_AT_ONCE)
        if not lines:
            break
        (outcome,) = ledger.execute_many(program, [ApplyLines(simulation_id=simulation_id, lines=lines)], meta)
        if isinstance(outcome, Refusal):
            raise outcome
        with ledger.writing(program) as (cur, id_):
            Simulations(cur, id_).outcomes(simulation_id, first, last, outcome.body["skipped"])
        done += len({line.order_id for line in lines})
        yield Progress(done, total)
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        tally = Simulations(cur, id_).tally(simulation_id)
    finish = FinishSimulation(simulation_id=simulation_id, applied=tally.applied, skipped=tally.skipped)
    _and_note(ledger, program, simulation_id, finish, meta)
