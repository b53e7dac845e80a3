"""Writing an export, or going on with one.

What is exported is decided once (planning.py): positions are never given out again and what was recorded up to one
never changes, so the long part needs no lock and no single transaction, writing goes on meanwhile, and it can be
interrupted anywhere. docs/export-directory.md describes the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from ledger import sql
from ledger.application import CommissionLedger
from ledger.audit import directory as names
from ledger.audit import merkle, notes, tree
from ledger.audit.directory import BalanceLine, Consistency, EarlierCheckpoint, LogEnd, Manifest, Totals
from ledger.audit.edge import Edge
from ledger.audit.exporting_place import Draft, ExportRefused, Place, Plan, opened
from ledger.audit.exporting_readme import readme
from ledger.audit.exporting_segments import kept_segment, write_segment
from ledger.exporting.planning import Asked, checkpoint_size, is_of, make_plan
from ledger.exporting.reading import in_parts, reading
from ledger.exporting.statements import write_statements
from ledger.projections import books
from ledger.store.log import last_position
from ledger.version import code_version

QUERIES = sql.load("ledger.exporting", "exporting.sql")

EARLIER_CHECKPOINTS = 1000  # at most, spread evenly: they narrow down where a log was changed

Progress = Callable[[str, int, int | None], None]
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


class Exported(NamedTuple):
    """A finished export. written: files that this run wrote; 0: all was there and whole."""

    manifest: Manifest
    written: int


def export(
    ledger: CommissionLedger,
    program: str,
    directory: Path,
    *,
    segments: str = names.NDJSON,
    until: int | None = None,
    unsealed: bool = False,
    progress: Progress = lambda *_: None,
) -> Exported:
    """Export a program into a directory that is new, empty, or holds an earlier or unfinished export of it.

    until: last position of the books; else all that is sealed. unsealed: of logs that no checkpoint vouches for.
    progress is told (what, done, total). Raises ExportRefused, InvalidInput, UnknownProgram.
    """
    with reading(ledger, program) as (cur, id_):
        last_position(cur, id_, "books")  # before a directory is made
    with opened(directory) as place:
        asked = Asked(ledger, program, segments, until, not unsealed)
        plan = make_plan(asked, place)
        if place.manifest is not None and is_of(place.manifest, plan):
            if all(map(place.is_whole, place.files)):
                return Exported(place.manifest, 0)
            plan = msgspec.structs.replace(plan, exported_at=place.manifest.exported_at)
        place.begin(plan)
        return _Export(asked, plan, place, progress).run()


class _Export:
    """One run over a plan."""

    def __init__(self, asked: Asked, plan: Plan, place: Place, progress: Progress) -> None:
        self._ledger, self._program = asked.ledger, asked.program
        self._plan, self._place, self._progress = plan, place, progress
        self._until = plan.sizes["books"]
        self._paths: list[str] = []

    def run(self) -> Exported:
        plan = self._plan
        logs = {log: self._log(log) for log in names.LOGS}
        accounts = self._lines(names.BALANCES, "accounts", self._write_balances)
        statements = self._lines(names.STATEMENTS, "statements", self._write_statements)
        journal_lines, turnover = self._turnover()
        totals = Totals({log: end.size for log, end in logs.items()}, journal_lines, turnover, accounts, statements)
        if plan.keys:
            self._small(names.KEYS, plan.keys.encode())
        self._small(names.README, readme(plan, logs, totals))
        manifest = Manifest(
            format=names.FORMAT,
            segments=plan.segments,
            program=plan.program,
            program_id=plan.program_id,
            currency=plan.currency,
            code_version=code_version(),
            exported_at=plan.exported_at,
            sealed=plan.sealed,
            logs=logs,
            totals=totals,
            files=[self._place.files[path] for path in self._paths],
        )
        self._place.finish(manifest)
        return Exported(manifest, self._place.written)

    def _small(self, path: str, content: bytes) -> None:
        self._paths.append(path)
        if not self._place.is_whole(path) or self._place.files[path].sha256 != sha256(content).hexdigest():
            self._place.write(path, content)

    # --- the logs --------------------------------------------------------------------------------------

    def _log(self, log: str) -> LogEnd:
        plan, size = self._plan, self._plan.sizes[log]
        leaves = Edge()

        with self._leaves(log) as draft:

            def written(hashes: bytes) -> None:
                leaves.extend(hashes)
                draft.write(hashes)
                self._progress(log, leaves.size, size)

            self._segments(log, written)
        root = leaves.root()
        if log in plan.notes:
            self._seal(log, root)
        return LogEnd(size, root.hex(), checkpoint_size(plan, log))

    @contextmanager
    def _leaves(self, log: str) -> Iterator[Draft]:
        """The file of the log's leaf hashes; an empty log has none."""
        path = f"{log}/{names.LEAVES}"
        if not self._plan.sizes[log]:
            yield Draft(path, BytesIO())
            return
        with self._place.draft(path) as draft:
            yield draft
        self._paths.append(path)

    def _segments(self, log: str, written: Callable[[bytes], None]) -> None:
        plan = self._plan
        for first, last in names.segment_bounds(plan.sizes[log]):
            path = names.segment_path(log, first, plan.segments)
            self._paths.append(path)
            known = self._place.files.get(path)
            kept = kept_segment(self._place, path, plan.segments) if known and known.last == last else None
            if kept is not None:
                written(kept)
                continue
            # A transaction each: what was recorded never changes, and an old one would hold up the vacuum.
            with reading(self._ledger, self._program) as (cur, id_):
                write_segment(cur, id_, log, (first, last), self._place, plan.segments, written)

    def _seal(self, log: str, root: bytes) -> None:
        """The checkpoint, and how what was exported leads to it."""
        note, size = self._plan.notes[log], self._plan.sizes[log]
        try:
            # the newest checkpoint: a retired key, with `until SIZE` behind it, did not sign it
            keys = [notes.read_verifier_key(line) for line in self._plan.keys.splitlines() if " " not in line]
            checkpoint = notes.open_checkpoint(note, keys)
            with reading(self._ledger, self._program) as (cur, id_):
                stored = tree.StoredTree(cur, id_, log, checkpoint.size)
                proof = stored.consistency_proof(size) if size < checkpoint.size else []
            if size == checkpoint.size and root != checkpoint.root:
                raise merkle.InvalidProof(f"their root is {root.hex()}, the checkpoint's {checkpoint.root.hex()}")
            merkle.verify_consistency(size, checkpoint.size, proof, root, checkpoint.root)
        except (notes.InvalidNote, merkle.InvalidProof, tree.TreeIncomplete) as problem:
            self._place.forget(log)  # the next run reads them from the log again
            raise ExportRefused(
                f"{log}: the events 1 to {size} are not those that were sealed: {problem}. `ledger check --program"
                f" {self._program}` looks for what was changed"
            ) from None
        self._small(f"{log}/{names.CHECKPOINT}", note.encode())
        with reading(self._ledger, self._program) as (cur, id_):
            params = {"program_id": id_, "log": log, "size": size, "most": EARLIER_CHECKPOINTS}
            earlier = cur.execute(QUERIES["select_earlier_checkpoints"], params).fetchall()
        if earlier:
            self._small(f"{log}/{names.EARLIER}", _encode_lines([EarlierCheckpoint(*row) for row in earlier]))
        if proof:
            says = Consistency(size, checkpoint.size, [notes.to_base64(one) for one in proof])
            self._small(f"{log}/{names.CONSISTENCY}", _encode(says) + b"\n")

    # --- balances and totals ---------------------------------------------------------------------------

    def _lines(self, path: str, what: str, write: Callable[[Draft], None]) -> int:
        """Write a file of lines, if it is not there. Returns how many it has."""
        self._paths.append(path)
        if self._place.is_whole(path):
            with open(self._place.root / path, "rb") as file:
                return sum(1 for _ in file)
        with self._place.draft(path) as draft:
            write(draft)
        self._progress(what, draft.lines, draft.lines)
        return draft.lines

    def _write_balances(self, draft: Draft) -> None:
        params = {"program_id": self._plan.program_id, "affiliate_id": None, "position": self._until}
        known = books.QUERIES["select_balances_at_position"]
        # by bytes, whatever the database's collation is
        query = f'SELECT account, currency, balance FROM ({known}) k ORDER BY account COLLATE "C", currency'  # noqa: S608
        with reading(self._ledger, self._program) as (cur, _):
            for rows in in_parts(cur, "export_balances", query, params):
                draft.write(_encode_lines([BalanceLine(*row) for row in rows]))
                draft.lines += len(rows)
                self._progress("accounts", draft.lines, None)

    def _turnover(self) -> tuple[int, dict[str, int]]:
        """(lines of the journal, currency → sum of their amounts)."""
        with reading(self._ledger, self._program) as (cur, id_):
            cur.execute(QUERIES["select_turnover"], {"program_id": id_, "position": self._until})
            rows = cur.fetchall()
        return sum(lines for _, lines, _ in rows), {currency: int(amount) for currency, _, amount in rows}

    def _write_statements(self, draft: Draft) -> None:
        write_statements(
            self._ledger, self._program, self._until, draft, lambda done: self._progress("statements", done, None)
        )
