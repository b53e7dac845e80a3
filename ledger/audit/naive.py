"""A second opinion on the books: DESIGN's table of postings written down once more, on purpose naively.

It knows topics and JSON and nothing else of the ledger: not its events, not its posting rules, not its projections.
What both say is right, or wrong twice in the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

COMMISSION, ADJUSTMENT = "expense:commission", "expense:adjustment"
FEE, BANK, VAT, WITHHOLDING = "expense:bank_fee", "asset:bank", "tax:vat", "tax:withholding"

State = dict[str, Any]
Balances = dict[tuple[str, str], int]  # (account, currency) → debits less credits, minor units


class Transfer(NamedTuple):
    """A line of the journal: amount (minor units, above zero) from the credit account to the debit account.
    effective_at: RFC 3339, as it stands in the event; affiliate_id: whose account it touches, '' for none."""

    debit: str
    credit: str
    amount: int
    currency: str
    effective_at: str
    affiliate_id: str


# Events that move one amount between two of an affiliate's own accounts, or between one and an expense.
MOVING = frozenset(
    {
        "CommissionAccrued", "CommissionRepriced", "ConversionHeld", "ConversionReleased", "ConversionApproved",
        "ConversionRejected", "ConversionReversed", "AdjustmentPosted", "PayoutInitiated", "PayoutSettled",
        "PayoutFailed", "PayoutReturned", "BankFeeBooked",
    }
)  # fmt: skip


def transfers(topic: str, state: State) -> list[Transfer]:
    """What an event moves, in order; nothing for one that moves no money."""
    if topic not in MOVING:
        return []
    if topic == "BankFeeBooked":
        return _kept([(FEE, BANK, state["amount"], "")], state["currency"], state["effective_at"])
    who = state.get("affiliate_id", "")  # nobody's, where a sale that nobody was credited with is taken back
    if topic.startswith("Payout"):
        return _kept(_payout(topic, state, who), state["currency"], state["effective_at"])
    debit, credit = _pair(topic, state, f"liability:{who}:")
    if not debit:
        return []
    when = state["occurred_at"] if topic == "CommissionAccrued" else state["effective_at"]
    return _kept([(debit, credit, abs(state["amount"]), who)], state["currency"], when)


def _pair(topic: str, state: State, owed: str) -> tuple[str, str]:
    """(debit, credit)."""
    if topic == "CommissionAccrued":
        return COMMISSION, owed + ("held" if state.get("held") else "pending")
    if topic == "ConversionHeld":
        return owed + "pending", owed + "held"
    if topic == "ConversionReleased":
        return owed + "held", owed + "pending"
    if topic == "ConversionApproved":
        return owed + "pending", owed + "payable"
    if topic == "ConversionRejected":
        return owed + ("held" if state.get("was_held") else "pending"), COMMISSION
    if topic in ("ConversionReversed", "CommissionRepriced"):
        if state["bucket"] == "none":
            return "", ""
        taken_away = topic == "ConversionReversed" or state["amount"] < 0
        return (owed + state["bucket"], COMMISSION) if taken_away else (COMMISSION, owed + state["bucket"])
    if state["amount"] < 0:  # an adjustment that takes away
        return owed + "payable", ADJUSTMENT
    return ADJUSTMENT, owed + "payable"


Move = tuple[str, str, int, str]  # debit, credit, amount, affiliate_id


def _payout(topic: str, state: State, who: str) -> list[Move]:
    """Commission, VAT on top, withholding taken off, and the bank's fee."""
    payable, on_its_way, paid = f"liability:{who}:payable", f"liability:{who}:in_transit", f"asset:bank:{who}"
    vat, withheld = state.get("vat_amount", 0), state.get("withholding_amount", 0)
    moves: list[Move] = []
    if topic == "PayoutInitiated" or (topic == "PayoutSettled" and state.get("after_failure")):
        gross = state["amount"] if topic == "PayoutInitiated" else state["gross_amount"]
        moves.append((payable, on_its_way, gross, who))
        moves.append((VAT, on_its_way, vat, who))
        moves.append((on_its_way, WITHHOLDING, withheld, who))
    if topic == "PayoutSettled":
        moves.append((on_its_way, paid, state["amount"], who))
        moves.append((FEE, BANK, state.get("fee_amount", 0), ""))
    if topic in ("PayoutFailed", "PayoutReturned"):
        place = on_its_way if topic == "PayoutFailed" else paid
        moves.append((place, payable, state["amount"], who))
        moves.append((place, VAT, vat, who))
        moves.append((WITHHOLDING, place, withheld, who))
    return moves


def _kept(moves: Iterable[Move], currency: str, effective_at: str) -> list[Transfer]:
    """Lines of more than nothing."""
    return [Transfer(d, c, amount, currency, effective_at, who) for d, c, amount, who in moves if amount]


class Books:
    """The sum of what passed. lines: how many; turnover: by currency, the control total of an auditor's report."""

    def __init__(self) -> None:
        self._held: Balances = defaultdict(int)
        self.turnover: dict[str, int] = defaultdict(int)
        self.lines = 0

    def post(self, some: Iterable[Transfer]) -> None:
        """Add transfers."""
        held = self._held
        for line in some:
            held[line.debit, line.currency] += line.amount
            held[line.credit, line.currency] -= line.amount
            self.turnover[line.currency] += line.amount
            self.lines += 1

    def balance(self, account: str, currency: str) -> int:
        """What an account holds: debits less credits."""
        return self._held.get((account, currency), 0)

    def balances(self) -> Balances:
        """Every account that is not empty."""
        return {place: amount for place, amount in sorted(self._held.items()) if amount}

    def sums(self) -> dict[str, int]:
        """The sum over all accounts by currency: zero in each, or the books are wrong."""
        found: dict[str, int] = defaultdict(int)
        for (_, currency), amount in self._held.items():
            found[currency] += amount
        return dict(found)
