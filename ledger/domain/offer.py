"""An offer: what affiliates promote, and the dated versions of the terms on which it pays."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import money
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import BEGINNING, Answer, Command, Decision, Draft, Event, in_utc
from ledger.domain.ids import AMOUNT_MAX, check_slug, same_person
from ledger.domain.plans import plan as plans
from ledger.domain.plans import plan_check
from ledger.domain.view import Needs, View


class OfferPublished(Event, frozen=True):
    """The offer's name and landing page, as of now."""

    offer_id: str
    offer_name: str = ""
    landing_url: str = ""


class TermsPublished(Event, frozen=True):
    """A version of an offer's terms: percent (rate_bps) or flat (amount, currency) per conversion, or a plan.

    Conversions that occurred at or after effective_from are priced by it, until a newer version takes over.
    plan: the document, its keys sorted; plan_hash: SHA-256 of its canonical form, hex.
    """

    offer_id: str
    terms_version: int
    effective_from: datetime
    hold_days: int
    window_days: int
    rate_bps: int | None = None
    amount: int | None = None
    currency: str | None = None
    plan: dict[str, Any] | None = None
    plan_hash: str | None = None


class TermsProposed(Event, frozen=True):
    """A version that reaches back behind now: it waits for a second person."""

    terms: TermsPublished
    proposed_by: str


class TermsRejected(Event, frozen=True):
    """The proposed version does not come into force."""

    offer_id: str
    terms_version: int


class Terms(Struct, frozen=True, dict=True):
    """Terms in force. hold_days and window_days are days; rate_bps basis points; amount minor units. document: of a
    plan, as it was published; plan_hash: see TermsPublished."""

    version: int
    effective_from: datetime
    hold_days: int
    window_days: int
    rate_bps: int | None
    amount: int | None
    currency: str | None
    document: dict[str, Any] | None = None
    plan_hash: str | None = None

    @cached_property
    def plan(self) -> plans.ReadPlan | None:
        """The plan, ready for use; None for simple terms. Read when it is first asked for: a fold takes any history.
        Raises msgspec.ValidationError for a document that is no plan."""
        return None if self.document is None else plans.read(self.document)

    def commission(self, sale_amount: int) -> tuple[int, int]:
        """(commission in minor units, what rounding added in ten-thousandths of a minor unit) of simple terms."""
        if self.rate_bps is None:
            assert self.amount is not None
            return self.amount, 0
        exact = sale_amount * self.rate_bps
        rounded = money.round_half_up(exact, money.BPS)
        return rounded, rounded * money.BPS - exact


def terms_of(event: TermsPublished) -> Terms:
    """The terms that an event says."""
    return Terms(
        event.terms_version,
        event.effective_from,
        event.hold_days,
        event.window_days,
        event.rate_bps,
        event.amount,
        event.currency,
        event.plan,
        event.plan_hash,
    )


class OfferState(Struct):
    """terms are in force; proposed waits for a second person; last_terms_version counts both and the rejected."""

    offer_id: str
    offer_name: str
    landing_url: str
    terms: list[Terms]
    proposed: TermsProposed | None = None
    last_terms_version: int = 0

    def version(self, number: int) -> Terms | None:
        """A version that is or was in force, by its number."""
        return next((one for one in self.terms if one.version == number), None)

    def any_version(self, number: int) -> Terms | None:
        """The same, also of one that waits for a second person."""
        if self.proposed is not None and self.proposed.terms.terms_version == number:
            return terms_of(self.proposed.terms)
        return self.version(number)

    def status_at(self, number: int, now: datetime) -> str:
        """Of a version: waiting for a second person, to_come, in_force, or superseded by another."""
        one = self.version(number)
        if one is None:
            return "waiting"
        if one.effective_from > now:
            return "to_come"
        return "in_force" if one is self.terms_at(now) else "superseded"

    def ends_at(self, number: int) -> datetime | None:
        """From when on another version prices sales in its place; None while there is none, or it waits."""
        one = self.version(number)
        if one is None:
            return None
        later = self.terms[self.terms.index(one) + 1 :]
        starts = [t.effective_from for t in self.terms if t.effective_from > one.effective_from]
        return min(starts + [t.effective_from for t in later if t.effective_from == one.effective_from], default=None)

    def terms_at(self, instant: datetime) -> Terms | None:
        """The version in force: the latest effective_from not after instant; among equals the newest."""
        best: Terms | None = None
        for one in self.terms:
            if one.effective_from <= instant and (best is None or one.effective_from >= best.effective_from):
                best = one
        return best


def key(offer_id: str) -> str:
    """The stream key of an offer."""
    return f"offer:{offer_id}"


