"""What is tried: other terms for an offer, another model of attribution, or both, for some of its sales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec

from ledger.domain import money
from ledger.domain import plan as plans
from ledger.domain.errors import InvalidInput
from ledger.domain.event import in_utc
from ledger.domain.ids import check_slug
from ledger.domain.offer import OfferState, PublishTerms, Terms, check_plan

MODELS: tuple[str, ...] = get_args(plans.Model)
MEMBERS = ("hold_days", "window_days", "percent", "rate_bps", "amount", "currency", "plan")
TRIED_VERSION = 0  # versions that were published begin with 1
# so that it is never in force by its own date
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Trial:
    """terms: the body of a publication, canonical, None for those in force; model: of attribution, None for that of the
    terms; since (not before) and until (before) bound occurred_at, None for no bound."""

    offer_id: str
    terms: dict[str, Any] | None
    model: str | None
    since: datetime | None
    until: datetime | None
    _made: dict[int, Terms] = field(default_factory=dict, compare=False, repr=False)

    @property
    def terms_hash(self) -> str | None:
        """SHA-256 of the terms' canonical form, hex."""
        return None if self.terms is None else plans.hash_of(self.terms)

    def concerns(self, occurred_at: datetime) -> bool:
        """Whether a sale of this instant is decided by what is tried."""
        return (self.since is None or occurred_at >= self.since) and (self.until is None or occurred_at < self.until)

    def tried(self, in_force: Terms | None) -> Terms | None:
        """The terms for a sale whose terms were those."""
        if self.terms is not None:
            if TRIED_VERSION not in self._made:
                self._made[TRIED_VERSION] = _terms_of(self.terms, self.model)
            return self._made[TRIED_VERSION]
        if in_force is None or self.model is None:
            return in_force
        version = -in_force.version
        if version not in self._made:
            self._made[version] = remodelled(in_force, self.model, version)
        return self._made[version]


class TriedOffer(OfferState):
    """An offer, as it would be with what is tried."""

    trial: Trial | None = None

    def terms_at(self, instant: datetime) -> Terms | None:
        """What is tried, for the sales that it concerns; else the version in force."""
        found = OfferState.terms_at(self, instant)
        return self.trial.tried(found) if self.trial is not None and self.trial.concerns(instant) else found

    def version(self, number: int) -> Terms | None:
        """A version by its number: 0 for the terms that are tried, -n for version n under the model that is."""
        if number > 0 or self.trial is None:
            return OfferState.version(self, number)
        return self.trial.tried(None if number == TRIED_VERSION else OfferState.version(self, -number))


def tried_offer(state: OfferState, trial: Trial) -> TriedOffer:
    """An offer's state with a trial. Its terms name what is tried, too: retroactive tiers are found there."""
    terms = list(state.terms)
    if trial.terms is not None and (tried := trial.tried(None)) is not None:
        terms.append(tried)
    return TriedOffer(
        state.offer_id, state.offer_name, state.landing_url, terms, None, state.last_terms_version, trial
    )  # fmt: skip


def _terms_of(body: dict[str, Any], model: str | None) -> Terms:
    document = body.get("plan")
    terms = Terms(
        TRIED_VERSION,
        _NEVER,
        body["hold_days"],
        body["window_days"],
        body.get("rate_bps"),
        body.get("amount"),
        body.get("currency"),
        document,
        None if document is None else plans.hash_of(document),
    )
    return terms if model is None else remodelled(terms, model, TRIED_VERSION)


def remodelled(terms: Terms, model: str, version: int) -> Terms:
    """Terms with another model of attribution; simple ones become a plan of one rule."""
    if terms.document is not None:
        document = {**terms.document, "attribution": {**terms.document.get("attribution", {}), "model": model}}
    else:
        pay = {"rate_bps": terms.rate_bps} if terms.rate_bps is not None else {"amount": terms.amount}
        document = {"plan": 1, "rules": [{"id": "all", "pay": pay}], "attribution": {"model": model}}
        if terms.currency is not None:
            document["currency"] = terms.currency
    check_plan(document)
    return Terms(
        version, terms.effective_from, terms.hold_days, terms.window_days, None, None, None,
        document, plans.hash_of(document),
    )  # fmt: skip


def trial_of(
    offer_id: str, terms: Mapping[str, Any] | None, model: str | None, since: datetime | None, until: datetime | None
) -> Trial:
    """A trial, checked. terms: the body of POST /offers/{offer_id}/terms; its effective_from stands for `since` where
    that is not given. Raises InvalidInput."""
    check_slug("offer_id", offer_id)
    if terms is None and model is None:
        raise InvalidInput("terms", "are needed, or a model of attribution")
    if model is not None and model not in MODELS:
        raise InvalidInput("model", f"must be one of {', '.join(MODELS)}")
    body = None
    if terms is not None:
        body, starts = _checked(offer_id, terms)
        since = since or starts
    since = None if since is None else in_utc("from", since)
    until = None if until is None else in_utc("to", until)
    if since is not None and until is not None and since >= until:
        raise InvalidInput("to", "must be after from")
    trial = Trial(offer_id, body, model, since, until)
    trial.tried(None)  # a plan that does not go with the model is refused now
    return trial


def _checked(offer_id: str, terms: Mapping[str, Any]) -> tuple[dict[str, Any], datetime | None]:
    """(the body with the members that say something, its effective_from)."""
    given = {name: value for name, value in terms.items() if value is not None}
    if given.pop("offer_id", offer_id) != offer_id:
        raise InvalidInput("offer_id", f"must be {offer_id}, as said beside the terms")
    if unknown := sorted(set(given) - {*MEMBERS, "effective_from"}):
        raise InvalidInput(unknown[0], f"is no member of terms; there are {', '.join(MEMBERS)}")
    for name in ("hold_days", "window_days"):
        if name not in given:
            raise InvalidInput(name, "is required: days, from 0 to 3650")
    for name in ("hold_days", "window_days", "rate_bps", "amount"):
        if name in given and (not isinstance(given[name], int) or isinstance(given[name], bool)):
            raise InvalidInput(name, "must be a whole number")
    for name, kind, said in (("currency", str, "a currency such as GBP"), ("plan", dict, "a plan, as a JSON object")):
        if name in given and not isinstance(given[name], kind):
            raise InvalidInput(name, f"must be {said}")
    if (percent := given.pop("percent", None)) is not None:
        if "rate_bps" in given or not isinstance(percent, str):
            raise InvalidInput("percent", "must be text such as '2.9', and goes without rate_bps")
        given["rate_bps"] = money.rate_bps("percent", percent)
    starts = given.pop("effective_from", None)
    if isinstance(starts, str):
        try:
            starts = msgspec.convert(starts, datetime, strict=False)
        except msgspec.ValidationError:
            raise InvalidInput("effective_from", "must be an instant such as 2026-01-31T12:00:00Z") from None
    if starts is not None and not isinstance(starts, datetime):
        raise InvalidInput("effective_from", "must be an instant such as 2026-01-31T12:00:00Z")
    PublishTerms(offer_id=offer_id, **given)
    canonical: dict[str, Any] = msgspec.json.decode(plans.canonical(given))
    return canonical, None if starts is None else in_utc("effective_from", starts)
