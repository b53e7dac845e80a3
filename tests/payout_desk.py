"""Payouts over a view in memory: what the pure tests of their life share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any

from memory_view import MemoryView, balances, shop

from ledger.domain import payout, payout_run
from ledger.domain.adjustment import AdjustmentPosted
from ledger.domain.bank import RecordBankLine
from ledger.domain.event import Answer, Command, Event
from ledger.domain.initiating import BeginInitiation, FinishInitiation, InitiatePayouts, RecordFiles
from ledger.domain.outcomes import DecidePayout
from ledger.domain.payout import PayoutState
from ledger.domain.payout_method import DecidePayoutMethod, ProposePayoutMethod
from ledger.domain.payout_run import FileFacts, RunState
from ledger.domain.proposing import BeginRun, DecideRun, FinishProposal, ProposePayouts
from ledger.domain.tax import DecideTaxRules, ProposeTaxRules, RecordTaxProfile, TaxRule

RUN = "2026-03-GBP-paypal-1"
HASH = "ab" * 32
FINGERPRINT = "cd" * 16


def earn(view: MemoryView, affiliate_id: str, amount: int) -> None:
    """Something payable more, or less."""
    id_ = f"j{len(view.log)}"
    posted = AdjustmentPosted(
        adjustment_id=id_, affiliate_id=affiliate_id, amount=amount, currency="GBP", effective_at=view.now
    )
    view.given(f"adjustment:{id_}", posted)


def method(
    view: MemoryView, affiliate_id: str, kind: str = "paypal", minimum: int = 0, fingerprint: str = FINGERPRINT
) -> None:
    """A payout method, approved now."""
    proposed = view.when(
        ProposePayoutMethod(
            affiliate_id=affiliate_id,
            currency="GBP",
            method=kind,
            minimum_amount=minimum,
            details={"email": f"{fingerprint[:4]}@example.com"},
            fingerprint=fingerprint,
        ),
        "ada",
    )[0]
    view.when(
        DecidePayoutMethod(
            affiliate_id=affiliate_id,
            currency="GBP",
            method_version=proposed.body["method_version"],
            approve=True,
            fingerprint=fingerprint,
        ),
        "ben",
    )


def tax(view: MemoryView, vat_bps: int, withholding_bps: int, affiliates: Sequence[str] = ("ada",)) -> None:
    """A rule for businesses in Germany, which some affiliates are, and one for Portugal, where bob is: no tax."""
    rules = [TaxRule("DE", "business", vat_bps, withholding_bps), TaxRule("PT", "business", 0, 0)]
    version = view.when(ProposeTaxRules(rules=rules), "ana")[0].body["rules_version"]
    view.when(DecideTaxRules(rules_version=version, approve=True), "ben")
    view.when(RecordTaxProfile(affiliate_id="bob", country="PT", tax_status="business"))
    for affiliate_id in affiliates:
        view.when(RecordTaxProfile(affiliate_id=affiliate_id, country="DE", tax_status="business"))


def earners(**amounts: int) -> MemoryView:
    """A shop whose affiliates have earned something, and whose payout methods are in force."""
    view = shop()
    for affiliate_id, amount in amounts.items():
        earn(view, affiliate_id, amount)
        method(view, affiliate_id)
    view.now += timedelta(days=4)
    return view


# --- a run, step by step -------------------------------------------------------------------------------------


def begin(method: str = "paypal", period: str = "2026-03", currency: str = "GBP") -> BeginRun:
    return BeginRun(period=period, currency=currency, method=method, cut_position=1, ends_at=view_end())


def view_end() -> Any:
    """The end of the runs' period; decisions only write it down."""
    return shop().now


def finish(view: MemoryView, run_id: str = RUN) -> FinishProposal:
    """The run's lines added up."""
    lines = payouts_of(view, run_id)
    return FinishProposal(
        run_id=run_id,
        payout_count=len(lines),
        amount=sum(one.proposed.amount for one in lines),
        transfer_amount=sum(one.transfer_amount for one in lines),
        hash=HASH,
    )


def approve(run_id: str = RUN, hash_: str = HASH) -> DecideRun:
    return DecideRun(run_id=run_id, approve=True, hash=hash_)


def reject(run_id: str = RUN) -> DecideRun:
    return DecideRun(run_id=run_id, approve=False, reason="looks wrong")


