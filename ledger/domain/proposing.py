"""Proposing a payout run and deciding about it: one person proposes, another approves exactly that.

What touches many payouts is done in parts of a few hundred, each a command of its own: a run that is interrupted
goes on where it stopped.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec.structs import force_setattr

from ledger.domain import affiliate, money, payout, payout_method, tax
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event, in_utc
from ledger.domain.ids import check_external_id, check_slug, same_person
from ledger.domain.paying_account import key as paying_account_key
from ledger.domain.paying_account import paying_account
from ledger.domain.payout import METHODS, PayoutExcluded, PayoutProposed, excluded
from ledger.domain.payout_run import (
    STATUS,
    PayoutRunApproved,
    PayoutRunBegun,
    PayoutRunEmpty,
    PayoutRunProposed,
    PayoutRunRejected,
    PayoutsLeftOut,
    RunState,
    SeriesState,
    key_of,
    must,
    parse_run_id,
    run,
    run_id,
    series_key,
)
from ledger.domain.view import Needs, View

# --- proposing ---------------------------------------------------------------------------------------------


class BeginRun(Command, frozen=True):
    """Begin the next run of a period, currency and method, or come back to the open one. cut_position and ends_at:
    the cut of the closed period, or the last position and the period's end."""

    name: ClassVar[str] = "begin_payout_run"
    period: str
    currency: str
    method: str
    cut_position: int
    ends_at: datetime

    def __post_init__(self) -> None:
        check_slug("period", self.period)
        money.exponent("currency", self.currency)
        if self.method not in METHODS:
            raise InvalidInput("method", f"must be one of {', '.join(METHODS)}")
        if self.method == "sepa" and self.currency != "EUR":
            raise InvalidInput("currency", "must be EUR for SEPA")
        force_setattr(self, "ends_at", in_utc("ends_at", self.ends_at))

    def needs(self) -> Needs:
        """The series and the paying account."""
        return Needs([series_key(self.period, self.currency, self.method), paying_account_key(self.currency)])

    def decide(self, view: View) -> Decision:
        """PayoutRunBegun, or the open run again."""
        stream = series_key(self.period, self.currency, self.method)
        state: SeriesState | None = view.state(stream)
        runs = state.runs if state else []
        if runs and runs[-1].open:
            last = runs[-1]
            body = {"run_id": last.begun.run_id, "status": last.status}
            at = view.answered_at(stream, PayoutRunBegun, PayoutRunProposed)
            return Decision([], Answer("unchanged", body, at))
        if self.ends_at > view.now:
            raise WrongState(f"period {self.period} is not over until {self.ends_at.isoformat()}")
        account = paying_account(view, self.currency) if self.method == "sepa" else None
        if self.method == "sepa" and account is None:
            raise WrongState(f"set the account that {self.currency} is paid from first")
        attempt = len(runs) + 1
        begun = PayoutRunBegun(
            run_id=run_id(self.period, self.currency, self.method, attempt),
            period=self.period,
            currency=self.currency,
            method=self.method,
            attempt=attempt,
            cut_position=self.cut_position,
            ends_at=self.ends_at,
            proposed_by=view.actor,
            paying_account_version=account.current.account_version if account else 0,
        )
        return Decision([(stream, begun)], Answer("recorded", {"run_id": begun.run_id, "status": "begun"}))


