"""A second opinion on what a conversion counts in (docs/plans.md): counters by offer, affiliate or all, period and
currency, written down once more, on purpose naively."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

State = dict[str, Any]


class Counter(NamedTuple):
    """Which counter. affiliate_id '': of all affiliates; label: level and period, such as 'offer/2026-11'."""

    offer_id: str
    affiliate_id: str
    label: str
    currency: str


def counter_of(offer_id: str, affiliate_id: str, label: str, currency: str) -> Counter:
    """The counter that a label means for an affiliate's conversion."""
    return Counter(offer_id, affiliate_id if label.startswith("affiliate/") else "", label, currency)


def label(level: str, period: str, occurred_at: datetime, zone: ZoneInfo) -> str:
    """'offer/2026-11' and the like: the period that an instant is in by the program's calendar."""
    day = occurred_at.astimezone(zone).date()
    year, week, _ = day.isocalendar()
    named = {
        "day": day.isoformat(),
        "week": f"{year:04}-W{week:02}",
        "month": f"{day.year:04}-{day.month:02}",
        "quarter": f"{day.year:04}-Q{(day.month + 2) // 3}",
        "year": f"{day.year:04}",
        "total": "total",
    }
    return f"{level}/{named[period]}"


def labels(own: State, occurred_at: datetime, zone: ZoneInfo) -> list[str]:
    """All that a conversion counts in by a plan as it holds for an affiliate: what its tiers, caps and goals use, and
    what anybody's tiers use of the whole offer."""
    used = [rule["pay"]["tiers"] for rule in own["rules"] if "tiers" in rule["pay"]]
    everybodys = [rule["pay"]["tiers"] for rule in own.get("everybodys", []) if "tiers" in rule["pay"]]
    used += [tiers for tiers in everybodys if tiers.get("level") == "offer"]
    used += own.get("caps", [])
    found = {label(one.get("level", "affiliate"), one["period"], occurred_at, zone) for one in used}
    found |= {label("affiliate", one["period"], occurred_at, zone) for one in own.get("goals", [])}
    return sorted(found)
