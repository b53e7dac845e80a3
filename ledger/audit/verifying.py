"""The witness: reads a program's two logs as bytes, from wherever they come, and says everything that is wrong.

Each line is hashed, put in its place, and understood twice: by the ledger's own folds and by the naive rules of this
package. What is read (a directory, a live database) and what it is compared with is the caller's business.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ledger.audit import affiliate_trees
from ledger.audit.affiliate_trees import AffiliateTrees, TreesDiffer
from ledger.audit.findings import Findings
from ledger.audit.lines import ExportLine, UnreadableLine, read_line
from ledger.audit.merkle import HASH_BYTES
from ledger.audit.naive import MOVING, Books, Transfer, transfers
from ledger.audit.naive_clicks import PaidClicks, says_clicks
from ledger.audit.naive_commissions import Terms
from ledger.audit.naive_plan_facts import PlanFacts, plan_hash
from ledger.audit.naive_rules import LIFE, Invoices, Payouts, TwoPeople
from ledger.audit.statements import TOPICS as STATEMENT_TOPICS
from ledger.audit.statements import Statements
from ledger.audit.verifying_evidence import Clicks
from ledger.audit.verifying_hashes import Known, LogHashes, Stored, leaf_hashes
from ledger.audit.verifying_program import play_again
from ledger.audit.verifying_streams import Buckets, Folded, Owed, fold_bucket

BOOKS, TRAFFIC = LOGS = ("books", "traffic")
ALONE_BELOW = 50_000  # events that one process reads sooner than another one starts
_TREES = frozenset((*affiliate_trees.CUTS, affiliate_trees.RECORDED, affiliate_trees.ISSUED))
_WRONG = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)

KeepIssued = Callable[[str, int, str, str], None]


class LogFacts(Struct, frozen=True):
    """What a log was found to be. last_recorded_at: '' for an empty one; signed_roots: known roots that were met."""

    size: int
    root: str
    signed_roots: int
    last_recorded_at: str


class Witnessed(Struct):
    """What reading came to. topics: events by log and topic; turnover: by currency, minor units; sums: the sum of all
    accounts by currency; waiting: statements of a cut that are not issued yet; clicks_compared, clicks_behind: quoted
    by commissions, and compared, or behind what was read of the traffic log."""

    logs: dict[str, LogFacts]
    topics: dict[str, dict[str, int]]
    streams: int
    journal_lines: int
    turnover: dict[str, int]
    sums: dict[str, int]
    accounts: int
    statements: int
    statement_lines: int
    waiting: int
    clicks_compared: int
    clicks_behind: int
    trees: int


class Witness:
    """Reads both logs, in either order, and is then asked what it found.

    program_id: whose; events: about how many each log has, so that memory is divided well; folder: for temporary files
    (None: the system's); processes: that may work at once; keep_issued: told of each StatementIssued;
    whole_ends: False where the books may end in the middle of what was recorded at once."""

    def __init__(
        self,
        program_id: str,
        events: Mapping[str, int],
        findings: Findings | None = None,
        *,
        folder: Path | None = None,
        processes: int = 1,
        keep_issued: KeepIssued | None = None,
        whole_ends: bool = True,
    ) -> None:
        self.findings = findings if findings is not None else Findings()
        self.program_id = program_id
        self.books = Books()
        self._processes, self._whole_ends = processes, whole_ends
        self._folder, self._temporary = folder, ExitStack()
        self._buckets = {log: Buckets(lambda: self._room, log, events.get(log, 0)) for log in LOGS}
        self._readers: dict[str, Reader] = {}
        self._clicks = Clicks()
        self._meaning = Meaning(self.findings, self.books, self._clicks, keep_issued)

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what lies on disk."""
        self._clicks.close()
        self._meaning.paid_clicks.close()
        self._temporary.close()

    @cached_property
    def _room(self) -> Path:
        """Where lines wait that are too many for memory."""
        made = tempfile.TemporaryDirectory(prefix="ledger-verify-", dir=self._folder)
        return Path(self._temporary.enter_context(made))

    def reader(self, log: str, known: Sequence[Known] = (), stored: Sequence[Stored] = ()) -> Reader:
        """What takes a log's lines, from position 1 on; once for each log. known, stored: see LogHashes."""
        hashes = LogHashes(log, self.findings, known, stored)
        keep = self._clicks if log == TRAFFIC else None
        meaning = self._meaning if log == BOOKS else None
        paid = self._meaning.paid_clicks if log == TRAFFIC else None
        self._readers[log] = Reader(
            log, self.program_id, self.findings, hashes, self._buckets[log], meaning, keep, paid
        )
        return self._readers[log]

    def finish(self) -> Witnessed:
        """After the last line of both logs: what no single line shows."""
        owed: Owed = defaultdict(int)
        streams = 0
        for folded in self._fold():
            self.findings.merge(folded.findings)
            streams += folded.streams
            for place, amount in folded.owed.items():
                owed[place] += amount
        self._compare_folds(owed)
        for currency, amount in sorted(self.books.sums().items()):
            if amount:
                self.findings.report("not_balanced", BOOKS, 0, 0, amount, currency)
        cut_short_at = None
        if not self._whole_ends and BOOKS in self._readers:
            cut_short_at = self._readers[BOOKS].last_recorded_at
        self._meaning.end(cut_short_at)
        quoted, behind = self._check_evidence()
        return self._witnessed(streams, quoted, behind)

    def _fold(self) -> Iterable[Folded]:
        known = self.program_id, self._meaning.terms
        waiting = {log: self._buckets[log].parts() for log in LOGS}
        parts = [(log, path, lines) for log in LOGS for path, lines in waiting[log]]
        size = self._readers[TRAFFIC].hashes.size if TRAFFIC in self._readers else 0
        program = waiting[BOOKS], waiting[TRAFFIC], self._meaning.plan_facts.planned_offers(), size, self._whole_ends
        events = sum(reader.hashes.size for reader in self._readers.values())
        # A fork copies no threads: where there are any, one process does it all.
        alone = self._processes == 1 or threading.active_count() > 1 or "fork" not in get_all_start_methods()
        if alone or len(parts) < 2 or events < ALONE_BELOW:
            for log, path, lines in parts:
                yield fold_bucket(path, lines, log, *known)
            yield play_again(*program)
            return
        with ProcessPoolExecutor(self._processes, mp_context=get_context("fork")) as pool:
            # nothing is handed over where nobody plans: the lines may be many
            running = [pool.submit(play_again, *program)] if self._meaning.plan_facts.planned_offers() else []
            running += [pool.submit(fold_bucket, path, lines, log, *known) for log, path, lines in parts]
            for one in running:
                yield one.result()

    def _compare_folds(self, owed: Owed) -> None:
        """What the ledger's folds say is owed must be what the naive books hold, account by account."""
        accounts = {
            (f"asset:bank:{who}" if bucket == "paid" else f"liability:{who}:{bucket}", currency): amount
            for (who, currency, bucket), amount in owed.items()
        }
        for account, currency in sorted(accounts.keys() | self.books.balances().keys()):
            if not account.startswith(("liability:", "asset:bank:")):
                continue
            by_books, by_folds = -self.books.balance(account, currency), accounts.get((account, currency), 0)
            if by_books != by_folds:
                subject = f"{account} in {currency}"
                self.findings.report("fold_differs", BOOKS, 0, f"{by_books} by the books", by_folds, subject)

    def _check_evidence(self) -> tuple[int, int]:
        """(clicks that commissions quote and that were compared, those behind what was read of the traffic log)"""
        size = self._readers[TRAFFIC].hashes.size if TRAFFIC in self._readers else 0
        compared, behind = self._clicks.check(size, self.findings)
        self._meaning.paid_clicks.check(size)
        if behind and size == 0 and TRAFFIC in self._readers:
            self.findings.report("size_differs", TRAFFIC, 1, f"the clicks that {behind} commissions quote", "no click")
        return compared, behind

    def _witnessed(self, streams: int, quoted: int, behind: int) -> Witnessed:
        meaning = self._meaning
        return Witnessed(
            logs={log: reader.facts() for log, reader in self._readers.items()},
            topics={log: dict(sorted(reader.topics.items())) for log, reader in self._readers.items()},
            streams=streams,
            journal_lines=self.books.lines,
            turnover=dict(sorted(self.books.turnover.items())),
            sums=self.books.sums(),
            accounts=len(self.books.balances()),
            statements=meaning.statements.issued,
            statement_lines=meaning.statements.lines,
            waiting=len(meaning.statements.waiting),
            clicks_compared=quoted,
            clicks_behind=behind,
            trees=meaning.trees.checked,
        )


class Reader:
    """Takes a log's export lines in order. topics: how many of each; last_recorded_at: as text."""

    def __init__(
        self,
        log: str,
        program_id: str,
        findings: Findings,
        hashes: LogHashes,
        buckets: Buckets,
        meaning: Meaning | None,
        clicks: Clicks | None,
        paid_clicks: PaidClicks | None,
    ) -> None:
        self.hashes = hashes
        self.topics: Counter[str] = Counter()
        self.last_recorded_at = ""
        self._log, self._program_id, self._findings = log, program_id, findings
        self._buckets, self._meaning, self._clicks = buckets, meaning, clicks
        self._paid_clicks = paid_clicks
        self._position = 0  # what the last line says of itself
        self._count = 0

    def feed(self, block: bytes) -> None:
        """Whole lines, each with its line feed."""
        lines = block.split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        self.lines(lines)

    def lines(self, lines: Sequence[bytes]) -> None:
        """Some lines, without line feeds."""
        leaves = leaf_hashes(lines)
        self.hashes.add(leaves)
        if self._clicks is not None:
            self._clicks.leaves(leaves)
        self._read(lines, leaves)

    def end(self) -> None:
        """After the last line."""
        self.hashes.end()

    def _read(self, lines: Sequence[bytes], leaves: bytes) -> None:
        """This loop is most of what an event costs."""
        buckets, count = self._buckets.waiting, self._buckets.count
        log, program_id, topics = self._log, self._program_id, self.topics
        meaning, clicks, paid = self._meaning, self._clicks, self._paid_clicks
        understood = meaning.topics if meaning is not None else frozenset()
        size, place = 0, 0
        for line in lines:
            self._count += 1
            try:
                read = read_line(line)
            except UnreadableLine as problem:
                self._findings.report("line_unreadable", log, self._count, "an export line", problem)
                self._position, place = self._count, place + HASH_BYTES
                if clicks is not None:
                    clicks.clicked(None)
                if paid is not None:
                    paid.clicked("", None)
                continue
            position, originator_id, topic = read.position, read.originator_id, read.topic
            if clicks is not None:
                clicks.clicked(read.state)
            if paid is not None:
                paid.clicked(topic, read.state)
            if position != self._position + 1 or read.log != log or read.program_id != program_id:
                self._misplaced(read)
            self._position = position
            if read.recorded_at < self.last_recorded_at:
                self._findings.report(
                    "time_falls", log, position, f"{self.last_recorded_at} or later", read.recorded_at
                )
            self.last_recorded_at = read.recorded_at
            topics[topic] += 1
            try:
                buckets[int(originator_id[:4], 16) * count >> 16].append(line)
            except ValueError:
                self._findings.report("stream_id_differs", log, position, "a UUID", originator_id)
            size += len(line)
            if topic in understood:
                assert meaning is not None
                meaning.event(read, leaves[place : place + HASH_BYTES])
            place += HASH_BYTES
        self._buckets.added(size)

    def _misplaced(self, read: ExportLine) -> None:
        if read.position != self._position + 1:
            expected, found = f"position {self._position + 1}", f"position {read.position}"
            self._findings.report("position_gap", self._log, self._position + 1, expected, found)
        if read.log != self._log:
            self._findings.report("line_misplaced", self._log, read.position, self._log, f"a line of {read.log}")
        if read.program_id != self._program_id:
            found = f"a line of {read.program_id}"
            self._findings.report("line_misplaced", self._log, read.position, self._program_id, found)

    def facts(self) -> LogFacts:
        """What it was."""
        return LogFacts(self.hashes.size, self.hashes.root().hex(), self.hashes.met, self.last_recorded_at)


class Meaning:
    """What the events of the books say, by the naive rules. topics: the events that it wants to see."""

    def __init__(self, findings: Findings, books: Books, clicks: Clicks, keep_issued: KeepIssued | None) -> None:
        self._findings, self._books, self._clicks = findings, books, clicks
        self.statements = Statements(findings, keep_issued)
        self.terms = Terms()
        self.plan_facts = PlanFacts()
        self.trees = AffiliateTrees()
        self.paid_clicks = PaidClicks(findings, self.terms, self.plan_facts)
        self._payouts, self._invoices, self._people = Payouts(findings), Invoices(findings), TwoPeople(findings)
        self._paying = frozenset((*LIFE, "InvoiceNumbersTaken", "CreditNoteIssued"))
        self.topics = MOVING | STATEMENT_TOPICS | TwoPeople.TOPICS | self._paying | _TREES | PlanFacts.TOPICS
        self.topics |= PaidClicks.TOPICS

    def event(self, read: ExportLine, leaf: bytes) -> None:
        """The next event that is wanted. leaf: its leaf hash."""
        position, topic = read.position, read.topic
        if topic == "ConversionRecorded" and not says_clicks(read.state):
            return  # of sales nothing is asked here, and they are many
        try:
            e = msgspec.json.decode(read.state)
            moved = transfers(topic, e) if topic in MOVING else []
            if moved:
                _must_be_transfers(moved)
                self._books.post(moved)
                self.statements.post(position, read.recorded_at, topic, e, moved)
            self._trees(position, leaf, topic, e, moved)
            if topic == "CommissionAccrued":
                self._clicks.quote(position, e)
            self._rules(read, topic, e)
        except (msgspec.DecodeError, *_WRONG) as problem:
            told = f"{type(problem).__name__} {problem}"
            self._findings.report("event_unreadable", BOOKS, position, f"a state of {topic}", told)

    def _rules(self, read: ExportLine, topic: str, e: dict[str, Any]) -> None:
        position = read.position
        if topic in TwoPeople.TOPICS:
            self._people.event(position, topic, e, read.actor)
        if topic in self._paying:
            self._payouts.event(position, topic, e, read.recorded_at)
            self._invoices.event(position, topic, e, read.recorded_at)
        if topic in STATEMENT_TOPICS:
            self.statements.event(position, topic, e)
        self.terms.event(position, topic, e)
        self.plan_facts.event(position, topic, e)
        if topic in PaidClicks.TOPICS:
            self.paid_clicks.event(position, topic, e)
        if "plan" in e and topic == "TermsPublished" and (found := plan_hash(e["plan"])) != e.get("plan_hash"):
            self._findings.report("plan_differs", BOOKS, position, found, e.get("plan_hash"), f"offer {e['offer_id']}")

    def _trees(self, position: int, leaf: bytes, topic: str, e: dict[str, Any], moved: Sequence[Transfer]) -> None:
        if not moved and topic not in _TREES:
            return
        try:
            self.trees.event(position, leaf, topic, e, moved)
        except TreesDiffer as wrong:
            self._findings.report("trees_differ", BOOKS, wrong.position, wrong.expected, wrong.found, wrong.what)

    def end(self, cut_short_at: str | None) -> None:
        """After the last event."""
        self._invoices.end(self._payouts.found, cut_short_at)


def _must_be_transfers(moved: Sequence[Transfer]) -> None:
    """Raises TypeError for members of another kind than a transfer has: nothing else may come into the books."""
    for _, _, amount, currency, effective_at, affiliate_id in moved:
        if type(amount) is not int or not type(currency) is type(effective_at) is type(affiliate_id) is str:
            raise TypeError("an amount is an integer; a currency, an instant and an id are text")


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
