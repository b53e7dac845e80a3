"""Tax as data: dated rules that finance maintains, what an affiliate is for tax, and what follows for an amount.

No rate stands in the code. Two people publish a version of the rules; the newest in force at an instant counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

from ledger.domain import affiliate, erasure, money
from ledger.domain.countries import COUNTRIES
from ledger.domain.errors import InvalidInput, NotFound, SamePerson, WrongState
from ledger.domain.event import Answer, Command, Decision, Event, in_utc
from ledger.domain.ids import check_slug, same_person
from ledger.domain.view import Needs, View

RULES_KEY = "tax_rules:program"
RULES_MAX = 1000
ANY = "*"


class TaxRule(Struct, frozen=True, gc=False):
    """What one kind of affiliate's payouts bear. country: ISO 3166 alpha-2 or '*'; tax_status: finance's own slug or
    '*'; vat_bps is added to the net amount, withholding_bps taken off it, both basis points; note: the legal basis."""

    country: str
    tax_status: str
    vat_bps: int
    withholding_bps: int
    note: str = ""


class TaxRulesProposed(Event, frozen=True):
    """A version waits for a second person. effective_from None: when it is published."""

    rules_version: int
    rules: list[TaxRule]
    proposed_by: str
    effective_from: datetime | None = None


class TaxRulesPublished(Event, frozen=True):
    """A second person approved it: payouts from effective_from on follow it, until a newer version takes over."""

    rules_version: int
    effective_from: datetime
    rules: list[TaxRule]


class TaxRulesRejected(Event, frozen=True):
    """A second person refused it."""

    rules_version: int


class TaxProfileRecorded(Event, frozen=True):
    """What an affiliate is for tax, as of now. tax_number is ciphertext."""

    affiliate_id: str
    profile_version: int
    country: str
    tax_status: str
    tax_number: str = ""


class RulesVersion(Struct, frozen=True):
    """A published version."""

    rules_version: int
    effective_from: datetime
    rules: list[TaxRule]


class TaxRulesState(Struct):
    """published in the order of publication; proposed waits for a second person; last_rules_version counts all."""

    published: list[RulesVersion] = []
    proposed: TaxRulesProposed | None = None
    last_rules_version: int = 0


class TaxProfileState(Struct):
    """The newest version of an affiliate's tax profile."""

    affiliate_id: str
    profile_version: int
    country: str
    tax_status: str
    tax_number: str


class Assessment(Struct, frozen=True):
    """Tax on a net amount, minor units. missing: '' or why nobody can say: no_tax_profile, no_tax_rule (then no
    payout may be made). rules_version 0 and rule None: no rules are in force, so no tax."""

    vat_amount: int = 0
    withholding_amount: int = 0
    rule: TaxRule | None = None
    rules_version: int = 0
    missing: str = ""


def profile_key(affiliate_id: str) -> str:
    """The stream key of an affiliate's tax profile."""
    return f"tax_profile:{affiliate_id}"


def tax_number_field(profile_version: int) -> str:
    """The field that a version's tax number is sealed for (subject: the affiliate)."""
    return f"tax_number.{profile_version}"


def tax_rules(view: View) -> TaxRulesState | None:
    """The program's tax rules, None if none were ever proposed."""
    state: TaxRulesState | None = view.state(RULES_KEY)
    return state


def tax_profile(view: View, affiliate_id: str) -> TaxProfileState | None:
    """An affiliate's tax profile, None if none was recorded."""
    state: TaxProfileState | None = view.state(profile_key(affiliate_id))
    return state


def rules_at(state: TaxRulesState | None, instant: datetime) -> RulesVersion | None:
    """The version in force: the latest effective_from not after instant; among equals the newest."""
    best: RulesVersion | None = None
    for one in state.published if state else ():
        if one.effective_from <= instant and (best is None or one.effective_from >= best.effective_from):
            best = one
    return best


def rule_for(rules: RulesVersion, country: str, tax_status: str) -> TaxRule | None:
    """The most specific rule that fits: country and status, country alone, status alone, neither."""
    by_case = {(rule.country, rule.tax_status): rule for rule in rules.rules}
    for case in ((country, tax_status), (country, ANY), (ANY, tax_status), (ANY, ANY)):
        if case in by_case:
            return by_case[case]
    return None


