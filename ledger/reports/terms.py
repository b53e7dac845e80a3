"""What changed of the rules by which money is earned and paid, who changed it, and who the second person was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgspec

from ledger.domain import program
from ledger.domain.event import Event
from ledger.domain.ids import stream_id
from ledger.domain.offer import OfferPublished, TermsProposed, TermsPublished, TermsRejected
from ledger.domain.paying_account import PayingAccountSet
from ledger.domain.payout_method import (
    PayoutMethodApproved,
    PayoutMethodProposed,
    PayoutMethodRejected,
    PayoutMethodWithdrawn,
)
from ledger.domain.program import ProgramOpened
from ledger.domain.tax import TaxRulesProposed, TaxRulesPublished, TaxRulesRejected
from ledger.projections import decisions
from ledger.projections.decisions import Trail
from ledger.reports.report import QUERIES, Made, Report, Scope
from ledger.store import codec

KINDS = ["offer", "tax_rules", "paying_account", "payout_method"]
# Ciphertext and fingerprints say nothing to a reader, the rest is said in columns of its own.
_LEFT_OUT = frozenset({"details", "proposed_by", "offer_id", "affiliate_id", "currency"})


def _method(e: Any) -> str:
    return f"{e.affiliate_id}/{e.currency} version {e.method_version}"


# event → (what changed, which record)
_WHAT: dict[type[Event], tuple[str, Callable[[Any], str]]] = {
    ProgramOpened: ("settings", lambda e: e.program),
    OfferPublished: ("offer", lambda e: e.offer_id),
    TermsPublished: ("terms", lambda e: f"{e.offer_id} version {e.terms_version}"),
    TermsProposed: ("terms", lambda e: f"{e.terms.offer_id} version {e.terms.terms_version}"),
    TermsRejected: ("terms", lambda e: f"{e.offer_id} version {e.terms_version}"),
    TaxRulesProposed: ("tax rules", lambda e: f"version {e.rules_version}"),
    TaxRulesPublished: ("tax rules", lambda e: f"version {e.rules_version}"),
    TaxRulesRejected: ("tax rules", lambda e: f"version {e.rules_version}"),
    PayingAccountSet: ("paying account", lambda e: f"{e.currency} version {e.account_version}"),
    PayoutMethodProposed: ("payout method", _method),
    PayoutMethodApproved: ("payout method", _method),
    PayoutMethodRejected: ("payout method", _method),
    PayoutMethodWithdrawn: ("payout method", _method),
}
_PROPOSED = (TermsProposed, TaxRulesProposed, PayoutMethodProposed)
# In force by one person's word: these must name two.
_IN_FORCE = (TaxRulesPublished, PayoutMethodApproved)


def _make(scope: Scope) -> Made:
    after, until = scope.positions()
    trails = _trails(scope)
    params = {"program_id": scope.program_id, "kinds": KINDS, "after": after, "until": until}
    scope.cur.execute(QUERIES["select_records"], params)
    found = scope.cur.fetchall()
    opening = params | {"stream": stream_id(scope.program_id, program.key(scope.program))}
    found += scope.cur.execute(QUERIES["select_opening"], opening).fetchall()
    rows = [_row(one, trails) for one in sorted(found)]
    counts = Counter(str(row["topic"]) for row in rows)
    alone = sum(bool(row["alone"]) for row in rows)
    return Made(rows, {"changes": len(rows), **dict(sorted(counts.items()))}, alone)


def _trails(scope: Scope) -> dict[int, Trail]:
    """What was decided, by the positions of proposal and of decision."""
    found: dict[int, Trail] = {}
    after = 0
    while some := decisions.page(scope.cur, scope.program_id, after):
        found |= {one.proposed_position: one for one in some} | {one.position: one for one in some}
        after = some[-1].position
    return found


def _row(found: tuple[Any, ...], trails: dict[int, Trail]) -> dict[str, Any]:
    position, recorded_at, topic, state, actor, key_id, request_id = found
    body = codec.decode_state(topic, state)
    what, which = _WHAT.get(type(body), (topic, lambda _: ""))
    trail = trails.get(position)
    proposed = isinstance(body, _PROPOSED)
    second = (trail.decided_by if proposed else trail.proposed_by) if trail else None
    said: Any = body.terms if isinstance(body, TermsProposed) else body
    # also what the event leaves out because it is the default
    fields = {name: getattr(said, name) for name in said.__struct_fields__ if name not in _LEFT_OUT}
    return {
        "position": position,
        "recorded_at": recorded_at.astimezone(UTC),
        "what": what,
        "which": which(body),
        "topic": topic,
        "by": actor,
        "second_person": second or "",
        "second_person_did": "" if not second else (trail.decision if proposed and trail else "proposed"),
        "alone": isinstance(body, _IN_FORCE) and (not second or bool(trail and trail.same_person)),
        "says": msgspec.json.encode(fields).decode(),
        "key_id": key_id,
        "request_id": request_id,
    }


REPORT = Report(
    name="terms",
    rule=(
        "Every change of offers, terms, tax rules, paying accounts, payout methods and the program's own settings, from"
        " the events in the order of the log: who did it and who the second person was, where two are needed. Terms for"
        " the future and offers need one; alone is true where tax rules or a payout method came into force by one."
    ),
    takes=("period", "from", "until"),
    columns=(
        "position", "recorded_at", "what", "which", "topic", "by", "second_person", "second_person_did", "alone",
        "says", "key_id", "request_id",
    ),
    make=_make,
)  # fmt: skip
