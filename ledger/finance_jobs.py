"""What finance can leave to the worker: closing what is over, proposing runs, finishing what was interrupted,
reminding of what is open, telling affiliates.

A job proposes and never approves: money leaves only after a person has approved exactly that run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

from ledger import closing, erasing, notices, payruns
from ledger.application import CommissionLedger
from ledger.desk import Meta
from ledger.domain.errors import WrongState
from ledger.domain.period import following_month, month_of, span_of
from ledger.mail import NotDelivered, Unreachable, transport_from
from ledger.projections import breaks, payouts, periods, programs
from ledger.service import erased_subjects_file, known_positions_file
from ledger.store import known

CLOSE_AFTER = timedelta(days=1)  # so that what a merchant sends late at night stands on the month's own statement
REMIND_AFTER_DAYS = 7
REMIND_TO = "LEDGER_REMIND_TO"


def close_periods(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Close every month that was over a day before, from the one in which the program was opened."""
    closed = []
    with ledger.reading(program) as (cur, id_):
        zone = programs.state(cur, id_, program).zone
        newest = periods.periods(cur, id_, limit=1)
        month = month_of(programs.opened_at(cur, id_), zone)
    if newest:
        span = span_of(newest[0].period, zone)
        if span is None or "W" in newest[0].period:
            return {"closed": 0, "left_to_people": newest[0].period}  # weeks and custom periods are cut by hand
        month = following_month(newest[0].period) if newest[0].status == "closed" else newest[0].period
    while True:
        span = span_of(month, zone)
        assert span is not None
        if span.ends_at + CLOSE_AFTER > due_at:
            break
        for _ in closing.close_period(ledger, program, month, meta):
            pass
        closed.append(month)
        month = following_month(month)
    return {"closed": len(closed), "periods": closed}


def propose_runs(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Propose a run of the newest closed period for every currency and method in use that has none yet."""
    with ledger.reading(program) as (cur, id_):
        newest = next((one for one in periods.periods(cur, id_, limit=2) if one.status == "closed"), None)
        if newest is None:
            return {"proposed": 0}
        wanted = payouts.missing_series(cur, id_, newest.period)
    proposed, refused = [], []
    for currency, method in wanted:
        try:
            answer = payruns.propose(ledger, program, period=newest.period, currency=currency, method=method, meta=meta)
        except WrongState:
            refused.append(f"{currency}/{method}")  # no paying account yet
            continue
        if answer.body["run_id"]:
            proposed.append(answer.body["run_id"])
    return {"proposed": len(proposed), "runs": proposed, "refused": refused}


def resume(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Finish what somebody began and an interruption left: statements of a closed period, a run's lines, its
    initiation."""
    with ledger.reading(program) as (cur, id_):
        half_closed = [one.period for one in periods.periods(cur, id_, limit=2) if one.status == "closing"]
        begun = payouts.runs(cur, id_, "", 100, "begun")
        initiating = payouts.runs(cur, id_, "", 100, "initiating")
    for period in half_closed:
        for _ in closing.issue_statements(ledger, program, period, meta):
            pass
    for run in begun:
        payruns.propose(
            ledger, program, period=run.period, currency=run.currency, method=run.method, meta=meta,
            as_of=run.cut_position,
        )  # fmt: skip
    done = 0
    for run in initiating:
        with suppress(WrongState):  # payouts are blocked after a restore
            payruns.initiate(ledger, program, run.run_id, meta)
            done += 1
    return {"periods": len(half_closed), "proposals": len(begun), "initiations": done}


def remind_open_breaks(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Count the open breaks by age, and mail the counts to LEDGER_REMIND_TO when there is one and a mail server."""
    with ledger.reading(program) as (cur, id_):
        ages = breaks.ageing(cur, id_, due_at)
    old = sum(row["count"] for row in ages if row["age"] != "0-7")
    said = {"open": sum(row["count"] for row in ages), "older_than_7_days": old}
    address = os.environ.get(REMIND_TO, "")
    transport = transport_from(os.environ) if address and said["open"] else None
    if transport is None:
        return {**said, "mailed": 0}
    message = EmailMessage()
    message["Subject"] = f"{program}: {said['open']} open breaks, {old} older than {REMIND_AFTER_DAYS} days"
    message.set_content(
        "\n".join(f"{row['source']} {row['type']}, {row['age']} days: {row['count']}" for row in ages) + "\n"
    )
    with transport:
        try:
            transport.deliver(message, address)
        except (NotDelivered, Unreachable) as error:
            return {**said, "mailed": 0, "error": error.error_class}
    return {**said, "mailed": 1}


def send_notices(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Send the notices that wait. Without a mail server they stay listed."""
    transport = transport_from(os.environ)
    if transport is None:
        return {"sent": 0, "mail_server": "none"}

    def may_go_on() -> bool:
        with ledger.writing(program):
            return True  # the worker still holds the program

    with transport:
        sending = notices.send_due(ledger, program, meta, transport, may_go_on=may_go_on)
    return {"sent": sending.sent, "failed": sending.failed, "stopped_by": sending.stopped_by or ""}


def record_known_positions(ledger: CommissionLedger, program: str, due_at: datetime, meta: Meta) -> Mapping[str, Any]:
    """Note outside of the database how far its logs have come, so that an older copy of it is recognised; and who was
    erased, if whoever approved it could not."""
    path, list_ = known_positions_file(), erased_subjects_file()
    if path is None or list_ is None:
        return {"recorded": 0, "file": "none"}
    known.record_known_positions(ledger.pool, path)
    erasing.note_erased(ledger, program, list_)
    return {"recorded": 1}
