"""Each statement of a period, computed again from the journal, beside what was issued and what the service lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from ledger.closing import Tally, head_of
from ledger.domain import period as calendar
from ledger.domain import statement
from ledger.domain.errors import NotFound
from ledger.domain.ids import stream_id
from ledger.domain.period import StatementsIssued
from ledger.domain.statement import Buckets, Section, StatementIssued, StatementState
from ledger.presenting import Lines
from ledger.projections import periods
from ledger.projections.periods import Cut
from ledger.reports.report import QUERIES, Made, Report, Scope
from ledger.statements.document import digest, encoded
from ledger.store import log

_AT_ONCE = 1000
_sections = msgspec.json.Decoder(list[Section]).decode


class _Version(NamedTuple):
    """A statement as one of the three sources has it."""

    version: int
    sections: list[Section]
    hash: str

    @property
    def line_count(self) -> int:
        return sum(one.line_count for one in self.sections)


class _Listed(NamedTuple):
    said: _Version
    line_count: int


def _make(scope: Scope) -> Made:
    cut = _cut(scope)
    listed = _listed(scope, cut)
    versions = sorted({one.said.version for one in listed.values()} | {cut.version})
    computed: dict[str, _Version] = {}
    for version in versions:
        at = periods.cut(scope.cur, scope.program_id, cut.period, version)
        if at is None:
            continue
        # whoever has no row belongs on the newest cut, or is missing altogether
        computed |= {
            affiliate_id: one
            for affiliate_id, one in _computed(scope, at)
            if affiliate_id not in listed or listed[affiliate_id].said.version == version
        }
    issued = dict(_issued(scope, cut, sorted(listed.keys() | computed.keys())))
    names = sorted(listed.keys() | computed.keys() | issued.keys())
    rows = [_row(name, issued.get(name), listed.get(name), computed.get(name)) for name in names]
    differing = sum(bool(row["differs"]) for row in rows)
    totals, wrong = _totals(scope, cut, rows)
    parameters = {"period": cut.period, "version": cut.version}
    return Made(rows, totals, differing + wrong, parameters)


def _cut(scope: Scope) -> Cut:
    """The period's newest cut; without a period, that of the newest period closed."""
    if scope.asked.period is None:
        found = next((one for one in periods.periods(scope.cur, scope.program_id) if one.status == "closed"), None)
        if found is None:
            raise NotFound(f"program {scope.program} has closed no period")
        return found
    named = periods.cut(scope.cur, scope.program_id, scope.asked.period)
    if named is None:
        raise NotFound(f"period {scope.asked.period} is not closed")
    return named


def _listed(scope: Scope, cut: Cut) -> dict[str, _Listed]:
    """What the service lists."""
    params = {"program_id": scope.program_id, "period": cut.period, "version": cut.version}
    scope.cur.execute(QUERIES["select_statement_rows"], params)
    return {
        affiliate_id: _Listed(_Version(version, _sections(sections), hash_), line_count)
        for affiliate_id, version, sections, line_count, hash_ in scope.cur
    }


def _issued(scope: Scope, cut: Cut, names: list[str]) -> Iterator[tuple[str, _Version]]:
    """What the log says was issued, newest version."""
    left = iter(names)
    while some := list(islice(left, _AT_ONCE)):
        streams = {stream_id(scope.program_id, statement.key(name, cut.period)): name for name in some}
        states: dict[str, StatementState] = {}
        for event in log.select_streams(scope.cur, scope.program_id, list(streams)):
            name = streams[event.originator_id]
            states[name] = statement.fold(states.get(name), event.body)
        for name, state in states.items():
            found: StatementIssued = max(state.versions, key=lambda one: one.version)
            yield name, _Version(found.version, found.sections, found.hash)


def _computed(scope: Scope, cut: Cut) -> Iterator[tuple[str, _Version]]:
    """Every statement of a cut, from the journal: whoever has lines, or is still owed from before."""
    openings = periods.openings(scope.cur, scope.program_id, cut.starts_at)
    owed = {who for who, opening in openings.items() if any(_owes(one) for one in opening.values())}
    between = periods.bounds(cut)
    for affiliate_id, lines in periods.lines_by_affiliate(scope.cur, scope.program_id, between, cut.late_before):
        owed.discard(affiliate_id)
        tally = Tally(openings.get(affiliate_id, {}))
        with Lines() as kept:
            for _ in kept.fill(tally.count(lines)):
                pass
            head = head_of(scope.program, scope.zone, cut, affiliate_id, tally.sections())
            yield affiliate_id, _Version(cut.version, head.sections, digest(head, encoded(kept())))
    for affiliate_id in sorted(owed):
        sections = Tally(openings[affiliate_id]).sections()
        head = head_of(scope.program, scope.zone, cut, affiliate_id, sections)
        yield affiliate_id, _Version(cut.version, sections, digest(head, encoded(())))


