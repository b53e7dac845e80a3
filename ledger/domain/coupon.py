"""A coupon: a code that credits an affiliate when a customer uses it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import affiliate, offer
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.ids import check_external_id, check_slug
from ledger.domain.view import Needs, View


class CouponAssigned(Event, frozen=True):
    """The code credits this affiliate on this offer, from valid_from until before valid_until."""

    coupon: str
    affiliate_id: str
    offer_id: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None


class CouponState(Struct):
    """Every assignment the code has had, newest last: a conversion is judged by the one that it falls into."""

    assignments: list[CouponAssigned]

    def at(self, instant: datetime) -> CouponAssigned | None:
        """The newest assignment valid at an instant."""
        for one in reversed(self.assignments):
            if one.valid_from is not None and instant < one.valid_from:
                continue
            if one.valid_until is not None and instant >= one.valid_until:
                continue
            return one
        return None


def key(code: str) -> str:
    """The stream key of a coupon."""
    return f"coupon:{code}"


def fold(state: CouponState | None, event: Event) -> CouponState:
    """CouponState after an event."""
    assert isinstance(event, CouponAssigned)
    if state is None:
        return CouponState([event])
    state.assignments.append(event)
    return state


class AssignCoupon(Command, frozen=True):
    """Give a coupon to an affiliate; the same again changes nothing, other content is a new assignment, from now on
    unless valid_from says later."""

    name: ClassVar[str] = "assign_coupon"
    coupon: str
    affiliate_id: str
    offer_id: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def __post_init__(self) -> None:
        force_setattr(self, "coupon", check_external_id("coupon", self.coupon))
        check_slug("affiliate_id", self.affiliate_id)
        check_slug("offer_id", self.offer_id)
        for field in ("valid_from", "valid_until"):
            if (value := getattr(self, field)) is not None:
                force_setattr(self, field, in_utc(field, value))
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise InvalidInput("valid_until", "must be after valid_from")

    def needs(self) -> Needs:
        """The coupon, its affiliate and its offer."""
        return Needs([key(self.coupon), affiliate.key(self.affiliate_id), offer.key(self.offer_id)])

    def decide(self, view: View) -> Decision:
        """CouponAssigned. Raises NotFound for an unknown affiliate or offer, InvalidInput."""
        assigned = CouponAssigned(
            coupon=self.coupon,
            affiliate_id=self.affiliate_id,
            offer_id=self.offer_id,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
        )
        body = {"coupon": self.coupon, "affiliate_id": self.affiliate_id, "offer_id": self.offer_id}
        was = view.coupon(self.coupon)
        if was is not None:
            last = was.assignments[-1]
            start = last.valid_from if self.valid_from is None else self.valid_from
            if last == msgspec.structs.replace(assigned, valid_from=start):
                at = view.answered_at(key(self.coupon), CouponAssigned)
                return Decision([], Answer("unchanged", body, at))
            # what was sold with the code so far stays with whom it was credited to
            if self.valid_from is not None and self.valid_from < view.now:
                raise InvalidInput("valid_from", "must not lie behind now: the coupon is assigned already")
            assigned = msgspec.structs.replace(assigned, valid_from=self.valid_from or view.now)
        if view.affiliate(self.affiliate_id) is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        if view.offer(self.offer_id) is None:
            raise NotFound(f"offer {self.offer_id} does not exist")
        return Decision([(key(self.coupon), assigned)], Answer("recorded", body))
