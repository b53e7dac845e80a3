"""Exchange rates: what one unit of a currency costs in another, as somebody published it. Recorded, never fetched."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort_right
from datetime import datetime, timedelta
from math import gcd
from operator import attrgetter
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import asdict, force_setattr

from ledger.domain import money
from ledger.domain.errors import DiffersFromOriginal, InvalidInput
from ledger.domain.event import Answer, Command, Decision, Event, check_not_ahead, in_utc
from ledger.domain.view import Needs, View

MAX_AGE_DAYS = 7  # an older rate prices nothing: weekends and holidays are shorter
DIGITS_MAX, WHOLE_MAX, DECIMALS_MAX, SOURCE_MAX = 20, 12, 12, 64  # WHOLE_MAX: digits before the point
_PLAIN = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")
_as_of = attrgetter("as_of")


class RateRecorded(Event, frozen=True):
    """One major unit of base cost `rate` major units of quote at as_of, says source. rate: a canonical decimal, such
    as '0.9213': no exponent, no zeros that it does not need."""

    base: str
    quote: str
    rate: str
    as_of: datetime
    source: str


class RateState(Struct):
    """Every rate of a pair, by as_of; of one as_of in the order of recording."""

    rates: list[RateRecorded] = []

    def at(self, instant: datetime) -> RateRecorded | None:
        """The rate in force: the last one whose as_of is not after instant, of one as_of the last recorded; None if
        that is more than MAX_AGE_DAYS older."""
        found = bisect_right(self.rates, instant, key=_as_of)
        if not found or instant - self.rates[found - 1].as_of > timedelta(days=MAX_AGE_DAYS):
            return None
        return self.rates[found - 1]

    def said(self, as_of: datetime, source: str) -> RateRecorded | None:
        """What a source said of an instant."""
        for one in self.rates[bisect_left(self.rates, as_of, key=_as_of) :]:
            if one.as_of != as_of:
                return None
            if one.source == source:
                return one
        return None


def key(base: str, quote: str) -> str:
    """The stream key of a pair of currencies."""
    return f"rate:{base}/{quote}"


def fold(state: RateState | None, event: Event) -> RateState:
    """RateState after an event."""
    assert isinstance(event, RateRecorded)
    state = state or RateState()
    insort_right(state.rates, event, key=_as_of)
    return state


def at(view: View, base: str, quote: str, instant: datetime) -> RateRecorded | None:
    """The rate in force from base to quote at an instant, or None. Only what was recorded for this very pair: quote to
    base is another pair, whose rate is never turned round."""
    state: RateState | None = view.state(key(base, quote))
    return None if state is None else state.at(instant)


def factor(rate: str, base: str, quote: str) -> tuple[int, int]:
    """(numerator, denominator), in lowest terms: minor units of base × numerator / denominator are minor units of
    quote, exactly. rate: canonical. '0.0061' JPY to EUR: 1 yen is 0.61 cents, (61, 100).

    Raises InvalidInput for a currency that is none.
    """
    whole, _, decimals = rate.partition(".")
    numerator = int(whole + decimals) * 10 ** money.exponent("quote", quote)
    denominator = 10 ** (len(decimals) + money.exponent("base", base))
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


def canonical(field: str, text: str) -> str:
    """'0.92130' → '0.9213', '3.0' → '3'. Raises InvalidInput for what is no plain decimal above 0, or too long."""
    # the length first: nothing is made of a text of megabytes
    if len(text) > 4 * DIGITS_MAX or not _PLAIN.fullmatch(text):
        raise InvalidInput(field, "must be a plain decimal number such as 0.9213, as text")
    rate = text.rstrip("0").rstrip(".") if "." in text else text
    if rate == "0":
        raise InvalidInput(field, "must be above 0")
    whole, _, decimals = rate.partition(".")
    if len(whole) > WHOLE_MAX or len(decimals) > DECIMALS_MAX or len(whole + decimals) > DIGITS_MAX:
        digits = f"{WHOLE_MAX} digits before the point, {DECIMALS_MAX} behind it and {DIGITS_MAX} in all"
        raise InvalidInput(field, f"must have at most {digits}")
    return rate


class RecordRate(Command, frozen=True):
    """Record what one major unit of base cost in major units of quote at an instant. rate: a decimal as text."""

    name: ClassVar[str] = "record_rate"
    base: str
    quote: str
    rate: str
    as_of: datetime
    source: str

    def __post_init__(self) -> None:
        money.exponent("base", self.base)
        money.exponent("quote", self.quote)
        if self.base == self.quote:
            raise InvalidInput("quote", "must be another currency than base")
        force_setattr(self, "rate", canonical("rate", self.rate))
        force_setattr(self, "as_of", in_utc("as_of", self.as_of))
        if not 1 <= len(self.source) <= SOURCE_MAX or not self.source.isprintable():
            raise InvalidInput("source", f"must be 1-{SOURCE_MAX} printable characters, such as ECB")

    def needs(self) -> Needs:
        """The pair's stream."""
        return Needs([key(self.base, self.quote)])

    def decide(self, view: View) -> Decision:
        """RateRecorded, once for an as_of and source. Raises DiffersFromOriginal, InvalidInput."""
        stream = key(self.base, self.quote)
        recorded = RateRecorded(base=self.base, quote=self.quote, rate=self.rate, as_of=self.as_of, source=self.source)
        state: RateState | None = view.state(stream)
        was = None if state is None else state.said(self.as_of, self.source)
        if was is not None:
            if was.rate != self.rate:
                raise DiffersFromOriginal(f"the rate of {self.source} for {self.base}/{self.quote}", ["rate"])
            position = view.answered_at(stream, RateRecorded, as_of=self.as_of, source=self.source)
            return Decision([], Answer("unchanged", asdict(recorded), position))
        check_not_ahead("as_of", self.as_of, view.now)
        return Decision([(stream, recorded)], Answer("recorded", asdict(recorded)))
