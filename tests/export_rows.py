"""One event of every topic, constructed by hand: what stands in tests/vectors/export_lines.ndjson, line by line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from ledger.domain.access import KeyIssued, KeyRevoked
from ledger.domain.adjustment import AdjustmentPosted, AdjustmentProposed, AdjustmentRejected
from ledger.domain.affiliate import (
    AffiliateApproved,
    AffiliateClosed,
    AffiliateEnrolled,
    AffiliateReinstated,
    AffiliateSuspended,
)
from ledger.domain.click import ClickRecorded
from ledger.domain.conversion import (
    AttributionDeferred,
    CommissionAccrued,
    ConversionApproved,
    ConversionHeld,
    ConversionRecorded,
    ConversionRejected,
    ConversionReleased,
    ConversionReversed,
    ConversionUnattributed,
    Item,
    ReversalDeferred,
    Step,
)
from ledger.domain.coupon import CouponAssigned
from ledger.domain.event import BEGINNING, Event
from ledger.domain.exceptions import ExceptionRaised, ExceptionResolved
from ledger.domain.offer import OfferPublished, TermsProposed, TermsPublished, TermsRejected
from ledger.domain.program import ProgramOpened
from ledger.domain.reversal import ReversalRecorded

PROGRAM_ID = UUID("c1c53faa-90d6-5ce2-8fa8-2da05ea2bb0d")
T0 = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2026, 1, 31, 12, 30, 5, 60_700, tzinfo=UTC)
CIPHER = "AAECAwQFBgcICQoL3q2+7w=="


class Vector(NamedTuple):
    """An event and its place."""

    log: str
    key: str
    version: int
    event: Event
    recorded_at: datetime = AT
    actor: str = "ana"
    key_id: str = "0123456789abcdef"
    request_id: str = "req-1"
    cause: str = "a_command"


TERMS = TermsPublished(
    offer_id="shoes", terms_version=2, effective_from=T0, hold_days=30, window_days=14, amount=500, currency="GBP"
)
ROWS = [
    Vector("books", "program:shop", 1, ProgramOpened(program="shop", currency="GBP")),
    Vector(
        "books",
        "program:oz",
        1,
        ProgramOpened(program="oz", currency="AUD", zone="Australia/Sydney", click_wait_hours=1),
    ),
    Vector("books", "affiliate:ada", 1, AffiliateEnrolled(affiliate_id="ada")),
    Vector(
        "books",
        "affiliate:bob",
        1,
        AffiliateEnrolled(affiliate_id="bob", display_name=CIPHER, email=CIPHER, note=CIPHER),
    ),
    Vector("books", "affiliate:ada", 2, AffiliateApproved(affiliate_id="ada"), T0),
    Vector("books", "affiliate:ada", 3, AffiliateSuspended(affiliate_id="ada", reason=CIPHER)),
    Vector("books", "affiliate:ada", 4, AffiliateReinstated(affiliate_id="ada")),
    Vector("books", "affiliate:ada", 5, AffiliateClosed(affiliate_id="ada", reason=CIPHER)),
    Vector(
        "books",
        "offer:shoes",
        1,
        OfferPublished(
            offer_id="shoes", offer_name='Shoes & «Été» "100%"', landing_url="https://example.com/a?b=c&d=é#f"
        ),
    ),
    Vector(
        "books",
        "offer:shoes",
        2,
        TermsPublished(
            offer_id="shoes", terms_version=1, effective_from=BEGINNING, hold_days=30, window_days=30, rate_bps=1000
        ),
    ),
    Vector("books", "offer:shoes", 3, TermsProposed(terms=TERMS, proposed_by="ana")),
    Vector("books", "offer:shoes", 4, TermsRejected(offer_id="shoes", terms_version=2)),
    Vector("books", "coupon:TEN", 1, CouponAssigned(coupon="TEN", affiliate_id="ada", offer_id="shoes")),
    Vector(
        "books",
        "coupon:10%",
        1,
        CouponAssigned(coupon="10%", affiliate_id="ada", offer_id="shoes", valid_from=T0, valid_until=AT),
    ),
    Vector(
        "books",
        "conversion:A",
        1,
        ConversionRecorded(order_id="A", offer_id="shoes", amount=0, currency="GBP", occurred_at=T0),
    ),
    Vector(
        "books",
        "conversion:Ä/1",
        1,
        ConversionRecorded(
            order_id="Ä/1",
            offer_id="shoes",
            amount=10**13,
            currency="JPY",
            occurred_at=AT,
            customer_id="客户",
            click_id="k1",
            coupon="TEN",
            affiliate_id="ada",
            event_id="e1",
            channel="news",
            country="GB",
            items=[Item("sku"), Item('"\\/\b\f\n\r\t\u0001\u007f\u2028😀', 2, -5, "x")],
        ),
    ),
    Vector(
        "books",
        "conversion:A",
        2,
        CommissionAccrued(
            order_id="A",
            affiliate_id="ada",
            offer_id="shoes",
            amount=197,
            currency="GBP",
            sale_amount=1970,
            occurred_at=T0,
            matures_at=AT,
            terms_version=1,
            traffic_position=0,
            steps=[Step("affiliate_id", "matched", "ada")],
            rate_bps=1000,
        ),
    ),
    Vector(
        "books",
        "conversion:Ä/1",
        2,
        CommissionAccrued(
            order_id="Ä/1",
            affiliate_id="ada",
            offer_id="shoes",
            amount=1,
            currency="JPY",
            sale_amount=3,
            occurred_at=T0,
            matures_at=AT,
            terms_version=1,
            traffic_position=9,
            held=True,
            steps=[
                Step("click_id", "other_offer", "bob"),
                Step("coupon", "unknown"),
                Step("last_click", "matched", "ada"),
            ],
            rate_bps=2000,
            rounding_e4=4000,
            click_id="k1",
            clicked_at=T0,
            click_position=1,
            click_leaf="ab" * 32,
        ),
    ),
    Vector("books", "conversion:U", 2, ConversionUnattributed(order_id="U", traffic_position=3, steps=[])),
    Vector("books", "conversion:W", 2, AttributionDeferred(order_id="W", click_id="k9", until=AT, traffic_position=3)),
    Vector(
        "books",
        "conversion:A",
        3,
        ConversionHeld(order_id="A", affiliate_id="ada", amount=197, currency="GBP", effective_at=AT, reason=CIPHER),
    ),
    Vector(
        "books",
        "conversion:A",
        4,
        ConversionReleased(order_id="A", affiliate_id="ada", amount=197, currency="GBP", effective_at=AT),
    ),
    Vector(
        "books",
        "conversion:A",
        5,
        ConversionApproved(
            order_id="A", affiliate_id="ada", amount=197, currency="GBP", effective_at=AT, by_hand=True, reason=CIPHER
        ),
    ),
    Vector(
        "books",
        "conversion:B",
        3,
        ConversionRejected(order_id="B", affiliate_id="ada", amount=0, currency="GBP", effective_at=AT, was_held=True),
    ),
    Vector(
        "books",
        "conversion:A",
        6,
        ConversionReversed(
            order_id="A",
            reversal_id="r1",
            amount=99,
            currency="GBP",
            sale_amount=985,
            effective_at=T0,
            bucket="payable",
            affiliate_id="ada",
        ),
    ),
    Vector(
        "books",
        "conversion:C",
        1,
        ReversalDeferred(order_id="C", reversal_id="r2", sale_amount=None, currency=None, effective_at=T0),
    ),
    Vector(
        "books",
        "reversal:r1",
        1,
        ReversalRecorded(
            reversal_id="r1", order_id="A", occurred_at=T0, sale_amount=985, currency="GBP", reason_code="returned"
        ),
    ),
    Vector("books", "reversal:r2", 1, ReversalRecorded(reversal_id="r2", order_id="C", occurred_at=T0)),
    Vector(
        "books",
        "adjustment:j1",
        1,
        AdjustmentProposed(
            adjustment_id="j1",
            affiliate_id="ada",
            kind="correction",
            amount=-500,
            currency="GBP",
            reason=CIPHER,
            proposed_by="ana",
            effective_at=T0,
        ),
    ),
    Vector(
        "books",
        "adjustment:j1",
        2,
        AdjustmentPosted(adjustment_id="j1", affiliate_id="ada", amount=-500, currency="GBP", effective_at=T0),
        actor="cyd",
    ),
    Vector(
        "books",
        "adjustment:j2",
        2,
        AdjustmentRejected(adjustment_id="j2", affiliate_id="ada"),
        actor='Zoë "Z" \\ 😀',
        key_id="",
        request_id="",
        cause="",
    ),
    Vector(
        "books",
        "line:C489449:1",
        1,
        ExceptionRaised(
            exception_id="line:C489449:1",
            type="not_a_sale",
            detail="quantity is 0 – kept",
            fact={"b": 1, "a": [None, True, "ü"], "price": "1.50"},
            affiliate_id="ada",
        ),
    ),
    Vector(
        "books", "line:C489449:1", 2, ExceptionResolved(exception_id="line:C489449:1", action="dismiss", reason=CIPHER)
    ),
    Vector(
        "books",
        "key:k",
        1,
        KeyIssued(
            access_key_id="k",
            role="affiliate",
            holder="eve",
            holder_kind="person",
            expires_at=T0,
            affiliate_id="ada",
            rotates="j",
        ),
    ),
    Vector("books", "key:k", 2, KeyRevoked(access_key_id="k")),
    Vector(
        "traffic",
        "click:k1",
        1,
        ClickRecorded(click_id="k1", affiliate_id="ada", offer_id="shoes", occurred_at=T0),
        cause="record_click",
    ),
    Vector(
        "traffic",
        "click:k2",
        1,
        ClickRecorded(
            click_id="k2",
            affiliate_id="ada",
            offer_id="shoes",
            occurred_at=AT,
            customer_id="c1",
            visitor_id="v1",
            channel="news",
            ip_hash="00ff00ff00ff00ff",
            duplicate=True,
            personal=CIPHER,
            personal_key="traffic:2026-01",
        ),
    ),
]
