"""Verifying an export: how quickly its bytes are hashed, against `sha256sum` of the same bytes, and the whole of it.

The export is made here, without a database: a program with months of sales, approvals, refunds and statements, sealed
with a key of its own. That what is made is right, the verification says itself.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import msgspec

from benchmarks.harness import BenchmarkError, Comparison, Plan, Row, Stopwatch, race
from benchmarks.world import World
from ledger.audit import directory as names
from ledger.audit.directory import BalanceLine, DataFile, LogEnd, Manifest, StatementEntry, Totals
from ledger.audit.findings import Findings
from ledger.audit.merkle import EMPTY_ROOT
from ledger.audit.naive import Books, transfers
from ledger.audit.naive_names import NAME_OF, stream_id
from ledger.audit.notes import Checkpoint, Signer, sign
from ledger.audit.report import VERIFIED
from ledger.audit.statements import Statements
from ledger.audit.verifying_files import Files
from ledger.audit.verifying_hashes import Tree, leaf_hashes
from ledger.domain.ids import program_id
from ledger.store import codec
from ledger.store.embedded import default_home
from ledger.version import code_version

PROGRAM, CURRENCY, OFFER = "bench", "GBP", "offer-1"
MONTHS, DAYS, HOLD_DAYS, RATE_BPS = 3, 30, 10, 1000
START = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = Signer(f"ledger.example.com/{PROGRAM}/books", b"\x01" * 32)
EVENTS_OF_TEN_SALES = 31  # recorded, accrued, and then approved or taken back, which is two events
State = dict[str, object]


def sizes(plan: Plan) -> tuple[int, int, int]:
    """Affiliates; events of the small and of the large export."""
    return plan.size(1000, 5), plan.size(100_000, 400), plan.size(1_000_000, 900)


def comparisons(plan: Plan) -> tuple[Comparison, ...]:
    """The rows to come."""
    _, small, large = sizes(plan)
    return (
        Comparison(
            f"verify: hashing the lines and the tree of an export of {large:,} events", "hashing",
            "sha256sum of the same bytes", "sha256sum", 0.5, "MB/s",
        ),
        Comparison(
            f"verify: an export of {large:,} events, every event replayed twice", "verify",
            "a million events a minute", "a minute", 1.0, "events/s",
        ),
        Comparison(
            f"memory: verifying {small:,} events", "memory small",
            f"verifying {large:,} (0.8: it grows by a quarter at most)", "memory large", 0.8, "MB at most",
        ),
    )  # fmt: skip


class Document:
    """A statement's canonical JSON, kept until it is written. Stands in for a SHA-256."""

    made: ClassVar[dict[str, bytes]] = {}

    def __init__(self, head: bytes) -> None:
        self._pieces = [head]

    def update(self, piece: bytes, /) -> None:
        """The next piece."""
        self._pieces.append(piece)

    def hexdigest(self) -> str:
        """Its hash, by which it is found."""
        whole = b"".join(self._pieces)
        hash_ = sha256(whole).hexdigest()
        self.made[hash_] = whole
        return hash_


