"""A small export for auditors: what the tests of verifying and of tampering share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from proof_world import KEYS, lively_firm
from statement_world import Firm
from support import T0, Clock, by

from ledger.application import CommissionLedger
from ledger.audit import directory as names
from ledger.audit import merkle, sealing
from ledger.audit.directory import DataFile, LogEnd, Manifest
from ledger.audit.findings import Findings
from ledger.audit.notes import Checkpoint, Signer, VerifierKey, sign
from ledger.audit.verifying import Reader, Witness
from ledger.audit.verifying_hashes import LogHashes, Stored, leaf_hashes
from ledger.audit.verifying_seals import Seals
from ledger.audit.verifying_streams import Buckets
from ledger.cli import main
from ledger.domain.affiliate import DecideAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.impression import RecordImpression
from ledger.domain.lifecycle import DecideConversion
from ledger.domain.recording import RecordConversion
from ledger.exporting.exporter import export

SEALED_EVERY = 40  # positions: an earlier checkpoint each


def audited_firm(ledger: CommissionLedger, clock: Clock) -> Firm:
    """The lively firm, with sales at midnight and just before it, clicks that commissions quote, holds, a suspension
    and a rejection; sealed."""
    firm = lively_firm(ledger, clock)
    clock.now = datetime(2026, 5, 2, tzinfo=UTC)
    firm.sell("at midnight", 700, at=datetime(2026, 5, 1, tzinfo=UTC))
    firm.sell("before midnight", 900, at=datetime(2026, 4, 30, 23, 59, 59, 999_999, tzinfo=UTC))
    firm.close("2026-04")
    clicks = [RecordClick(click_id=f"k{n}", affiliate_id="ada", offer_id="shoes", occurred_at=T0) for n in range(40)]
    ledger.record_clicks(firm.program, clicks, by())
    shown = RecordImpression(impression_id="i1", affiliate_id="ada", offer_id="shoes", occurred_at=T0, visitor_id="v1")
    ledger.record_impressions(firm.program, [shown], by())
    for n in range(0, 40, 7):
        sale = {"order_id": f"by-click-{n}", "offer_id": "shoes", "amount": 990 + n, "currency": "GBP"}
        firm.do(RecordConversion(**sale, click_id=f"k{n}", occurred_at=T0 + timedelta(days=1)))
    firm.do(DecideConversion(order_id="by-click-0", decision="hold", reason="looks odd"))
    firm.do(DecideConversion(order_id="by-click-7", decision="reject", reason="is odd"))
    firm.do(DecideConversion(order_id="by-click-0", decision="release", reason="was fine"))
    firm.do(DecideAffiliate(affiliate_id="bob", decision="suspend", reason="asked"))
    firm.sell("while suspended", 2_000, "bob")
    firm.do(DecideConversion(order_id="while suspended", decision="hold", reason="stays"))
    firm.do(DecideAffiliate(affiliate_id="bob", decision="reinstate"))
    firm.do(RecordConversion(order_id="nobody's", offer_id="shoes", amount=5, occurred_at=T0))
    for log in names.LOGS:
        sealing.seal(ledger, firm.program, log, KEYS.signers(firm.program, log), clock())
    return firm


def keys(program: str = "firm") -> list[VerifierKey]:
    """Who may sign for its logs."""
    return [signer.key for log in names.LOGS for signer in KEYS.signers(program, log)]


def make_export(firm: Firm, root: Path, **more: Any) -> Path:
    """Export the firm."""
    export(firm.ledger, firm.program, root, **more)
    return root


class Books(NamedTuple):
    """The books of an export, in memory, with everything that lies beside them. lines: without line feeds; leaves:
    their hashes as they were stored; history: earlier checkpoints, signed; consistency: the file's bytes."""

    program_id: str
    lines: list[bytes]
    leaves: bytes
    root: bytes
    note: str
    checkpoint_size: int
    history: list[str]
    consistency: bytes = b""
    claimed: int = 0  # the manifest's size, where it is not the lines'

    @property
    def size(self) -> int:
        """How many events there are."""
        return len(self.lines)

    def manifest(self) -> Manifest:
        """As far as the log's seal asks for it."""
        end = LogEnd(self.claimed or self.size, self.root.hex(), self.checkpoint_size)
        totals = names.Totals({}, 0, {}, 0, 0)
        return Manifest(
            names.FORMAT, names.NDJSON, "firm", self.program_id, "GBP", "", T0, True, {"books": end}, totals, []
        )

    def read(self, path: str) -> bytes:
        """A file of the log's seal."""
        found = {
            f"books/{names.CHECKPOINT}": self.note.encode(),
            f"books/{names.CONSISTENCY}": self.consistency,
            f"books/{names.EARLIER}": history_file(self.history),
        }[path]
        if not found:
            raise FileNotFoundError(path)
        return found

    def recomputed(self) -> Books:
        """All hashes made anew, as somebody does who may write everything and has no key."""
        leaves = leaf_hashes(self.lines)
        return self._replace(leaves=leaves, root=root_over(leaves))


