"""A program under commission plans, played again from the facts of both logs by a model of its own (naive_program.py):
each commission, top-up and bonus that the log has must be the one that the model expects, with the evidence it carries,
and none may be missing.

The lines are read where the witness put them: in parts, by stream, each in the order of positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import Any

import msgspec

from ledger.audit.findings import Findings
from ledger.audit.lines import UnreadableLine, read_line
from ledger.audit.naive_plans import at, plan_of
from ledger.audit.naive_program import NaiveProgram
from ledger.audit.naive_program_evidence import INSTANTS, Expected, differs
from ledger.audit.naive_program_facts import Credited, touch_of
from ledger.audit.naive_program_following import Follows
from ledger.audit.naive_program_orders import Order
from ledger.audit.naive_program_told import Event, Group
from ledger.audit.verifying_streams import Folded

State = dict[str, Any]
Part = tuple[Path | None, list[bytes]]  # a file of lines, or the lines themselves
_WRONG = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError, RecursionError)
_COUNTED = (".tier.before", ".tier.after", ".room", ".counted")  # members that say what a counter stood at
_TOUCHED = frozenset({"ClickRecorded", "ImpressionRecorded"})
_OF_A_REPRICING = (
    "affiliate_id", "amount", "commission", "currency", "cause", "rule", "step", "counter", "counted", "cap",
)  # fmt: skip


def play_again(
    books: Sequence[Part], traffic: Sequence[Part], offers: frozenset[str], traffic_size: int, whole_ends: bool
) -> Folded:
    """Play a program again. offers: those that ever had a plan; whole_ends: see Witness."""
    findings = Findings()
    if not offers:
        return Folded(findings, {}, 0)
    told = Compared(findings)
    model = NaiveProgram(told=told, offers=offers, traffic_size=traffic_size)
    buyers = _buyers(books, offers)
    for part in traffic:
        for position, topic, _, raw in _lines(part, _TOUCHED):
            touch = _decoded(raw)
            if touch is not None and _is_wanted(touch, offers, buyers):
                _take(findings, position, lambda: model.feed("traffic", position, topic, touch))  # noqa: B023
    for position, topic, command, raw in merge(*(_lines(part, NaiveProgram.TOPICS) for part in books)):
        e = _decoded(raw)
        if e is not None:
            _take(findings, position, lambda: model.feed("books", position, topic, e, command))  # noqa: B023
    if whole_ends:
        _take(findings, 0, model.flush)
    return Folded(findings, {}, 0)


def _take(findings: Findings, position: int, feed: Callable[[], None]) -> None:
    try:
        feed()
    except _WRONG as problem:
        told = f"{type(problem).__name__} {problem}"
        findings.report("event_unreadable", "books", position, "a program that can be played again", told)


def _lines(part: Part, topics: frozenset[str]) -> Iterator[tuple[int, str, str, bytes]]:
    """(position, topic, command, state) of the lines of some topics."""
    path, lines = part
    if path is None:
        yield from _read(lines, topics)
        return
    with path.open("rb") as file:
        yield from _read((line[:-1] for line in file), topics)


def _read(lines: Iterable[bytes], topics: frozenset[str]) -> Iterator[tuple[int, str, str, bytes]]:
    for line in lines:
        try:
            read = read_line(line)
        except UnreadableLine:
            continue  # was told when the log was read
        if read.topic in topics:
            yield read.position, read.topic, f"{read.recorded_at} {read.request_id} {read.cause}", bytes(read.state)


def _decoded(raw: bytes) -> State | None:
    try:
        e = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None  # was told when the stream was folded
    return e if isinstance(e, dict) else None


def _buyers(books: Sequence[Part], offers: frozenset[str]) -> set[str]:
    """Customers, visitors and clicks that sales on the offers name: nobody else's touches are kept."""
    found: set[str] = set()
    for part in books:
        for _, _, _, raw in _lines(part, frozenset({"ConversionRecorded"})):
            e = _decoded(raw)
            if e is not None and e.get("offer_id") in offers:
                found.update(f"{who}:{e[who]}" for who in ("customer_id", "visitor_id", "click_id") if e.get(who))
    return found


def _is_wanted(touch: State, offers: frozenset[str], buyers: set[str]) -> bool:
    # the click that a sale names may be one of another offer
    if f"click_id:{touch.get('click_id')}" in buyers:
        return True
    if touch.get("offer_id") not in offers:
        return False
    return any(f"{who}:{touch.get(who)}" in buyers for who in ("customer_id", "visitor_id"))


