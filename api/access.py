"""Who may do what: the one table of role × operation that is enforced, documented and tested."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.domain.access import ROLES

ADMIN, INGEST, MAKER, CHECKER, AUDITOR, AFFILIATE = ROLES

_STAFF = (ADMIN, MAKER, CHECKER, AUDITOR)
# operation id → the roles that may; 'affiliate' means, but for OF_THE_PROGRAM: of its own affiliate only.
ACCESS: Final[dict[str, tuple[str, ...]]] = {
    # affiliates
    "enrolAffiliate": (ADMIN,),
    "listAffiliates": _STAFF,
    "getAffiliate": (*_STAFF, AFFILIATE),
    "approveAffiliate": (ADMIN,),
    "suspendAffiliate": (ADMIN,),
    "reinstateAffiliate": (ADMIN,),
    "closeAffiliate": (ADMIN,),
    "putAffiliateGroup": (ADMIN,),
    "putAffiliateRecruiter": (ADMIN,),
    "listGoals": (*_STAFF, AFFILIATE),
    "listAllGoals": _STAFF,
    "getBalance": (*_STAFF, AFFILIATE),
    "listEntries": (*_STAFF, AFFILIATE),
    "getCreditedConversion": (*_STAFF, AFFILIATE),
    "explainCreditedConversion": (*_STAFF, AFFILIATE),
    "getAffiliateTimeline": (*_STAFF, AFFILIATE),
    # offers, terms, coupons
    "putOffer": (ADMIN,),
    "listOffers": _STAFF,
    "getOffer": _STAFF,
    "publishTerms": (ADMIN,),
    "checkPlan": _STAFF,
    "approveTerms": (CHECKER,),
    "rejectTerms": (CHECKER,),
    "putCoupon": (ADMIN,),
    "listCoupons": _STAFF,
    "getCoupon": _STAFF,
    # exchange rates
    # not the maker, who retries what lacked a rate and approves what came of it: that would be all in one hand
    "recordRates": (INGEST, CHECKER),
    "listRates": (*_STAFF, INGEST),
    # what the merchant's systems send
    "recordClicks": (INGEST,),
    "recordImpressions": (INGEST,),
    "recordConversions": (INGEST,),
    "recordReversal": (INGEST,),
    "getConversion": (*_STAFF, INGEST),
    "explainConversion": (*_STAFF, INGEST),
    "getConversionTimeline": _STAFF,
    # decisions about money
    "holdConversion": (MAKER,),
    "releaseConversion": (MAKER,),
    "approveConversion": (MAKER,),
    "rejectConversion": (MAKER,),
    "proposeAdjustment": (MAKER,),
    "listAdjustments": _STAFF,
    "getAdjustment": _STAFF,
    "approveAdjustment": (CHECKER,),
    "rejectAdjustment": (CHECKER,),
    "getTrialBalance": _STAFF,
    "listExceptions": _STAFF,
    "getException": _STAFF,
    "resolveException": (MAKER,),
    # differences and disputes
    "listBreaks": _STAFF,
    "getBreak": _STAFF,
    "assignBreak": (MAKER, CHECKER),
    "resolveBreak": (MAKER, CHECKER),
    "openDispute": (AFFILIATE,),
    "listOwnDisputes": (*_STAFF, AFFILIATE),
    "withdrawDispute": (AFFILIATE,),
    "listDisputes": _STAFF,
    "getDispute": _STAFF,
    "answerDispute": (MAKER,),
    "acceptDispute": (MAKER,),
    "rejectDispute": (MAKER,),
    # where and from where affiliates are paid
    "proposePayoutMethod": (MAKER, AFFILIATE),
    "listPayoutMethods": (*_STAFF, AFFILIATE),
    "approvePayoutMethod": (CHECKER,),
    "rejectPayoutMethod": (CHECKER,),
    "withdrawPayoutMethod": (MAKER, AFFILIATE),
    "setPayingAccount": (ADMIN,),
    "listPayingAccounts": _STAFF,
    # payout runs and payouts
    "proposePayoutRun": (MAKER,),
    "listPayoutRuns": _STAFF,
    "getPayoutRun": _STAFF,
    "listRunPayouts": _STAFF,
    "listLeftOut": _STAFF,
    "approvePayoutRun": (CHECKER,),
    "rejectPayoutRun": (CHECKER,),
    "initiatePayoutRun": (MAKER, CHECKER),
    "renderPayoutRun": (MAKER, CHECKER),
    "getPayoutFile": (MAKER, CHECKER),
    "getRunReconciliation": _STAFF,
    "listPayouts": _STAFF,
    "getPayout": _STAFF,
    "getPayoutTimeline": _STAFF,
    "listAffiliatePayouts": (*_STAFF, AFFILIATE),
    "settlePayout": (MAKER,),
    "failPayout": (MAKER,),
    "returnPayout": (MAKER,),
    "markPayoutUnknown": (MAKER,),
    "excludePayout": (MAKER, CHECKER),
    "importBankStatement": (MAKER,),
    "listBankStatements": _STAFF,
    "getReceivables": _STAFF,
    "getRestore": _STAFF,
    "confirmBankMatch": (CHECKER,),
    # taxes and notices
    "putTaxProfile": (MAKER,),
    "getTaxProfile": (*_STAFF, AFFILIATE),
    "proposeTaxRules": (MAKER,),
    "getTaxRules": _STAFF,
    "approveTaxRules": (CHECKER,),
    "rejectTaxRules": (CHECKER,),
    "listNotices": (*_STAFF, AFFILIATE),
    # personal data
    "proposeErasure": (ADMIN, MAKER),
    "listErasures": _STAFF,
    "getErasure": _STAFF,
    "approveErasure": (ADMIN, CHECKER),
    "rejectErasure": (ADMIN, CHECKER),
    # periods and statements
    "requestSimulation": (MAKER,),
    "listSimulations": _STAFF,
    "getSimulation": _STAFF,
    "proposeSimulation": (MAKER,),
    "approveSimulation": (CHECKER,),
    "rejectSimulation": (CHECKER,),
    "applySimulation": (MAKER,),
    "closePeriod": (MAKER,),
    "reissuePeriod": (MAKER,),
    "listPeriods": _STAFF,
    "getPeriod": _STAFF,
    "listStatements": (*_STAFF, AFFILIATE),
    "getStatement": (*_STAFF, AFFILIATE),
    "compareStatements": (*_STAFF, AFFILIATE),
    "getStatementProof": (*_STAFF, AFFILIATE),
    "getTaxYear": (MAKER, CHECKER, AUDITOR),
    "listInvoices": (MAKER, CHECKER, AUDITOR),
    # the sealed logs
    "getCheckpoint": ROLES,
    "getCheckpointOfSize": ROLES,
    "listVerifierKeys": ROLES,
    "getInclusionProof": ROLES,
    "getConsistencyProof": ROLES,
    "getTile": (*_STAFF, INGEST),
    "getEntryBundle": (AUDITOR,),
    # the log and the keys
    "listEvents": (AUDITOR,),
    "listDecisions": (ADMIN, CHECKER, AUDITOR),
    "listJobRuns": _STAFF,
    "listReports": _STAFF,
    "getReport": _STAFF,
    "issueKey": (ADMIN,),
    "listKeys": (ADMIN, AUDITOR),
    "rotateKey": (ADMIN, INGEST, MAKER, CHECKER, AUDITOR),
    "revokeKey": (ADMIN,),
}
# What an affiliate may ask although it is about the whole program: it says nothing of any affiliate. Of these,
# getInclusionProof itself answers only for positions of the affiliate's own entries.
OF_THE_PROGRAM: Final = frozenset(
    ("getCheckpoint", "getCheckpointOfSize", "listVerifierKeys", "getInclusionProof", "getConsistencyProof")
)
# Without a key: a link that visitors follow, and postbacks, which are signed instead.
PUBLIC: Final[tuple[str, ...]] = ("followTrackingLink", "recordPostback", "recordPostbackByPost")


def may(role: str, operation_id: str) -> bool:
    """Whether a role may do an operation (an affiliate: with its own affiliate's records)."""
    return role in ACCESS[operation_id]


def as_markdown() -> str:
    """The table as docs/access.md holds it."""
    lines = [
        "# Who may do what",
        "",
        "An access key has one role. This table is what the API enforces (`api/access.py`) and what",
        "`tests/test_api_access.py` tries, cell by cell. Whatever is not marked answers 403.",
        "",
        "| operation | " + " | ".join(ROLES) + " |",
        "|---|" + ":-:|" * len(ROLES),
    ]
    for operation_id, roles in ACCESS.items():
        cells = [_cell(role, roles, operation_id) for role in ROLES]
        lines.append(f"| `{operation_id}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        "own: a key of this role is bound to one affiliate. Any other affiliate's record answers exactly as one that",
        "does not exist: 404.",
        "",
        "Personal fields of an affiliate (name, e-mail, note) are shown to `admin` and to the affiliate itself, its",
        "tax number in full to the affiliate itself. Bank details are shown masked to everybody; only a rendered",
        "payout file has them in full.",
        "",
        "Two people: whoever proposed an adjustment, terms that reach back, a payout method, a payout run, tax rules,",
        "a simulation or an erasure cannot also decide it, whatever their role (403); nobody issues a key to",
        "themselves, and only its holder rotates a key (403). Names that differ only in case or in `.`, `_` and `-`",
        "are one person. Whoever issues keys to others must be trusted not to use them: every key's issuer stands in",
        "the log and in `listKeys`, for auditors to compare.",
        "",
        "Without a key: " + ", ".join(f"`{name}`" for name in PUBLIC) + " (tracking links are",
        "limited in rate, postbacks are signed), `/` (which leads to `/docs`), `/healthz`, `/readyz`, `/docs`,",
        "`/openapi.json` and `/plan-schema`. `/metrics` asks for the operator's token or a client on the same host",
        "([operators.md](operators.md#health-and-figures)).",
    ]
    return "\n".join(lines) + "\n"


def _cell(role: str, roles: tuple[str, ...], operation_id: str) -> str:
    if role not in roles:
        return ""
    own = operation_id not in OF_THE_PROGRAM or operation_id == "getInclusionProof"
    return "own" if role == AFFILIATE and own else "✓"


if __name__ == "__main__":
    Path("docs/access.md").write_text(as_markdown())
