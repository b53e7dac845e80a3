"""What is asked of a program's plans while its log is read: its zone and its terms. Held in memory: it grows with
versions, not with sales."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

State = dict[str, Any]


def plan_hash(plan: State) -> str:
    """SHA-256 of a plan's canonical JSON: keys sorted, nothing between them, text as it is."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


class PlanFacts:
    """The program's zone, and every version of its terms."""

    TOPICS = frozenset({"ProgramOpened", "TermsPublished"})

    def __init__(self) -> None:
        self.zone = ZoneInfo("UTC")
        self._terms: dict[tuple[str, int], State] = {}

    def event(self, _position: int, topic: str, e: State) -> None:
        """The next event."""
        if topic == "ProgramOpened":
            self.zone = ZoneInfo(e.get("zone", "UTC"))
        elif topic == "TermsPublished":
            self._terms[e["offer_id"], e["terms_version"]] = e

    def terms(self, offer_id: str, version: int) -> State | None:
        """A published version."""
        return self._terms.get((offer_id, version))

    def planned_offers(self) -> frozenset[str]:
        """Those that a plan priced at any time."""
        return frozenset(offer_id for (offer_id, _), terms in self._terms.items() if "plan" in terms)
