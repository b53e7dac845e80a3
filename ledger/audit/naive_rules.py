"""A second opinion on payouts, invoices and pairs of people: the rules written down once more, on purpose naively, from
topics and JSON alone.

Each class reads events in order and reports what cannot be.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from ledger.audit.findings import Findings

State = dict[str, Any]
BOOKS = "books"


# --- payouts and invoices --------------------------------------------------------------------------------

# topic → the statuses it may follow ("" is: no payout yet), and the one it leads to
LIFE = {
    "PayoutProposed": (("",), "proposed"),
    "PayoutExcluded": (("proposed",), "excluded"),
    "PayoutInitiated": (("proposed",), "initiated"),
    "PayoutUnknown": (("initiated",), "unknown"),
    "PayoutSettled": (("initiated", "unknown", "failed"), "settled"),
    "PayoutFailed": (("initiated", "unknown"), "failed"),
    "PayoutReturned": (("settled",), "returned"),
}
ALIVE = ("initiated", "unknown", "settled")
_AMOUNTS = ("amount", "vat_amount", "withholding_amount")


class Payout(NamedTuple):
    """Where a payout stands, and its amounts as proposed (minor units). recorded_at: of its last step."""

    status: str
    amount: int
    vat_amount: int
    withholding_amount: int
    recorded_at: str

    @property
    def transfer(self) -> int:
        """What is transferred."""
        return self.amount + self.vat_amount - self.withholding_amount


class Payouts:
    """Each payout takes the steps of its life, with the amounts that were proposed."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.found: dict[str, Payout] = {}

    def event(self, position: int, topic: str, e: State, recorded_at: str = "") -> None:
        """The next event."""
        if topic not in LIFE:
            return
        payout_id, (before, after) = e["payout_id"], LIFE[topic]
        was = self.found.get(payout_id, Payout("", 0, 0, 0, ""))
        if was.status not in before:
            expected, found = f"{topic} of a payout that is {' or '.join(before) or 'new'}", was.status or "no payout"
            self._differs("life_differs", position, expected, found, payout_id)
        late = bool(e.get("after_failure"))
        if late != (topic == "PayoutSettled" and was.status == "failed"):
            self._differs("life_differs", position, f"after_failure {not late}", late, payout_id)
        said = was
        if topic == "PayoutProposed":
            said = Payout("", e["amount"], e.get("vat_amount", 0), e.get("withholding_amount", 0), "")
        if topic == "PayoutProposed" and (said.amount <= 0 or said.transfer <= 0):
            self._differs("life_differs", position, "an amount above zero", said.transfer, payout_id)
        self._check_amounts(position, topic, e, said, late)
        self.found[payout_id] = said._replace(status=after, recorded_at=recorded_at)

    def _check_amounts(self, position: int, topic: str, e: State, said: Payout, late: bool) -> None:
        if topic == "PayoutSettled":
            expected = {"amount": said.transfer}
            if late:
                expected |= {"gross_amount": said.amount, "vat_amount": said.vat_amount}
                expected["withholding_amount"] = said.withholding_amount
        elif topic in ("PayoutInitiated", "PayoutFailed", "PayoutReturned"):
            expected = {field: getattr(said, field) for field in _AMOUNTS}
        else:
            return
        for field, amount in expected.items():
            if e.get(field, 0) != amount:
                self._differs("life_differs", position, f"{field} {amount}", e.get(field, 0), e["payout_id"])

    def _differs(self, kind: str, position: int, expected: object, found: object, payout_id: str) -> None:
        self._findings.report(kind, BOOKS, position, expected, found, f"payout {payout_id}")