class Writer:
    """Writes a books log as an export has it: lines in, a directory out."""

    def __init__(self, root: Path, affiliates: int) -> None:
        self.root, self.id = root, program_id(PROGRAM)
        self._prefix = codec.line_prefix(self.id, names.LOGS[0])
        self._versions: dict[str, int] = {}
        self._lines: list[bytes] = []
        self._files: list[DataFile] = []
        self._tree, self._books = Tree(), Books()
        self.issued: list[StatementEntry] = []
        self.statements = Statements(Findings())
        self.statements.new_hash = Document
        self.position = 0
        self.now = START
        self.who = [f"affiliate-{n:05}" for n in range(affiliates)]
        (root / names.LOGS[0]).mkdir(parents=True)

    def event(self, topic: str, state: State) -> None:
        """The next event, now."""
        self.position += 1
        stream = stream_id(self.id, NAME_OF[topic](state))
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        at = codec.instant_text(self.now)
        middle = codec.line_middle(topic, at, "shop", "key-1", "request-1", "bench")
        # members in the order of the event, none with its default value, as the ledger writes them
        raw = codec.encode_state(codec.decode_state(topic, msgspec.json.encode(state)))
        self._lines.append(codec.export_line(self._prefix, self.position, stream, version, middle, raw))
        moved = transfers(topic, state)
        if moved:
            self._books.post(moved)
            self.statements.post(self.position, at, topic, state, moved)
        if topic in ("ProgramOpened", "PeriodClosed", "StatementIssued", "StatementsIssued"):
            self.statements.event(self.position, topic, state)
        if len(self._lines) == names.SEGMENT_POSITIONS:
            self._segment()

    def _segment(self) -> None:
        if not self._lines:
            return
        first = self.position - len(self._lines) + 1
        self._tree.add(leaf_hashes(self._lines))
        path = names.segment_path(names.LOGS[0], first, names.NDJSON)
        self.file(path, b"\n".join(self._lines) + b"\n", names.LOGS[0], first, self.position)
        self._lines.clear()

    def file(self, path: str, content: bytes, log: str = "", first: int = 0, last: int = 0) -> None:
        """A file of the export."""
        (self.root / path).write_bytes(content)
        self._files.append(DataFile(path, len(content), sha256(content).hexdigest(), log, first, last))

    def end(self) -> None:
        """Everything behind the last event."""
        self._segment()
        root = self._tree.root()
        balances = [BalanceLine(account, c, amount) for (account, c), amount in self._books.balances().items()]
        encode = msgspec.json.Encoder().encode_lines
        self.file(names.BALANCES, encode(balances))
        self.file(names.STATEMENTS, encode(self.issued))
        self.file(names.KEYS, f"{SIGNER.key}\n".encode())
        note = sign(Checkpoint(SIGNER.key.name, self.position, root).text(), [SIGNER])
        self.file(f"{names.LOGS[0]}/{names.CHECKPOINT}", note.encode())
        logs = {
            "books": LogEnd(self.position, root.hex(), self.position), "traffic": LogEnd(0, EMPTY_ROOT.hex(), 0),
        }  # fmt: skip
        totals = Totals(
            {"books": self.position, "traffic": 0}, self._books.lines, dict(self._books.turnover), len(balances),
            len(self.issued),
        )  # fmt: skip
        manifest = Manifest(
            names.FORMAT, names.NDJSON, PROGRAM, str(self.id), CURRENCY, code_version(), self.now, True, logs, totals,
            self._files,
        )  # fmt: skip
        (self.root / names.MANIFEST).write_bytes(names.encode_manifest(manifest))


