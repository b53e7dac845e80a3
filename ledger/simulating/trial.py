"""What is tried: other terms for an offer, another model of attribution, or both, for some of its sales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec

from ledger.domain import money
from ledger.domain.errors import InvalidInput
from ledger.domain.event import in_utc
from ledger.domain.ids import check_slug
from ledger.domain.offer import OfferState, PublishTerms, Terms, check_plan
from ledger.domain.plans import plan as plans
from ledger.domain.plans import plan_check
from ledger.domain.plans.plan_shape import Mistake, inside

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

    def decides(self, occurred_at: datetime) -> bool:
        """Whether it does, and there is something that is tried."""
        return (self.terms is not None or self.model is not None) and self.concerns(occurred_at)

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
        document = {**terms.document, "attribution": _attribution(terms.document.get("attribution", {}), model)}
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


def _attribution(said: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Of the options of another model those that this one reads, too: a plan with any others is none."""
    falls_back = model in plan_check.WITH_OTHERWISE
    used = said.get("otherwise", "last_click") if falls_back else model
    kept = {name: value for name, value in said.items() if plan_check.READ_BY.get(name, used) == used}
    if not falls_back:
        kept.pop("otherwise", None)
    return {**kept, "model": model}


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


def mistakes(offer_id: str, terms: Mapping[str, Any]) -> list[Mistake]:
    """Everything that is wrong with terms to try, by pointers into them; none: they may be tried."""
    given = {name: value for name, value in terms.items() if value is not None}
    unknown = sorted(set(given) - {*MEMBERS, "offer_id", "effective_from"})
    detail = f"is no member of terms; there are {', '.join(MEMBERS)}"
    found = [Mistake(inside("", name), detail) for name in unknown]
    if given.get("offer_id", offer_id) != offer_id:
        found.append(Mistake("/offer_id", f"must be {offer_id}, as said beside the terms"))
    missing = [name for name in ("hold_days", "window_days") if name not in given]
    found += [Mistake(f"/{name}", "is required: days, from 0 to 3650") for name in missing]
    for name in ("hold_days", "window_days", "rate_bps", "amount"):
        if name in given and (not isinstance(given[name], int) or isinstance(given[name], bool)):
            found.append(Mistake(f"/{name}", "must be a whole number"))
        elif name.endswith("_days") and name in given and not 0 <= given[name] <= 3650:
            found.append(Mistake(f"/{name}", "must be from 0 to 3650 days"))
    for name, kind, said in (("currency", str, "a currency such as GBP"), ("plan", dict, "a plan, as a JSON object")):
        if name in given and not isinstance(given[name], kind):
            found.append(Mistake(f"/{name}", f"must be {said}"))
    try:
        _starts(given)
        if not {"/rate_bps", "/amount", "/currency", "/plan"} & {one.pointer for one in found}:
            prices: dict[str, Any] = {
                name: given[name] for name in ("rate_bps", "amount", "currency", "plan") if name in given
            }
            PublishTerms(offer_id=offer_id, hold_days=0, window_days=0, **(prices | _percent(given)))
    except InvalidInput as wrong:
        if not wrong.field.startswith("plan"):
            found.append(Mistake(f"/{wrong.field}", wrong.message.removeprefix(f"{wrong.field}: ")))
    if isinstance(given.get("plan"), dict):
        found += [Mistake(f"/plan{one.pointer}", one.message) for one in plan_check.mistakes(given["plan"])]
    return found


def _percent(given: Mapping[str, Any]) -> dict[str, int]:
    """A percentage as the rate that it is. Raises InvalidInput."""
    percent = given.get("percent")
    if percent is None:
        return {}
    if "rate_bps" in given or not isinstance(percent, str):
        raise InvalidInput("percent", "must be text such as '2.9', and goes without rate_bps")
    return {"rate_bps": money.rate_bps("percent", percent)}


def _starts(given: Mapping[str, Any]) -> datetime | None:
    """The terms' effective_from. Raises InvalidInput."""
    starts = given.get("effective_from")
    if isinstance(starts, str):
        try:
            starts = msgspec.convert(starts, datetime, strict=False)
        except msgspec.ValidationError:
            starts = ""
    if starts is not None and not isinstance(starts, datetime):
        raise InvalidInput("effective_from", "must be an instant such as 2026-01-31T12:00:00Z")
    return None if starts is None else in_utc("effective_from", starts)


def _checked(offer_id: str, terms: Mapping[str, Any]) -> tuple[dict[str, Any], datetime | None]:
    """(the body with the members that say something, its effective_from). Raises InvalidInput at the first mistake,
    with all of them as `of_terms`."""
    if found := mistakes(offer_id, terms):
        more = f" (and {len(found) - 1} more mistakes)" if len(found) > 1 else ""
        raise InvalidInput(
            found[0].pointer.removeprefix("/"),
            f"{found[0].message}{more}",
            of_terms=[{"pointer": one.pointer, "detail": one.message} for one in found],
        )
    given = {name: terms[name] for name in MEMBERS if terms.get(name) is not None}
    rate = _percent(given)
    given.pop("percent", None)
    canonical: dict[str, Any] = msgspec.json.decode(plans.canonical({**given, **rate}))
    return canonical, _starts(terms)
