"""Ten thousand payouts and a bank that times out, pays late, sends back and repeats itself: none twice, none lost."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from pathlib import Path
from random import Random

from fake_bank import FakeBank, Form, Timeout
from naive_books import check_books
from payout_world import analyze, every_payout, last_position, open_payers, run_for, say, sell, send
from support import PROGRAM, Clock, by, open_ledger, read_log, trial

from ledger import banking
from ledger.application import CommissionLedger
from ledger.domain.period import following_month
from ledger.payouts.bank import read_statement
from ledger.payouts.files import Payment
from ledger.projections import directory
from ledger.store.database import Database

AFFILIATES = [f"a{number:04}" for number in range(2000)]
MONTHS = 5
PAYOUTS = MONTHS * len(AFFILIATES)
FORMS: tuple[Form, ...] = ("camt", "mt940", "csv")
CSV = Path(__file__).parent.parent / "examples" / "bank-csv.toml"
# as the ledger should see what really became of a payout; of one the bank never paid, once a person has said so
STATUS = {"paid": "settled", "returned": "returned", "never": "failed"}


class Operator:
    """Sends each payment once, under its own id, and believes nothing but the bank's statements."""

    def __init__(self, ledger: CommissionLedger, clock: Clock, bank: FakeBank) -> None:
        self.ledger, self.clock, self.bank = ledger, clock, bank
        self.submitted: Counter[str] = Counter()
        self.in_files = 0
        self.timeouts = self.known = self.late = 0
        self._chance = Random(4)

    def submit(self, payments: list[Payment]) -> None:
        """What the bank does not answer for is unknown from then on. Of every 40th of those an impatient colleague
        says that it failed, without asking anybody."""
        unknown = []
        for payment in payments:
            self.submitted[payment.payout_id] += 1
            self.in_files += payment.amount
            try:
                self.bank.submit(payment.payout_id, payment.amount, "GBP")
            except Timeout:
                unknown.append(payment.payout_id)
        self.timeouts += len(unknown)
        send(self.ledger, say("mark_unknown", unknown))
        impatient = [one for one in unknown if self._chance.randrange(40) == 0]
        send(self.ledger, say("fail", impatient))

    def read_statement(self, day: date) -> None:
        """The day's file, in the form that it has that day."""
        form = FORMS[day.toordinal() % 3]
        if form == "csv" and not self.bank.told(day):
            return
        self.clock.now = datetime.combine(day, time(23, 30), UTC)
        statements = read_statement(self.bank.statement(day, form), mapping=CSV)
        for imported in banking.import_statements(self.ledger, PROGRAM, statements, by("bank-job")):
            assert (imported.refused, imported.break_ids) == ([], [])
            self.known += imported.unchanged

    def live_until(self, day: date) -> None:
        """Day by day, each with its statement."""
        while self.bank.today < day:
            self.read_statement(self.bank.today)
            self.bank.next_day()

    def ask(self, payout_id: str) -> str:
        """Until the bank answers."""
        for _ in count():
            try:
                return self.bank.query(payout_id)
            except Timeout:
                continue
        raise AssertionError

    def give_up(self) -> int:
        """What the bank says weeks later that it never took, a person fails with a reason. Returns how many."""
        waiting = [row.payout_id for row in every_payout(self.ledger) if row.status in ("initiated", "unknown")]
        answers = {payout_id: self.ask(payout_id) for payout_id in waiting}
        assert set(answers.values()) <= {"unknown", "rejected", "accepted"}, "what was settled, its line has told"
        never = [payout_id for payout_id, said in answers.items() if said in ("unknown", "rejected")]
        send(self.ledger, say("fail", never), "ben")
        return len(waiting) - len(never)


def test_ten_thousand_payouts_and_a_bank_that_cannot_be_trusted(database: Database) -> None:
    """Five months of two thousand payees. In the end every payout stands where the bank has it, and the bank's account,
    the books and the files agree to the penny; what came back was paid by the next run."""
    clock = Clock()
    period = "2026-01"
    with open_ledger(database, clock) as ledger:
        open_payers(ledger, AFFILIATES)
        operator = Operator(ledger, clock, FakeBank(11, start=date(2026, 2, 3)))
        earned = 0
        for month in range(MONTHS):
            at = datetime.fromisoformat(f"{period}-15T12:00:00Z")
            period = following_month(period)
            pay_day = date.fromisoformat(f"{period}-03")
            operator.live_until(pay_day)
            clock.now = datetime.combine(pay_day, time(8), UTC)
            operator.give_up()
            amounts = [(1 + n * 7919 + month * 104_729) % 90_000 + 1000 for n in range(len(AFFILIATES))]
            earned += sum((amount + 5) // 10 for amount in amounts)
            sell(ledger, ((f"o{month}-{n}", a, amounts[n], at) for n, a in enumerate(AFFILIATES)))
            operator.submit(run_for(ledger, at.strftime("%Y-%m")))
            if month in (0, MONTHS - 1):
                analyze(database)
        _settle_everything(operator)
        _check(operator, earned)


def _settle_everything(operator: Operator) -> None:
    """Statements until nothing more happens, a few of them once again, and the last ones given up."""
    last = operator.bank.run_out()[-1] + timedelta(days=1)
    first = operator.clock.now.date()
    for days in range((last - first).days + 1):
        operator.read_statement(first + timedelta(days=days))
    position = last_position(operator.ledger)
    for days in range(12):
        operator.read_statement(first + timedelta(days=days))
    assert last_position(operator.ledger) == position, "statements read again say nothing new"
    assert operator.give_up() == 0


def _check(operator: Operator, earned: int) -> None:
    ledger, bank, truth = operator.ledger, operator.bank, operator.bank.truth
    rows = {row.payout_id: row for row in every_payout(ledger)}
    assert len(rows) == len(truth) == PAYOUTS
    assert set(operator.submitted.values()) == {1}, "never sent again"
    assert {payout_id: row.status for payout_id, row in rows.items()} == {p: STATUS[fate] for p, fate in truth.items()}
    fates = Counter(truth.values())
    assert min(fates.values()) > 300
    assert 0.27 < operator.timeouts / PAYOUTS < 0.33
    assert operator.known > 300, "the bank repeated itself"

    log = read_log(ledger)
    assert max(Counter(row.state["payout_id"] for row in log if row.topic == "PayoutSettled").values()) == 1
    late = sum(row.topic == "PayoutSettled" and row.state.get("after_failure", False) for row in log)
    assert late > 20, "some that were taken for failed arrived after all"

    held = {account: amount for (account, _), amount in trial(ledger).items()}
    assert not [account for account in held if account.endswith((":in_transit", ":pending", ":held"))]
    at_the_bank = sum(amount for account, amount in held.items() if account.startswith("asset:bank"))
    fees = held["expense:bank_fee"]
    assert at_the_bank == bank.total("GBP")
    assert (fees, held["asset:bank"]) == (bank.fees("GBP"), -bank.fees("GBP"))
    paid = sum(row.transfer_amount for row in rows.values() if row.status == "settled")
    came_back = sum(row.transfer_amount for row in rows.values() if row.status == "returned")
    never = sum(row.transfer_amount for row in rows.values() if row.status == "failed")
    assert operator.in_files == paid + came_back + never
    assert at_the_bank == -(operator.in_files - came_back - never) - fees
    owed = -sum(amount for account, amount in held.items() if account.endswith(":payable"))
    assert paid + owed == earned == held["expense:commission"], "none lost"
    with ledger.reading(PROGRAM) as (cur, id_):
        assert directory.page(cur, id_, "break", limit=10) == []
    check_books(ledger)
