"""Journal lines that took effect long before they were recorded, and those that were late on their statement."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.projections import periods
from ledger.projections.periods import Cut
from ledger.reports.report import QUERIES, Made, Report, Scope

DAYS = 31
_ACTORS_AT_ONCE = 1000


def _make(scope: Scope) -> Made:
    lag = timedelta(days=DAYS if scope.asked.days is None else scope.asked.days)
    cut = periods.cut(scope.cur, scope.program_id, scope.asked.period) if scope.asked.period else None
    rows = _of_period(scope, cut, lag) if cut is not None else _of_stretch(scope, lag)
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[row["currency"]] += row["amount"]
    topics = Counter(str(row["topic"]) for row in rows)
    late = sum(bool(row["late"]) for row in rows)
    totals = {"lines": len(rows), "late_on_a_statement": late, "amount": dict(sorted(sums.items()))}
    return Made(rows, totals | {"topics": dict(sorted(topics.items()))}, len(rows), {"days": lag.days})


def _of_period(scope: Scope, cut: Cut, lag: timedelta) -> list[dict[str, Any]]:
    """Lines on a period's statements."""
    rows: list[dict[str, Any]] = []
    for line in periods.raw_lines(scope.cur, scope.program_id, periods.bounds(cut)):
        who, position, line_no, debit, credit, amount, currency, effective_at, recorded_at, topic, reference = line
        late = cut.late_before is not None and effective_at < cut.late_before
        if late or recorded_at - effective_at > lag:
            found = (position, line_no, recorded_at, effective_at, who, debit, credit, amount, currency)
            rows.append(_row((*found, topic, "", reference), cut.period, late))
    _name_actors(scope, rows)
    return rows


def _name_actors(scope: Scope, rows: list[dict[str, Any]]) -> None:
    for some in _chunks(rows):
        positions = [row["position"] for row in some]
        params = {"program_id": scope.program_id, "positions": positions}
        actors: dict[int, str] = dict(scope.cur.execute(QUERIES["select_actors"], params).fetchall())
        for row in some:
            row["by"] = actors.get(row["position"], "")


def _chunks(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), _ACTORS_AT_ONCE):
        yield rows[start : start + _ACTORS_AT_ONCE]


def _of_stretch(scope: Scope, lag: timedelta) -> list[dict[str, Any]]:
    """Lines recorded in a time, whatever statement they are on."""
    after, until = scope.positions()
    params = {"program_id": scope.program_id, "after": after, "until": until, "lag": lag}
    scope.cur.execute(QUERIES["select_late"], params)
    found = scope.cur.fetchall()
    closed = _closed(scope)
    return [_row(one, *_period_of(one, closed)) for one in found]


def _closed(scope: Scope) -> list[Cut]:
    """Every version of closed periods, oldest first."""
    found: list[Cut] = []
    place: tuple[datetime | None, int] = (None, 0)
    while some := periods.periods(scope.cur, scope.program_id, place[0], 1000, place[1]):
        found += some
        place = (some[-1].ends_at, some[-1].version)
    return found[::-1]


def _period_of(line: Sequence[Any], closed: Sequence[Cut]) -> tuple[str, bool]:
    """(the period on whose statements a line stood first, whether it was late there)."""
    position, effective_at = line[0], line[3]
    first = next((cut for cut in closed if cut.position >= position and cut.ends_at > effective_at), None)
    if first is None or not line[4]:
        return "", False
    return first.period, first.late_before is not None and effective_at < first.late_before


def _row(line: Sequence[Any], period: str, late: bool) -> dict[str, Any]:
    position, line_no, recorded_at, effective_at, who, debit, credit, amount, currency, topic, actor, reference = line
    return {
        "position": position,
        "line_no": line_no,
        "recorded_at": recorded_at.astimezone(UTC),
        "effective_at": effective_at.astimezone(UTC),
        "days": (recorded_at - effective_at).days,
        "period": period,
        "late": late,
        "affiliate_id": who,
        "topic": topic,
        "reference": reference,
        "debit": debit,
        "credit": credit,
        "amount": amount,
        "currency": currency,
        "by": actor,
    }


REPORT = Report(
    name="late-entries",
    rule=(
        "Journal lines recorded more than `days` days (31 unless said) after they took effect; with a closed period:"
        " of the lines on its statements those, and all that took effect before it began. amount is in minor units."
    ),
    takes=("period", "from", "until", "days"),
    columns=(
        "position", "line_no", "recorded_at", "effective_at", "days", "period", "late", "affiliate_id", "topic",
        "reference", "debit", "credit", "amount", "currency", "by",
    ),
    make=_make,
)  # fmt: skip
