"""Clicks that are paid (CPC): counted in the traffic log, a stretch of it at a time, and recorded as conversions.

A stretch is counted once. Its bundles and the end of the stretch are one command's events, so that a click is paid once
or, until the next count, not at all, whatever is interrupted and whoever counts at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, NamedTuple, cast

import msgspec
from msgspec import UNSET, Struct

from ledger.domain import conversion, conversion_state, recording
from ledger.domain.conversion import RESERVED_PREFIX
from ledger.domain.conversion_state import ConversionState
from ledger.domain.errors import InvalidInput, Refusal
from ledger.domain.event import Answer, Command, Decision, Draft, Event
from ledger.domain.exceptions import ExceptionRaised
from ledger.domain.offer import OfferState
from ledger.domain.plans import counting
from ledger.domain.plans.counting import Counted, Counter, CounterKey
from ledger.domain.plans.plan import Plan, Rule
from ledger.domain.recording import RecordConversion
from ledger.domain.view import Needs, View

KEY = "click_tally:program"
BUNDLES_MAX = 500  # of one command: they are decided while everybody else waits


class ClicksTallied(Event, frozen=True):
    """The clicks behind `after` and up to `until` in the traffic log were counted. click_count, bundle_count: of those
    that an offer pays for, and in how many conversions they were recorded. terms_position: up to where the books were
    looked at for terms that say so."""

    after: int
    until: int
    click_count: int
    bundle_count: int
    terms_position: int


class TallyState(Struct):
    """until: up to where the traffic log was counted."""

    last: ClicksTallied

    @property
    def until(self) -> int:
        """The position."""
        return self.last.until


def fold(state: TallyState | None, event: Event) -> TallyState:
    """TallyState after an event."""
    assert isinstance(event, ClicksTallied)
    return TallyState(event)


def _tally(view: View) -> TallyState | None:
    state: TallyState | None = view.state(KEY)
    return state


# --- which clicks are paid -----------------------------------------------------------------------------------


class PayingSpan(NamedTuple):
    """A stretch of time in which one version of an offer's terms is in force and pays for clicks. until: before it;
    None: for ever."""

    offer_id: str
    terms_version: int
    since: datetime
    until: datetime | None


def _rules(plan: Plan) -> Iterable[Rule]:
    yield from plan.rules
    for override in plan.overrides:
        if override.rules is not UNSET:
            yield from override.rules


def pays_per_click(plan: Plan) -> bool:
    """Whether anybody is paid for clicks by a plan."""
    return any(rule.pay.amount_per_click is not None for rule in _rules(plan))


def paying_spans(offer: OfferState) -> list[PayingSpan]:
    """When an offer pays for clicks, in order of time."""
    starts = sorted({terms.effective_from for terms in offer.terms})
    spans = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        terms = offer.terms_at(start)
        if terms is not None and terms.plan is not None and pays_per_click(terms.plan.plan):
            spans.append(PayingSpan(offer.offer_id, terms.version, start, end))
    return spans


# --- counting a stretch --------------------------------------------------------------------------------------


class Bundle(Struct, frozen=True):
    """An affiliate's clicks on an offer in a day, by one channel ('' for none) and under one version of the terms.
    day: on the program's clock; occurred_at: of the last of them."""

    offer_id: str
    affiliate_id: str
    day: str
    channel: str
    terms_version: int
    occurred_at: datetime
    click_count: int

    def order_id(self, after: int) -> str:
        """The id of its conversion: the same whenever the stretch behind a position is counted."""
        parts = (self.offer_id, self.affiliate_id, self.day, self.channel, str(self.terms_version), str(after))
        digest = sha256("\n".join(parts).encode()).hexdigest()[:16]
        return f"{RESERVED_PREFIX}clicks-{self.day}-{after}-{digest}"

    def sale(self, after: int, until: int) -> RecordConversion:
        """As a conversion to be attributed and priced."""
        return RecordConversion(
            order_id=self.order_id(after),
            offer_id=self.offer_id,
            amount=0,
            occurred_at=self.occurred_at,
            affiliate_id=self.affiliate_id,
            event_id="click",
            channel=self.channel or None,
            click_count=self.click_count,
            clicks_after=after,
            clicks_until=until,
        )