def _owes(closing: Buckets) -> bool:
    return bool(closing.pending or closing.held or closing.payable or closing.in_transit)


def _row(
    affiliate_id: str, issued: _Version | None, listed: _Listed | None, computed: _Version | None
) -> Mapping[str, Any]:
    differs = [
        *([] if issued else ["not issued"]),
        *([] if listed else ["not listed"]),
        *([] if computed else ["nothing to state"]),
    ]
    if issued and listed:
        differs += _differences("listed", issued, listed.said)
        if listed.line_count != issued.line_count:
            differs.append("listed line count")
    if issued and computed and computed.version == issued.version:
        differs += _differences("recomputed", issued, computed)
    return {
        "affiliate_id": affiliate_id,
        "version": issued.version if issued else None,
        "issued_lines": issued.line_count if issued else None,
        "listed_lines": listed.line_count if listed else None,
        "recomputed_lines": computed.line_count if computed else None,
        "issued_hash": issued.hash if issued else None,
        "listed_hash": listed.said.hash if listed else None,
        "recomputed_hash": computed.hash if computed else None,
        "differs": ", ".join(differs),
    }


def _differences(which: str, issued: _Version, other: _Version) -> list[str]:
    found = []
    if other.version != issued.version:
        found.append(f"{which} version")
    if other.line_count != issued.line_count:
        found.append(f"{which} lines")
    if other.sections != issued.sections:
        found.append(f"{which} totals")
    if other.hash != issued.hash:
        found.append(f"{which} hash")
    return found


def _totals(scope: Scope, cut: Cut, rows: list[Mapping[str, Any]]) -> tuple[dict[str, Any], int]:
    """What all statements add up to, beside the journal and beside what closing stated; and how many of them differ."""
    stated = _stated(scope, cut)
    params = {"program_id": scope.program_id, **cut._asdict()}
    (journal_lines,) = scope.cur.execute(QUERIES["count_lines"], params).fetchone() or (0,)
    (statement_lines,) = scope.cur.execute(QUERIES["count_statement_lines"], params).fetchone() or (0,)
    closing = periods.closing_totals(scope.cur, scope.program_id, cut.ends_at)
    control = periods.control_totals(scope.cur, scope.program_id, cut)
    buckets = [
        {"currency": c, "bucket": b, "statements": closing.get((c, b), 0), "journal": control.get((c, b), 0)}
        for c, b in sorted(closing.keys() | control.keys())
    ]
    lines = sum(row["listed_lines"] or 0 for row in rows)
    hashes = sha256()
    for row in sorted(rows, key=lambda row: str(row["affiliate_id"])):
        hashes.update(f"{row['recomputed_hash'] or row['issued_hash']}\n".encode())
    totals = {
        "digest": hashes.hexdigest(),
        "digest_stated": stated.digest if stated else None,
        "statements": len(rows),
        "statements_stated": stated.statement_count if stated else None,
        "lines": lines,
        "lines_stated": stated.line_count if stated else None,
        "lines_in_journal_since_the_beginning": journal_lines,
        "lines_on_statements_since_the_beginning": statement_lines,
        "closing": buckets,
    }
    pairs: list[tuple[Any, Any]] = [
        (journal_lines, statement_lines),
        *((one["statements"], one["journal"]) for one in buckets),
    ]
    if stated is not None:
        pairs += [(stated.statement_count, len(rows)), (stated.line_count, lines)]
        pairs.append((stated.digest, hashes.hexdigest()))
    return totals, sum(one != other for one, other in pairs)


def _stated(scope: Scope, cut: Cut) -> StatementsIssued | None:
    stream = stream_id(scope.program_id, calendar.KEY)
    found = None
    for event in log.select_streams(scope.cur, scope.program_id, [stream]):
        body = event.body
        if isinstance(body, StatementsIssued) and (body.period, body.version) == (cut.period, cut.version):
            found = body
    return found


REPORT = Report(
    name="completeness",
    rule=(
        "Each affiliate's newest statement of a closed period is computed again from the journal between the period's"
        " cuts and compared with StatementIssued in the log and with the list that the service shows: lines, totals,"
        " SHA-256. Every journal line up to the cut stands on exactly one statement: their numbers since the beginning"
        " are equal, and so are closing balances by bucket."
    ),
    takes=("period",),
    columns=(
        "affiliate_id", "version", "issued_lines", "listed_lines", "recomputed_lines", "issued_hash", "listed_hash",
        "recomputed_hash", "differs",
    ),
    make=_make,
)  # fmt: skip
