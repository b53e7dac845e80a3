"""How exact commissions became whole minor units: each by itself, or the shares of a sale together."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from ledger.domain.conversion_state import ConversionState
from ledger.domain.plans.evidence import Pricing
from ledger.explaining.data import Remainder, Rounding
from ledger.explaining.figures import half_up, share_of


def rounding_of(pricing: Pricing, affiliate_id: str, state: ConversionState) -> Rounding:
    """How one commission was rounded."""
    exact = Fraction(pricing.exact) * share_of(pricing)
    if pricing.weight is None:
        rounded = half_up(exact)
        return Rounding(method="half_up", exact=str(exact), rounded=rounded, added=str(rounded - exact))
    shares = _Shares.of(state)
    rounded = shares.rounded(affiliate_id)
    return Rounding(
        method="largest_remainder",
        exact=str(exact),
        rounded=rounded,
        added=str(rounded - exact),
        remainder=str(shares.remainder(affiliate_id)),
        reason=shares.reason(affiliate_id),
        together=str(shares.together),
        left=shares.left,
        remainders=[Remainder(affiliate_id=who, remainder=str(shares.remainder(who))) for who in shares.order],
    )


class _Shares(NamedTuple):
    """All shares of a sale. exact: by affiliate; order: who gets a unit first; left: units that are handed out, one
    each, beyond what the shares are when each is rounded down."""

    exact: dict[str, Fraction]
    order: list[str]
    left: int

    @classmethod
    def of(cls, state: ConversionState) -> _Shares:
        exact = {
            one.affiliate_id: Fraction(one.accrued.pricing.exact) * share_of(one.accrued.pricing)
            for one in state.commissions.values()
            if one.level == 1 and one.accrued is not None and one.accrued.pricing is not None
        }
        left = half_up(sum(exact.values(), Fraction(0))) - sum(int(one) for one in exact.values())
        # sorted() is stable: of equal remainders the first of those who are credited, who are in order of first touch
        return cls(exact, sorted(exact, key=lambda who: int(exact[who]) - exact[who]), left)

    @property
    def together(self) -> Fraction:
        return sum(self.exact.values(), Fraction(0))

    def remainder(self, who: str) -> Fraction:
        return self.exact[who] - int(self.exact[who])

    def rounded(self, who: str) -> int:
        return int(self.exact[who]) + (who in self.order[: self.left])

    def reason(self, who: str) -> str:
        got, missed = self.order[: self.left], self.order[self.left :]
        if not self.remainder(who):
            return "whole"
        if not got:
            return "none_left"
        if who in got:
            is_tie = bool(missed) and self.remainder(missed[0]) == self.remainder(who)
            return "earlier_touch" if is_tie else "larger"
        return "later_touch" if self.remainder(got[-1]) == self.remainder(who) else "smaller"
