"""The versions of an offer's terms: what each says, since when, and who brought it about."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from ledger import plan_words
from ledger.domain import offer
from ledger.domain.event import fold_all
from ledger.domain.offer import OfferState, Terms, TermsProposed, TermsPublished, TermsRejected, terms_of
from ledger.domain.plans import plan as plans
from ledger.domain.plans.plan_shape import inside
from ledger.reads import Look

_CONTENT = ("effective_from", "hold_days", "window_days", "rate_bps", "amount", "currency")


class Version(Struct):
    """status: waiting, to_come, in_force, superseded, or rejected. published_by: whose word brought it into force;
    proposed_by, decided_by: of one that takes two people."""

    terms: Terms
    status: str = "waiting"
    effective_until: datetime | None = None
    published_by: str | None = None
    published_at: datetime | None = None
    proposed_by: str | None = None
    proposed_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None

    def document(self) -> dict[str, Any]:
        """What the version says: the members of its terms that are given."""
        said = {name: getattr(self.terms, name) for name in _CONTENT}
        return {name: one for name, one in (said | {"plan": self.terms.document}).items() if one is not None}

    def words(self) -> list[str]:
        """What it pays."""
        terms = self.terms
        if terms.document is None:
            return plan_words.simple(terms.rate_bps, terms.amount, terms.currency)
        return plan_words.sentences(plans.read(terms.document).plan)


def versions(look: Look, offer_id: str, now: datetime) -> list[Version] | None:
    """Every version, oldest first, also those that were rejected; None when there is no such offer."""
    events = look.events([offer.key(offer_id)])
    state: OfferState | None = fold_all(offer.fold, [one.body for one in events])
    if state is None:
        return None
    found: dict[int, Version] = {}
    for event in events:
        body, by, at = event.body, event.actor, event.recorded_at
        if isinstance(body, TermsProposed):
            terms = terms_of(body.terms)
            found[terms.version] = Version(terms, proposed_by=body.proposed_by, proposed_at=at)
        elif isinstance(body, TermsPublished):
            one = found.setdefault(body.terms_version, Version(terms_of(body)))
            one.published_by, one.published_at = by, at
            one.status = state.status_at(body.terms_version, now)
            one.effective_until = state.ends_at(body.terms_version)
            if one.proposed_by is not None:
                one.decided_by, one.decided_at = by, at
        elif isinstance(body, TermsRejected):
            one = found[body.terms_version]
            one.status, one.decided_by, one.decided_at = "rejected", by, at
    return list(found.values())


class Difference(Struct):
    """pointer: into the document of a version; before, after: null where there is nothing."""

    pointer: str
    before: Any
    after: Any


def differences(before: Any, after: Any, pointer: str = "") -> list[Difference]:
    """Where two documents differ. Items of a list that all have ids are held against those of the same id, by which
    the pointer then names them: one more rule does not change those behind it."""
    if isinstance(before, dict) and isinstance(after, dict):
        pairs = [(name, before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])]
        return _of_pairs(pairs, pointer)
    if not (isinstance(before, list) and isinstance(after, list)):
        same = type(before) is type(after) and before == after
        return [] if same else [Difference(pointer, before, after)]
    every = [*before, *after]
    if every and all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in every):
        was, is_ = ({one["id"]: one for one in some} for some in (before, after))
        found = [] if list(was) == list(is_) else [Difference(pointer, list(was), list(is_))]
        return found + _of_pairs([(name, was.get(name), is_.get(name)) for name in was | is_], pointer)
    if all(isinstance(one, str) for one in every):
        return [] if before == after else [Difference(pointer, before, after)]
    longest = max(len(before), len(after))
    padded = [[*some, *[None] * (longest - len(some))] for some in (before, after)]
    return _of_pairs([(str(n), one, other) for n, (one, other) in enumerate(zip(*padded, strict=True))], pointer)


def _of_pairs(pairs: list[tuple[str, Any, Any]], pointer: str) -> list[Difference]:
    return [one for name, was, is_ in pairs for one in differences(was, is_, inside(pointer, name))]
