"""What a command recorded, as the model of a whole program (naive_program.py) takes it, and who is told how the log
differs from what the model expects."""

from __future__ import annotations

from typing import Any, Protocol

from ledger.audit.naive_program_evidence import Expected
from ledger.audit.naive_program_facts import Credit, Credited
from ledger.audit.naive_program_following import Follows
from ledger.audit.naive_program_orders import Order

State = dict[str, Any]
Event = tuple[int, str, State]  # position, topic, state
GOAL = "~goal-"  # what the ids of bonuses for goals begin with
APPLIES = "apply_simulation"  # what the command is called that applies a simulation
_DECIDES = ("ConversionAttributed", "CommissionAccrued", "ConversionUnattributed", "AttributionDeferred")


class Group:
    """The events of one command. facts: what it is about; order_id: which order; follows: what it led to."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.facts: list[Event] = []
        self.follows: list[Event] = []
        self.order_id = self._kind = self._reversal_id = ""

    def takes(self, topic: str, e: State, command: str) -> bool:
        """Whether an event belongs to the same command as those before it."""
        if command != self.command:
            return False
        if self._is_follow(topic, e):
            return True
        if self.follows or e["order_id"] != self.order_id or topic == "ConversionRecorded":
            return False
        if self._kind == "decision":
            # an early reversal is applied with the decision; without a command's name nobody can tell
            return topic in _DECIDES or (topic == "ConversionReversed" and bool(command))
        if topic == self._kind == "ConversionReversed":
            return bool(e["reversal_id"] == self._reversal_id)
        return topic == self._kind

    def add(self, position: int, topic: str, e: State) -> None:
        """One more event."""
        if self._is_follow(topic, e):
            self.follows.append((position, topic, e))
            return
        if not self.facts:
            self.order_id, self._reversal_id = e["order_id"], e.get("reversal_id", "")
            self._kind = "decision" if topic in _DECIDES or topic == "ConversionRecorded" else topic
        self.facts.append((position, topic, e))

    def _is_follow(self, topic: str, e: State) -> bool:
        # a simulation records the bonus that it pays itself
        return follows(topic, e) and not self.command.endswith(APPLIES)

    def said(self, topic: str) -> list[tuple[int, State]]:
        """Position and state of the events of a topic, of what it is about."""
        return [(position, e) for position, one, e in self.facts if one == topic]

    @property
    def decides(self) -> bool:
        """Whether it says what became of a sale."""
        return any(topic in _DECIDES for _, topic, _ in self.facts)

    @property
    def position(self) -> int:
        """Where it was decided: of the event that moved counters first."""
        decided = [position for position, topic, _ in self.facts if topic != "ConversionRecorded"]
        return min(decided or [position for position, _, _ in (*self.facts, *self.follows)], default=0)

    @property
    def is_dismissed(self) -> bool:
        """A sale that waited was given up by a person: nobody is credited."""
        return any(
            e["steps"] and e["steps"][-1].get("result") == "dismissed" for _, e in self.said("ConversionUnattributed")
        )

    def credited(self, order_id: str) -> Credited:
        """Whom the log credits: for what lies behind the end of the traffic log."""
        firsts = [e for _, e in self.said("CommissionAccrued") if e.get("level", 1) == 1]
        channels: dict[str, str | None] = {}
        for _, e in self.said("ConversionAttributed"):
            channels |= {one["touch"]["affiliate_id"]: one["touch"].get("channel") for one in e["touches"]}
        credits = [
            Credit(e["affiliate_id"], (e.get("pricing", {}).get("weight") or [1])[0], channels.get(e["affiliate_id"]))
            for e in firsts
        ]
        model = firsts[0].get("pricing", {}).get("model", "last_click") if firsts else "last_click"
        return Credited(credits, model, "", [], {})

    def signed_click(self, order_id: str, sale: State) -> State | None:
        """The sale's own click, where it is known by its signature alone: as the log says."""
        common = {"offer_id": sale["offer_id"], "click_id": sale["click_id"], "position": 0, "kind": "click"}
        for _, e in self.said("CommissionAccrued"):
            if e.get("click_id") == sale["click_id"] and e.get("click_position") == 0:
                return {**common, "affiliate_id": e["affiliate_id"], "occurred_at": e["clicked_at"]}
        for _, e in self.said("ConversionAttributed"):
            for one in e["touches"]:
                if one["touch"]["position"] == 0:
                    return {**one["touch"], **common}
        return None


def follows(topic: str, e: State) -> bool:
    """Whether an event is one that counters led to."""
    if topic == "CommissionRepriced":
        return bool(e.get("cause") != "simulation")
    if not e["order_id"].startswith(GOAL):
        return False
    if topic == "ConversionReversed":
        return bool(e.get("reversal_id") == f"{e['order_id']}-lost")
    return topic in ("ConversionRecorded", "CommissionAccrued")


class Told(Protocol):
    """Who is told."""

    def begin(self, group: Group) -> None:
        """A command."""

    def same(self, position: int, order_id: str, what: str, expected: object, found: object) -> None:
        """Two values that must be the same."""

    def decided(
        self, order: Order, fact: State, expected: list[Expected], credited: Credited | None, terms: State
    ) -> None:
        """A sale was decided. credited None: nobody was asked."""

    def follows(self, expected: Follows) -> None:
        """What the command leads to."""

    def end(self) -> None:
        """All of it was told."""


class Silent:
    """Nobody is told."""

    def begin(self, group: Group) -> None:
        """See Told."""

    def same(self, position: int, order_id: str, what: str, expected: object, found: object) -> None:
        """See Told."""

    def decided(
        self, order: Order, fact: State, expected: list[Expected], credited: Credited | None, terms: State
    ) -> None:
        """See Told."""

    def follows(self, expected: Follows) -> None:
        """See Told."""

    def end(self) -> None:
        """See Told."""
