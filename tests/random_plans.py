"""Random plans and random histories under them: dense, so that tiers are reached and lost, caps are met, goals pay."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from plan_world import Document, plan, tiered

from ledger.domain.conversion import Item

WHO = ("ada", "bob", "cy")
LONE = ("last_click", "first_click", "last_non_direct", "coupon_wins", "lifetime")
SHARED = ("linear", "position_based", "time_decay")
PERIODS = ("day", "week", "month", "quarter", "year", "total")
CONDITIONS: tuple[Document, ...] = (
    {"sku": ["S1"]}, {"category": ["hats"]}, {"product": ["boot"]}, {"country": ["DE"]}, {"channel": ["blog"]},
    {"coupon": []}, {"coupon": ["TEN"]}, {"customer": "new"}, {"customer": "returning"}, {"currency": ["GBP"]},
    {"sku": ["S1", "S2"], "country": ["DE", "FR"]}, {"event": ["click"]},
)  # fmt: skip


class Program(NamedTuple):
    """touches: of carl, (who, hours, channel); history: sales (dict) and what becomes of them: (what, which sale, how
    much of it in percent)."""

    plan: Document
    touches: list[tuple[str, int, str | None]]
    history: list[dict[str, Any] | tuple[str, int, int]]


class Maker:
    """Makes a program of a seed. Where credit is shared no tier is retroactive: such a top-up is rounded by itself."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.model = self.random.choice(LONE + SHARED)
        self.shared = self.model in SHARED
        # what room a cap by commission leaves for which top-up is a question of order, which the model sees otherwise
        self.retroactive = not self.shared and self.random.random() < 0.5

    def program(self) -> Program:
        """All of it."""
        r = self.random
        channels = (None, "direct", "blog")
        touches = [(r.choice(WHO), r.randint(-400, 900), r.choice(channels)) for _ in range(r.randint(0, 6))]
        steps = [self._fact(n) if r.random() < 0.65 else self._later() for n in range(r.randint(4, 14))]
        return Program(self._plan(), touches, steps)

    def _chance(self, percent: int) -> bool:
        return self.random.random() * 100 < percent

    # --- the plan ----------------------------------------------------------------------------------------

    def _plan(self) -> Document:
        attribution: Document = {"model": self.model}
        if self.model == "position_based":
            attribution |= {"weights": [30, 30, 40], "spread": self.random.choice(["middle", "all"])}
        more: Document = {"attribution": attribution, "match": self.random.choice(["first", "first", "best"])}
        more |= self._exceptions()
        if self._chance(50):
            more["caps"] = [self._cap(n) for n in range(self.random.randint(1, 2))]
        if self._chance(40):
            who = self.random.choice([{"affiliates": ["bob"]}, {"groups": ["gold"]}])
            exceptions = self._exceptions()
            exceptions.pop("goals", None)  # which override's goals hold is tested by hand
            more["overrides"] = [{"id": "o", **who, "rules": self._rules(), **exceptions}]
        return plan(**more) | {"rules": self._rules()}

    def _rules(self) -> list[Document]:
        some = self.random.sample(CONDITIONS, self.random.choice([0, 0, 1, 1, 2]))
        found = [{"id": f"r{n}", "when": when, "pay": self._pay()} for n, when in enumerate(some)]
        return [*found, {"id": "rest", "pay": self._pay()}] if not found or self._chance(80) else found

    def _pay(self) -> Document:
        way = self.random.choice(["rate_bps", "amount", "amount_per_item", "amount_per_click", *["tiers"] * 4])
        if way == "tiers":
            return self._table()
        return {
            way: self.random.choice([0, 1, 333, 1_000, 2_999]) if way == "rate_bps" else self.random.randint(0, 400)
        }

    def _table(self) -> Document:
        r = self.random
        by = r.choice(["conversions", "revenue", "revenue", "commission"])
        unit = {"conversions": 2, "revenue": 15_000, "commission": 1_200}[by]
        way = r.choice(["rate_bps", "rate_bps", "amount", "amount_per_item"])
        # rising: what a clamped commission is topped up by when a higher step pays less is nobody's question
        pays = sorted(r.randint(0, 2_000) for _ in range(r.randint(2, 4)))
        steps = [{"from": n * unit, way: one} for n, one in enumerate(pays)]
        more: Document = {"by": by, "period": r.choice(PERIODS[2:]), "level": r.choice(["affiliate", "offer"])}
        if by == "revenue" and way == "rate_bps" and self._chance(30):
            more["method"] = "marginal"
        elif by != "commission" and self.retroactive:
            more |= {"retroactive": True, "on_reversal": r.choice(["keep", "take_back"])}
        return tiered(steps, **more)

    def _cap(self, number: int) -> Document:
        r = self.random
        by = r.choice(["conversions", "clicks"] if self.retroactive else ["conversions", "commission", "clicks"])
        cap: Document = {"id": f"c{number}", "by": by, "period": r.choice(["day", "week", "month", "total"])}
        cap["level"] = r.choice(["affiliate", "offer"])
        cap["limit"] = r.randint(0, {"conversions": 4, "commission": 4_000, "clicks": 20}[by])
        if by != "conversions" and self._chance(50):
            cap["over"] = "clamp"
        if by != "clicks" and self._chance(40):
            cap["reversals_free_room"] = True
        return cap

    def _exceptions(self) -> Document:
        """What an override may say otherwise, besides rules."""
        r, found = self.random, Document()
        if self._chance(30):
            found |= {"min_amount": r.randint(0, 300), "max_amount": r.randint(300, 3_000)}
        if self._chance(25):
            found["recurring"] = r.choice([{"sales": "first"}, {"months": 1}, {"sales": "all"}])
        if self._chance(40):
            found["second_level"] = {"rate_bps": r.choice([0, 500, 3_333]), "of": r.choice(["commission", "sale"])}
        if self._chance(40):
            by = r.choice(["conversions", "revenue", "commission"])
            target = {"conversions": 2, "revenue": 20_000, "commission": 2_000}[by]
            found["goals"] = [
                {"id": "g", "by": by, "period": r.choice(PERIODS), "target": target, "bonus_amount": 500,
                 "on_reversal": r.choice(["keep", "take_back"])}
            ]  # fmt: skip
        return found

    # --- the history -------------------------------------------------------------------------------------

    def _fact(self, number: int) -> dict[str, Any]:
        r = self.random
        if self._chance(8):
            return {
                "amount": 0, "day": r.randint(0, 3), "who": r.choice(WHO), "click_count": r.randint(1, 15),
                "event_id": "click", "order_id": f"~clicks-{number}",
            }  # fmt: skip
        customer_id = r.choice(["carl", "carl", "mia", None])
        return {
            "amount": r.choice([0, r.randint(1, 25_000), r.randint(5_000, 20_000)]),
            "day": r.randint(0, 3) if self._chance(70) else r.randint(0, 40),
            "who": r.choice(WHO) if customer_id is None or self._chance(50) else None,
            "customer_id": customer_id,
            "coupon": r.choice([None, None, None, "TEN", "NONE"]),
            "country": r.choice([None, "DE", "US"]),
            "channel": r.choice([None, "blog", "mail"]),
            "currency": r.choice(["GBP"] * 7 + ["JPY"]),
            "items": [self._item() for _ in range(r.choice([0, 0, 1, 2, 3]))],
            "order_id": f"s{number}",
        }

    def _item(self) -> Item:
        r = self.random
        sku, category, product = r.choice(["S1", "S2"]), r.choice([None, "hats"]), r.choice([None, "boot"])
        return Item(sku, r.randint(1, 3), r.randint(0, 9_000), category, product)

    def _later(self) -> tuple[str, int, int]:
        r = self.random
        what = r.choice(["refund", "refund", "refund", "reject", "approve"])
        return what, r.randint(0, 8), r.choice([100, r.randint(1, 100)])