class ProposePayouts(Command, frozen=True):
    """Lines of a run that is begun. owed: (affiliate id, what the run's cut says is owed, minor units)."""

    name: ClassVar[str] = "propose_payouts"
    run_id: str
    owed: list[tuple[str, int]]

    @property
    def record_count(self) -> int:
        """One for each affiliate."""
        return len(self.owed)

    def needs(self) -> Needs:
        """The run, the affiliates, how they are paid and taxed, and what is payable to them now."""
        period, currency, method, _ = parse_run_id(self.run_id)
        streams = [series_key(period, currency, method), tax.RULES_KEY]
        for affiliate_id, _ in self.owed:
            streams.append(affiliate.key(affiliate_id))
            streams.append(payout_method.key(affiliate_id, currency))
            streams.append(tax.profile_key(affiliate_id))
        return Needs(streams, payables=[(affiliate_id, currency) for affiliate_id, _ in self.owed])

    def needs_then(self, view: View) -> Needs | None:
        """The payouts that they may have in this run already."""
        return Needs([payout.key(_payout_id(view, self.run_id, affiliate_id)) for affiliate_id, _ in self.owed])

    def decide(self, view: View) -> Decision:
        """PayoutProposed for each that is paid, one PayoutsLeftOut for those that are not; nothing once the run has
        all its lines. Raises NotFound."""
        begun = must(view, self.run_id)
        if begun.status != "begun":
            # whoever proposed it at the same time was quicker, with the same lines
            return Decision([], Answer("unchanged", {"run_id": self.run_id}))
        drafts: list[Draft] = []
        left_out: list[tuple[str, int, str]] = []
        for affiliate_id, owed in dict(self.owed).items():
            if affiliate_id in begun.left_out:
                continue  # decided before an interruption
            line = _line(view, begun.begun, affiliate_id, owed)
            if isinstance(line, PayoutProposed):
                drafts.append((payout.key(line.payout_id), line))
            elif line:
                left_out.append((affiliate_id, owed, line))
        if left_out:
            drafts.append((key_of(self.run_id), PayoutsLeftOut(run_id=self.run_id, left_out=left_out)))
        return Decision(drafts, Answer("recorded" if drafts else "unchanged", {"run_id": self.run_id}))


def _payout_id(view: View, run_id: str, affiliate_id: str) -> str:
    assert view.program is not None
    return payout.payout_id(view.program.program, run_id, affiliate_id)


def _line(view: View, begun: PayoutRunBegun, affiliate_id: str, owed: int) -> PayoutProposed | str:
    """A run's line for an affiliate, or why there is none; '' where another method's run pays it, or this one has
    its line already."""
    payout_id = _payout_id(view, begun.run_id, affiliate_id)
    if payout.payout(view, payout_id) is not None:
        return ""
    methods = payout_method.payout_method(view, affiliate_id, begun.currency)
    version = methods.in_force(view.now) if methods else None
    if version is not None and version.method != begun.method:
        return ""
    who = view.affiliate(affiliate_id)
    if who is None or who.status == "suspended":
        return "affiliate_suspended"
    if version is None:
        return "no_payout_method"
    if in_open_run(view, affiliate_id, begun.currency):
        return "in_open_run"
    amount = min(owed, view.payable(affiliate_id, begun.currency))
    if amount < max(version.minimum_amount, 1):
        return "below_minimum"
    assessed = tax.assess(tax.tax_rules(view), tax.tax_profile(view, affiliate_id), amount, view.now)
    if assessed.missing:
        return assessed.missing
    if amount + assessed.vat_amount <= assessed.withholding_amount:
        return "below_minimum"  # nothing would be left to transfer, and a file takes no payment of 0
    return PayoutProposed(
        payout_id=payout_id,
        run_id=begun.run_id,
        affiliate_id=affiliate_id,
        currency=begun.currency,
        method=begun.method,
        method_version=version.method_version,
        fingerprint=version.fingerprint,
        amount=amount,
        owed_amount=owed,
        vat_amount=assessed.vat_amount,
        withholding_amount=assessed.withholding_amount,
        tax_rules_version=assessed.rules_version,
    )


def in_open_run(view: View, affiliate_id: str, currency: str) -> bool:
    """Whether a payout to the affiliate is proposed in a run that is still open."""
    for payout_id, id_ in view.proposed_payouts(affiliate_id, currency):
        found, state = run(view, id_), payout.payout(view, payout_id)
        if found is not None and found.open and state is not None and state.status == "proposed":
            return True
    return False


