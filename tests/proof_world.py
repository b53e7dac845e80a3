"""A firm whose statements are proven: what the tests of statements' proofs share."""

from __future__ import annotations

import json
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from statement_world import Firm
from support import T0, Clock, program_id

from ledger import reads
from ledger.application import CommissionLedger
from ledger.audit import merkle, naive, sealing
from ledger.audit.affiliate_trees import AffiliateTrees
from ledger.audit.keys import SigningKeys
from ledger.audit.notes import Checkpoint, VerifierKey, sign, to_base64
from ledger.domain.adjustment import DecideAdjustment, ProposeAdjustment
from ledger.domain.affiliate import DecideAffiliate, EnrolAffiliate
from ledger.domain.recording import RecordConversion
from ledger.statement_proofs import statement_proof

ORIGIN = "ledger.example.com"
KEYS = SigningKeys([b"\x07" * 32], ORIGIN)


def key_of(program: str = "firm", keys: SigningKeys = KEYS) -> VerifierKey:
    """The public key of a program's books."""
    return keys.signers(program, "books")[0].key


def seal(firm: Firm, keys: SigningKeys = KEYS) -> int:
    """Sign a checkpoint of everything. Returns its size."""
    made = sealing.seal(firm.ledger, firm.program, "books", keys.signers(firm.program, "books"), firm.clock())
    assert made.checkpoint is not None
    return made.checkpoint.size


def proof(firm: Firm, affiliate_id: str, period: str, version: int | None = None) -> bytes:
    """A statement's proof, as a file."""
    return b"".join(statement_proof(firm.ledger, firm.program, affiliate_id, period, version))


def lively_firm(ledger: CommissionLedger, clock: Clock) -> Firm:
    """Three months of two currencies, refunds, adjustments, taxed payouts that fail, are settled and come back, lines
    that come late, lines that are carried, and a reissue; an affiliate with no entry, one that is only paid once, and
    others so that trees are ragged. Everything is closed, and sealed."""
    firm = Firm(ledger, clock)
    for affiliate_id in ("Zoe", "cy-1", "d.e", "idle"):
        firm.do(EnrolAffiliate(affiliate_id=affiliate_id, display_name=affiliate_id))
        firm.do(DecideAffiliate(affiliate_id=affiliate_id, decision="approve"))
    firm.register_payees()
    for n, affiliate_id in enumerate(("ada", "bob", "Zoe", "cy-1", "d.e")):
        firm.sell(f"o-{affiliate_id}", 40_000 + n, affiliate_id, T0 + timedelta(days=1))
    firm.sell('ünï "\\ 語', 12_345, at=T0 + timedelta(days=2, microseconds=1))
    _euros(firm, "e-1", 5_000, T0 + timedelta(days=2))
    firm.adjust("a-0", 77, "cy-1", T0 - timedelta(days=9))  # early, but not late: there was no statement before
    clock.now = datetime(2026, 2, 2, tzinfo=UTC)
    firm.approve_due()
    firm.sell("carried", 8_000)  # January's cut knows it, and it is of February
    firm.close("2026-01")
    firm.sell("late", 700, at=T0 + timedelta(days=9))
    firm.adjust("a-1", -250)
    firm.adjust("a-2", 990, "bob", T0 + timedelta(days=30))
    payouts = {row.affiliate_id: row.payout_id for row in firm.pay("2026-01")}
    firm.outcome(payouts["ada"], "settle")
    firm.outcome(payouts["bob"], "fail")
    clock.now = datetime(2026, 2, 12, 11, 30, 0, 250, tzinfo=UTC)
    firm.outcome(payouts["bob"], "settle")
    firm.refund("o-ada", 1_000)
    clock.now = datetime(2026, 3, 2, tzinfo=UTC)
    firm.approve_due()
    firm.close("2026-02")
    firm.sell("forgotten", 5_100, at=datetime(2026, 2, 20, tzinfo=UTC))
    firm.reissue("2026-02")
    clock.now = datetime(2026, 3, 9, tzinfo=UTC)
    firm.outcome(payouts["ada"], "return")
    _euros(firm, "e-2", 900, clock.now)
    clock.now = datetime(2026, 4, 3, tzinfo=UTC)
    firm.close("2026-03")
    firm.sell("after all", 1_000)
    seal(firm)
    return firm


