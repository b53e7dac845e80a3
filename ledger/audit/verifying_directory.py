"""`ledger verify DIR`: an export against itself, against its seal, and against what its own lines lead to. No database,
no network."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import msgspec

from ledger.audit import directory as names
from ledger.audit.directory import BalanceLine, Manifest, NoExport, StatementEntry, read_manifest
from ledger.audit.findings import Findings
from ledger.audit.notes import Checkpoint, InvalidNote, VerifierKey
from ledger.audit.report import Report, SealedLog
from ledger.audit.verifying import BOOKS, LOGS, TRAFFIC, Witness, Witnessed, processors
from ledger.audit.verifying_against import Earlier
from ledger.audit.verifying_evidence import SPOOL_BYTES
from ledger.audit.verifying_files import Files, read_small
from ledger.audit.verifying_hashes import Known, Stored
from ledger.audit.verifying_seals import Seals, read_keys, stated
from ledger.version import code_version


class Request(NamedTuple):
    """What to verify and how. keys: the auditor's own; None: those of the export. against: earlier exports or
    checkpoints of the same logs; unsealed: an export that nobody signed is accepted; by: who signs the report off."""

    root: Path
    keys: Sequence[VerifierKey] | None = None
    against: Sequence[Path] = ()
    unsealed: bool = False
    by: str = ""
    processes: int = 0
    folder: Path | None = None


def verify_directory(request: Request) -> Report:
    """Verify an export. Everything that is wrong is in the report, never an exception, except OSError of this machine's
    own disk."""
    started, clock = datetime.now(UTC), time.perf_counter()
    findings = Findings()
    report = Report(
        result="", source=str(request.root), program="", program_id="", code_version=code_version(),
        started_at=started, seconds=0.0, signed_off_by=request.by,
    )  # fmt: skip
    manifest = _manifest(request.root, findings)
    if manifest is not None:
        with without_collector():
            _Verification(request, manifest, findings, report).run()
    report.take(findings)
    report.seconds = round(time.perf_counter() - clock, 3)
    return report


def _manifest(root: Path, findings: Findings) -> Manifest | None:
    try:
        return read_manifest(read_small(root / names.MANIFEST))
    except FileNotFoundError:
        findings.report("file_missing", "", 0, "a finished export", f"no {names.MANIFEST}", names.MANIFEST)
    except (NoExport, OSError) as problem:
        findings.report("manifest_unreadable", "", 0, names.FORMAT, problem, names.MANIFEST)
    return None


@contextmanager
def without_collector() -> Iterator[None]:
    """Millions of objects come and go, and no cycles among them: looking for some took a seventh of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Verification:
    def __init__(self, request: Request, manifest: Manifest, findings: Findings, report: Report) -> None:
        self._request, self._manifest, self._findings, self._report = request, manifest, findings, report
        report.program, report.program_id = manifest.program, manifest.program_id
        report.exported_at, report.exported_by_version = manifest.exported_at.isoformat(), manifest.code_version
        self._files = Files(request.root, manifest, findings)
        self._keys = self._which_keys()
        self._seals = Seals(self._files.read_small, manifest, self._keys, findings)
        self._issued = IssuedStatements()

    def _which_keys(self) -> Sequence[VerifierKey]:
        report = self._report
        if self._request.keys is not None:
            keys: Sequence[VerifierKey] = self._request.keys
            report.keys_from = "auditor"
        else:
            keys = self._own_keys()
            report.keys_from = "export" if self._manifest.sealed else ""
            if self._manifest.sealed:
                report.warnings.append(
                    "the keys came with the export: whoever can forge the one can forge the other. Compare them with"
                    " keys that you were given in another way, or name those with --key"
                )
        report.keys = [str(key) for key in keys]
        return keys

    def _own_keys(self) -> list[VerifierKey]:
        if not self._files.has(names.KEYS):
            return []
        try:
            return read_keys(self._files.read_small(names.KEYS).decode())
        except (InvalidNote, UnicodeDecodeError, OSError) as problem:
            self._findings.report("checkpoint_invalid", "", 0, "verifier keys", problem, names.KEYS)
            return []

    def run(self) -> None:
        manifest, report = self._manifest, self._report
        self._files.check_small()
        self._check_sealed()
        sealed = manifest.sealed or not self._request.unsealed
        if not manifest.logs[BOOKS].size:
            self._findings.report("size_differs", BOOKS, 1, "the program's opening, at least", "an empty log")
        sizes = {log: end.size for log, end in manifest.logs.items()}
        whole = all(end.checkpoint_size == end.size for end in manifest.logs.values())
        known = {log: self._seals.roots(log) if sealed else self._manifest_root(log) for log in LOGS}
        if self._request.keys is not None:
            self._seals.check_witnesses(self._request.keys)
        checkpoints = {log: seal.checkpoint for log, seal in self._seals.seals.items()}
        earlier = [self._earlier(path, checkpoints) for path in self._request.against]
        processes = self._request.processes or processors()
        with Witness(
            manifest.program_id, sizes, self._findings, folder=self._request.folder, processes=processes,
            keep_issued=self._issued.add, whole_ends=whole,
        ) as witness:  # fmt: skip
            for log in ("traffic", "books"):
                self._read(witness, log, known[log], earlier)
            found = witness.finish()
            self._compare(witness, found)
        report.compared_with = [told for one in earlier if (told := one.told())]
        report.witnessed = found
        if found.clicks_behind:
            report.warnings.append(
                f"{found.clicks_behind:,} commissions quote clicks behind the end of the exported traffic log, which"
                " may be sealed a moment before the books: a later export has them"
            )
        report.files, report.bytes = self._files.count, self._files.bytes
        report.seals = {
            log: SealedLog(
                seal.checkpoint.origin, seal.checkpoint.size, seal.checkpoint.root.hex(), seal.signed_by,
                seal.cosigned_by,
            )
            for log, seal in sorted(self._seals.seals.items())
        }  # fmt: skip

    def _manifest_root(self, log: str) -> list[Known]:
        end = self._manifest.logs[log]
        return [stated(end)] if end.size else []

    def _check_sealed(self) -> None:
        """What nobody signed is told: it could be anything, or have been left out."""
        manifest, warnings = self._manifest, self._report.warnings
        if not manifest.sealed:
            warnings.append("nobody signed this export: it agrees with itself, and that is all that is shown")
            if not self._request.unsealed:
                expected = "a sealed export (--unsealed accepts another)"
                self._findings.report("checkpoint_invalid", "", 0, expected, "one that nobody signed", names.MANIFEST)
        elif not manifest.logs[TRAFFIC].size:
            warnings.append(
                "the traffic log is empty in this export, and nobody signed that: clicks may have been left out. An"
                " earlier export or checkpoint of that log (--against) would show it"
            )

    def _earlier(self, path: Path, sealed: Mapping[str, Checkpoint]) -> Earlier:
        return Earlier(path, self._manifest.program, self._keys, sealed, self._findings)

    def _read(self, witness: Witness, log: str, known: list[Known], earlier: Sequence[Earlier]) -> None:
        expected = self._manifest.logs[log].size
        with ExitStack() as stack:
            stored = self._stored_leaves(log, stack)
            for one in earlier:
                known += one.known(log, expected)
                stored += one.stored(log, stack)
            reader = witness.reader(log, known, stored)
            for file in self._files.segments(log):
                for block in self._files.blocks(file):
                    reader.feed(block)
            reader.end()
        size = reader.hashes.size
        if size > expected:
            self._findings.report("size_differs", log, expected + 1, f"{expected} events (the manifest)", size)
        self._seals.check_consistency(log, size, reader.hashes.root())

    def _stored_leaves(self, log: str, stack: ExitStack) -> list[Stored]:
        name = f"{log}/{names.LEAVES}"
        try:
            return [Stored(stack.enter_context(self._files.open(name)), name)] if self._files.has(name) else []
        except OSError:
            return []  # told when the small files were hashed

    # --- what lies beside the log --------------------------------------------------------------------------

    def _compare(self, witness: Witness, found: Witnessed) -> None:
        totals = self._manifest.totals
        ours = {
            "events": {log: facts.size for log, facts in found.logs.items()},
            "journal_lines": found.journal_lines,
            "turnover": found.turnover,
        }
        for what, value in ours.items():
            said = getattr(totals, what)
            if said != value:
                self._findings.report("total_differs", "", 0, value, said, f"{names.MANIFEST}: {what}")
        self._compare_balances(witness, totals.accounts)
        self._compare_statements(totals.statements)

    def _entries(self, name: str, form: Any) -> Iterator[Any]:
        """A file's lines, decoded."""
        if not self._files.has(name):
            self._findings.report("file_missing", "", 0, "a file", "none", name)
            return
        decode = msgspec.json.Decoder(form).decode
        try:
            for number, line in enumerate(self._files.lines(name), 1):
                try:
                    yield decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
                    self._findings.report(
                        "line_unreadable", "", 0, f"a {form.__name__}", problem, f"{name} line {number}"
                    )
        except OSError as problem:
            self._findings.report("file_missing", "", 0, "a file of lines", problem.strerror, name)

    def _compare_balances(self, witness: Witness, count: int) -> None:
        seen: set[tuple[str, str]] = set()
        number = 0
        for number, one in enumerate(self._entries(names.BALANCES, BalanceLine), 1):  # noqa: B007
            place = one.account, one.currency
            expected = witness.books.balance(*place)
            if place in seen or one.amount != expected:
                found = "a second line" if place in seen else one.amount
                self._findings.report("balance_differs", BOOKS, 0, expected, found, " ".join(place))
            seen.add(place)
        for place, amount in witness.books.balances().items():
            if place not in seen:
                self._findings.report("balance_differs", BOOKS, 0, amount, "no line", " ".join(place))
        if number != count:
            self._findings.report("total_differs", "", 0, f"{count} accounts (the manifest)", number, names.BALANCES)

    def _compare_statements(self, count: int) -> None:
        """Both ways: none is missing, none is there that was not issued, and each document is what was hashed."""
        number = 0
        groups = groupby(self._entries(names.STATEMENTS, StatementEntry), key=lambda one: (one.period, one.version))
        issued = iter(self._issued)
        for (period, version), entries in groups:
            expected = next(issued, None)
            if expected is None or (expected.period, expected.version) != (period, version):
                named = f"{expected.period} version {expected.version}" if expected else "the end"
                self._findings.report(
                    "statement_extra", BOOKS, 0, named, f"{period} version {version}", names.STATEMENTS
                )
                number += sum(1 for _ in entries)
                return
            here: dict[str, str] = {}
            for one in entries:
                number += 1
                self._check_document(one, here)
            self._compare_group(expected, here)
        for left in issued:
            self._compare_group(left, {})
        if number != count:
            found = f"{number} statements"
            self._findings.report("total_differs", "", 0, f"{count} (the manifest)", found, names.STATEMENTS)

    def _check_document(self, one: StatementEntry, here: dict[str, str]) -> None:
        name = f"{one.affiliate_id} {one.period} version {one.version}"
        made = sha256(one.document.encode()).hexdigest()
        if made != one.hash:
            self._findings.report("statement_differs", BOOKS, 0, one.hash, f"a document that leads to {made}", name)
        if one.affiliate_id in here:
            self._findings.report("statement_extra", BOOKS, 0, "one line", "a second one", name)
        here[one.affiliate_id] = one.hash

    def _compare_group(self, expected: IssuedGroup, here: dict[str, str]) -> None:
        for who in sorted(expected.hashes.keys() | here.keys()):
            ours, theirs = expected.hashes.get(who), here.get(who)
            if ours != theirs:
                kind = "statement_missing" if theirs is None else "statement_extra" if ours is None else ""
                name = f"{who} {expected.period} version {expected.version}"
                self._findings.report(kind or "statement_differs", BOOKS, 0, ours or "none", theirs or "none", name)


class IssuedGroup(NamedTuple):
    """The statements of one version of a period. hashes: by affiliate."""

    period: str
    version: int
    hashes: dict[str, str]


class IssuedStatements:
    """What the log issued, in its order, on disk once it is much. The statements of one cut stand together in it."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115  (closed with the object)

    def add(self, period: str, version: int, affiliate_id: str, hash_: str) -> None:
        """One more."""
        self._file.write(f"{period}\t{version}\t{affiliate_id}\t{hash_}\n".encode())

    def __iter__(self) -> Iterator[IssuedGroup]:
        self._file.seek(0)
        rows = (row[:-1].decode().split("\t") for row in self._file)
        for (period, version), some in groupby(rows, key=lambda row: (row[0], row[1])):
            yield IssuedGroup(period, int(version), {row[2]: row[3] for row in some})

    def __del__(self) -> None:
        self._file.close()
