"""Payout runs from proposal to file. What touches many payouts goes in parts, each a commit; an interrupted run goes on
where it stopped when the same is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger.application import CommissionLedger, Progress
from ledger.desk import Meta
from ledger.domain import affiliate, paying_account, payout_method, payout_run
from ledger.domain.errors import InvalidInput, NotFound, Refusal, WrongState
from ledger.domain.event import Answer, Event
from ledger.domain.ids import stream_id
from ledger.domain.initiating import BeginInitiation, FinishInitiation, InitiatePayouts, RecordFiles
from ledger.domain.payout_run import MOST_AT_ONCE, FileFacts, RunState, SeriesState
from ledger.domain.period import span_of
from ledger.domain.proposing import BeginRun, FinishProposal, ProposePayouts
from ledger.domain.topics import FOLDS
from ledger.payouts import files
from ledger.payouts.files import RenderedFile
from ledger.payouts.orders import FileHeader, Payer, PaymentOrder, payee
from ledger.projections import payouts, periods, programs
from ledger.projections.payouts import PayoutRow
from ledger.store import log
from ledger.store.database import allow_long
from ledger.store.log import Rows
from ledger.store.vault import Vault

Told = Callable[[Progress], None]
_encode = msgspec.json.Encoder(order="sorted").encode
LEFT = ("proposed", "excluded")  # statuses of payouts whose money never moved


def _quiet(_: Progress) -> None:
    """Nobody watches."""


class _Cut(NamedTuple):
    position: int
    ends_at: datetime


# --- proposing -----------------------------------------------------------------------------------------


def propose(
    ledger: CommissionLedger,
    program: str,
    *,
    period: str,
    currency: str,
    method: str,
    meta: Meta,
    as_of: int | None = None,
    told: Told = _quiet,
) -> Answer:
    """Propose a run for a period, a currency and a method, or come back to the open one. as_of: the position that
    limits what it knows; else the cut of the closed period, or the log's last position.

    Raises Refusal (InvalidInput for a period that has no end yet).
    """
    cut = _cut_of(ledger, program, period, as_of)
    if not _owed(ledger, program, currency, cut) and not _begun(ledger, program, period, currency, method):
        return Answer("unchanged", {"run_id": "", "status": "nothing_to_pay"})
    begin = BeginRun(period=period, currency=currency, method=method, cut_position=cut.position, ends_at=cut.ends_at)
    answer = ledger.execute(program, begin, meta)
    run_id = answer.body["run_id"]
    if answer.body["status"] != "begun":
        return answer
    begun = load_run(ledger, program, run_id).begun
    owed = _owed(ledger, program, currency, _Cut(begun.cut_position, begun.ends_at))
    for start in range(0, len(owed), MOST_AT_ONCE):
        _must(ledger, program, ProposePayouts(run_id=run_id, owed=owed[start : start + MOST_AT_ONCE]), meta)
        told(Progress(min(start + MOST_AT_ONCE, len(owed)), len(owed)))
    count, amount, transfer_amount, hash_ = totals_and_hash(ledger, program, run_id)
    finish = FinishProposal(
        run_id=run_id, payout_count=count, amount=amount, transfer_amount=transfer_amount, hash=hash_
    )
    return ledger.execute(program, finish, meta)


def _cut_of(ledger: CommissionLedger, program: str, period: str, as_of: int | None) -> _Cut:
    with ledger.reading(program) as (cur, id_):
        zone = programs.state(cur, id_, program).zone
        closed = periods.cut(cur, id_, period)
        last = log.last_position(cur, id_, "books")
    if as_of is not None and not 1 <= as_of <= last:
        raise InvalidInput("as_of", f"must be a position from 1 to {last}")
    if closed is not None:
        return _Cut(as_of or closed.position, closed.ends_at)
    span = span_of(period, zone)
    if span is None:
        raise InvalidInput("period", "must be a month (2026-03), an ISO week (2026-W12), or a closed custom period")
    return _Cut(as_of or last, span.ends_at)


def _owed(ledger: CommissionLedger, program: str, currency: str, cut: _Cut) -> list[tuple[str, int]]:
    """(affiliate id, minor units) of everybody who is owed something by a cut."""
    with ledger.reading(program) as (cur, id_):
        allow_long(cur)
        return [one for one in periods.owed(cur, id_, currency, cut.position, cut.ends_at) if one[1] > 0]


def _begun(ledger: CommissionLedger, program: str, period: str, currency: str, method: str) -> bool:
    """Whether a run of the series is open: it is come back to, whatever is owed now."""
    with ledger.reading(program) as (cur, id_):
        state = _series(cur, id_, payout_run.run_id(period, currency, method, 1))
    return state is not None and state.runs[-1].open


def _must(ledger: CommissionLedger, program: str, command: ProposePayouts | InitiatePayouts, meta: Meta) -> None:
    (outcome,) = ledger.execute_many(program, [command], meta)
    if isinstance(outcome, Refusal):
        raise outcome


def totals_and_hash(ledger: CommissionLedger, program: str, run_id: str) -> tuple[int, int, int, str]:
    """(payouts, amount, transfer amount, hash) of a run's lines as they were proposed. The hash is SHA-256 (hex) of
    RFC 8785 JSON: {"payouts": [ … in the order of ids … ], "run_id": …}."""
    made = sha256(b'{"payouts":[')
    count = amount = transfer_amount = 0
    for row in all_payouts(ledger, program, run_id):
        line = {
            "affiliate_id": row.affiliate_id,
            "amount": row.amount,
            "currency": row.currency,
            "fingerprint": row.fingerprint,
            "method": row.method,
            "method_version": row.method_version,
            "owed_amount": row.owed_amount,
            "payout_id": row.payout_id,
            "vat_amount": row.vat_amount,
            "withholding_amount": row.withholding_amount,
        }
        made.update((b"," if count else b"") + _encode(line))
        count, amount, transfer_amount = count + 1, amount + row.amount, transfer_amount + row.transfer_amount
    made.update(b'],"run_id":' + _encode(run_id) + b"}")
    return count, amount, transfer_amount, made.hexdigest()


def all_payouts(ledger: CommissionLedger, program: str, run_id: str, status: str | None = None) -> Iterator[PayoutRow]:
    """A run's payouts in the order of ids, a few at a time."""
    after = ""
    while True:
        with ledger.reading(program) as (cur, id_):
            rows = payouts.of_run(cur, id_, run_id, after, MOST_AT_ONCE, status)
        yield from rows
        if len(rows) < MOST_AT_ONCE:
            return
        after = rows[-1].payout_id


