"""A program under a plan, in a real database: the auditor's model of the whole program comes to the same commissions,
its witness finds nothing, and what is changed afterwards is named.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support import PROGRAM, T0, Clock, by, open_ledger, open_shop, read_log, refund, sale

from ledger.application import CommissionLedger
from ledger.audit import verifying_streams
from ledger.audit.naive_program import NaiveProgram
from ledger.audit.verifying import Witness
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate, RecruitAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.conversion import Item
from ledger.domain.event import Command
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.offer import PublishOffer, PublishTerms
from ledger.domain.rates import RecordRate
from ledger.store.database import Database
from ledger.store.log import select_rows, stored_line

PLAN: dict[str, Any] = {
    "plan": 1,
    "currency": "GBP",
    "attribution": {"model": "position_based", "weights": [25, 25, 50], "spread": "all"},
    "rules": [
        {"id": "shoes", "when": {"category": ["shoes"]}, "pay": {"amount_per_item": 35}},
        {
            "id": "all",
            "pay": {
                "tiers": {
                    "by": "revenue",
                    "period": "month",
                    "level": "affiliate",
                    "retroactive": True,
                    "on_reversal": "take_back",
                    "steps": [{"from": 0, "rate_bps": 400}, {"from": 4_000, "rate_bps": 625}],
                }
            },
        },
    ],
    "caps": [{"id": "day", "level": "offer", "by": "commission", "period": "day", "limit": 900, "over": "clamp"}],
    "goals": [{"id": "five", "by": "conversions", "period": "total", "target": 5, "bonus_amount": 500}],
    "second_level": {"of": "commission", "rate_bps": 1_000},
    "overrides": [{"id": "bob", "affiliates": ["bob"], "min_amount": 20}],
}


def sell_under_a_plan(ledger: CommissionLedger) -> None:
    """Shared, tiered, capped and converted sales, some of them taken back or rejected."""

    def do(command: Command) -> None:
        ledger.execute(PROGRAM, command, by())

    do(EnrolAffiliate(affiliate_id="rec"))
    do(DecideAffiliate(affiliate_id="rec", decision="approve"))
    do(RecruitAffiliate(affiliate_id="ada", recruiter_id="rec"))
    do(RecordRate(base="JPY", quote="GBP", rate="0.0052", as_of=T0, source="ECB"))
    do(PublishOffer(offer_id="planned"))
    do(PublishTerms(offer_id="planned", hold_days=30, window_days=30, plan=PLAN))
    clicks = [
        RecordClick(
            click_id=f"c{n}",
            affiliate_id=("ada", "bob")[n % 2],
            offer_id="planned",
            occurred_at=T0 + timedelta(hours=n),
            customer_id=f"carl{n % 3}",
        )
        for n in range(9)
    ]
    ledger.record_clicks(PROGRAM, clicks, by())
    for n in range(18):
        items = [Item("s", 2, 500, "shoes"), Item("t", 1, 100)] if n % 4 == 1 else []
        currency = "JPY" if n % 7 == 6 else "GBP"
        at = T0 + timedelta(hours=10 + 5 * n)
        more = {"offer_id": "planned", "currency": currency, "occurred_at": at, "items": items}
        do(sale(f"o{n}", 777 + 300 * n, ("ada", "bob")[n % 2], customer_id=f"carl{n % 4}", **more))
        if n % 5 == 4:
            do(refund(f"r{n}", f"o{n - 2}", (None, 400)[n % 2]))
    do(DecideConversion(order_id="o3", decision="reject", reason="odd"))


def findings(lines: dict[str, list[bytes]]) -> list[tuple[str, int]]:
    """(kind, position) of each difference in some lines of a program."""
    program_id = json.loads(lines["books"][0])["program_id"]
    with Witness(program_id, {name: len(some) for name, some in lines.items()}) as witness:
        for name, some in lines.items():
            reader = witness.reader(name)
            reader.lines(some)
            reader.end()
        witness.finish()
        return [(one.kind, one.position) for one in witness.findings.in_order()]


def altered(lines: dict[str, list[bytes]], position: int, change: Callable[[dict[str, Any]], Any]) -> Any:
    """The lines with one event's state changed."""
    books = list(lines["books"])
    line = json.loads(books[position - 1])
    change(line["state"])
    books[position - 1] = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()
    return {**lines, "books": books}


def test_the_model_agrees_with_the_books_and_the_witness_names_what_was_changed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every commission, top-up and bonus; then lies about a counter, a price and the plan itself. The streams lie in
    several parts on disk, as those of a large program do."""
    with open_ledger(database, Clock(T0 + timedelta(days=9))) as ledger:
        open_shop(ledger)
        sell_under_a_plan(ledger)
        log = read_log(ledger)
        model = NaiveProgram()
        for name in ("traffic", "books"):
            for row in read_log(ledger, name=name):
                model.feed(name, row.position, row.topic, row.state)
        with ledger.reading(PROGRAM) as (cur, id_):
            lines = {
                name: [stored_line(id_, name, row) for row in select_rows(cur, id_, name, 0, 10**9)]
                for name in ("traffic", "books")
            }
    booked: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
    for row in log:
        if row.topic in ("CommissionAccrued", "CommissionRepriced"):
            e = row.state
            booked[e["order_id"]][e["affiliate_id"], e.get("level", 1)] = e.get("commission", e["amount"])
    bonuses = [sum(booked.pop(order_id).values()) for order_id in list(booked) if order_id.startswith("~goal-")]
    for order_id, found in booked.items():
        expected = model.commissions(order_id)
        assert {**dict.fromkeys(found, 0), **expected} == {**dict.fromkeys(expected, 0), **found}, order_id
    assert sorted(model.bonuses().values()) == sorted(bonuses) == [500, 500]
    assert {"CommissionRepriced", "ConversionAttributed"} <= {row.topic for row in log}
    assert any(cap["given"] < cap["asked"] for row in log for cap in row.state.get("pricing", {}).get("caps", []))
    monkeypatch.setattr(verifying_streams, "EVENTS_A_BUCKET", 25)
    monkeypatch.setattr(verifying_streams, "MEMORY_BYTES", 1)
    assert findings(lines) == []
    tiered = next(row.position for row in reversed(log) if "tier" in str(row.state.get("pricing")))
    published = next(row.position for row in log if row.state.get("plan_hash"))

    def moved(e: dict[str, Any]) -> None:
        tier = e["pricing"]["rules"][-1]["tier"]
        tier["before"] += 1
        tier["after"] += 1

    assert ("counter_differs", tiered) in findings(altered(lines, tiered, moved))
    assert ("price_differs", tiered) in findings(altered(lines, tiered, lambda e: e.update(amount=e["amount"] + 1)))
    assert ("plan_differs", published) in findings(altered(lines, published, lambda e: e["plan"].update(min_amount=1)))