def fold(state: OfferState | None, event: Event) -> OfferState:
    """OfferState after an event."""
    if state is None:
        assert isinstance(event, OfferPublished)
        return OfferState(event.offer_id, event.offer_name, event.landing_url, [])
    match event:
        case OfferPublished():
            state.offer_name, state.landing_url = event.offer_name, event.landing_url
        case TermsProposed():
            state.proposed = event
            state.last_terms_version = event.terms.terms_version
        case TermsPublished():
            state.proposed = None
            state.last_terms_version = max(state.last_terms_version, event.terms_version)
            state.terms.append(terms_of(event))
        case TermsRejected():
            state.proposed = None
        case _:
            raise AssertionError(event)
    return state


class PublishOffer(Command, frozen=True):
    """Name an offer and its landing page; the same again changes nothing."""

    name: ClassVar[str] = "publish_offer"
    offer_id: str
    offer_name: str = ""
    landing_url: str = ""

    def __post_init__(self) -> None:
        check_slug("offer_id", self.offer_id)
        if len(self.offer_name) > 200 or not (self.offer_name or "x").isprintable():
            raise InvalidInput("offer_name", "must be at most 200 printable characters")
        if self.landing_url:
            check_landing_url(self.landing_url)

    def needs(self) -> Needs:
        """The offer's stream."""
        return Needs([key(self.offer_id)])

    def decide(self, view: View) -> Decision:
        """OfferPublished, unless nothing changes."""
        body = {"offer_id": self.offer_id, "offer_name": self.offer_name, "landing_url": self.landing_url}
        was = view.offer(self.offer_id)
        if was is not None and (was.offer_name, was.landing_url) == (self.offer_name, self.landing_url):
            at = view.answered_at(key(self.offer_id), OfferPublished)
            return Decision([], Answer("unchanged", body, at))
        published = OfferPublished(offer_id=self.offer_id, offer_name=self.offer_name, landing_url=self.landing_url)
        return Decision([(key(self.offer_id), published)], Answer("recorded", body))


def check_landing_url(url: str) -> None:
    """An absolute http(s) address without credentials or control characters. Raises InvalidInput."""
    wrong = InvalidInput("landing_url", "must be an absolute http or https address of at most 2000 characters")
    if len(url) > 2000 or not url.isprintable() or " " in url or "\\" in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not port_is_fine:
        raise wrong


