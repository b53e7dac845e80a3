"""An affiliate's payout method in one currency: where to pay, changed by two people and not before a wait is over.

Proposed → approved (in force once the program's wait is over) or rejected; withdrawn while it is proposed or waits.
Bank details are ciphertext under the affiliate's own key; decisions compare keyed fingerprints.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from ledger.domain import affiliate, erasure, money, notice
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Draft, Event, own_last
from ledger.domain.ids import AMOUNT_MAX, check_slug, same_person
from ledger.domain.view import Needs, View

METHODS = ("sepa", "paypal", "wise", "manual")
DETAILS_MAX = 4000  # characters of canonical JSON
_FINGERPRINT = re.compile(r"[0-9a-f]{16,128}")


class PayoutMethodProposed(Event, frozen=True):
    """A version waits for a second person. minimum_amount: minor units, below which nothing is paid out.

    details: ciphertext of canonical JSON; fingerprint: keyed HMAC of them, hex.
    """

    affiliate_id: str
    currency: str
    method: str
    method_version: int
    minimum_amount: int
    details: str
    fingerprint: str
    proposed_by: str


class PayoutMethodApproved(Event, frozen=True):
    """A second person approved it: payouts go there from effective_from on, unless it is withdrawn before."""

    affiliate_id: str
    currency: str
    method_version: int
    effective_from: datetime


class PayoutMethodRejected(Event, frozen=True):
    """A second person refused it."""

    affiliate_id: str
    currency: str
    method_version: int


class PayoutMethodWithdrawn(Event, frozen=True):
    """The affiliate or finance took it back before it came into force."""

    affiliate_id: str
    currency: str
    method_version: int


class MethodVersion(Struct):
    """status: proposed, approved, rejected or withdrawn. effective_from: None unless approved."""

    method: str
    method_version: int
    minimum_amount: int
    details: str
    fingerprint: str
    effective_from: datetime | None
    proposed_by: str
    status: str = "proposed"


class PayoutMethodState(Struct):
    """Every version ever proposed; version n stands at n - 1."""

    affiliate_id: str
    currency: str
    versions: list[MethodVersion] = []

    def in_force(self, at: datetime) -> MethodVersion | None:
        """Where payouts go at an instant: the newest version approved whose wait was over by then."""
        best: MethodVersion | None = None
        for one in self.versions:
            starts = one.effective_from
            if one.status != "approved" or starts is None or starts > at:
                continue
            if best is None or best.effective_from is None or starts >= best.effective_from:
                best = one
        return best

    def waiting(self, at: datetime) -> MethodVersion | None:
        """The newest version that is approved and not yet in force at an instant."""
        found = [v for v in self.versions if v.status == "approved" and v.effective_from and v.effective_from > at]
        return found[-1] if found else None

    @property
    def pending(self) -> MethodVersion | None:
        """The version that waits for a second person; there is at most one, the last."""
        last = self.versions[-1]
        return last if last.status == "proposed" else None

    @property
    def latest(self) -> MethodVersion | None:
        """The newest version that was neither rejected nor withdrawn."""
        live = [v for v in self.versions if v.status in ("proposed", "approved")]
        return live[-1] if live else None

    @property
    def status(self) -> str:
        """proposed, approved or none: as far as it can be said without an instant."""
        return "none" if self.latest is None else self.latest.status

    def status_at(self, at: datetime) -> str:
        """proposed, waiting, in_force, or none: the furthest step that still leads somewhere new."""
        if self.pending is not None:
            return "proposed"
        if self.waiting(at) is not None:
            return "waiting"
        return "in_force" if self.in_force(at) is not None else "none"


class Unsealer(Protocol):
    """A View, a Look or a Vault."""

    def unseal(self, subject: str, key: str, field: str, sealed: str) -> str | None: ...


def key(affiliate_id: str, currency: str) -> str:
    """The stream key of an affiliate's payout method in a currency."""
    return f"payout_method:{affiliate_id}/{currency}"


def details_field(method_version: int) -> str:
    """The field that a version's details are sealed for."""
    return f"details.{method_version}"


def payout_method(view: View, affiliate_id: str, currency: str) -> PayoutMethodState | None:
    """An affiliate's payout method in a currency, None if none was ever proposed."""
    state: PayoutMethodState | None = view.state(key(affiliate_id, currency))
    return state


def open_details(unsealer: Unsealer, affiliate_id: str, currency: str, version: MethodVersion) -> dict[str, str] | None:
    """A version's details in plain text, None once the affiliate's key is erased."""
    stream = key(affiliate_id, currency)
    field = details_field(version.method_version)
    text = unsealer.unseal(affiliate.key(affiliate_id), stream, field, version.details)
    return None if text is None else msgspec.json.decode(text, type=dict[str, str])


_STATUS: dict[type[Event], str] = {
    PayoutMethodApproved: "approved",
    PayoutMethodRejected: "rejected",
    PayoutMethodWithdrawn: "withdrawn",
}