def propose(view: MemoryView, *owed: tuple[str, int], **how: Any) -> str:
    """A run for some affiliates, proposed by ana. Returns its id."""
    run_id: str = view.when(begin(**how), "ana")[0].body["run_id"]
    view.when(ProposePayouts(run_id=run_id, owed=list(owed)), "ana")
    view.when(finish(view, run_id), "ana")
    return run_id


def initiate(view: MemoryView, run_id: str = RUN) -> None:
    """Approved by ben, and sent on its way."""
    view.when(approve(run_id), "ben")
    view.when(BeginInitiation(run_id=run_id))
    view.when(InitiatePayouts(run_id=run_id, payout_ids=[one.proposed.payout_id for one in payouts_of(view, run_id)]))
    view.when(finish_initiation(view, run_id))


def finish_initiation(view: MemoryView, run_id: str = RUN) -> FinishInitiation:
    """What was sent, added up."""
    lines = payouts_of(view, run_id)
    sent = [one for one in lines if one.status != "excluded"]
    return FinishInitiation(
        run_id=run_id,
        payout_count=len(sent),
        excluded_count=len(lines) - len(sent),
        amount=sum(one.proposed.amount for one in sent),
        transfer_amount=sum(one.transfer_amount for one in sent),
    )


def record_files(view: MemoryView, run_id: str = RUN) -> RecordFiles:
    """One file of all that was sent, or none."""
    found = run(view, run_id).initiated
    assert found is not None
    sha = sha256(run_id.encode()).hexdigest()
    one = FileFacts(name=f"{run_id}.csv", sha256=sha, count=found.payout_count, control_sum=found.transfer_amount)
    return RecordFiles(run_id=run_id, files=[one] if found.payout_count else [])


def on_its_way(view: MemoryView, *owed: tuple[str, int], **how: Any) -> str:
    """A run from proposal to file. Returns its id."""
    run_id = propose(view, *owed, **how)
    initiate(view, run_id)
    view.when(record_files(view, run_id))
    view.now += timedelta(days=1)
    return run_id


# --- outcomes ------------------------------------------------------------------------------------------------


def say(payout_id: str, outcome: str, **more: Any) -> DecidePayout:
    return DecidePayout(payout_id=payout_id, outcome=outcome, reason="the bank said so", **more)


def bank(view: MemoryView, payout_id: str, amount: int, line_id: str = "l1", **more: Any) -> RecordBankLine:
    """A line of today about a payout; kind follows the sign unless said."""
    fields = {"currency": "GBP", "kind": "payment" if amount < 0 else "return", "booked_on": view.now.date()} | more
    return RecordBankLine(line_id=line_id, amount=amount, end_to_end_id=payout_id, **fields)


def hears(view: MemoryView, command: Command) -> Answer:
    """A command twice: the second time nothing more."""
    return view.again(command, "cyd")


# --- what stands ---------------------------------------------------------------------------------------------


def run(view: MemoryView, run_id: str = RUN) -> RunState:
    found = payout_run.run(view, run_id)
    assert found is not None
    return found


def id_of(affiliate_id: str, run_id: str = RUN) -> str:
    return payout.payout_id("shop", run_id, affiliate_id)


def of(view: MemoryView, payout_id: str) -> PayoutState:
    found = payout.payout(view, payout_id)
    assert found is not None
    return found


def payouts_of(view: MemoryView, run_id: str = RUN) -> list[PayoutState]:
    """A run's lines."""
    keys = dict.fromkeys(key for key, _, _ in view.log if key.startswith("payout:"))
    found = [of(view, key.removeprefix("payout:")) for key in keys]
    return [one for one in found if one.proposed.run_id == run_id]


def left_out(view: MemoryView, run_id: str = RUN) -> list[tuple[str, int, str]]:
    """Whom a run leaves out, and why."""
    events = [e for _, e, _ in view.log if isinstance(e, payout_run.PayoutsLeftOut) and e.run_id == run_id]
    return [line for event in events for line in event.left_out]


def events_of(view: MemoryView, payout_id: str) -> list[Event]:
    return [event for key, event, _ in view.log if key == payout.key(payout_id)]


def moved_by(view: MemoryView, payout_id: str) -> dict[str, int]:
    """What a payout alone moved, by account."""
    return balances(events_of(view, payout_id))