class PublishTerms(Command, frozen=True):
    """Publish a version of an offer's terms: rate_bps, amount with currency, or plan (a document: docs/plans.md).
    effective_from None: from the beginning of time for the first version, from now on for a later one. One that
    reaches back behind now, after the first, needs two people."""

    name: ClassVar[str] = "publish_terms"
    offer_id: str
    hold_days: int
    window_days: int
    rate_bps: int | None = None
    amount: int | None = None
    currency: str | None = None
    effective_from: datetime | None = None
    plan: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_slug("offer_id", self.offer_id)
        for field in ("hold_days", "window_days"):
            if not 0 <= getattr(self, field) <= 3650:
                raise InvalidInput(field, "must be from 0 to 3650 days")
        self._check_price()
        if self.effective_from is not None:
            force_setattr(self, "effective_from", in_utc("effective_from", self.effective_from))

    def _check_price(self) -> None:
        if [self.rate_bps, self.amount, self.plan].count(None) != 2:
            raise InvalidInput(
                "rate_bps", "give one of: a percentage (rate_bps), a flat amount with its currency, or a plan"
            )
        if self.plan is not None:
            if self.currency is not None:
                raise InvalidInput("currency", "goes with a flat amount; a plan names its currency itself")
            check_plan(self.plan)
        if self.rate_bps is not None and not 0 <= self.rate_bps <= 100_000:
            raise InvalidInput("rate_bps", "must be from 0 to 100000 basis points")
        if self.amount is not None and not 0 <= self.amount <= AMOUNT_MAX:
            raise InvalidInput("amount", f"must be from 0 to {AMOUNT_MAX} minor units")
        if self.amount is not None or self.currency is not None:
            money.exponent("currency", self.currency or "")

    @property
    def plan_hash(self) -> str | None:
        """Of the plan's canonical form."""
        return None if self.plan is None else plans.hash_of(self.plan)

    def needs(self) -> Needs:
        """The offer's stream."""
        return Needs([key(self.offer_id)])

    def decide(self, view: View) -> Decision:
        """TermsPublished, or TermsProposed when it reaches back. Raises NotFound, WrongState."""
        state = view.offer(self.offer_id)
        if state is None:
            raise NotFound(f"offer {self.offer_id} does not exist")
        if (again := self._same_as(state, view)) is not None:
            return again
        if state.proposed is not None:
            version = state.proposed.terms.terms_version
            raise WrongState(f"version {version} of the terms waits for a second person's decision")
        effective = self.effective_from or (view.now if state.terms else BEGINNING)
        terms = TermsPublished(
            offer_id=self.offer_id,
            terms_version=state.last_terms_version + 1,
            effective_from=effective,
            hold_days=self.hold_days,
            window_days=self.window_days,
            rate_bps=self.rate_bps,
            amount=self.amount,
            currency=self.currency,
            plan=None if self.plan is None else msgspec.json.decode(plans.canonical(self.plan)),
            plan_hash=self.plan_hash,
        )
        reaches_back = bool(state.terms) and effective < view.now
        event: Event = TermsProposed(terms=terms, proposed_by=view.actor) if reaches_back else terms
        status = "waiting" if reaches_back else "in_force"
        answer = Answer("recorded", self._body(terms.terms_version, status))
        return Decision([(key(self.offer_id), event)], answer)

    def _body(self, version: int, status: str) -> dict[str, object]:
        return {"offer_id": self.offer_id, "terms_version": version, "status": status}

    def _same_as(self, state: OfferState, view: View) -> Decision | None:
        """The original answer, when a version says just this already."""
        proposed = state.proposed.terms if state.proposed else None
        if proposed is not None and (proposed.effective_from, _content(proposed)) == (
            self.effective_from,
            _content(self),
        ):
            version, status = proposed.terms_version, "waiting"
        else:
            current = self._standing(state, view)
            if current is None or _content(current) != _content(self):
                return None
            version, status = current.version, "in_force"
        position = view.answered_at(key(self.offer_id), TermsPublished, TermsProposed)
        return Decision([], Answer("unchanged", self._body(version, status), position))

    def _standing(self, state: OfferState, view: View) -> Terms | None:
        """The version that this one would stand in for: of the same start, or from now on (if no other is to come)."""
        if self.effective_from is None:
            to_come = any(t.effective_from > view.now for t in state.terms)
            return None if to_come else state.terms_at(view.now)
        starts_then = [t for t in state.terms if t.effective_from == self.effective_from]
        return starts_then[-1] if starts_then else None


def _content(one: PublishTerms | TermsPublished | Terms) -> tuple[object, ...]:
    return (one.hold_days, one.window_days, one.rate_bps, one.amount, one.currency, one.plan_hash)


def check_plan(document: Any) -> None:
    """Raise InvalidInput, at its first mistake and with all of them, for a document that is no plan."""
    found = plan_check.mistakes(document)
    if not found:
        return
    more = f" (and {len(found) - 1} more mistakes)" if len(found) > 1 else ""
    raise InvalidInput(
        f"plan{found[0].pointer}",
        f"{found[0].message}{more}",
        mistakes=[{"pointer": one.pointer, "detail": one.message} for one in found],
    )


class DecideTerms(Command, frozen=True):
    """A second person approves or rejects terms that reach back."""

    name: ClassVar[str] = "decide_terms"
    offer_id: str
    terms_version: int
    approve: bool

    def __post_init__(self) -> None:
        check_slug("offer_id", self.offer_id)

    def needs(self) -> Needs:
        """The offer's stream."""
        return Needs([key(self.offer_id)])

    def decide(self, view: View) -> Decision:
        """TermsPublished or TermsRejected. Raises NotFound, WrongState, SamePerson."""
        state = view.offer(self.offer_id)
        if state is None or not 1 <= self.terms_version <= state.last_terms_version:
            raise NotFound(f"offer {self.offer_id} has no version {self.terms_version} of its terms")
        status = "in_force" if self.approve else "rejected"
        body = {"offer_id": self.offer_id, "terms_version": self.terms_version, "status": status}
        proposed = state.proposed
        if proposed is None or proposed.terms.terms_version != self.terms_version:
            in_force = any(t.version == self.terms_version for t in state.terms)
            if in_force != self.approve:
                raise WrongState(f"version {self.terms_version} was decided otherwise")
            at = view.answered_at(key(self.offer_id), TermsPublished, TermsRejected)
            return Decision([], Answer("unchanged", body, at))
        if same_person(proposed.proposed_by, view.actor):
            raise SamePerson()
        event: Event = (
            proposed.terms if self.approve else TermsRejected(offer_id=self.offer_id, terms_version=self.terms_version)
        )
        drafts: list[Draft] = [(key(self.offer_id), event)]
        return Decision(drafts, Answer("recorded", body))