def assess(state: TaxRulesState | None, profile: TaxProfileState | None, amount: int, at: datetime) -> Assessment:
    """Tax on a net amount (minor units) paid at an instant. VAT and withholding each round half up once."""
    rules = rules_at(state, at)
    if rules is None:
        return Assessment()
    if profile is None:
        return Assessment(rules_version=rules.rules_version, missing="no_tax_profile")
    rule = rule_for(rules, profile.country, profile.tax_status)
    if rule is None:
        return Assessment(rules_version=rules.rules_version, missing="no_tax_rule")
    vat = money.percent_of(amount, rule.vat_bps)
    withholding = money.percent_of(amount, rule.withholding_bps)
    return Assessment(vat, withholding, rule, rules.rules_version)


def fold_rules(state: TaxRulesState | None, event: Event) -> TaxRulesState:
    """TaxRulesState after an event."""
    if state is None:
        state = TaxRulesState()
    match event:
        case TaxRulesProposed():
            state.proposed, state.last_rules_version = event, event.rules_version
        case TaxRulesPublished():
            state.proposed = None
            state.published.append(RulesVersion(event.rules_version, event.effective_from, event.rules))
        case TaxRulesRejected():
            state.proposed = None
        case _:
            raise AssertionError(event)
    return state


def fold_profile(state: TaxProfileState | None, event: Event) -> TaxProfileState:
    """TaxProfileState after an event."""
    assert isinstance(event, TaxProfileRecorded)
    return TaxProfileState(event.affiliate_id, event.profile_version, event.country, event.tax_status, event.tax_number)


class ProposeTaxRules(Command, frozen=True):
    """Propose a version of the program's tax rules, which replaces the one before as a whole. effective_from None:
    when it is published. One that reaches back only touches payouts that are still to be made."""

    name: ClassVar[str] = "propose_tax_rules"
    rules: list[TaxRule]
    effective_from: datetime | None = None

    def __post_init__(self) -> None:
        if len(self.rules) > RULES_MAX:
            raise InvalidInput("rules", f"must be at most {RULES_MAX}")
        seen: set[tuple[str, str]] = set()
        for number, rule in enumerate(self.rules):
            _check_rule(f"rules.{number}", rule)
            case = (rule.country, rule.tax_status)
            if case in seen:
                raise InvalidInput(f"rules.{number}", f"is a second rule for {rule.country} and {rule.tax_status}")
            seen.add(case)
        # in one order, so that the same rules in another order are the same version
        force_setattr(self, "rules", sorted(self.rules, key=lambda r: (r.country, r.tax_status)))
        if self.effective_from is not None:
            force_setattr(self, "effective_from", in_utc("effective_from", self.effective_from))

    def needs(self) -> Needs:
        """The rules."""
        return Needs([RULES_KEY])

    def decide(self, view: View) -> Decision:
        """TaxRulesProposed. Raises WrongState while another version waits."""
        state = tax_rules(view) or TaxRulesState()
        proposed = state.proposed
        if proposed is not None and (proposed.effective_from, proposed.rules) == (self.effective_from, self.rules):
            at = view.answered_at(RULES_KEY, TaxRulesProposed)
            return Decision([], Answer("unchanged", _body(proposed.rules_version, "proposed"), at))
        standing = self._standing(state, view.now)
        if proposed is None and standing is not None and standing.rules == self.rules:
            at = view.answered_at(RULES_KEY, TaxRulesPublished)
            return Decision([], Answer("unchanged", _body(standing.rules_version, "published"), at))
        if proposed is not None:
            raise WrongState(f"version {proposed.rules_version} of the tax rules waits for a second person's decision")
        version = state.last_rules_version + 1
        event = TaxRulesProposed(
            rules_version=version, rules=self.rules, proposed_by=view.actor, effective_from=self.effective_from
        )
        return Decision([(RULES_KEY, event)], Answer("recorded", _body(version, "proposed")))

    def _standing(self, state: TaxRulesState, now: datetime) -> RulesVersion | None:
        """The published version that this one would stand in for: of the same start, or from now on."""
        if self.effective_from is None:
            to_come = any(one.effective_from > now for one in state.published)
            return None if to_come else rules_at(state, now)
        starts_then = [one for one in state.published if one.effective_from == self.effective_from]
        return starts_then[-1] if starts_then else None


def _check_rule(field: str, rule: TaxRule) -> None:
    if rule.country != ANY and rule.country not in COUNTRIES:
        raise InvalidInput(f"{field}.country", "must be an ISO 3166 code of two letters such as DE, or *")
    if rule.tax_status != ANY:
        check_slug(f"{field}.tax_status", rule.tax_status)
    for name in ("vat_bps", "withholding_bps"):
        if not 0 <= getattr(rule, name) <= money.BPS:
            raise InvalidInput(f"{field}.{name}", "must be from 0 to 10000 basis points (1900 is 19 %)")
    if len(rule.note) > 500 or not (rule.note or "x").isprintable():
        raise InvalidInput(f"{field}.note", "must be at most 500 printable characters")


