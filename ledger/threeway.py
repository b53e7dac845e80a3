"""A payout run in three views: what the books say, what its files say when they are made and read again, and what the
bank said. Where two of them differ, the difference has a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from ledger import payruns
from ledger.application import CommissionLedger
from ledger.domain.errors import Refusal
from ledger.domain.payout_run import FileFacts, RunState
from ledger.payouts import files
from ledger.projections import payout_lists, payouts
from ledger.projections.breaks import Break
from ledger.projections.payouts import StatusTotal


class Reread(Struct, frozen=True):
    """A file as its bytes say. as_rendered: they are the bytes that were rendered first. control_sum: minor units."""

    name: str
    sha256: str
    count: int
    control_sum: int
    as_rendered: bool


class BankTotal(NamedTuple):
    """The bank's lines about a run's payouts by what became of them; amount: minor units, below zero money left."""

    outcome: str
    line_count: int
    amount: int


class Difference(NamedTuple):
    """name: files (sent: books and files), settled (left, fees included: books and bank), returned (came back: books
    and bank). Minor units; the difference is found less expected."""

    name: str
    expected_amount: int
    found_amount: int

    @property
    def difference(self) -> int:
        """0 where the two agree."""
        return self.found_amount - self.expected_amount


class ThreeWay(NamedTuple):
    """file_problem: why the files could not be made again, '' if they could. in_transit_amount: minor units.
    apart: ids of payouts of which books and bank say different sums, at most a hundred."""

    run: RunState
    ledger: list[StatusTotal]
    files: list[Reread]
    file_problem: str
    bank: list[BankTotal]
    in_transit_amount: int
    differences: list[Difference]
    open_breaks: list[Break]
    apart: list[str]


def of_run(ledger: CommissionLedger, program: str, run_id: str) -> ThreeWay:
    """The three views of a run. Raises NotFound."""
    state = payruns.load_run(ledger, program, run_id)
    reread, problem = _reread(ledger, program, run_id, state.files)
    with ledger.reading(program) as (cur, id_):
        totals = payouts.run_totals(cur, id_, run_id)
        bank = [BankTotal(*one) for one in payouts.run_bank(cur, id_, run_id)]
        open_breaks = payout_lists.open_breaks_of_run(cur, id_, run_id, ledger.clock())
        apart = payouts.apart_from_bank(cur, id_, run_id)
        left, came_back = payouts.run_moved(cur, id_, run_id)
    files_sum = sum(one.control_sum for one in reread)
    differences = [
        Difference("files", _transferred(totals, sent=True), files_sum),
        Difference("settled", _transferred(totals, "settled", "returned", fees=True), left),
        Difference("returned", _transferred(totals, "returned"), came_back),
    ]
    in_transit = _transferred(totals, "initiated", "unknown")
    return ThreeWay(state, totals, reread, problem, bank, in_transit, differences, open_breaks, apart)


def _transferred(totals: Sequence[StatusTotal], *statuses: str, sent: bool = False, fees: bool = False) -> int:
    """What is transferred for the payouts of some statuses (sent: of all whose money was sent), minor units."""
    wanted = [t for t in totals if t.status in statuses or (sent and t.status not in payruns.LEFT)]
    return sum(t.transfer_amount + (t.fee_amount if fees else 0) for t in wanted)


def _reread(
    ledger: CommissionLedger, program: str, run_id: str, rendered: Sequence[FileFacts]
) -> tuple[list[Reread], str]:
    """The recorded files made again, each read from its bytes, and why that could not be done."""
    if not rendered:
        return [], ""
    recorded = {one.name: one.sha256 for one in rendered}
    try:
        made = payruns.rendered(ledger, program, run_id)
        found = []
        for file in made:
            count, control_sum, _ = files.check(file.content, file.method, file.currency)
            same = recorded.get(file.name) == file.sha256
            found.append(Reread(file.name, file.sha256, count, control_sum, same))
    except Refusal as refused:
        return [], refused.message
    if {one.name for one in found} != set(recorded):
        return found, "the files that come out now are not those that were rendered"
    return found, ""
