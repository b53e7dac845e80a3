"""Everything that needs two people: who proposed it, who decided it, and which keys each of them held."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ledger.domain.ids import same_person
from ledger.projections import decisions
from ledger.projections.decisions import Trail
from ledger.reports.keys import AccessKey, keys_of
from ledger.reports.report import Made, Report, Scope

_AT_ONCE = 1000


def _make(scope: Scope) -> Made:
    after, until = scope.positions()
    keys = keys_of(scope)
    rows: list[dict[str, Any]] = []
    while some := decisions.page(scope.cur, scope.program_id, after, _AT_ONCE):
        rows += [_row(one, keys) for one in some if one.position <= until]
        after = some[-1].position
        if after > until:
            break
    alike = sum(bool(row["same_person"]) for row in rows)
    kinds = Counter(f"{row['kind']} {row['decision']}" for row in rows)
    both = sum(bool(row["proposer_may_decide"] or row["decider_may_propose"]) for row in rows)
    totals = {
        "decisions": len(rows),
        "by_same_person": alike,
        "one_held_both_duties": both,
        **dict(sorted(kinds.items())),
    }
    return Made(rows, totals, alike)


def _row(one: Trail, keys: list[AccessKey]) -> dict[str, Any]:
    """same_person is refused by the ledger; whoever held both duties then could have taken either part."""
    row = one.document()
    assert one.decided_at is not None
    row["proposer_may_decide"] = _held(keys, one.proposed_by, "finance_checker", one)
    row["decider_may_propose"] = _held(keys, one.decided_by or "", "finance_maker", one)
    return row


def _held(keys: list[AccessKey], who: str, role: str, one: Trail) -> bool:
    at = one.decided_at
    assert at is not None
    return any(key.role == role and same_person(key.holder, who) and key.issued_at <= at < key.ends_at for key in keys)


REPORT = Report(
    name="maker-checker",
    rule=(
        f"What two people do ({', '.join(kind.replace('_', ' ') for kind in decisions.KINDS)}) and was decided, from"
        " the events: proposer and decider, in the order of the log; terms for the future need one person and are not"
        " among it. same_person compares the two names without case, dots and dashes; proposer_may_decide and"
        " decider_may_propose say whether one of them held a key of the other's duty when it was decided."
    ),
    takes=("period", "from", "until"),
    columns=(
        "position", "kind", "record_id", "version", "decision", "proposed_by", "proposed_at", "proposed_position",
        "decided_by", "decided_at", "same_person", "proposer_may_decide", "decider_may_propose",
    ),
    make=_make,
)  # fmt: skip