def fold(state: PayoutMethodState | None, event: Event) -> PayoutMethodState:
    """PayoutMethodState after an event."""
    if isinstance(event, PayoutMethodProposed):
        if state is None:
            state = PayoutMethodState(event.affiliate_id, event.currency)
        e = event
        new = MethodVersion(e.method, e.method_version, e.minimum_amount, e.details, e.fingerprint, None, e.proposed_by)
        state.versions.append(new)
        return state
    assert state is not None
    named = getattr(event, "method_version", 0)
    version = next((one for one in state.versions if one.method_version == named), None)
    if version is not None:
        version.status = _STATUS[type(event)]
        if isinstance(event, PayoutMethodApproved):
            version.effective_from = event.effective_from
    return state


def canonical(details: dict[str, str]) -> str:
    """Details as JSON with sorted keys and no white space: what is sealed."""
    return msgspec.json.encode(details, order="sorted").decode()


def check_details(details: dict[str, str]) -> None:
    """Whether they can be kept at all; what a method needs is checked where they come in. Raises InvalidInput."""
    if any(not name or not isinstance(text, str) for name, text in details.items()):
        raise InvalidInput("details", "must be an object of texts by name")
    if len(canonical(details)) > DETAILS_MAX:
        raise InvalidInput("details", f"must be at most {DETAILS_MAX} characters altogether")


