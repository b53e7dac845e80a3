"""Statements as an auditor makes them: from the log's lines alone, naively, to the byte that was hashed.

docs/statements.md says what stands on one. This page knows topics, JSON and the naive transfers; the canonical form is
put together by hand. Each journal line about an affiliate stands on exactly one version-1 statement: the first whose
cut knows it and whose period has it, or has passed it. Lines wait on disk, so that memory does not grow with them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple, Protocol

from ledger.audit import naive
from ledger.audit.findings import Findings
from ledger.audit.naive import Transfer

State = dict[str, Any]
BUCKETS = ("pending", "held", "payable", "in_transit", "paid")
TOPICS = frozenset({"ProgramOpened", "PeriodClosed", "PeriodReissued", "StatementIssued", "StatementsIssued"})
SPOOL_BYTES = 8 << 20
# what a statement calls the program's own accounts
SIDES = {
    naive.COMMISSION: "commission", naive.ADJUSTMENT: "adjustment", naive.FEE: "bank_fee",
    naive.BANK: "bank", naive.VAT: "vat", naive.WITHHOLDING: "withholding",
}  # fmt: skip


def canonical_instant(text: str) -> str:
    """RFC 3339 in UTC: without a fraction where it is zero, else six decimals."""
    if len(text) == 20 and text[-1] == "Z":
        return text
    if len(text) == 27 and text[-1] == "Z":
        return text if text[19:26] != ".000000" else text[:19] + "Z"
    moment = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat() + "Z"


def sortable(text: str) -> str:
    """A canonical instant as text that sorts as time does."""
    return text if len(text) == 27 else text[:19] + ".000000Z"


def quoted(text: str) -> str:
    """A JSON string with no more escapes than JSON demands."""
    if '"' not in text and "\\" not in text and text.isprintable():
        return f'"{text}"'
    return json.dumps(text, ensure_ascii=False)


def side(account: str) -> str:
    """What a statement calls an account."""
    if account.startswith("liability:"):
        return account[account.rindex(":") + 1 :]
    return "paid" if account.startswith("asset:bank:") else SIDES[account]


# A waiting line, as text with tabs, which no JSON and no id has in it: whose, when (sortable), currency, amount,
# source, target, and its canonical JSON on both sides of what depends on the period: whether it is late.
Row = str
_WHO, _WHEN, _CURRENCY, _AMOUNT, _SOURCE, _TARGET, _BEFORE, _BEHIND = range(8)


class Spool:
    """Rows on disk, once they are many. They come back in the order in which they were put in."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  (closed with the object)
        self._fresh: list[Row] = []

    def add(self, row: Row) -> None:
        """One more."""
        self._fresh.append(row)
        if len(self._fresh) >= 10_000:
            self._write()

    def _write(self) -> None:
        if self._fresh:
            self._file.seek(0, 2)
            self._file.write(("\n".join(self._fresh) + "\n").encode())
            self._fresh.clear()

    def __iter__(self) -> Iterator[Row]:
        self._write()
        self._file.seek(0)
        for row in self._file:
            yield row[:-1].decode()

    def __del__(self) -> None:
        self._file.close()


Sections = dict[str, dict[str, int]]  # currency → bucket → minor units


class Statement(NamedTuple):
    """What a statement must be. closing: by currency; lines: how many."""

    hash: str
    sections: list[State]
    closing: Sections
    lines: int


