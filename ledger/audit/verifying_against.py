"""What the auditor kept from before: an earlier export, or a checkpoint. What came later must begin with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ledger.audit import directory as names
from ledger.audit.directory import Manifest, NoExport, read_manifest
from ledger.audit.findings import Findings
from ledger.audit.notes import Checkpoint, InvalidNote, VerifierKey
from ledger.audit.verifying_files import Files
from ledger.audit.verifying_hashes import Known, Stored, leaf_hashes
from ledger.audit.verifying_seals import open_seal, read_small, stated


class EarlierUnreadable(ValueError):
    """What was named as earlier is neither an export of this program nor a checkpoint of its logs."""


class Earlier:
    """An earlier export (a directory) or checkpoint (a file). told: what it is, for the report; sealed: how long each
    log is by the export that is verified. Raises EarlierUnreadable."""

    def __init__(
        self, path: Path, program: str, keys: Sequence[VerifierKey], sealed: Mapping[str, int], findings: Findings
    ) -> None:
        self._path, self._program, self._findings, self._sealed = path, program, findings, sealed
        self._manifest: Manifest | None = None
        self._checkpoints: dict[str, Checkpoint] = {}
        try:
            if path.is_dir():
                self._manifest = read_manifest(read_small(path / names.MANIFEST))
                if self._manifest.program != program:
                    raise EarlierUnreadable(f"{path} is an export of {self._manifest.program}, not of {program}")
                sizes = ", ".join(f"{end.size:,} {log}" for log, end in sorted(self._manifest.logs.items()))
                self.told = f"{path}: the export of {self._manifest.exported_at:%Y-%m-%d}, {sizes}"
            else:
                self.told = self._read_checkpoint(path, keys)
        except (NoExport, InvalidNote, UnicodeDecodeError, OSError) as problem:
            raise EarlierUnreadable(f"{path} is no export and no checkpoint of a known key: {problem}") from None

    def _read_checkpoint(self, path: Path, keys: Sequence[VerifierKey]) -> str:
        checkpoint = open_seal(read_small(path).decode(), keys).checkpoint
        program, _, log = checkpoint.origin.rpartition("/")
        if log not in names.LOGS or not program.endswith(f"/{self._program}"):
            raise EarlierUnreadable(f"{path} is a checkpoint of {checkpoint.origin}, not of a log of {self._program}")
        self._checkpoints[log] = checkpoint
        return f"{path}: the checkpoint of {checkpoint.origin}, size {checkpoint.size:,}"

    def known(self, log: str, size: int) -> list[Known]:
        """The roots that it knows, up to a size. One of a longer log than was sealed since is a finding."""
        known = []
        if (checkpoint := self._checkpoints.get(log)) is not None:
            known.append(Known(checkpoint.size, checkpoint.root, str(self._path)))
        if self._manifest is not None and (end := self._manifest.logs[log]).size:
            known.append(stated(end)._replace(source=str(self._path)))
        for one in known:
            if one.size > self._sealed[log]:
                expected = f"at least {one.size} events ({one.source})"
                self._findings.report("size_differs", log, self._sealed[log] + 1, expected, self._sealed[log])
        return [one for one in known if one.size <= size]

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