def _body(version: int, status: str) -> dict[str, object]:
    return {"rules_version": version, "status": status}


class DecideTaxRules(Command, frozen=True):
    """A second person publishes or rejects a version of the tax rules."""

    name: ClassVar[str] = "decide_tax_rules"
    rules_version: int
    approve: bool

    def needs(self) -> Needs:
        """The rules."""
        return Needs([RULES_KEY])

    def decide(self, view: View) -> Decision:
        """TaxRulesPublished or TaxRulesRejected. Raises NotFound, WrongState, SamePerson."""
        state = tax_rules(view)
        if state is None or not 1 <= self.rules_version <= state.last_rules_version:
            raise NotFound(f"there is no version {self.rules_version} of the tax rules")
        body = _body(self.rules_version, "published" if self.approve else "rejected")
        proposed = state.proposed
        if proposed is None or proposed.rules_version != self.rules_version:
            if any(one.rules_version == self.rules_version for one in state.published) != self.approve:
                raise WrongState(f"version {self.rules_version} of the tax rules was decided otherwise")
            at = view.answered_at(RULES_KEY, TaxRulesPublished, TaxRulesRejected)
            return Decision([], Answer("unchanged", body, at))
        if same_person(proposed.proposed_by, view.actor):
            raise SamePerson()
        event: Event
        if self.approve:
            event = TaxRulesPublished(
                rules_version=self.rules_version,
                effective_from=proposed.effective_from or view.now,
                rules=proposed.rules,
            )
        else:
            event = TaxRulesRejected(rules_version=self.rules_version)
        return Decision([(RULES_KEY, event)], Answer("recorded", body))


class RecordTaxProfile(Command, frozen=True):
    """Say what an affiliate is for tax. country: where it is established or resident; tax_status: a slug that the
    rules know, such as business; tax_number: VAT id or TIN, stored as ciphertext."""

    name: ClassVar[str] = "record_tax_profile"
    affiliate_id: str
    country: str
    tax_status: str
    tax_number: str = ""

    def __post_init__(self) -> None:
        check_slug("affiliate_id", self.affiliate_id)
        if self.country not in COUNTRIES:
            raise InvalidInput("country", "must be an ISO 3166 code of two letters such as DE")
        check_slug("tax_status", self.tax_status)
        force_setattr(self, "tax_number", self.tax_number.strip())
        if len(self.tax_number) > 64 or not (self.tax_number or "x").isprintable():
            raise InvalidInput("tax_number", "must be at most 64 printable characters")

    def needs(self) -> Needs:
        """The profile and its affiliate."""
        whose = [affiliate.key(self.affiliate_id), erasure.affiliate_key(self.affiliate_id)]
        return Needs([profile_key(self.affiliate_id), *whose])

    def decide(self, view: View) -> Decision:
        """TaxProfileRecorded, unless nothing changes. Raises NotFound, WrongState for an affiliate that was erased."""
        if view.affiliate(self.affiliate_id) is None:
            raise NotFound(f"affiliate {self.affiliate_id} does not exist")
        erasure.refuse_erased(view, self.affiliate_id)
        stream, subject = profile_key(self.affiliate_id), affiliate.key(self.affiliate_id)
        was = tax_profile(view, self.affiliate_id)
        version = was.profile_version if was else 0
        if was is not None and (was.country, was.tax_status) == (self.country, self.tax_status):
            kept = view.unseal(subject, stream, tax_number_field(version), was.tax_number)
            if kept is None or kept == self.tax_number:
                at = view.answered_at(stream, TaxProfileRecorded)
                return Decision([], Answer("unchanged", self._body(version), at))
        version += 1
        event = TaxProfileRecorded(
            affiliate_id=self.affiliate_id,
            profile_version=version,
            country=self.country,
            tax_status=self.tax_status,
            tax_number=view.seal(subject, stream, tax_number_field(version), self.tax_number),
        )
        return Decision([(stream, event)], Answer("recorded", self._body(version)))

    def _body(self, version: int) -> dict[str, object]:
        return {
            "affiliate_id": self.affiliate_id,
            "profile_version": version,
            "country": self.country,
            "tax_status": self.tax_status,
        }