def load_run(ledger: CommissionLedger, program: str, run_id: str) -> RunState:
    """A run as its events tell it. Raises NotFound."""
    with ledger.reading(program) as (cur, id_):
        found = payout_run.find(_series(cur, id_, run_id), run_id)
    if found is None:
        raise NotFound(f"payout run {run_id} does not exist")
    return found


def _series(cur: Rows, id_: UUID, run_id: str) -> SeriesState | None:
    state: SeriesState | None = None
    for record in log.select_streams(cur, id_, [stream_id(id_, payout_run.key_of(run_id))]):
        state = payout_run.fold(state, record.body)
    return state


def left_out(ledger: CommissionLedger, program: str, run_id: str) -> list[tuple[str, int, str]]:
    """(affiliate id, minor units owed, reason) of everybody whom a run leaves out. Raises NotFound."""
    load_run(ledger, program, run_id)
    with ledger.reading(program) as (cur, id_):
        key = stream_id(id_, payout_run.key_of(run_id))
        bodies = [record.body for record in log.select_streams(cur, id_, [key])]
    parts = [one for one in bodies if isinstance(one, payout_run.PayoutsLeftOut) and one.run_id == run_id]
    return sorted(line for part in parts for line in part.left_out)


# --- initiating ----------------------------------------------------------------------------------------


def initiate(
    ledger: CommissionLedger,
    program: str,
    run_id: str,
    meta: Meta,
    execution_on: date | None = None,
    told: Told = _quiet,
) -> Answer:
    """Send an approved run on its way: each line initiated, or excluded with the reason. Raises Refusal."""
    state = load_run(ledger, program, run_id)
    approved = state.proposed.hash if state.status == "approved" and state.proposed else ""
    # no line can be added since: what leaves is what was approved
    if approved and totals_and_hash(ledger, program, run_id)[3] != approved:
        raise WrongState(f"payout run {run_id} has other lines than were approved: reject it", hash="differs")
    answer = ledger.execute(program, BeginInitiation(run_id=run_id, execution_on=execution_on), meta)
    if answer.body["status"] == "initiated":
        return answer
    done = 0
    total = sum(one.payout_count for one in _totals(ledger, program, run_id))
    while True:
        with ledger.reading(program) as (cur, id_):
            waiting = payouts.of_run(cur, id_, run_id, "", MOST_AT_ONCE, "proposed")
        if not waiting:
            break
        _must(ledger, program, InitiatePayouts(run_id=run_id, payout_ids=[p.payout_id for p in waiting]), meta)
        done += len(waiting)
        told(Progress(done, total))
    sums = _totals(ledger, program, run_id)
    sent = [one for one in sums if one.status not in LEFT]
    finish = FinishInitiation(
        run_id=run_id,
        payout_count=sum(one.payout_count for one in sent),
        excluded_count=sum(one.payout_count for one in sums if one.status == "excluded"),
        amount=sum(one.amount for one in sent),
        transfer_amount=sum(one.transfer_amount for one in sent),
    )
    return ledger.execute(program, finish, meta)


