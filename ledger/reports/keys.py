"""Access keys over time: issued and revoked as the log says, beside the table that the service checks keys by; and
duties that one person holds together, or has issued together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ledger.domain.access import KeyIssued
from ledger.domain.ids import same_person
from ledger.reports.report import QUERIES, Made, Report, Scope
from ledger.store import codec

KINDS = ["key"]
DUTIES = ("admin", "finance_maker", "finance_checker")


class AccessKey(NamedTuple):
    """A key as the log has it. ends_at: when it expired or was revoked, whichever was first."""

    key_id: str
    role: str
    holder: str
    holder_kind: str
    affiliate_id: str
    issued_by: str
    issued_at: datetime
    ends_at: datetime
    revoked: bool
    rotates: str


class _Step(NamedTuple):
    """An event of a key's stream."""

    position: int
    recorded_at: datetime
    body: Any
    actor: str


def _steps(scope: Scope, after: int = 0, until: int | None = None) -> list[_Step]:
    params = {
        "program_id": scope.program_id, "kinds": KINDS, "after": after,
        "until": scope.position if until is None else until,
    }  # fmt: skip
    scope.cur.execute(QUERIES["select_records"], params)
    return [
        _Step(position, recorded_at.astimezone(UTC), codec.decode_state(topic, state), actor)
        for position, recorded_at, topic, state, actor, _, _ in scope.cur
    ]


def keys_of(scope: Scope) -> list[AccessKey]:
    """Every key that the log knows, in the order in which they were issued."""
    found: dict[str, AccessKey] = {}
    for position, recorded_at, body, actor in _steps(scope):
        del position
        if isinstance(body, KeyIssued):
            found[body.access_key_id] = AccessKey(
                body.access_key_id, body.role, body.holder, body.holder_kind, body.affiliate_id, actor, recorded_at,
                body.expires_at, False, body.rotates,
            )  # fmt: skip
        elif (key := found.get(body.access_key_id)) is not None:
            found[key.key_id] = key._replace(ends_at=min(recorded_at, key.ends_at), revoked=True)
    return list(found.values())


# --- access ------------------------------------------------------------------------------------------------


def _make_access(scope: Scope) -> Made:
    after, until = scope.positions()
    issued = {key.key_id: key for key in keys_of(scope)}
    given: dict[str, dict[str, AccessKey]] = defaultdict(dict)  # holder → what it holds, as the events pass
    rows: list[dict[str, Any]] = []
    for step in _steps(scope, until=until):
        key, is_new = issued[step.body.access_key_id], isinstance(step.body, KeyIssued)
        held = given[key.holder]
        had = _roles(held.values(), step.recorded_at)
        if is_new:
            held[key.key_id] = key
        else:
            held.pop(key.key_id, None)
        if step.position > after:
            rows.append(_access_row(step, key, is_new, had, _roles(held.values(), step.recorded_at)))
    unknown = _unlike_the_log(scope, issued)
    rows += unknown
    counts = Counter(str(row["what"]) for row in rows)
    in_force = Counter(k.role for k in issued.values() if k.issued_at <= scope.now < k.ends_at)
    totals = {
        "events": len(rows) - len(unknown),
        **dict(sorted(counts.items())),
        "keys_in_force_by_role": dict(in_force),
    }
    return Made(rows, totals, len(unknown))


def _roles(keys: Iterable[AccessKey], at: datetime) -> set[str]:
    """Which roles some keys give at an instant: those that have not expired (or are revoked, later)."""
    return {key.role for key in keys if key.revoked or at < key.ends_at}


def _access_row(step: _Step, key: AccessKey, is_new: bool, had: set[str], has: set[str]) -> dict[str, Any]:
    return {
        "position": step.position,
        "recorded_at": step.recorded_at,
        "what": ("rotated" if key.rotates else "issued") if is_new else "revoked",
        "key_id": key.key_id,
        "role": key.role,
        "holder": key.holder,
        "holder_kind": key.holder_kind,
        "affiliate_id": key.affiliate_id,
        "by": step.actor,
        "expires_at": key.ends_at if not key.revoked else None,
        "rotates": key.rotates,
        "roles_before": ", ".join(sorted(had)),
        "roles_after": ", ".join(sorted(has)),
        "differs": "",
    }