class Compared:
    """Holds what the log says against what the model expects, one command after the other."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._group = Group("")
        self._found: list[Event] = []
        self._due: list[Follows] = []

    def begin(self, group: Group) -> None:
        """See Told."""
        self._group, self._found, self._due = group, list(group.follows), []

    def same(self, position: int, order_id: str, what: str, expected: object, found: object) -> None:
        """See Told."""
        if expected != found:
            self._differs("price_differs", position, order_id, what, expected, found)

    def _differs(self, kind: str, position: int, order_id: str, what: str, expected: object, found: object) -> None:
        self._findings.report(kind, "books", position, f"{what} {_plain(expected)}", _plain(found), f"order {order_id}")

    def _evidence(self, position: int, order_id: str, expected: State, found: State) -> None:
        """The first member that differs is told, and which counter, if it is one."""
        if expected == found:
            return
        one = differs(_instants(expected), _instants(found))
        if one is not None:
            member, ours, theirs = one
            kind = "counter_differs" if member.endswith(_COUNTED) or member == "counted" else "price_differs"
            self._differs(kind, position, order_id, member, ours, theirs)

    # --- what accrued ------------------------------------------------------------------------------------

    def decided(
        self, order: Order, fact: State, expected: list[Expected], credited: Credited | None, terms: State
    ) -> None:
        """See Told."""
        group, due = self._group, {(one.part.affiliate_id, one.part.level): one for one in expected}
        is_known = credited is None or credited.click != {}  # else the traffic log ends before it
        self._one_head(order.order_id)
        if credited is not None and is_known:
            self._attributed(order, credited)
        if not is_known and _asks_channel(terms):
            return  # the channel of a click that nobody has seen
        for position, e in group.said("CommissionAccrued"):
            one = due.pop((e["affiliate_id"], e.get("level", 1)), None)
            if one is None:
                whose = f"{e['affiliate_id']} {e['amount']}"
                self._differs("price_differs", position, order.order_id, "no commission of", e["affiliate_id"], whose)
            else:
                self._accrued(position, e, one, credited)
        for (affiliate_id, level), one in due.items():
            what = f"a commission of {affiliate_id} (level {level}):"
            self._differs("price_differs", group.position, order.order_id, what, one.part.first, "none")

    def _one_head(self, order_id: str) -> None:
        """All of a decision looked at the traffic log up to one position."""
        said = [(position, e["traffic_position"]) for position, _, e in self._group.facts if "traffic_position" in e]
        if not said:
            return
        ((most, _),) = Counter(head for _, head in said).most_common(1)
        for position, head in said:
            self.same(position, order_id, "traffic_position", most, head)

    def _accrued(self, position: int, e: State, one: Expected, credited: Credited | None) -> None:
        part, order_id = one.part, one.order.order_id
        self.same(position, order_id, "a commission of", part.first, e["amount"])
        self.same(position, order_id, "terms_version", one.order.terms_version, e["terms_version"])
        if "pricing" not in e:
            return
        self.same(position, order_id, "currency", one.order.currency, e["currency"])
        share = 0 if part.level == 2 else part.credited if one.count > 1 else None
        self.same(position, order_id, "credited_amount", share, e.get("credited_amount"))
        self._evidence(position, order_id, one.pricing, {"exact": "0", **e["pricing"]})
        if credited is not None and credited.rule and part.level == 1:
            last = e["steps"][-1] if e["steps"] else {}
            self.same(position, order_id, "step", (credited.rule, part.affiliate_id),
                      (last.get("rule"), last.get("affiliate_id")))  # fmt: skip
            click = credited.click or {}
            mine = click.get("click_id") if click.get("affiliate_id") == part.affiliate_id else None
            self.same(position, order_id, "click_id", mine, e.get("click_id"))

    def _attributed(self, order: Order, credited: Credited) -> None:
        said = self._group.said("ConversionAttributed")
        touches = [{"touch": touch_of(touch), "weight": weight} for touch, weight in credited.touches]
        if not said and touches and credited.credits:
            self._differs("price_differs", self._group.position, order.order_id, "a journey of", len(touches), "none")
        for position, e in said:
            expected = {"model": credited.model, "touches": touches}
            found = [{**one, "touch": {"kind": "click", **one["touch"]}} for one in e["touches"]]
            self._evidence(position, order.order_id, expected, {"model": e["model"], "touches": found})

    # --- what follows ------------------------------------------------------------------------------------

    def follows(self, expected: Follows) -> None:
        """See Told."""
        topic, due = expected
        for number, (position, found, e) in enumerate(self._found):
            if found == topic and _is_same(due, e):
                del self._found[number]
                self._followed(position, topic, due, e)
                return
        self._due.append(expected)

    def _followed(self, position: int, topic: str, due: State, e: State) -> None:
        if topic == "CommissionRepriced":
            empty = {"cap": "", "rule": "", "counter": "", "counted": 0}
            found = {name: e.get(name, empty.get(name)) for name in _OF_A_REPRICING}
            self._evidence(position, due["order_id"], {name: due[name] for name in _OF_A_REPRICING}, found)
        else:
            self._evidence(position, due["order_id"], due, {name: e.get(name) for name in due})

    def end(self) -> None:
        """See Told."""
        for topic, due in self._due:
            # of its order, and says that it is something else
            like = [one for one in self._found if one[1] == topic and one[2]["order_id"] == due["order_id"]][:1]
            for position, _, e in like:
                self._found = [one for one in self._found if one[0] != position]
                self._followed(position, topic, due, e)
            if not like:
                what = f"{topic} of {due['affiliate_id']}: {due.get('amount')} because of what a counter reached;"
                self._differs("price_differs", self._group.position, due["order_id"], what, "one", "none")
        for position, topic, e in self._found:
            found = f"{topic} of {e.get('affiliate_id', '')} {e.get('amount', '')}"
            self._differs("price_differs", position, e["order_id"], "nothing that no counter led to;", "none", found)


def _is_same(due: State, e: State) -> bool:
    """Whether an event is the one that is due: whatever it says otherwise."""
    ours = due["order_id"], due["affiliate_id"], due.get("rule", "")
    return ours == (e["order_id"], e.get("affiliate_id", ""), e.get("rule", ours[2]))


def _asks_channel(terms: State) -> bool:
    plan = plan_of(terms)
    some = [rule for one in (plan, *plan.get("overrides", [])) for rule in one.get("rules", [])]
    return any("channel" in rule.get("when", {}) for rule in some)


def _instants(one: Any, name: str = "") -> Any:
    """The same with instants as such, however they are written."""
    if isinstance(one, dict):
        return {key: _instants(value, key) for key, value in one.items()}
    if isinstance(one, list):
        return [_instants(value) for value in one]
    return at(one) if name in INSTANTS and isinstance(one, str) else one


def _plain(one: object) -> object:
    """For people."""
    if isinstance(one, dict):
        return ", ".join(f"{key}: {value}" for key, value in one.items())
    return "none" if one is None else one
