"""A statement made again from its affiliate's entries, by the naive rules, and compared with the one that is shown.

What is said of a difference is the first one, in the order in which a reader goes through a statement.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, NamedTuple

from ledger.audit import naive
from ledger.audit.lines import ExportLine
from ledger.audit.statements import BUCKETS, side


class DoesNotHold(ValueError):
    """The proof does not prove its statement; the message names the first thing that does not hold."""


class Event(NamedTuple):
    """A line that the log has, and what it says."""

    line: ExportLine
    state: dict[str, Any]
    leaf: bytes


class Move(NamedTuple):
    """A journal line of the affiliate's, as its statement tells it. at: effective_at."""

    position: int
    at: datetime
    currency: str
    told: dict[str, Any]


class Cut(NamedTuple):
    """What a statement knows: up to a position, before an instant."""

    position: int
    ends_at: datetime

    def knows(self, move: Move) -> bool:
        """Whether a line is part of it."""
        return move.position <= self.position and move.at < self.ends_at


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a JSON object has a member twice")
    return found


def _never(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no number that stands in a proof")


def plain_json(text: str) -> Any:
    """A JSON value that everybody reads alike: no member twice, no fraction, no NaN. Raises ValueError,
    RecursionError."""
    return json.loads(text, object_pairs_hook=_once, parse_float=_never, parse_constant=_never)


def same(what: str, found: object, where: str, expected: object) -> None:
    """Raises DoesNotHold where two values differ."""
    if found != expected:
        raise DoesNotHold(f"{what} is {found!r}, {where} it is {expected!r}")


def cut_of(issued: Event) -> Cut:
    """What a statement knows, by its StatementIssued."""
    return Cut(issued.state["cut_position"], datetime.fromisoformat(issued.state["ends_at"]))


def moves(entry: Event, affiliate_id: str) -> Iterator[Move]:
    """The affiliate's lines of an event."""
    line, state = entry.line, entry.state
    reference = state.get("order_id") or state.get("adjustment_id") or state.get("payout_id") or ""
    for number, one in enumerate(naive.transfers(line.topic, state), 1):
        if one.affiliate_id != affiliate_id:
            continue
        if type(one.amount) is not int:
            raise DoesNotHold(f"the event at position {line.position} moves {one.amount!r}, which is no integer")
        told = {
            "amount": one.amount,
            "currency": one.currency,
            "effective_at": one.effective_at,
            "event": line.topic,
            "line_no": number,
            "position": line.position,
            "recorded_at": line.recorded_at.replace(".000000Z", "Z"),
            "reference": reference,
            "source": side(one.debit),
            "target": side(one.credit),
        }
        yield Move(line.position, datetime.fromisoformat(one.effective_at), one.currency, told)


def check_statement(
    statement: str, program: str, issued: Event, closed: Event, before: Cut | None, made_by: list[Move]
) -> tuple[dict[str, Any], int]:
    """The statement is what the entries make. statement: its canonical JSON; issued, closed: its event and its
    period's; before: the cut of the statement before; made_by: every line of the affiliate's. Returns the head and how
    many lines it has. Raises DoesNotHold."""
    try:
        shown = plain_json(statement)
        head, lines = shown["head"], shown["lines"]
    except (ValueError, LookupError, TypeError):
        raise DoesNotHold("the statement is not JSON with a head and lines") from None
    cut, state = cut_of(issued), issued.state
    starts_at = state.get("starts_at")
    is_first = closed.line.originator_version == 1  # of the program's periods: nothing is late on its statements
    late_before = None if is_first or starts_at is None else datetime.fromisoformat(starts_at)
    known = [move for move in made_by if cut.knows(move)]
    told = [
        move.told | {"late": late_before is not None and move.at < late_before}
        for move in known
        if before is None or not before.knows(move)
    ]
    for found, expected in zip_longest(lines, told):
        if found != expected:
            _refuse_line(found, expected)
    opening, closing = _sums([one for one in known if before is not None and before.knows(one)]), _sums(known)
    marks: dict[str, list[bool]] = {one.currency: [] for one in known}
    for line in told:
        marks[line["currency"]].append(line["late"])
    sections = [_section(currency, opening, closing, late) for currency, late in sorted(marks.items())]
    of_currency = {one["currency"]: one for one in reversed(head["sections"])}
    for section in sections:
        _check_section(section, of_currency.get(section["currency"]))
    made = {
        "affiliate_id": state["affiliate_id"],
        "ends_at": state["ends_at"],
        "period": state["period"],
        "position": cut.position,
        "program": program,
        "sections": sections,
        "starts_at": starts_at,
        "version": state["version"],
        "zone": str(head["zone"]),
    }
    for field, value in made.items():
        same(f"the statement's {field}", head.get(field), "by the log", value)
    same("the sections of the statement's event", state["sections"], "by the entries", sections)
    if canonical({"head": made, "lines": told}) != statement:
        raise DoesNotHold("the statement is not in its canonical form")
    return made, len(told)


def canonical(document: Any) -> str:
    """RFC 8785 JSON, for documents without fractions."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _refuse_line(found: Any, expected: Any) -> None:
    if expected is None:
        name = f"{found.get('position')}.{found.get('line_no')}" if isinstance(found, dict) else repr(found)
        raise DoesNotHold(f"the statement has the line {name}, which no entry behind the statement before makes")
    name = f"{expected['position']}.{expected['line_no']}"
    if isinstance(found, dict) and (found.get("position"), found.get("line_no")) == (
        expected["position"],
        expected["line_no"],
    ):
        field = next((f for f in sorted(expected) if found.get(f) != expected[f]), "a field that lines do not have")
        raise DoesNotHold(
            f"line {name} of the statement says {field} {found.get(field)!r}, its entry {expected.get(field)!r}"
        )
    raise DoesNotHold(f"the statement lacks the line {name}, or has another in its place")


Sums = dict[tuple[str, str], int]  # (currency, bucket) → minor units


def _sums(moves: Sequence[Move]) -> Sums:
    found: Sums = {}
    for move in moves:
        for place, sign in ((move.told["source"], -1), (move.told["target"], 1)):
            key = move.currency, place
            found[key] = found.get(key, 0) + sign * move.told["amount"]
    return found


def _section(currency: str, opening: Sums, closing: Sums, late: list[bool]) -> dict[str, Any]:
    """late: the mark of each line in the currency."""
    return {
        "currency": currency,
        "opening": {bucket: opening.get((currency, bucket), 0) for bucket in BUCKETS},
        "closing": {bucket: closing.get((currency, bucket), 0) for bucket in BUCKETS},
        "line_count": len(late),
        "late_count": sum(late),
    }


def _check_section(section: dict[str, Any], found: dict[str, Any] | None) -> None:
    currency = section["currency"]
    if found is None:
        raise DoesNotHold(f"the statement has no section in {currency}, and the entries moved some")
    for edge in ("opening", "closing"):
        for bucket in BUCKETS:
            same(
                f"{edge} {currency} {bucket} of the statement", found[edge].get(bucket), "by the entries",
                section[edge][bucket],
            )  # fmt: skip