def _euros(firm: Firm, order_id: str, amount: int, at: datetime) -> None:
    sale = {"order_id": order_id, "offer_id": "shoes", "amount": amount, "currency": "EUR", "affiliate_id": "ada"}
    firm.do(RecordConversion(**sale, occurred_at=at))
    bonus = {"adjustment_id": f"b-{order_id}", "affiliate_id": "ada", "kind": "bonus", "amount": 10, "currency": "EUR"}
    firm.do(ProposeAdjustment(**bonus, reason="thanks", effective_at=at), "ana")
    firm.do(DecideAdjustment(adjustment_id=f"b-{order_id}", approve=True), "ben")


def audit(lines: list[bytes]) -> int:
    """Read a log as an auditor does. Returns how many roots were compared. Raises TreesDiffer."""
    every = AffiliateTrees()
    for position, line in enumerate(lines, 1):
        event = json.loads(line)
        moved = naive.transfers(event["topic"], event["state"])
        every.event(position, merkle.leaf_hash(line), event["topic"], event["state"], moved)
    return every.checked


# --- an operator who has the key and writes another history -----------------------------------------------


class Forger:
    """The books as they are, to be rewritten, sealed and proven anew. lines: by position - 1."""

    def __init__(self, firm: Firm) -> None:
        id_ = program_id(firm.program)
        self.program = firm.program
        self.lines = [line for _, line in reads.log_lines(firm.ledger.pool, id_, "books", 0, 100_000)]

    def copy(self) -> Forger:
        """Another one, to write other things."""
        made = copy(self)
        made.lines = list(self.lines)
        return made

    def state(self, position: int) -> dict[str, Any]:
        """What an event says."""
        found: dict[str, Any] = json.loads(self.lines[position - 1])["state"]
        return found

    def rewrite(self, position: int, **changes: Any) -> None:
        """Let an event say something else."""
        line = json.loads(self.lines[position - 1])
        line["state"] |= changes
        self.lines[position - 1] = compact(line).encode()

    def leaves(self) -> list[bytes]:
        """The tree's leaves."""
        return [merkle.leaf_hash(line) for line in self.lines]

    def seal(self, size: int = 0, keys: SigningKeys = KEYS) -> str:
        """A checkpoint of the first `size` lines, or all."""
        leaves = self.leaves()[: size or None]
        text = Checkpoint(f"{ORIGIN}/{self.program}/books", len(leaves), merkle.root_of(leaves)).text()
        return sign(text, keys.signers(self.program, "books"))

    def prove(self, file: dict[str, Any], size: int = 0, keys: SigningKeys = KEYS) -> dict[str, Any]:
        """A proof's file with the lines as they are here, for the first `size` of them: every inclusion holds."""
        leaves = self.leaves()[: size or None]
        node, numbers = merkle.nodes_from_leaves(leaves), dict[bytes, int]()

        def proven(one: dict[str, Any] | None) -> dict[str, Any] | None:
            if one is None:
                return None
            index = json.loads(one["line"])["position"] - 1
            proof = merkle.inclusion_proof(index, len(leaves), node)
            return {"line": self.lines[index].decode(), "proof": [numbers.setdefault(h, len(numbers)) for h in proof]}

        made = {name: proven(value) if name.endswith("_event") else value for name, value in file.items()}
        made["entries"] = [proven(one) for one in file["entries"]]
        made["nodes"] = [to_base64(one) for one in numbers]
        return made | {"checkpoint": self.seal(size, keys)}


def position_of(one: dict[str, Any]) -> int:
    """Where a proven line stands in the log."""
    found: int = json.loads(one["line"])["position"]
    return found


def compact(document: Any) -> str:
    """JSON as statements and events have it, keys in their order."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