class Hash(Protocol):
    """Takes a document in pieces."""

    def update(self, piece: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Cut(NamedTuple):
    """A version of a period. late_before: '' in a program's first period, where nothing is late."""

    period: str
    version: int
    position: int
    starts_at: str | None
    ends_at: str
    late_before: str


class Statements:
    """Reads a books log from its first position on, and compares every statement with its own. keep_issued: told
    (period, version, affiliate id, hash) of each; issued: how many were; lines: how many stand on them."""

    def __init__(self, findings: Findings, keep_issued: Callable[[str, int, str, str], None] | None = None) -> None:
        self._findings = findings
        self._keep = keep_issued
        # for whoever wants the documents, and not only their hashes
        self.new_hash: Callable[[bytes], Hash] = sha256
        self._program, self._zone = "", "UTC"
        self._fresh, self._carried, self._mine = Spool(), Spool(), Spool()
        self._cut: Cut | None = None
        self._openings: dict[str, Sections] = {}  # as of the period's start
        self._newest: dict[str, Statement] = {}  # of the period, by affiliate
        self._expected: dict[str, Statement] = {}  # not issued yet
        self.issued = self.lines = 0

    @property
    def waiting(self) -> dict[str, Statement]:
        """Statements of the last cut that are not issued yet, by affiliate."""
        return self._expected

    # --- lines -------------------------------------------------------------------------------------------

    def post(self, position: int, recorded_at: str, topic: str, state: State, moved: Iterable[Transfer]) -> None:
        """The journal lines of an event."""
        tail = ""
        for number, (debit, credit, amount, currency, effective_at, affiliate_id) in enumerate(moved, 1):
            if not affiliate_id:
                continue
            if not tail:
                reference = state.get("order_id") or state.get("adjustment_id") or state.get("payout_id") or ""
                recorded = canonical_instant(recorded_at)
                tail = f'"position":{position},"recorded_at":"{recorded}","reference":{quoted(reference)}'
            at, source, target = canonical_instant(effective_at), side(debit), side(credit)
            self._fresh.add(
                f"{affiliate_id}\t{sortable(at)}\t{currency}\t{amount}\t{source}\t{target}\t"
                f'{{"amount":{amount},"currency":"{currency}","effective_at":"{at}","event":"{topic}","late":\t'
                f',"line_no":{number},{tail},"source":"{source}","target":"{target}"}}'
            )

    # --- events ------------------------------------------------------------------------------------------

    def event(self, position: int, topic: str, e: State) -> None:
        """The next event of TOPICS."""
        if topic == "ProgramOpened":
            self._program, self._zone = e["program"], e.get("zone", "UTC")
        elif topic == "PeriodClosed":
            self._close(position, e)
        elif topic == "PeriodReissued":
            self._reissue(position, e)
        elif topic == "StatementIssued":
            self._issued(position, e)
        elif topic == "StatementsIssued":
            self._finished(position, e)

    def _close(self, position: int, e: State) -> None:
        if self._expected:
            self._tell_missing(position)
        first = self._cut is None
        for affiliate_id, statement in self._newest.items():
            self._openings[affiliate_id] = statement.closing
        starts = canonical_instant(e["starts_at"]) if e.get("starts_at") else None
        ends = canonical_instant(e["ends_at"])
        if self._cut is not None and starts != self._cut.ends_at:
            self._findings.report("statement_differs", "books", position, f"a period from {self._cut.ends_at}", starts)
        late_before = "" if first or starts is None else sortable(starts)
        self._cut = Cut(e["period"], 1, position, starts, ends, late_before)
        self._newest, self._mine = {}, Spool()
        waiting, self._carried = chain(self._carried, self._fresh), Spool()
        tallies = self._share(waiting)
        self._fresh = Spool()
        for who, opening in self._openings.items():
            if who not in tallies and _owes(opening):
                tallies[who] = Tally(opening)
        self._hash(tallies)

    def _reissue(self, position: int, e: State) -> None:
        if self._cut is None or self._cut.period != e["period"] or e["version"] != self._cut.version + 1:
            expected = f"version {self._cut.version + 1} of {self._cut.period}" if self._cut else "a closed period"
            found = f"version {e['version']} of {e['period']}"
            self._findings.report("statement_differs", "books", position, expected, found)
            return
        if self._expected:
            self._tell_missing(position)
        self._cut = self._cut._replace(version=e["version"], position=position)
        added = self._share(self._fresh)
        self._fresh = Spool()
        tallies = {who: Tally(self._openings.get(who, {})) for who in added}
        for row in self._mine:
            fields = row.split("\t")
            if fields[_WHO] in tallies:
                tallies[fields[_WHO]].count(fields, fields[_WHEN] < self._cut.late_before)
        self._hash(tallies)

    def _share(self, waiting: Iterable[Row]) -> dict[str, Tally]:
        """Put each row on this period's statements, or leave it for a later one. Returns what was put, by affiliate."""
        assert self._cut is not None
        end, late_before = sortable(self._cut.ends_at), self._cut.late_before
        tallies: dict[str, Tally] = {}
        for row in waiting:
            fields = row.split("\t")
            if fields[_WHEN] >= end:
                self._carried.add(row)
                continue
            self._mine.add(row)
            tally = tallies.get(fields[_WHO])
            if tally is None:
                tally = tallies[fields[_WHO]] = Tally(self._openings.get(fields[_WHO], {}))
            tally.count(fields, fields[_WHEN] < late_before)
        return tallies

    def _hash(self, tallies: dict[str, Tally]) -> None:
        """The statements of some affiliates, whose rows are counted: the head tells the sums, the rows follow it."""
        cut = self._cut
        assert cut is not None
        sections = {who: tally.sections() for who, tally in tallies.items()}
        hashes = {who: self.new_hash(self._head(who, sections[who])) for who in tallies}
        begun: set[str] = set()
        for row in self._mine:
            fields = row.split("\t")
            who = fields[_WHO]
            if (hash_ := hashes.get(who)) is None:
                continue
            comma = "," if who in begun else ""
            begun.add(who)
            late = "true" if fields[_WHEN] < cut.late_before else "false"
            hash_.update(f"{comma}{fields[_BEFORE]}{late}{fields[_BEHIND]}".encode())
        for who, hash_ in hashes.items():
            hash_.update(b"]}")
            made = Statement(hash_.hexdigest(), sections[who], tallies[who].closing(), tallies[who].lines)
            self._newest[who] = self._expected[who] = made

    def _head(self, affiliate_id: str, sections: list[State]) -> bytes:
        cut = self._cut
        assert cut is not None
        starts = f'"{cut.starts_at}"' if cut.starts_at else "null"
        told = json.dumps(sections, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return (
            f'{{"head":{{"affiliate_id":{quoted(affiliate_id)},"ends_at":"{cut.ends_at}","period":{quoted(cut.period)},'
            f'"position":{cut.position},"program":{quoted(self._program)},"sections":{told},"starts_at":{starts},'
            f'"version":{cut.version},"zone":{quoted(self._zone)}}},"lines":['
        ).encode()

    # --- what the log says ---------------------------------------------------------------------------------

    def _issued(self, position: int, e: State) -> None:
        who, cut = e["affiliate_id"], self._cut
        name = f"statement {who} {e['period']} version {e['version']}"
        self.issued += 1
        if self._keep is not None:
            self._keep(e["period"], e["version"], who, e["hash"])
        expected = self._expected.pop(who, None)
        if cut is None or expected is None or (e["period"], e["version"]) != (cut.period, cut.version):
            self._findings.report("statement_extra", "books", position, "no such statement", e["hash"], name)
            return
        self.lines += expected.lines
        starts = canonical_instant(e["starts_at"]) if e.get("starts_at") else None
        pairs = (
            (cut.position, e["cut_position"]), (cut.starts_at, starts), (cut.ends_at, canonical_instant(e["ends_at"])),
            (expected.sections, e["sections"]), (expected.hash, e["hash"]),
        )  # fmt: skip
        for ours, theirs in pairs:
            if ours != theirs:
                self._findings.report("statement_differs", "books", position, ours, theirs, name)
                return

    def _finished(self, position: int, e: State) -> None:
        """StatementsIssued: all are out, and what they add up to."""
        cut = self._cut
        if cut is None or (e["period"], e["version"]) != (cut.period, cut.version):
            found = f"version {e['version']} of {e['period']}"
            self._findings.report("statement_differs", "books", position, "the newest cut", found)
            return
        self._tell_missing(position)
        for what, ours in self.sums().items():
            if ours != e[what]:
                subject = f"period {cut.period} version {cut.version}: {what}"
                self._findings.report("statement_differs", "books", position, ours, e[what], subject)

    def sums(self) -> State:
        """What the period's statements come to, as StatementsIssued says it."""
        digest = sha256()
        for _, statement in sorted(self._newest.items()):
            digest.update(f"{statement.hash}\n".encode())
        return {
            "digest": digest.hexdigest(),
            "statement_count": len(self._newest),
            "line_count": sum(statement.lines for statement in self._newest.values()),
            "totals": self._totals(),
        }

    def _totals(self) -> list[State]:
        opening = _added(self._openings.values())
        after = {who: one.closing for who, one in self._newest.items()}
        closing = _added((self._openings | after).values())
        return [
            {"currency": c, "bucket": b, "opening": opening.get((c, b), 0), "closing": closing.get((c, b), 0)}
            for c, b in sorted({place for place, amount in (*opening.items(), *closing.items()) if amount})
        ]

    def _tell_missing(self, position: int) -> None:
        assert self._cut is not None
        for who, statement in sorted(self._expected.items()):
            name = f"statement {who} {self._cut.period} version {self._cut.version}"
            self._findings.report("statement_missing", "books", position, statement.hash, "none", name)
        self._expected.clear()


class Tally:
    """Adds up one statement's lines."""

    def __init__(self, opening: Sections) -> None:
        self._opening = opening
        self._moved: Sections = {currency: defaultdict(int) for currency in opening}
        self._count: dict[str, list[int]] = defaultdict(lambda: [0, 0])  # currency → lines, late ones
        self.lines = 0

    def count(self, row: Sequence[str], late: bool) -> None:
        """One more line. row: its fields."""
        currency, amount = row[_CURRENCY], int(row[_AMOUNT])
        moved = self._moved.get(currency)
        if moved is None:
            moved = self._moved[currency] = defaultdict(int)
        moved[row[_SOURCE]] -= amount
        moved[row[_TARGET]] += amount
        counts = self._count[currency]
        counts[0] += 1
        counts[1] += late
        self.lines += 1

    def closing(self) -> Sections:
        """What is there at the end."""
        return {
            currency: {b: self._opening.get(currency, {}).get(b, 0) + moved.get(b, 0) for b in BUCKETS}
            for currency, moved in self._moved.items()
        }

    def sections(self) -> list[State]:
        """As they stand on the statement."""
        return [
            {
                "currency": currency,
                "opening": {b: self._opening.get(currency, {}).get(b, 0) for b in BUCKETS},
                "closing": closing,
                "line_count": self._count[currency][0],
                "late_count": self._count[currency][1],
            }
            for currency, closing in sorted(self.closing().items())
        ]


def _owes(opening: Sections) -> bool:
    """Whether something is still owed either way: what was paid is no reason for a statement."""
    return any(amount for buckets in opening.values() for bucket, amount in buckets.items() if bucket != "paid")


def _added(all_of_them: Iterable[Sections]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for sections in all_of_them:
        for currency, buckets in sections.items():
            for bucket, amount in buckets.items():
                found[currency, bucket] += amount
    return found