def _unlike_the_log(scope: Scope, issued: dict[str, AccessKey]) -> list[dict[str, Any]]:
    """Keys that open doors and of which the log knows nothing, or something else."""
    scope.cur.execute(QUERIES["select_keys"], {"program_id": scope.program_id})
    rows: list[dict[str, Any]] = []
    listed = set()
    for key_id, role, holder, holder_kind, affiliate_id, issued_by, issued_at, expires_at, revoked_at in scope.cur:
        listed.add(key_id)
        key = issued.get(key_id)
        row = {
            "recorded_at": issued_at.astimezone(UTC), "what": "listed", "key_id": key_id, "role": role,
            "holder": holder, "holder_kind": holder_kind, "affiliate_id": affiliate_id, "by": issued_by,
            "expires_at": expires_at.astimezone(UTC),
        }  # fmt: skip
        if key is None:
            rows.append(row | {"differs": "the log knows of no such key"})
            continue
        differs = [
            name for name in ("role", "holder", "holder_kind", "affiliate_id") if getattr(key, name) != row[name]
        ]
        if not key.revoked and expires_at > key.ends_at:
            differs.append("expires_at")
        if key.revoked and revoked_at is None:
            differs.append("revoked in the log, not in the list")
        if not key.revoked and revoked_at is not None:
            differs.append("revoked in the list, not in the log")
        if differs:
            rows.append(row | {"differs": ", ".join(differs)})
    rows += [{"what": "not listed", "key_id": id_, "differs": "not listed"} for id_ in issued.keys() - listed]
    return rows


ACCESS = Report(
    name="access",
    rule=(
        "KeyIssued and KeyRevoked in the order of the log: which role whom it was given, by whom, and which roles its"
        " holder had before and after. Then keys in the table by which the service lets people in that differ from the"
        " log; there are none."
    ),
    takes=("period", "from", "until"),
    columns=(
        "position", "recorded_at", "what", "key_id", "role", "holder", "holder_kind", "affiliate_id", "by",
        "expires_at", "rotates", "roles_before", "roles_after", "differs",
    ),
    make=_make_access,
)  # fmt: skip


# --- duties ------------------------------------------------------------------------------------------------


def _make_duties(scope: Scope) -> Made:
    since, until = scope.span()
    keys = [
        key
        for key in keys_of(scope)
        if key.role in DUTIES and (since is None or key.ends_at > since) and (until is None or key.issued_at < until)
    ]
    rows = [*_held_together(keys), *_issued_together(keys)]
    counts = Counter(str(row["conflict"]) for row in rows)
    return Made(rows, {"keys": len(keys), **dict(sorted(counts.items()))}, len(rows))


def _held_together(keys: Iterable[AccessKey]) -> list[dict[str, Any]]:
    some = list(keys)
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(some):
        for other in some[number + 1 :]:
            together = max(one.issued_at, other.issued_at)
            ends = min(one.ends_at, other.ends_at)
            if one.role != other.role and same_person(one.holder, other.holder) and together < ends:
                rows.append(_conflict("held together", one.holder, one, other, together, ends))
    return rows


def _issued_together(keys: Iterable[AccessKey]) -> list[dict[str, Any]]:
    """Whoever issued both a maker's and a checker's key has seen both secrets."""
    makers = [key for key in keys if key.role == "finance_maker" and not key.rotates]
    checkers = [key for key in keys if key.role == "finance_checker" and not key.rotates]
    rows = []
    for one in makers:
        for other in checkers:
            together = max(one.issued_at, other.issued_at)
            ends = min(one.ends_at, other.ends_at)
            if same_person(one.issued_by, other.issued_by) and together < ends:
                rows.append(_conflict("issued together", one.issued_by, one, other, together, ends))
    return rows


def _conflict(
    what: str, person: str, one: AccessKey, other: AccessKey, since: datetime, until: datetime
) -> dict[str, Any]:
    return {
        "conflict": what,
        "person": person,
        "key_id": one.key_id,
        "role": one.role,
        "holder": one.holder,
        "other_key_id": other.key_id,
        "other_role": other.role,
        "other_holder": other.holder,
        "from": since,
        "until": until,
    }


DUTY_CONFLICTS = Report(
    name="duties",
    rule=(
        "Segregation of duties: pairs of access keys of the roles admin, finance_maker and finance_checker that were in"
        " force at one time and are held by one person (names compared without case, dots and dashes), and pairs of a"
        " maker's and a checker's key that one person issued, who has therefore seen both secrets unless they were"
        " rotated since. The ledger refuses one person's two decisions whatever keys are used."
    ),
    takes=("period", "from", "until"),
    columns=(
        "conflict", "person", "key_id", "role", "holder", "other_key_id", "other_role", "other_holder", "from", "until",
    ),
    make=_make_duties,
)  # fmt: skip
