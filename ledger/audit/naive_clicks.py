"""A second opinion on clicks that are paid: each bundle holds the clicks that the traffic log has, none is left out,
and none is counted twice.

The logs may be read in either order, so what each says is put aside and compared at the end, one stretch of the traffic
log after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from struct import Struct as Packed
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import msgspec

from ledger.audit.findings import Findings
from ledger.audit.naive_commissions import BOOKS, Terms, at
from ledger.audit.naive_plan_facts import PlanFacts

State = dict[str, Any]
SPOOL_BYTES = 16 << 20  # of each file, before it goes to disk
_CLICK = Packed(">8s8sq")  # offer, whose (offer, affiliate and channel), instant in microseconds
_BUNDLE = Packed(">8sqq")  # whose, day's number, clicks
_TALLY = Packed(">qqqqq")  # position in the books, after, until, terms_position, bundles
_NONE = _CLICK.pack(bytes(8), bytes(8), 0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Counted = Counter[tuple[bytes, int]]  # (whose, day's number) → clicks


class _Click(msgspec.Struct):
    offer_id: str
    affiliate_id: str
    occurred_at: datetime
    channel: str = ""
    duplicate: bool = False


_decode = msgspec.json.Decoder(_Click).decode


def _short(*parts: str) -> bytes:
    return blake2b("\n".join(parts).encode(), digest_size=8).digest()


class _Bundle(NamedTuple):
    """Paid clicks. position: of its event in the books; after, until: of the stretch of the traffic log."""

    position: int
    order_id: str
    whose: bytes
    day: int
    after: int
    until: int
    clicks: int


def _whole(number: object) -> int:
    """A position or a number of clicks. Raises ValueError."""
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise ValueError("positions and numbers of clicks are whole and not below 0")
    return number


class PaidClicks:
    """Compares what was paid with what was clicked. terms, facts: filled while the books are read. Close it."""

    def __init__(self, findings: Findings, terms: Terms, facts: PlanFacts) -> None:
        self._findings, self._terms, self._facts = findings, terms, facts
        self._clicks = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  (closed by close())
        self._tallies = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        self._open: list[_Bundle] = []  # that no tally has come for yet
        self._kept: set[str] = set()  # orders of bundles that are kept as exceptions
        self._until = 0
        self._offers: dict[bytes, str] = {}  # that ever paid for clicks

    def close(self) -> None:
        """Give back what lies on disk."""
        self._clicks.close()
        self._tallies.close()

    # --- the traffic log ---------------------------------------------------------------------------------

    def clicked(self, topic: str, state: msgspec.Raw | None) -> None:
        """The traffic log's next line; None for one that cannot be read."""
        self._clicks.write(self._packed(state) if topic == "ClickRecorded" and state is not None else _NONE)

    @staticmethod
    def _packed(state: msgspec.Raw) -> bytes:
        try:
            click = _decode(state)
            if click.duplicate:
                return _NONE
            instant = (click.occurred_at - _EPOCH) // _MICROSECOND
            whose = _short(click.offer_id, click.affiliate_id, click.channel)
            return _CLICK.pack(_short(click.offer_id), whose, instant)
        except (msgspec.DecodeError, UnicodeError, ValueError, TypeError, OverflowError, RecursionError):
            return _NONE  # told where the stream is folded

    # --- the books ---------------------------------------------------------------------------------------

    TOPICS = frozenset({"ConversionRecorded", "ExceptionRaised", "ClicksTallied", "TermsPublished"})

    def event(self, position: int, topic: str, e: State) -> None:
        """The next event. Raises KeyError and the like for one that lacks what it needs."""
        if topic == "ConversionRecorded":
            if not e.get("click_count"):
                return
            if e["order_id"] in self._kept:
                self._kept.remove(e["order_id"])  # counted when it was kept
            else:
                self._open.append(self._bundle(position, e))
        elif topic == "ExceptionRaised":
            fact = e.get("fact", {})
            if isinstance(fact, dict) and fact.get("click_count") and fact["order_id"] not in self._kept:
                self._open.append(self._bundle(position, fact))
                self._kept.add(fact["order_id"])
        elif topic == "ClicksTallied":
            self._tallied(position, e)
        elif "plan" in e and _pays_per_click(e["plan"]):
            self._offers[_short(e["offer_id"])] = e["offer_id"]

    def _bundle(self, position: int, fact: State) -> _Bundle:
        whose = _short(fact["offer_id"], fact["affiliate_id"], fact.get("channel") or "")
        numbers = [_whole(fact.get(name, 0)) for name in ("clicks_after", "clicks_until", "click_count")]
        return _Bundle(position, str(fact["order_id"]), whose, self._day(at(fact["occurred_at"])), *numbers)

    def _tallied(self, position: int, e: State) -> None:
        names = ("after", "until", "terms_position", "bundle_count", "click_count")
        after, until, known, bundle_count, click_count = (_whole(e[name]) for name in names)
        if after != self._until:
            self._findings.report("life_differs", BOOKS, position, f"clicks counted from {self._until} on", after)
        self._until = until
        own = [one for one in self._open if (one.after, one.until) == (after, until)]
        self._orphans(one for one in self._open if (one.after, one.until) != (after, until))
        self._open.clear()
        expected, found = (len(own), sum(one.clicks for one in own)), (bundle_count, click_count)
        if expected != found:
            said = "{} bundles of {} clicks".format
            self._findings.report("clicks_differ", BOOKS, position, said(*expected), said(*found))
        self._tallies.write(_TALLY.pack(position, after, until, known, len(own)))
        for one in own:
            self._tallies.write(_BUNDLE.pack(one.whose, one.day, one.clicks))

    def _orphans(self, some: Iterable[_Bundle]) -> None:
        for one in some:
            subject = f"order {one.order_id}"
            self._findings.report("clicks_differ", BOOKS, one.position, "a count that it is of", "none", subject)

    def _day(self, instant: datetime) -> int:
        try:
            return instant.astimezone(self._facts.zone).toordinal()
        except OverflowError:
            return 0  # the first or the last day of all

    # --- both --------------------------------------------------------------------------------------------

    def check(self, size: int) -> None:
        """After both logs: what was counted of a traffic log of a size. Stretches that end behind it are left alone."""
        self._orphans(self._open)
        for position, after, until, known, bundles in self._stretches():
            if 0 <= after < until <= size:
                self._compare(position, bundles, self._counted(after, until, known), f"traffic {after + 1} to {until}")

    def _stretches(self) -> Iterator[tuple[int, int, int, int, Counted]]:
        self._tallies.seek(0)
        while record := self._tallies.read(_TALLY.size):
            position, after, until, known, count = _TALLY.unpack(record)
            bundles: Counted = Counter()
            for _ in range(count):
                whose, day, clicks = _BUNDLE.unpack(self._tallies.read(_BUNDLE.size))
                bundles[whose, day] += clicks
            yield position, after, until, known, bundles

    def _counted(self, after: int, until: int, known: int) -> Counted:
        """The clicks of a stretch that were paid for, by terms that the books knew at a position."""
        found: Counted = Counter()
        self._clicks.seek(after * _CLICK.size)
        for _ in range(until - after):
            offer, whose, instant = _CLICK.unpack(self._clicks.read(_CLICK.size))
            offer_id = self._offers.get(offer)
            if offer_id is None:
                continue
            occurred_at = _EPOCH + instant * _MICROSECOND
            if self._pays(offer_id, occurred_at, known):
                found[whose, self._day(occurred_at)] += 1
        return found

    def _pays(self, offer_id: str, occurred_at: datetime, known: int) -> bool:
        version = self._terms.in_force(offer_id, occurred_at, known + 1)
        terms = self._facts.terms(offer_id, version.number) if version is not None else None
        return terms is not None and "plan" in terms and _pays_per_click(terms["plan"])

    def _compare(self, position: int, bundles: Counted, clicks: Counted, subject: str) -> None:
        wrong = [place for place in bundles.keys() | clicks.keys() if bundles[place] != clicks[place]]
        if wrong:
            expected = f"{sum(clicks[place] for place in wrong)} clicks of {len(wrong)} bundles"
            found = sum(bundles[place] for place in wrong)
            self._findings.report("clicks_differ", BOOKS, position, expected, found, subject)


def says_clicks(state: msgspec.Raw) -> bool:
    """A quick look whether a conversion may be a bundle of clicks."""
    return b'"click_count"' in bytes(state)


def _pays_per_click(plan: State) -> bool:
    some = [plan, *plan.get("overrides", [])]
    return any("amount_per_click" in rule["pay"] for one in some for rule in one.get("rules", []))