def write_export(root: Path, events: int, affiliates: int) -> int:
    """An export of about so many events. Returns how many it has."""
    out = Writer(root, affiliates)
    out.event("ProgramOpened", {"program": PROGRAM, "currency": CURRENCY})
    for who in out.who:
        out.event("AffiliateEnrolled", {"affiliate_id": who})
        out.event("AffiliateApproved", {"affiliate_id": who})
    out.event("OfferPublished", {"offer_id": OFFER})
    terms: State = {
        "terms_version": 1,
        "effective_from": instant(START - timedelta(days=1)),
        "hold_days": HOLD_DAYS,
        "window_days": 30,
    }
    out.event("TermsPublished", {"offer_id": OFFER, **terms, "rate_bps": RATE_BPS})
    left = max(events - out.position - MONTHS * (affiliates + 3), 0)
    a_day = max(1, left * 10 // EVENTS_OF_TEN_SALES // (MONTHS * DAYS))
    draw = random.Random(7)
    waiting: list[list[tuple[str, str, int, datetime]]] = []
    for day in range(MONTHS * DAYS):
        out.now = START + timedelta(days=day)
        waiting.append([_sell(out, f"order-{day}-{n}", draw) for n in range(a_day)])
        if day >= HOLD_DAYS:
            _decide(out, waiting[day - HOLD_DAYS])
            waiting[day - HOLD_DAYS] = []
        if (day + 1) % DAYS == 0:
            for sales in waiting if day + 1 == MONTHS * DAYS else ():
                _decide(out, sales)
            _close(out, (day + 1) // DAYS)
    out.end()
    return out.position


def instant(at: datetime) -> str:
    """RFC 3339."""
    return at.isoformat().replace("+00:00", "Z")


def _sell(out: Writer, order_id: str, draw: random.Random) -> tuple[str, str, int, datetime]:
    who, amount = draw.choice(out.who), draw.randrange(100, 50_000, 10)
    at = out.now - timedelta(seconds=draw.randrange(86_400))
    common: State = {"order_id": order_id, "offer_id": OFFER}
    occurred = {"currency": CURRENCY, "occurred_at": instant(at)}
    out.event("ConversionRecorded", {**common, "amount": amount, **occurred, "affiliate_id": who})
    matures = {"matures_at": instant(at + timedelta(days=HOLD_DAYS)), "terms_version": 1, "traffic_position": 0}
    why = [{"rule": "affiliate_id", "result": "matched", "affiliate_id": who}]
    common |= {"affiliate_id": who, "amount": amount // 10, "sale_amount": amount, "rate_bps": RATE_BPS}
    out.event("CommissionAccrued", {**common, **occurred, **matures, "steps": why})
    return order_id, who, amount, at


def _decide(out: Writer, sales: list[tuple[str, str, int, datetime]]) -> None:
    for number, (order_id, who, amount, at) in enumerate(sales):
        about: State = {"order_id": order_id, "affiliate_id": who, "amount": amount // 10, "currency": CURRENCY}
        if number % 10:
            out.event("ConversionApproved", {**about, "effective_at": instant(at + timedelta(days=HOLD_DAYS))})
            continue
        returned, when = f"return-{order_id}", instant(out.now)
        about |= {"reversal_id": returned, "sale_amount": amount, "effective_at": when, "bucket": "pending"}
        out.event("ConversionReversed", about)
        out.event("ReversalRecorded", {"reversal_id": returned, "order_id": order_id, "occurred_at": when})


def _close(out: Writer, month: int) -> None:
    """A period of thirty days, and everybody's statement of it."""
    out.now = START + timedelta(days=DAYS * month)
    period, ends = f"part-{month}", instant(START + timedelta(days=DAYS * month))
    starts = {"starts_at": instant(START + timedelta(days=DAYS * (month - 1)))} if month > 1 else {}
    out.event("PeriodClosed", {"period": period, "ends_at": ends, **starts})
    cut = out.position
    for who, made in sorted(out.statements.waiting.items()):
        told: State = {"affiliate_id": who, "period": period, "version": 1, "cut_position": cut, "ends_at": ends}
        out.event("StatementIssued", {**told, "sections": made.sections, "hash": made.hash, **starts})
        out.issued.append(StatementEntry(who, period, 1, made.hash, Document.made.pop(made.hash).decode()))
    out.event("StatementsIssued", {"period": period, "version": 1, **out.statements.sums()})


# --- measuring ---------------------------------------------------------------------------------------------


class Verifying:
    """The contenders."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        affiliates, small, large = sizes(plan)
        self._small, self._large = folder / "small", folder / "large"
        write_export(self._small, small, affiliates)
        self._events = write_export(self._large, large, affiliates)
        self._segments = sorted((self._large / names.LOGS[0]).glob(f"*.{names.NDJSON}"))
        self._bytes = sum(path.stat().st_size for path in self._segments)
        self._memory: dict[Path, float] = {}

    def hashing(self) -> float:
        """Leaf hashes and root, as the verifier makes them; megabytes of lines a second."""
        manifest = names.read_manifest((self._large / names.MANIFEST).read_bytes())
        files, tree = Files(self._large, manifest, Findings()), Tree()
        watch = Stopwatch()
        with watch.running():
            for file in files.segments(names.LOGS[0]):
                for block in files.blocks(file):
                    tree.add(leaf_hashes(block.split(b"\n")[:-1]))
            root = tree.root()
        if root.hex() != manifest.logs[names.LOGS[0]].root:
            raise BenchmarkError("the lines do not lead to the root")
        return watch.rate(self._bytes) / 1_000_000

    def sha256sum(self) -> float:
        """The same bytes through the system's tool."""
        tool = shutil.which("sha256sum")
        if tool is None:
            raise BenchmarkError("there is no sha256sum here to compare with")
        watch = Stopwatch()
        with watch.running():
            subprocess.run([tool, *self._segments], stdout=subprocess.DEVNULL, check=True)
        return watch.rate(self._bytes) / 1_000_000

    def verify(self) -> float:
        """Events a second of `ledger verify` in a process of its own, its start included; its peak is kept."""
        return self._verify(self._large) * self._events

    def memory(self, which: str) -> float:
        """The peak, megabytes; of the small export it is verified for it."""
        root = self._small if which == "small" else self._large
        if root == self._small:
            self._verify(root)
        return self._memory[root]

    def _verify(self, root: Path) -> float:
        """How often a second."""
        watch = Stopwatch()
        with watch.running():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.peak", "verify", str(root), f"--key={SIGNER.key}"],
                cwd=World.ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0 or VERIFIED not in done.stdout:
            raise BenchmarkError(f"the export did not verify: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        self._memory[root] = int(done.stderr.split()[-1]) / 1_000_000
        return watch.rate(1)


def measure(world: World, plan: Plan) -> list[Row]:
    """The rows about verifying. The database has no part in them."""
    with tempfile.TemporaryDirectory(prefix="verifying-", dir=default_home()) as folder:
        contest = Verifying(plan, Path(folder))
        contenders = {
            "hashing": contest.hashing,
            "sha256sum": contest.sha256sum,
            "verify": contest.verify,
            "a minute": lambda: 1_000_000 / 60,
            "memory small": lambda: contest.memory("small"),
            "memory large": lambda: contest.memory("large"),
        }
        return race(contenders, comparisons(plan), plan)
