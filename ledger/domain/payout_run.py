"""A payout run: who is paid, proposed by one person, approved by another as exactly that, then sent on its way.

The attempts of one period, currency and method share a stream, so that there is one open run at a time. Commands:
ledger/domain/proposing.py and ledger/domain/initiating.py.
"""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct

from ledger.domain.errors import NotFound, WrongState
from ledger.domain.event import Event
from ledger.domain.restore import payouts_blocked
from ledger.domain.view import View

MOST_AT_ONCE = 500  # payouts a command


class PayoutRunBegun(Event, frozen=True):
    """A run's cut: what was recorded up to cut_position and happened before ends_at. paying_account_version: of the
    account it is paid from, 0 where the method needs none."""

    run_id: str
    period: str
    currency: str
    method: str
    attempt: int
    cut_position: int
    ends_at: datetime
    proposed_by: str
    paying_account_version: int = 0


class PayoutsLeftOut(Event, frozen=True):
    """Who is owed money and is not paid by this run: [affiliate id, amount, reason]."""

    run_id: str
    left_out: list[tuple[str, int, str]]


class PayoutRunProposed(Event, frozen=True):
    """The run's lines are complete. amount and transfer_amount: their sums, minor units; hash: SHA-256 (hex) of the
    run's canonical JSON, which is what is approved."""

    run_id: str
    payout_count: int
    amount: int
    transfer_amount: int
    left_out_count: int
    hash: str


class PayoutRunEmpty(Event, frozen=True):
    """Nobody is to be paid: the run ends here."""

    run_id: str
    left_out_count: int


class PayoutRunApproved(Event, frozen=True):
    """A second person approved exactly this hash."""

    run_id: str
    hash: str


class PayoutRunRejected(Event, frozen=True):
    """A second person refused it; the next attempt is free. reason is ciphertext."""

    run_id: str
    reason: str = ""


class PayoutRunInitiationBegun(Event, frozen=True):
    """Its payouts are being initiated. execution_on: the day on which the bank shall pay."""

    run_id: str
    execution_on: date
    created_at: datetime


class PayoutRunInitiated(Event, frozen=True):
    """Every line is initiated or excluded. transfer_amount: what the files must add up to, minor units."""

    run_id: str
    payout_count: int
    excluded_count: int
    amount: int
    transfer_amount: int


class FileFacts(Struct, frozen=True, kw_only=True):
    """A rendered file. control_sum: minor units, read back from its bytes."""

    name: str
    sha256: str
    count: int
    control_sum: int


class PayoutFilesRendered(Event, frozen=True):
    """The run's files, which come out the same whenever they are rendered again."""

    run_id: str
    files: list[FileFacts]


class RunState(Struct):
    """status: begun, nothing_to_pay, proposed, approved, rejected, initiating or initiated."""

    begun: PayoutRunBegun
    status: str = "begun"
    proposed: PayoutRunProposed | None = None
    initiation: PayoutRunInitiationBegun | None = None
    initiated: PayoutRunInitiated | None = None
    files: list[FileFacts] = []
    rendered: bool = False  # also where every line was excluded, and there is no file
    left_out: set[str] = set()  # affiliate ids

    @property
    def open(self) -> bool:
        """Whether its payouts may still become money."""
        return self.status in ("begun", "proposed", "approved", "initiating")


class SeriesState(Struct):
    """The attempts of one period, currency and method; attempt n stands at n - 1."""

    runs: list[RunState] = []


def series_key(period: str, currency: str, method: str) -> str:
    """The stream key of a series of runs."""
    return f"payout_run:{period}/{currency}/{method}"


def run_id(period: str, currency: str, method: str, attempt: int) -> str:
    """The id of a run: 2026-03-EUR-sepa-1."""
    return f"{period}-{currency}-{method}-{attempt}"


def parse_run_id(id_: str) -> tuple[str, str, str, int]:
    """(period, currency, method, attempt). Raises NotFound for what is no run's id."""
    parts = id_.rsplit("-", 3)
    if len(parts) != 4 or not (parts[3].isascii() and parts[3].isdigit()) or len(parts[3]) > 6:
        raise NotFound("there is no such payout run")
    return parts[0], parts[1], parts[2], int(parts[3])


def key_of(id_: str) -> str:
    """The stream key of a run, by its id. Raises NotFound."""
    return series_key(*parse_run_id(id_)[:3])


def run(view: View, id_: str) -> RunState | None:
    """A run, None if there is none."""
    state: SeriesState | None = view.state(key_of(id_))
    return find(state, id_)


def find(state: SeriesState | None, id_: str) -> RunState | None:
    """A run of a series."""
    return next((one for one in state.runs if one.begun.run_id == id_), None) if state else None


def must(view: View, id_: str) -> RunState:
    found = run(view, id_)
    if found is None:
        raise NotFound(f"payout run {id_} does not exist")
    return found


STATUS: dict[type[Event], str] = {
    PayoutRunEmpty: "nothing_to_pay",
    PayoutRunProposed: "proposed",
    PayoutRunApproved: "approved",
    PayoutRunRejected: "rejected",
    PayoutRunInitiationBegun: "initiating",
    PayoutRunInitiated: "initiated",
}


def fold(state: SeriesState | None, event: Event) -> SeriesState:
    """SeriesState after an event."""
    state = state or SeriesState([])
    if isinstance(event, PayoutRunBegun):
        state.runs.append(RunState(event))
        return state
    one = find(state, event.run_id)  # type: ignore[attr-defined]
    if one is None:
        return state
    one.status = STATUS.get(type(event), one.status)
    match event:
        case PayoutRunProposed():
            one.proposed = event
        case PayoutRunInitiationBegun():
            one.initiation = event
        case PayoutRunInitiated():
            one.initiated = event
        case PayoutFilesRendered():
            one.files, one.rendered = event.files, True
        case PayoutsLeftOut():
            one.left_out.update(affiliate_id for affiliate_id, _, _ in event.left_out)
    return state


def refuse_while_blocked(view: View) -> None:
    """Raise WrongState between a restore and the day the bank has been matched."""
    if payouts_blocked(view):
        raise WrongState("the books were restored from a backup: match the bank's statements, then confirm it")
