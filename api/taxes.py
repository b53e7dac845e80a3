"""Tax as data: what each affiliate is for tax, and the dated rules that two people publish."""

from __future__ import annotations

from typing import Any

from flask import Response

from api import answers, documents, schemas, schemas_payouts
from api.access import AFFILIATE
from api.auth import Caller, operation
from api.blueprint import Blueprint
from api.errors import NO_SUCH_RECORD, Problem
from ledger import reads
from ledger.domain import affiliate, tax
from ledger.domain.tax import DecideTaxRules, ProposeTaxRules, RecordTaxProfile, TaxProfileState, TaxRule, TaxRulesState
from ledger.projections import decisions

blueprint = Blueprint("taxes", __name__, description="Tax profiles and rules.")


@blueprint.route("/affiliates/<slug:affiliate_id>/tax-profile", methods=["PUT"])
@operation("putTaxProfile", {201: documents.TaxProfileAnswer, 200: documents.TaxProfileAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.TaxProfileBody)
def put_tax_profile(caller: Caller, body: dict[str, Any], affiliate_id: str) -> Response:
    """Say what an affiliate is for tax; payouts proposed from now on follow it."""
    return answers.written(caller.execute(RecordTaxProfile(affiliate_id=affiliate_id, **body)))


@blueprint.route("/affiliates/<slug:affiliate_id>/tax-profile", methods=["GET"])
@operation("getTaxProfile", {200: documents.TaxProfileDocument})
@blueprint.arguments(schemas.Nothing, location="query")
def get_tax_profile(caller: Caller, _: dict[str, Any], affiliate_id: str) -> Response:
    """What an affiliate is for tax; its tax number in full for itself, masked for staff."""
    stream = tax.profile_key(affiliate_id)
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(stream)
        if found is None:
            raise Problem(404, NO_SUCH_RECORD)
        state: TaxProfileState = found.state
        field = tax.tax_number_field(state.profile_version)
        number = look.unseal(affiliate.key(affiliate_id), stream, field, state.tax_number)
    fields = ("affiliate_id", "profile_version", "country", "tax_status")
    shown = number if caller.role == AFFILIATE or not number else _masked(number)
    document = {field: getattr(state, field) for field in fields} | {"tax_number": shown}
    return answers.read(document | {"position": found.position})


def _masked(number: str) -> str:
    """The last two characters of a number that is long enough to keep its secret."""
    return f"•••• {number[-2:]}" if len(number) >= 6 else "••••"


@blueprint.route("/tax-rules", methods=["POST"])
@operation("proposeTaxRules", {201: documents.TaxRulesAnswer, 200: documents.TaxRulesAnswer}, writes=True)
@blueprint.arguments(schemas_payouts.TaxRulesBody)
def propose_tax_rules(caller: Caller, body: dict[str, Any]) -> Response:
    """Propose the tax rules as a whole; a second person publishes them."""
    rules = [TaxRule(**rule) for rule in body["rules"]]
    return answers.written(caller.execute(ProposeTaxRules(rules=rules, effective_from=body["effective_from"])))


@blueprint.route("/tax-rules", methods=["GET"])
@operation("getTaxRules", {200: documents.TaxRulesDocument})
@blueprint.arguments(schemas.Nothing, location="query")
def get_tax_rules(caller: Caller, _: dict[str, Any]) -> Response:
    """Every published version of the tax rules, and one that waits for a second person."""
    with reads.reading(caller.ledger, caller.program) as look:
        found = look.record(tax.RULES_KEY)
        trails = decisions.of_records(look.cur, look.program_id, [tax.RULES_KEY])[tax.RULES_KEY]
    if found is None:
        return answers.read({"versions": [], "position": 0})
    state: TaxRulesState = found.state
    in_force = tax.rules_at(state, caller.ledger.clock())
    versions: list[dict[str, Any]] = [
        {
            "rules_version": one.rules_version,
            "status": "in_force" if one is in_force else "published",
            "effective_from": one.effective_from,
            "rules": one.rules,
        }
        for one in state.published
    ]
    if (proposed := state.proposed) is not None:
        fields = ("rules_version", "effective_from", "rules")
        versions.append({field: getattr(proposed, field) for field in fields} | {"status": "proposed"})
    versions = [one | decisions.who(trails, one["rules_version"]) for one in versions]
    return answers.read({"versions": versions, "position": found.position})


def _decides(decision: str) -> Any:
    @operation(f"{decision}TaxRules", {200: documents.TaxRulesAnswer}, writes=True)
    @blueprint.arguments(schemas.Nothing, required=False)
    def decide(caller: Caller, _: dict[str, Any], rules_version: int) -> Response:
        command = DecideTaxRules(rules_version=rules_version, approve=decision == "approve")
        return answers.written(caller.execute(command), creates=False)

    return decide


blueprint.decisions(
    "/tax-rules/<version:rules_version>",
    "tax_rules",
    _decides,
    {"approve": "A second person publishes proposed tax rules.", "reject": "A second person refuses them."},
)