class Invoices:
    """Invoices and credit notes have the numbers 1, 2, 3 … of their year, each once; a payout on its way or settled
    has exactly one invoice that stands, and no other payout has any."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._next: dict[int, int] = defaultdict(lambda: 1)
        self._free: dict[str, tuple[int, str]] = {}  # numbers that stand on no invoice yet → where they were taken
        self.standing: dict[str, tuple[str, int]] = {}  # payout id → its invoice, and the position

    def event(self, position: int, topic: str, e: State, recorded_at: str = "") -> None:
        """The next event."""
        if topic == "InvoiceNumbersTaken":
            self._take(position, e["year"], e["first"], e["count"])
            numbers = range(e["first"], e["first"] + e["count"])
            self._free |= {f"{e['year']:04}-{n:06}": (position, recorded_at) for n in numbers}
        elif topic == "CreditNoteIssued":
            self._take(position, e["year"], e["number"], 1)
            was, _ = self.standing.pop(e["payout_id"], ("none", 0))
            if was != e["cancels"]:
                self._differs(position, f"cancels {was}", e["cancels"], e["payout_id"])
        elif number := e.get("invoice_number"):
            if self._free.pop(number, None) is None:
                self._differs(position, "a number that was taken and is free", number, e["payout_id"])
            was, _ = self.standing.setdefault(e["payout_id"], (number, position))
            if was != number:
                self._differs(position, f"one invoice, {was}", number, e["payout_id"])

    def _take(self, position: int, year: int, first: int, count: int) -> None:
        if first != self._next[year]:
            self._differs(position, f"number {self._next[year]} of {year}", first, "")
        self._next[year] = first + count

    def _differs(self, position: int, expected: object, found: object, payout_id: str) -> None:
        subject = f"payout {payout_id}" if payout_id else ""
        self._findings.report("invoice_differs", BOOKS, position, expected, found, subject)

    def end(self, payouts: dict[str, Payout], cut_short_at: str | None = None) -> None:
        """After the last event. cut_short_at: the last recorded_at where the log may end in the middle of what was
        recorded at once; what happened then is left out."""
        for number, (position, recorded_at) in self._free.items():
            if recorded_at != cut_short_at:
                self._differs(position, f"an invoice with the number {number}", "none", "")
        settled = {id_: one for id_, one in payouts.items() if cut_short_at is None or one.recorded_at != cut_short_at}
        for payout_id, one in settled.items():
            number, position = self.standing.get(payout_id, ("none", 0))
            if (number != "none") != (one.status in ALIVE):
                expected = "an invoice that stands" if one.status in ALIVE else f"none for what is {one.status}"
                self._differs(position, expected, number, payout_id)
        for payout_id, (number, position) in self.standing.items():
            if payout_id not in payouts:
                self._differs(position, "a payout for its invoice", number, payout_id)


# --- two people ------------------------------------------------------------------------------------------

# what proposes → the members that name what is proposed, and what decides about it
_PAIRS = {
    "AdjustmentProposed": (("adjustment_id",), ("AdjustmentPosted", "AdjustmentRejected")),
    "ErasureProposed": (("subject",), ("SubjectErased", "ErasureRejected")),
    "PayoutMethodProposed": (
        ("affiliate_id", "currency", "method_version"), ("PayoutMethodApproved", "PayoutMethodRejected"),
    ),
    "PayoutRunBegun": (("run_id",), ("PayoutRunApproved", "PayoutRunRejected")),
    "SimulationProposed": (("simulation_id",), ("SimulationApproved", "SimulationRejected")),
    "TaxRulesProposed": (("rules_version",), ("TaxRulesPublished", "TaxRulesRejected")),
    "TermsProposed": (("offer_id", "terms_version"), ("TermsPublished", "TermsRejected")),
}  # fmt: skip
_PROPOSAL_OF = {decides: proposes for proposes, (_, both) in _PAIRS.items() for decides in both}
_ONE_IS_ENOUGH = "TermsPublished"  # for sales to come; for those that happened it was proposed


def person(name: str) -> str:
    """'Ana', 'ana' and 'a.na' are one person."""
    return "".join(c for c in name.casefold() if c not in "._-")


class TwoPeople:
    """Nobody decides about what he proposed, and nothing that needs a proposal goes without."""

    TOPICS = frozenset(_PAIRS) | frozenset(_PROPOSAL_OF)

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._open: dict[tuple[object, ...], str] = {}

    def event(self, position: int, topic: str, e: State, actor: str) -> None:
        """The next event. actor: who asked for it."""
        if topic in _PAIRS:
            said = e["terms"] if topic == "TermsProposed" else e
            self._open[topic, *(said[field] for field in _PAIRS[topic][0])] = e.get("proposed_by", actor)
            return
        proposes = _PROPOSAL_OF.get(topic)
        if proposes is None or (topic == "SubjectErased" and e.get("reapplied") is True):
            return
        which = [e[field] for field in _PAIRS[proposes][0]]
        proposer = self._open.pop((proposes, *which), None)
        subject = f"{topic} {' '.join(map(str, which))}"
        if proposer is None:
            if topic != _ONE_IS_ENOUGH:
                self._findings.report("life_differs", BOOKS, position, f"{proposes} before it", "none", subject)
        elif person(proposer) == person(actor):
            self._findings.report("same_person", BOOKS, position, f"another person than {proposer}", actor, subject)
