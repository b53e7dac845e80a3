"""What commission plans look at besides sales: terms, groups, recruiters, exchange rates and the program's zone, as the
log knew them at each position. Held in memory: it grows with affiliates and versions, not with sales.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from ledger.audit.naive_plans import at

State = dict[str, Any]


def plan_hash(plan: State) -> str:
    """SHA-256 of a plan's canonical JSON: keys sorted, nothing between them, text as it is."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


class PlanFacts:
    """What plans look at besides sales, as the log knew it at each position."""

    TOPICS = frozenset({"ProgramOpened", "TermsPublished", "AffiliateGrouped", "AffiliateRecruited", "RateRecorded"})

    def __init__(self) -> None:
        self.zone = ZoneInfo("UTC")
        self._terms: dict[tuple[str, int], State] = {}
        self._groups: dict[str, list[tuple[int, State]]] = defaultdict(list)
        self._recruiters: dict[str, tuple[int, State]] = {}
        self._rates: dict[tuple[str, str], list[tuple[int, State]]] = defaultdict(list)

    def event(self, position: int, topic: str, e: State) -> None:
        """The next event."""
        if topic == "ProgramOpened":
            self.zone = ZoneInfo(e.get("zone", "UTC"))
        elif topic == "TermsPublished":
            self._terms[e["offer_id"], e["terms_version"]] = e
        elif topic == "AffiliateGrouped":
            self._groups[e["affiliate_id"]].append((position, e))
        elif topic == "AffiliateRecruited":
            self._recruiters[e["affiliate_id"]] = (position, e)
        elif topic == "RateRecorded":
            self._rates[e["base"], e["quote"]].append((position, e))

    def terms(self, offer_id: str, version: int) -> State | None:
        """A published version."""
        return self._terms.get((offer_id, version))

    def planned_offers(self) -> frozenset[str]:
        """Those that a plan priced at any time."""
        return frozenset(offer_id for (offer_id, _), terms in self._terms.items() if "plan" in terms)

    def group(self, affiliate_id: str, instant: datetime, position: int) -> str:
        """At an instant, as known at a position; '' for none."""
        return str(_latest(self._groups.get(affiliate_id, []), "effective_from", instant, position).get("group", ""))

    def recruiter(self, affiliate_id: str, instant: datetime, position: int) -> str:
        """Who earns by a sale of an instant, as known at a position; '' for nobody."""
        known, said = self._recruiters.get(affiliate_id, (position, {}))
        since = said.get("effective_from", "")
        begun = not since or datetime.fromisoformat(since) <= instant
        return str(said["recruiter_id"]) if known < position and begun else ""

    def rate(self, base: str, quote: str, instant: datetime, position: int) -> State | None:
        """In force at an instant, as known at a position."""
        one = _latest(self._rates.get((base, quote), []), "as_of", instant, position)
        return one if one and instant - at(one["as_of"]) <= timedelta(days=7) else None


def _latest(some: Sequence[tuple[int, State]], member: str, instant: datetime, position: int) -> State:
    best: State = {}
    for known, one in some:
        if known < position and at(one[member]) <= instant and (not best or at(best[member]) <= at(one[member])):
            best = one
    return best