class FinishProposal(Command, frozen=True):
    """The run has all its lines: state what they are."""

    name: ClassVar[str] = "finish_proposal"
    run_id: str
    payout_count: int
    amount: int
    transfer_amount: int
    hash: str

    def needs(self) -> Needs:
        """The run."""
        return Needs([key_of(self.run_id)])

    def decide(self, view: View) -> Decision:
        """PayoutRunProposed, or PayoutRunEmpty. Raises NotFound."""
        state, stream = must(view, self.run_id), key_of(self.run_id)
        if state.status != "begun":
            body = {"run_id": self.run_id, "status": state.status}
            at = view.answered_at(stream, PayoutRunProposed, PayoutRunEmpty, run_id=self.run_id)
            return Decision([], Answer("unchanged", body, at))
        event: Event
        if self.payout_count:
            event = PayoutRunProposed(
                run_id=self.run_id,
                payout_count=self.payout_count,
                amount=self.amount,
                transfer_amount=self.transfer_amount,
                left_out_count=len(state.left_out),
                hash=self.hash,
            )
        else:
            event = PayoutRunEmpty(run_id=self.run_id, left_out_count=len(state.left_out))
        return Decision([(stream, event)], Answer("recorded", {"run_id": self.run_id, "status": STATUS[type(event)]}))


# --- deciding ----------------------------------------------------------------------------------------------


class DecideRun(Command, frozen=True):
    """A second person approves exactly the hash he saw, or rejects the run. reason: free text, for a rejection."""

    name: ClassVar[str] = "decide_payout_run"
    run_id: str
    approve: bool
    hash: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.approve and not self.hash:
            raise InvalidInput("hash", "is required: the hash of the run that is approved")
        if not self.approve and not self.reason.strip():
            raise InvalidInput("reason", "is required to reject a run")

    def needs(self) -> Needs:
        """The run."""
        return Needs([key_of(self.run_id)])

    def decide(self, view: View) -> Decision:
        """PayoutRunApproved or PayoutRunRejected. Raises NotFound, SamePerson, WrongState."""
        state, stream = must(view, self.run_id), key_of(self.run_id)
        after = "approved" if self.approve else "rejected"
        body = {"run_id": self.run_id, "status": after}
        done = ("approved", "initiating", "initiated") if self.approve else ("rejected",)
        if state.status in done:
            self._check_hash(state)
            at = view.answered_at(stream, PayoutRunApproved, PayoutRunRejected, run_id=self.run_id)
            return Decision([], Answer("unchanged", body, at))
        if state.status != "proposed":
            raise WrongState(f"payout run {self.run_id} is {state.status}", status=state.status)
        if same_person(state.begun.proposed_by, view.actor):
            raise SamePerson()
        self._check_hash(state)
        event: Event
        if self.approve:
            event = PayoutRunApproved(run_id=self.run_id, hash=self.hash)
        else:
            sealed = view.seal("program", stream, f"reason.{self.run_id}", self.reason)
            event = PayoutRunRejected(run_id=self.run_id, reason=sealed)
        return Decision([(stream, event)], Answer("recorded", body))

    def _check_hash(self, state: RunState) -> None:
        if self.approve and state.proposed is not None and self.hash != state.proposed.hash:
            raise WrongState("this is not the hash of the run as proposed: look at it again", hash=state.proposed.hash)


class ExcludePayout(Command, frozen=True):
    """Take a line out of a run before its money leaves. reason: free text, stored as ciphertext."""

    name: ClassVar[str] = "exclude_payout"
    payout_id: str
    reason: str

    def __post_init__(self) -> None:
        force_setattr(self, "payout_id", check_external_id("payout_id", self.payout_id))
        if not self.reason.strip() or len(self.reason) > 2000:
            raise InvalidInput("reason", "is required, at most 2000 characters")

    def needs(self) -> Needs:
        """The payout."""
        return Needs([payout.key(self.payout_id)])

    def decide(self, view: View) -> Decision:
        """PayoutExcluded. Raises NotFound, WrongState."""
        state, stream = payout.payout(view, self.payout_id), payout.key(self.payout_id)
        if state is None:
            raise NotFound(f"payout {self.payout_id} does not exist")
        body = {"payout_id": self.payout_id, "status": "excluded"}
        if state.status == "excluded":
            return Decision([], Answer("unchanged", body, view.answered_at(stream, PayoutExcluded)))
        if state.status != "proposed" or not must(view, state.proposed.run_id).open:
            raise WrongState(f"payout {self.payout_id} is {state.status}: it can no longer be excluded")
        subject = affiliate.key(state.proposed.affiliate_id)
        reason = view.seal(subject, stream, f"reason.{state.decisions + 1}", self.reason)
        return Decision([(stream, excluded(state, "by_hand", reason))], Answer("recorded", body))
