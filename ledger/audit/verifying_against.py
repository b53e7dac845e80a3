"""What the auditor kept from before: an earlier export, or a checkpoint. What came later must begin with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ledger.audit import directory as names
from ledger.audit.directory import Manifest, NoExport, read_manifest
from ledger.audit.findings import Findings
from ledger.audit.notes import Checkpoint, InvalidNote, VerifierKey, read_checkpoint, read_note
from ledger.audit.verifying_files import Files, read_small
from ledger.audit.verifying_hashes import Known, Stored, leaf_hashes
from ledger.audit.verifying_seals import open_seal, stated


class EarlierUnreadable(ValueError):
    """What was named as earlier is neither an export of this program nor a checkpoint of its logs."""


class Earlier:
    """An earlier export (a directory) or checkpoint (a file). sealed: how long each log is by the checkpoint of the
    export that is verified, and its root; compared: which logs were. Raises EarlierUnreadable."""

    def __init__(
        self,
        path: Path,
        program: str,
        keys: Sequence[VerifierKey],
        sealed: Mapping[str, Checkpoint],
        findings: Findings,
    ) -> None:
        self._named, self._path = path, path.resolve()
        self._program, self._findings, self._sealed = program, findings, sealed
        self.compared: dict[str, int] = {}  # log → size
        self._manifest: Manifest | None = None
        self._checkpoints: dict[str, Checkpoint] = {}
        try:
            if self._path.is_dir():
                self._manifest = read_manifest(read_small(self._path / names.MANIFEST))
                if self._manifest.program != program:
                    raise EarlierUnreadable(f"{path} is an export of {self._manifest.program}, not of {program}")
            else:
                self._read_checkpoint(keys)
        except (NoExport, InvalidNote, UnicodeDecodeError, OSError) as problem:
            raise EarlierUnreadable(f"{path} is no export and no checkpoint of a known key: {problem}") from None

    def told(self) -> str:
        """What of it was compared, for the report; '' for nothing."""
        if not self.compared:
            return ""
        if self._manifest is not None:
            sizes = ", ".join(f"{size:,} {log}" for log, size in sorted(self.compared.items()))
            return f"{self._named}: the export of {self._manifest.exported_at:%Y-%m-%d}, {sizes}"
        (checkpoint,) = self._checkpoints.values()
        return f"{self._named}: the checkpoint of {checkpoint.origin}, size {checkpoint.size:,}"

    def _read_checkpoint(self, keys: Sequence[VerifierKey]) -> None:
        path, note = self._named, read_small(self._path).decode()
        said = read_checkpoint(read_note(note).text)
        program, _, log = said.origin.rpartition("/")
        if log not in names.LOGS or not program.endswith(f"/{self._program}"):
            raise EarlierUnreadable(f"{path} is a checkpoint of {said.origin}, not of a log of {self._program}")
        try:
            self._checkpoints[log] = open_seal(note, keys).checkpoint
        except InvalidNote as problem:  # whoever kept it knows another key: the export may be signed by a stranger
            self._findings.report(
                "not_compared", log, 0, "the same key under what was kept and under the export", problem, str(path)
            )

    def known(self, log: str, size: int) -> list[Known]:
        """The roots that it knows, up to a size. What it knows of more is compared with the checkpoint of the export,
        or is a finding: whoever kept it must not believe that it was."""
        known = []
        if (checkpoint := self._checkpoints.get(log)) is not None:
            known.append(Known(checkpoint.size, checkpoint.root, str(self._named)))
        if self._manifest is not None and (end := self._manifest.logs[log]).size:
            known.append(stated(end)._replace(source=str(self._named)))
        for one in known:
            if one.size <= size or self._is_sealed(log, one, size):
                self.compared[log] = one.size
        return [one for one in known if one.size <= size]

    def _is_sealed(self, log: str, one: Known, size: int) -> bool:
        """Whether it is the checkpoint of the export, which that is proven to be the beginning of. size: exported."""
        sealed = self._sealed.get(log)
        most = max(size, sealed.size if sealed else 0)
        if one.size > most:
            expected = f"at least {one.size} events ({one.source})"
            self._findings.report("size_differs", log, most + 1, expected, most)
        elif sealed is not None and one.size == sealed.size:
            if one.root != sealed.root:
                expected = f"root {one.root.hex()} at size {one.size} ({one.source})"
                found = f"root {sealed.root.hex()} in the signed checkpoint"
                self._findings.report("root_differs", log, 1, expected, found, exact=False)
            return True
        else:
            expected = f"an export of at least {one.size} events, to compare with {one.source}"
            self._findings.report("not_compared", log, size + 1, expected, f"{size} events", exact=False)
        return False

    def stored(self, log: str, stack: ExitStack) -> list[Stored]:
        """The leaf hashes of its lines."""
        if self._manifest is None:
            return []
        files = Files(self._path, self._manifest, Findings())  # what is wrong in it is not asked here
        return [Stored(_Leaves(files, log), str(self._path), "copies_differ", whole=False)]


class _Leaves:
    """An export's leaf hashes, read from its lines as they are asked for."""

    def __init__(self, files: Files, log: str) -> None:
        self._blocks = self._hashed(files, log)
        self._rest = b""

    @staticmethod
    def _hashed(files: Files, log: str) -> Iterator[bytes]:
        for file in files.segments(log):
            for block in files.blocks(file):
                yield leaf_hashes(block.split(b"\n")[:-1])

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes."""
        parts, length = [self._rest], len(self._rest)
        while length < size and (block := next(self._blocks, b"")):
            parts.append(block)
            length += len(block)
        found = b"".join(parts)
        self._rest = found[size:]
        return found[:size]