def _totals(ledger: CommissionLedger, program: str, run_id: str) -> list[payouts.StatusTotal]:
    with ledger.reading(program) as (cur, id_):
        return payouts.run_totals(cur, id_, run_id)


# --- files ---------------------------------------------------------------------------------------------


def render(ledger: CommissionLedger, program: str, run_id: str, meta: Meta) -> tuple[Answer, list[RenderedFile]]:
    """A run's files, which are the same bytes whenever they are rendered, and the event that says so.

    Raises Refusal; WrongState once somebody's bank details are erased.
    """
    made = rendered(ledger, program, run_id)
    facts = [FileFacts(name=one.name, sha256=one.sha256, count=one.count, control_sum=one.control_sum) for one in made]
    return ledger.execute(program, RecordFiles(run_id=run_id, files=facts), meta), made


def rendered(ledger: CommissionLedger, program: str, run_id: str) -> list[RenderedFile]:
    """The files of an initiated run, without recording anything. Raises Refusal."""
    state = load_run(ledger, program, run_id)
    if state.initiated is None or state.initiation is None:
        raise WrongState(f"payout run {run_id} is {state.status}: initiate it first", status=state.status)
    begun = state.begun
    header = FileHeader(
        run_id=f"{program}/{run_id}",
        created_at=state.initiation.created_at,
        execution_on=state.initiation.execution_on,
        currency=begun.currency,
        payer=_payer(ledger, program, state) if begun.method == "sepa" else None,
        remittance=f"{program} {begun.period}",
    )
    return files.render(header, list(_orders(ledger, program, state)), begun.method)


def _payer(ledger: CommissionLedger, program: str, state: RunState) -> Payer:
    begun = state.begun
    with ledger.reading(program) as (cur, id_):
        vault = Vault(cur, ledger.secrets, id_, ledger.clock())
        account = _folded(cur, id_, [paying_account.key(begun.currency)])[paying_account.key(begun.currency)]
        version = account.versions[begun.paying_account_version - 1]
        details = paying_account.open_details(vault, begun.currency, version)
    if details is None:
        raise WrongState("the details of the paying account were erased")
    return Payer(name=details["name"], iban=details["iban"], bic=details.get("bic", ""))


def _orders(ledger: CommissionLedger, program: str, state: RunState) -> Iterator[PaymentOrder]:
    begun = state.begun
    rows = [row for row in all_payouts(ledger, program, begun.run_id) if row.status not in LEFT]
    for start in range(0, len(rows), MOST_AT_ONCE):
        part = rows[start : start + MOST_AT_ONCE]
        with ledger.reading(program) as (cur, id_):
            vault = Vault(cur, ledger.secrets, id_, ledger.clock())
            vault.load(affiliate.key(row.affiliate_id) for row in part)
            methods = _folded(cur, id_, [payout_method.key(row.affiliate_id, row.currency) for row in part])
            for row in part:
                found = methods[payout_method.key(row.affiliate_id, row.currency)]
                version = found.versions[row.method_version - 1]
                details = payout_method.open_details(vault, row.affiliate_id, row.currency, version)
                if details is None:
                    raise WrongState(f"the bank details of affiliate {row.affiliate_id} were erased")
                yield PaymentOrder(
                    payout_id=row.payout_id,
                    affiliate_id=row.affiliate_id,
                    amount=row.transfer_amount,
                    currency=row.currency,
                    payee=payee(row.method, details),
                )


def _folded(cur: Rows, id_: UUID, keys: list[str]) -> dict[str, Any]:
    """What some streams add up to, by key."""
    by_id = {stream_id(id_, key): key for key in keys}
    found: dict[str, Any] = {}
    for record in log.select_streams(cur, id_, list(by_id)):
        key = by_id[record.originator_id]
        body: Event = record.body
        found[key] = FOLDS[key.partition(":")[0]](found.get(key), body)
    return found
