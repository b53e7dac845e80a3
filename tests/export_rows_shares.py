"""One event of each topic of shared credit, constructed by hand, for tests/vectors."""

from __future__ import annotations

from datetime import timedelta

from export_rows import T0, Vector

from ledger.domain.conversion import (
    CommissionAccrued,
    CommissionRepriced,
    ConversionAttributed,
    ConversionReversed,
    Step,
    WeighedTouch,
)
from ledger.domain.plans.evidence import (
    CapReading,
    FrozenRate,
    PricedRule,
    Pricing,
    TierPart,
    TierReading,
)
from ledger.domain.plans.journey import Touch

ROWS: list[Vector] = [
    Vector(
        "books",
        "conversion:S-1",
        2,
        ConversionAttributed(
            order_id="S-1",
            model="position_based",
            touches=[
                WeighedTouch(Touch(4, "ada", T0, channel="blog"), 40),
                WeighedTouch(Touch(9, "bob", T0 + timedelta(hours=2), kind="impression"), 60),
            ],
            traffic_position=11,
        ),
    ),
    Vector(
        "books",
        "conversion:S-1",
        3,
        CommissionAccrued(
            order_id="S-1",
            affiliate_id="ada",
            offer_id="shoes",
            amount=2800,
            currency="USD",
            sale_amount=100_000,
            occurred_at=T0 + timedelta(days=1),
            matures_at=T0 + timedelta(days=31),
            terms_version=3,
            traffic_position=11,
            steps=[Step("position_based", "matched", "ada")],
            credited_amount=40_000,
            sale_currency="EUR",
            pricing=Pricing(
                rules=[
                    PricedRule(
                        "all",
                        100_000,
                        "28001/10",
                        tier=TierReading(
                            "revenue", "affiliate/2026-01", 0, 50_000, 0, 2,
                            [TierPart(0, 20_000), TierPart(1, 20_000), TierPart(2, 10_000)],
                        ),
                    )
                ],
                model="position_based",
                override="gold",
                weight=(40, 100),
                value=43_320,
                exact="28001/10",
                bound="max_amount",
                caps=[CapReading("budget", "commission", "offer/2026-01-02", 2800, 2801, 2800)],
                counted=["affiliate/2026-01", "offer/2026-01-02"],
                customer="returning",
                first_order_id="S-0",
                rate=FrozenRate("EUR", "USD", "1.083", T0, "ECB"),
            ),
        ),
    ),
    Vector(
        "books",
        "conversion:S-1",
        4,
        CommissionAccrued(
            order_id="S-1",
            affiliate_id="rob",
            offer_id="shoes",
            amount=280,
            currency="USD",
            sale_amount=100_000,
            occurred_at=T0 + timedelta(days=1),
            matures_at=T0 + timedelta(days=31),
            terms_version=3,
            traffic_position=11,
            steps=[Step("recruited", "matched", "ada")],
            level=2,
            credited_amount=0,
            sale_currency="EUR",
            pricing=Pricing(model="position_based", second_level_of=2800, rate_bps=1000, exact="280"),
        ),
    ),
    Vector(
        "books",
        "conversion:S-1",
        5,
        CommissionRepriced(
            order_id="S-1",
            affiliate_id="ada",
            amount=1200,
            commission=4000,
            currency="USD",
            bucket="payable",
            effective_at=T0 + timedelta(days=40),
            cause="tier_reached",
            step=2,
            counter="affiliate/2026-01",
            counted=60_000,
        ),
    ),
    Vector(
        "books",
        "conversion:S-1",
        6,
        ConversionReversed(
            order_id="S-1",
            reversal_id="r-1",
            amount=140,
            currency="USD",
            sale_amount=50_000,
            effective_at=T0 + timedelta(days=41),
            bucket="payable",
            affiliate_id="rob",
            level=2,
        ),
    ),
]  # fmt: skip