def root_over(leaves: bytes) -> bytes:
    """The root over leaf hashes that lie side by side."""
    return merkle.root_of(leaves[at : at + 32] for at in range(0, len(leaves), 32))


def history_file(notes: list[str]) -> bytes:
    """checkpoints.ndjson."""
    return b"".join(json.dumps({"size": int(note.split("\n")[1]), "note": note}).encode() + b"\n" for note in notes)


def signed(leaves: bytes, size: int, signer: Signer) -> str:
    """A checkpoint of the first `size` leaves."""
    return sign(Checkpoint(signer.key.name, size, root_over(leaves[: 32 * size])).text(), [signer])


def books_of(root: Path) -> Books:
    """The books of an export, with an earlier checkpoint every forty positions."""
    manifest = names.read_manifest((root / names.MANIFEST).read_bytes())
    end = manifest.logs["books"]
    lines = (root / names.segment_path("books", 1, names.NDJSON)).read_bytes().split(b"\n")[:-1]
    leaves, signer = leaf_hashes(lines), KEYS.signers("firm", "books")[0]
    history = [signed(leaves, size, signer) for size in range(SEALED_EVERY, end.size, SEALED_EVERY)]
    note = (root / "books" / names.CHECKPOINT).read_text()
    return Books(manifest.program_id, lines, leaves, bytes.fromhex(end.root), note, end.checkpoint_size, history)


def read_books(
    books: Books, trusted: list[VerifierKey], copy: bytes = b"", whole: bool = False, traffic: Sequence[bytes] = ()
) -> Findings:
    """What reading the books finds, as `ledger verify` reads them. copy: the leaf hashes of an earlier copy, perhaps of
    a shorter log; whole: what the events mean as well, else what hashes, seals and places show; traffic: that log's
    lines."""
    findings = Findings()
    seals = Seals(books.read, books.manifest(), trusted, findings)
    known = seals.roots("books")
    stored = [Stored(BytesIO(books.leaves), f"books/{names.LEAVES}")]
    if copy:
        stored.append(Stored(BytesIO(copy), "an earlier copy", "copies_differ", whole=False))
    ends = books.size == books.checkpoint_size
    with Witness(books.program_id, {"books": books.size}, findings, whole_ends=ends) as witness:
        reader = witness.reader("books", known, stored)
        if not whole:
            hashes, buckets = LogHashes("books", findings, known, stored), Buckets(Path, "books", 0)
            reader = Reader("books", books.program_id, findings, hashes, buckets, None, None, None)
        reader.lines(books.lines)
        reader.end()
        seals.check_consistency("books", reader.hashes.size, reader.hashes.root())
        if traffic:
            witness.reader("traffic").lines(traffic)
        if whole:
            witness.finish()
    return findings


def write_books(books: Books, whole: Path, to: Path) -> None:
    """An export's directory with other books, and the manifest as whoever may write everything would leave it: its
    hashes of files agree. whole: the export that the rest comes from."""

    def change(files: dict[str, bytes]) -> None:
        files[names.segment_path("books", 1, names.NDJSON)] = b"".join(line + b"\n" for line in books.lines)
        for name in (names.CHECKPOINT, names.EARLIER, names.CONSISTENCY):
            files.pop(f"books/{name}", None)
            try:
                files[f"books/{name}"] = books.read(f"books/{name}")
            except FileNotFoundError:
                continue
        files[f"books/{names.LEAVES}"] = books.leaves

    rewrite(whole, to, change, logs=books.manifest().logs)


def rewrite(
    whole: Path,
    to: Path,
    change: Callable[[dict[str, bytes]], None],
    *,
    logs: dict[str, LogEnd] | None = None,
    recompute: bool = True,
) -> None:
    """A copy of an export with other files. logs: what the manifest then says of them; recompute: and its hashes of
    files, so that they agree."""
    files = {
        path.relative_to(whole).as_posix(): path.read_bytes() for path in sorted(whole.rglob("*")) if path.is_file()
    }
    change(files)
    if recompute:
        manifest = names.read_manifest(files[names.MANIFEST])
        segments = {file.path: (file.log, file.first, file.last) for file in manifest.files}
        made = [
            DataFile(path, len(content), sha256(content).hexdigest(), *segments.get(path, ("", 0, 0)))
            for path, content in files.items()
            if path != names.MANIFEST
        ]
        manifest = msgspec.structs.replace(manifest, files=made, logs=manifest.logs | (logs or {}))
        files[names.MANIFEST] = names.encode_manifest(manifest)
    for name, content in files.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)


def verify(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    """`ledger verify …`: (exit code, what it printed)."""
    with pytest.raises(SystemExit) as exit_:
        main(["verify", *map(str, args)])
    return int(exit_.value.code or 0), "".join(capsys.readouterr())