def check_fingerprint(fingerprint: str) -> None:
    """A keyed HMAC in hex. Raises InvalidInput."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise InvalidInput("fingerprint", "must be 16-128 lower-case hex digits, as shown with the version")


class ProposePayoutMethod(Command, frozen=True):
    """Propose where an affiliate is paid in a currency. details: normalised where they came in, as is their keyed
    fingerprint. The same as the newest version that stands changes nothing."""

    name: ClassVar[str] = "propose_payout_method"
    affiliate_id: str
    currency: str
    method: str
    minimum_amount: int
    details: dict[str, str]
    fingerprint: str

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        money.exponent("currency", self.currency)
        if self.method not in METHODS:
            raise InvalidInput("method", f"must be one of {', '.join(METHODS)}")
        if not 0 <= self.minimum_amount <= AMOUNT_MAX:
            raise InvalidInput("minimum_amount", f"must be from 0 to {AMOUNT_MAX} minor units")
        if not self.details and self.method != "manual":
            raise InvalidInput("details", f"are required for {self.method}")
        check_details(self.details)
        check_fingerprint(self.fingerprint)

    def needs(self) -> Needs:
        """The payout method and its affiliate."""
        whose = [affiliate.key(self.affiliate_id), erasure.affiliate_key(self.affiliate_id)]
        return Needs([key(self.affiliate_id, self.currency), *whose])

    def needs_then(self, view: View) -> Needs | None:
        """The notice."""
        state = payout_method(view, self.affiliate_id, self.currency)
        number = len(state.versions) + 1 if state else 1
        return Needs([notice.key(Which(self.affiliate_id, self.currency, number).notice_id("proposed"))])

    def decide(self, view: View) -> Decision:
        """PayoutMethodProposed and a notice. Raises NotFound, WrongState while another version waits for a person, or
        for an affiliate that was erased."""
        if view.affiliate(self.affiliate_id) is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        erasure.refuse_erased(view, self.affiliate_id)
        stream = key(self.affiliate_id, self.currency)
        state = payout_method(view, self.affiliate_id, self.currency)
        if state is not None and (latest := state.latest) is not None and self._same_as(latest, view):
            at = view.answered_at(stream, PayoutMethodProposed)
            return Decision([], Answer("unchanged", self._body(latest.method_version), at))
        if state is not None and (pending := state.pending) is not None:
            which = Which(self.affiliate_id, self.currency, pending.method_version)
            raise WrongState(f"{which} waits for a decision: withdraw it first", status="proposed")
        which = Which(self.affiliate_id, self.currency, len(state.versions) + 1 if state else 1)
        field = details_field(which.method_version)
        proposed = PayoutMethodProposed(
            **which.fields(),
            method=self.method,
            minimum_amount=self.minimum_amount,
            details=view.seal(affiliate.key(self.affiliate_id), stream, field, canonical(self.details)),
            fingerprint=self.fingerprint,
            proposed_by=view.actor,
        )
        drafts = [(stream, proposed), which.tell("proposed", self.method)]
        return Decision(own_last(drafts, stream), Answer("recorded", self._body(which.method_version)))

    def _same_as(self, was: MethodVersion, view: View) -> bool:
        ours = (self.method, self.minimum_amount, self.fingerprint)
        if (was.method, was.minimum_amount, was.fingerprint) != ours:
            return False
        kept = open_details(view, self.affiliate_id, self.currency, was)
        return kept is None or kept == self.details

    def _body(self, version: int) -> dict[str, Any]:
        return Which(self.affiliate_id, self.currency, version).body("proposed") | {"fingerprint": self.fingerprint}


class DecidePayoutMethod(Command, frozen=True):
    """A second person approves or rejects a version. fingerprint: of the version that person saw; required to
    approve, so that nobody approves an account unseen."""

    name: ClassVar[str] = "decide_payout_method"
    affiliate_id: str
    currency: str
    method_version: int
    approve: bool
    fingerprint: str = ""

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        money.exponent("currency", self.currency)
        if self.approve or self.fingerprint:
            check_fingerprint(self.fingerprint)

    def needs(self) -> Needs:
        """The payout method, and the notice."""
        what = "approved" if self.approve else "rejected"
        told = Which(self.affiliate_id, self.currency, self.method_version).notice_id(what)
        return Needs([key(self.affiliate_id, self.currency), notice.key(told)])

    def decide(self, view: View) -> Decision:
        """PayoutMethodApproved or PayoutMethodRejected, and a notice. Raises NotFound, WrongState, SamePerson."""
        which = Which(self.affiliate_id, self.currency, self.method_version)
        version, stream = which.find(view), key(self.affiliate_id, self.currency)
        if self.fingerprint and self.fingerprint != version.fingerprint:
            raise WrongState(f"{which} has another fingerprint than the one you saw")
        status = "approved" if self.approve else "rejected"
        if version.status == status:
            at = view.answered_at(stream, PayoutMethodApproved, PayoutMethodRejected)
            return Decision([], Answer("unchanged", which.body(status, version.effective_from), at))
        if version.status != "proposed":
            raise WrongState(f"{which} is {version.status} already", status=version.status)
        if same_person(version.proposed_by, view.actor):
            raise SamePerson()
        event: Event
        starts: datetime | None = None
        if self.approve:
            assert view.program is not None
            starts = view.now + timedelta(hours=view.program.payout_method_wait_hours)
            event = PayoutMethodApproved(**which.fields(), effective_from=starts)
        else:
            event = PayoutMethodRejected(**which.fields())
        drafts = [(stream, event), which.tell(status, version.method, starts)]
        return Decision(own_last(drafts, stream), Answer("recorded", which.body(status, starts)))


class WithdrawPayoutMethod(Command, frozen=True):
    """Take a version back that is not in force yet: also how an affiliate that is told of a change it never asked for
    stops it."""

    name: ClassVar[str] = "withdraw_payout_method"
    affiliate_id: str
    currency: str
    method_version: int

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        money.exponent("currency", self.currency)

    def needs(self) -> Needs:
        """The payout method."""
        return Needs([key(self.affiliate_id, self.currency)])

    def decide(self, view: View) -> Decision:
        """PayoutMethodWithdrawn and a notice. Raises NotFound, WrongState once it is in force or rejected."""
        which = Which(self.affiliate_id, self.currency, self.method_version)
        version, stream = which.find(view), key(self.affiliate_id, self.currency)
        if version.status == "withdrawn":
            at = view.answered_at(stream, PayoutMethodWithdrawn)
            return Decision([], Answer("unchanged", which.body("withdrawn"), at))
        if version.status == "rejected":
            raise WrongState(f"{which} is rejected already", status="rejected")
        if version.effective_from is not None and version.effective_from <= view.now:
            advice = "propose another, and have the affiliate suspended if its payouts must stop at once"
            raise WrongState(f"{which} is in force: {advice}", status="in_force")
        drafts = [(stream, PayoutMethodWithdrawn(**which.fields())), which.tell("withdrawn", version.method)]
        return Decision(own_last(drafts, stream), Answer("recorded", which.body("withdrawn")))


class Which(NamedTuple):
    """One version of one payout method, and how it is named in events, answers, refusals and notices."""

    affiliate_id: str
    currency: str
    method_version: int

    def __str__(self) -> str:
        return f"version {self.method_version} of the payout method of {self.affiliate_id} in {self.currency}"

    def fields(self) -> dict[str, Any]:
        """As an event's fields."""
        return self._asdict()

    def find(self, view: View) -> MethodVersion:
        """The version itself. Raises NotFound."""
        state = payout_method(view, self.affiliate_id, self.currency)
        if state is None or not 1 <= self.method_version <= len(state.versions):
            raise NotFound(f"there is no {self}")
        return state.versions[self.method_version - 1]

    def body(self, status: str, effective_from: datetime | None = None) -> dict[str, Any]:
        """What a caller is told."""
        starts = {"effective_from": notice.instant_text(effective_from)} if effective_from else {}
        return self._asdict() | {"status": status} | starts

    def tell(self, what: str, method: str, effective_from: datetime | None = None) -> Draft:
        """The notice to its affiliate that the version was proposed, approved, rejected or withdrawn."""
        facts: notice.Facts = {"currency": self.currency, "method": method, "method_version": self.method_version}
        if effective_from is not None:
            facts["effective_from"] = notice.instant_text(effective_from)
        return notice.queue(self.notice_id(what), self.affiliate_id, f"payout_method_{what}", facts)

    def notice_id(self, what: str) -> str:
        """The id of that notice."""
        return f"payout_method/{self.affiliate_id}/{self.currency}/{self.method_version}/{what}"
