"""Journal lines as the rebuild makes them: from rows of the log to PostgreSQL's binary COPY rows in one loop.

The rules are the live books' own (ledger.domain.postings); what is saved is decoding fields that no rule looks at, and
packing again what is the same in every line between two accounts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ledger.domain import conversion
from ledger.domain.event import Event
from ledger.domain.postings import RULES
from ledger.domain.topics import TOPIC_OF
from ledger.projections.books import RunningBalances
from ledger.store import codec
from ledger.store.copy import MICROSECOND, PG_EPOCH

POSTING_TOPICS = sorted(TOPIC_OF[event] for event in RULES) + sorted(codec.UPCASTERS)
# The events that are many, with the fields that their rules look at.
_LEAN: dict[type[Event], tuple[str, ...]] = {
    conversion.CommissionAccrued: ("affiliate_id", "amount", "currency", "occurred_at", "held"),
    conversion.CommissionRepriced: ("affiliate_id", "amount", "currency", "effective_at", "bucket"),
    conversion.ConversionHeld: ("affiliate_id", "amount", "currency", "effective_at"),
    conversion.ConversionReleased: ("affiliate_id", "amount", "currency", "effective_at"),
    conversion.ConversionApproved: ("affiliate_id", "amount", "currency", "effective_at"),
    conversion.ConversionReversed: ("affiliate_id", "amount", "currency", "effective_at", "bucket"),
}
Row = tuple[int, str, str, datetime]  # (position, topic, state, recorded_at)
# (position, topic, state) → (debit, credit, amount, currency, effective_at, affiliate_id) of each line; no line of zero
Transfers = Callable[[int, str, str], Iterable[Any]]


def _lean(event: type[Event], wanted: tuple[str, ...]) -> Callable[[str], Any]:
    """A decoder of some of an event's fields, with their types and defaults."""
    known = {field.name: field for field in msgspec.structs.fields(event)}
    fields = [
        (name, known[name].type) if known[name].required else (name, known[name].type, known[name].default)
        for name in wanted
    ]
    return msgspec.json.Decoder(msgspec.defstruct(f"Lean{event.__name__}", fields, kw_only=True, gc=False)).decode


_DECODE: dict[str, Callable[[str], Any]] = {TOPIC_OF[event]: _lean(event, wanted) for event, wanted in _LEAN.items()}
_RULE: dict[str, Callable[[Any], Any]] = {TOPIC_OF[event]: rule for event, rule in RULES.items()}


class _Pair(NamedTuple):
    """Two accounts in one currency: their keys, and what is the same in each of their lines, packed."""

    debit: tuple[str, str]
    credit: tuple[str, str]
    pack: Callable[..., bytes]
    accounts: bytes
    currency: bytes
    affiliate: bytes


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">i", len(raw)) + raw


def _pair(debit: str, credit: str, currency: str, affiliate_id: str) -> _Pair:
    accounts, currency_, affiliate = _text(debit) + _text(credit), _text(currency), _text(affiliate_id)
    # program_id, generation, position, line_no | debit, credit | amount | currency | effective_at, recorded_at |
    # affiliate_id | debit_balance, credit_balance
    form = f">hi16siiiqih{len(accounts)}siq{len(currency_)}siqiq{len(affiliate)}siqiq"
    return _Pair((debit, currency), (credit, currency), struct.Struct(form).pack, accounts, currency_, affiliate)


class LineWriter:
    """Makes a generation's lines from the beginning. transfers: what an event moves, by the ledger's rules unless said
    otherwise. running: the balances so far; lines: how many were made."""

    def __init__(self, program_id: UUID, generation: int, transfers: Transfers | None = None) -> None:
        self._program, self._generation = program_id.bytes, generation
        self._transfers = transfers or _by_rule
        self.running = RunningBalances()
        self.lines = 0
        self._pairs: dict[tuple[str, str, str, str], _Pair] = {}

    def rows(self, events: Iterable[Any]) -> bytes:
        """The COPY rows of the next events, without header and trailer. events: see Row, in order."""
        program, generation, pairs, transfers = self._program, self._generation, self._pairs, self._transfers
        amounts, moved = self.running.amounts, self.running.moved
        made: list[bytes] = []
        known_at: datetime | None = None
        recorded = 0
        for position, topic, state, recorded_at in events:
            if recorded_at != known_at:
                known_at, recorded = recorded_at, (recorded_at - PG_EPOCH) // MICROSECOND
            line_no = 0
            for debit, credit, amount, currency, effective_at, affiliate_id in transfers(position, topic, state):
                if not amount:
                    continue
                line_no += 1
                names = (debit, credit, currency, affiliate_id)
                pair = pairs.get(names)
                if pair is None:
                    pair = pairs[names] = _pair(*names)
                debit_key, credit_key, pack, accounts, currency_, affiliate = pair
                after_debit = amounts[debit_key] = amounts.get(debit_key, 0) + amount
                after_credit = amounts[credit_key] = amounts.get(credit_key, 0) - amount
                moved[debit_key] = moved[credit_key] = position
                made.append(
                    pack(
                        13, 16, program, 4, generation, 8, position, 2, line_no, accounts, 8, amount, currency_,
                        8, (effective_at - PG_EPOCH) // MICROSECOND, 8, recorded, affiliate, 8, after_debit,
                        8, after_credit,
                    )
                )  # fmt: skip
        self.lines += len(made)
        if len(pairs) > 200_000:
            pairs.clear()
        return b"".join(made)


def _by_rule(position: int, topic: str, state: str) -> Any:
    """What an event moves, zero amounts included."""
    decode = _DECODE.get(topic)
    if decode is not None:
        return _RULE[topic](decode(state))
    event = codec.decode_state(topic, state)
    rule = RULES.get(type(event))
    return rule(event) if rule is not None else ()


# --- the way back, to name a difference ------------------------------------------------------------------------

_NAMES = (
    "position", "line_no", "debit", "credit", "amount", "currency", "effective_at", "recorded_at", "affiliate_id",
    "debit_balance", "credit_balance",
)  # fmt: skip
_NUMBERS = {2: struct.Struct(">h"), 8: struct.Struct(">q")}


def read_lines(rows: bytes) -> Iterator[dict[str, Any]]:
    """The lines of some COPY rows by column, without program and generation."""
    at = 0
    while at < len(rows):
        (count,) = struct.unpack_from(">h", rows, at)
        at += 2
        values: list[bytes] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", rows, at)
            values.append(rows[at + 4 : at + 4 + length])
            at += 4 + length
        yield {name: _value(name, raw) for name, raw in zip(_NAMES, values[2:], strict=True)}


def _value(name: str, raw: bytes) -> Any:
    if name in ("debit", "credit", "currency", "affiliate_id"):
        return raw.decode()
    (number,) = _NUMBERS[len(raw)].unpack(raw)
    return PG_EPOCH.astimezone(UTC) + timedelta(microseconds=number) if name.endswith("_at") else number


def differences(expected: bytes, found: bytes) -> Iterator[dict[str, Any]]:
    """Each line that two lots of COPY rows do not have in common: position, line_no, expected and found (None: no
    such line), in order."""
    lines = [{(line["position"], line["line_no"]): line for line in read_lines(rows)} for rows in (expected, found)]
    for place in sorted(lines[0].keys() | lines[1].keys()):
        one, other = lines[0].get(place), lines[1].get(place)
        if one != other:
            yield {"position": place[0], "line_no": place[1], "expected": one, "found": other}


def first_difference(expected: bytes, found: bytes) -> dict[str, Any]:
    """The first of differences()."""
    return next(differences(expected, found))