class TallyClicks(Command, frozen=True):
    """Record what was counted behind a position of the traffic log and up to another. bundles: at most BUNDLES_MAX;
    terms_position: see ClicksTallied."""

    name: ClassVar[str] = "tally_clicks"
    after: int
    until: int
    bundles: Sequence[Bundle] = ()
    terms_position: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.after < self.until:
            raise InvalidInput("until", "must be behind after, which must not be below 0")
        if len(self.bundles) > BUNDLES_MAX:
            raise InvalidInput("bundles", f"must be at most {BUNDLES_MAX}")

    @property
    def record_count(self) -> int:
        """Bundles."""
        return max(1, len(self.bundles))

    def needs(self) -> Needs:
        """The tally, and what recording each bundle looks at."""
        return _together([Needs([KEY]), *(sale.needs() for sale in self._sales())])

    def needs_then(self, view: View) -> Needs | None:
        """What their plans look at."""
        return _together([sale.needs_then(view) for sale in self._sales()])

    def needs_last(self, view: View) -> Needs | None:
        """Their counters."""
        return _together([sale.needs_last(view) for sale in self._sales()])

    def decide(self, view: View) -> Decision:
        """The bundles' conversions and ClicksTallied; nothing where the stretch does not begin at the end of the last
        one, or terms changed since it was counted."""
        state = _tally(view)
        if (at := state.until if state else 0) != self.after:
            return self._not_now(state, at, view)
        if any(_version(view, bundle) != bundle.terms_version for bundle in self.bundles):
            return Decision([], Answer("unchanged", self._body("terms_changed", self.after)))
        drafts: list[Draft] = []
        ahead = _Ahead(view)
        for sale in self._sales():
            more = _recorded(sale, cast(View, ahead))
            ahead.take(more)
            drafts += more
        tallied = ClicksTallied(
            after=self.after,
            until=self.until,
            click_count=sum(bundle.click_count for bundle in self.bundles),
            bundle_count=len(self.bundles),
            terms_position=self.terms_position,
        )
        return Decision([*drafts, (KEY, tallied)], Answer("recorded", self._body("tallied", self.until)), own=KEY)

    def _sales(self) -> list[RecordConversion]:
        return [bundle.sale(self.after, self.until) for bundle in self.bundles]

    def _not_now(self, state: TallyState | None, at: int, view: View) -> Decision:
        if state is not None and (state.last.after, state.last.until) == (self.after, self.until):
            position = view.answered_at(KEY, ClicksTallied)
            return Decision([], Answer("unchanged", self._body("tallied", at), position))
        return Decision([], Answer("unchanged", self._body("moved", at)))

    def _body(self, status: str, tallied_until: int) -> dict[str, Any]:
        """status: tallied, moved (somebody else has counted on), terms_changed (count again)."""
        return {"status": status, "tallied_until": tallied_until}


def _version(view: View, bundle: Bundle) -> int | None:
    offer = view.offer(bundle.offer_id)
    terms = offer.terms_at(bundle.occurred_at) if offer is not None else None
    return terms.version if terms is not None else None


def _together(some: Sequence[Needs | None]) -> Needs:
    found = Needs([])
    for needs in some:
        if needs is not None:
            found.streams += needs.streams
            found.counters += needs.counters
    return found


def _recorded(sale: RecordConversion, view: View) -> list[Draft]:
    """The events of a bundle; what cannot be applied is kept as an exception, so that it holds up no others."""
    stream, fact = conversion.key(sale.order_id), sale.fact(view)
    try:
        recorded = recording.record(fact, None, view)
    except (Refusal, OverflowError) as refused:  # of a click that is dated thousands of years ahead
        detail, kept = str(refused), msgspec.to_builtins(fact)
        recorded = ExceptionRaised(exception_id=stream, type="not_recordable", detail=detail, fact=kept)
    return [(stream, recorded)] if isinstance(recorded, ExceptionRaised) else recorded.drafts


class _Ahead:
    """A view that knows what the command has decided so far: each bundle is priced behind the one before, so that caps
    and tiers count within a command as they do between two."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._states: dict[str, ConversionState] = {}
        self._counted: Counted = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def take(self, drafts: Iterable[Draft]) -> None:
        """Add the next events."""
        for stream, event in drafts:
            if not stream.startswith("conversion:"):
                continue
            if stream not in self._states:
                known: ConversionState | None = self._view.state(stream)
                self._states[stream] = conversion_state.copied(known or ConversionState())
            state = self._states[stream] = conversion_state.fold(self._states[stream], event)
            counting.add_up(self._counted, counting.changes(state, event))

    def counter(self, key: CounterKey) -> Counter:
        """See View.counter."""
        stored, own = self._view.counter(key), self._counted.get(key)
        if own is None:
            return stored
        found = Counter()
        found.add(stored)
        found.add(own)
        return found

    def counted_orders(self, key: CounterKey) -> list[str]:
        """See View.counted_orders."""
        own = (stream.partition(":")[2] for stream in self._states)
        return list(dict.fromkeys([*self._view.counted_orders(key), *own]))

    def state(self, key: str) -> Any:
        """See View.state."""
        return self._states.get(key) or self._view.state(key)

    def conversion(self, order_id: str) -> ConversionState | None:
        """See View.conversion."""
        return self._states.get(conversion.key(order_id)) or self._view.conversion(order_id)
