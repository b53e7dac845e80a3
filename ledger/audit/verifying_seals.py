"""Whose word stands for a log: keys, signed checkpoints, and the proof that what was exported begins what was
sealed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from ledger.audit import directory as names
from ledger.audit.directory import Consistency, EarlierCheckpoint, LogEnd, Manifest
from ledger.audit.findings import Findings
from ledger.audit.merkle import InvalidProof, verify_consistency
from ledger.audit.notes import (
    COSIGNATURE_V1,
    ED25519,
    Checkpoint,
    InvalidNote,
    VerifierKey,
    from_base64,
    open_checkpoint,
    read_checkpoint,
    read_note,
    read_verifier_key,
    verified_by,
)
from ledger.audit.verifying_hashes import Known

_UNTIL = re.compile(r"0|[1-9][0-9]{0,18}")


class Seal(NamedTuple):
    """A log's signed checkpoint. signed_by, cosigned_by: verifier keys that did."""

    checkpoint: Checkpoint
    signed_by: list[str]
    cosigned_by: list[str]


class EndedKey(VerifierKey):
    """A key that was retired. until: the size of the last checkpoint that it may have signed."""

    until: int


def read_keys(text: str) -> list[VerifierKey]:
    """The verifier keys of a text, one a line, a retired one as `VKEY until SIZE`; empty lines and lines that begin
    with # are none. Raises InvalidNote."""
    lines = (line.strip() for line in text.split("\n"))
    return [read_key(line) for line in lines if line and not line.startswith("#")]


def read_key(line: str) -> VerifierKey:
    """A verifier key, with the size where it ended if it did. Raises InvalidNote."""
    text, ended, until = line.partition(" until ")
    key = read_verifier_key(text)
    if not ended:
        return key
    if not _UNTIL.fullmatch(until):
        raise InvalidNote("behind until stands the size of the last checkpoint that the key signed")
    found = EndedKey(*key)
    found.until = int(until)
    return found


def counting(note: str, keys: Sequence[VerifierKey]) -> list[VerifierKey]:
    """The keys that had not ended before a checkpoint. Raises InvalidNote."""
    size = read_checkpoint(read_note(note).text).size
    return [key for key in keys if not isinstance(key, EndedKey) or size <= key.until]


def open_seal(note: str, keys: Sequence[VerifierKey]) -> Seal:
    """A checkpoint that one of the keys signed under the log's own name. Raises InvalidNote."""
    keys = counting(note, keys)
    checkpoint = open_checkpoint(note, keys)
    signed = verified_by(read_note(note), keys)
    own = [str(key) for key in signed if key.algorithm == ED25519 and key.name == checkpoint.origin]
    return Seal(checkpoint, own, [str(key) for key in signed if str(key) not in own])


class Seals:
    """The checkpoints of one export, and what they say of its logs. read: a file's bytes by its path in the export, or
    OSError; keys: who may sign."""

    def __init__(
        self, read: Callable[[str], bytes], manifest: Manifest, keys: Sequence[VerifierKey], findings: Findings
    ) -> None:
        self._read, self._manifest, self._keys, self._findings = read, manifest, keys, findings
        self.seals: dict[str, Seal] = {}

    def roots(self, log: str) -> list[Known]:
        """The roots that signatures vouch for, up to the exported size, and the manifest's own."""
        end = self._manifest.logs[log]
        if end.size == 0:
            return []
        known = [stated(end)]
        seal = self._newest(log, end)
        if seal is not None and seal.checkpoint.size == end.size:
            known.append(Known(end.size, seal.checkpoint.root, "the signed checkpoint"))
        return known + self._earlier(log, end)

    def _newest(self, log: str, end: LogEnd) -> Seal | None:
        path = f"{log}/{names.CHECKPOINT}"
        try:
            seal = open_seal(self._read(path).decode(), self._keys)
            self._check_name(log, seal.checkpoint)
            if not seal.checkpoint.size == end.checkpoint_size >= end.size:
                found = f"size {seal.checkpoint.size}"
                self._invalid(log, f"a checkpoint of size {end.checkpoint_size}, at least {end.size}", found, path)
                return None
        except (InvalidNote, UnicodeDecodeError, OSError) as problem:
            self._invalid(log, "a checkpoint that a known key signed", _told(problem), path)
            return None
        self.seals[log] = seal
        return seal

    def check_witnesses(self, witnesses: Sequence[VerifierKey]) -> None:
        """Each witness that somebody relies on signed the checkpoint of each log that has events."""
        for log, end in sorted(self._manifest.logs.items()):
            cosigned = self.seals[log].cosigned_by if log in self.seals else []
            for key in witnesses:
                if end.size and key.algorithm == COSIGNATURE_V1 and str(key) not in cosigned:
                    expected = f"the cosignature of {key}"
                    self._findings.report("not_cosigned", log, 0, expected, "none", f"{log}/{names.CHECKPOINT}")

    def _check_name(self, log: str, checkpoint: Checkpoint) -> None:
        name = f"/{self._manifest.program}/{log}"
        if not checkpoint.origin.endswith(name):
            raise InvalidNote(f"it is of {checkpoint.origin}, not of a log …{name}")

    def _earlier(self, log: str, end: LogEnd) -> list[Known]:
        path = f"{log}/{names.EARLIER}"
        known: list[Known] = []
        try:
            for line in self._read(path).splitlines():
                note = msgspec.json.decode(line, type=EarlierCheckpoint).note
                checkpoint = open_checkpoint(note, counting(note, self._keys))
                self._check_name(log, checkpoint)
                if checkpoint.size <= end.size:
                    known.append(Known(checkpoint.size, checkpoint.root, "a signed checkpoint of then"))
        except FileNotFoundError:
            return []
        except (InvalidNote, msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as problem:
            self._invalid(log, "checkpoints that a known key signed", _told(problem), path)
        return known

    def check_consistency(self, log: str, size: int, root: bytes) -> None:
        """That what was read is the beginning of what was sealed. size, root: of what was read."""
        seal = self.seals.get(log)
        if seal is None or size >= seal.checkpoint.size:
            return
        sealed, path = seal.checkpoint, f"{log}/{names.CONSISTENCY}"
        try:
            proof = msgspec.json.decode(self._read(path), type=Consistency)
            if (proof.from_, proof.to) != (size, sealed.size):
                raise InvalidProof(f"it goes from {proof.from_} to {proof.to}")
            verify_consistency(size, sealed.size, [from_base64(one) for one in proof.proof], root, sealed.root)
        except (InvalidProof, InvalidNote, msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as problem:
            expected = f"a proof that the {sealed.size} sealed events begin with these {size}"
            self._findings.report(
                "consistency_invalid", log, size + 1, expected, _told(problem), path, exact=False
            )  # fmt: skip

    def _invalid(self, log: str, expected: str, found: str, path: str) -> None:
        self._findings.report("checkpoint_invalid", log, 0, expected, found, path)


def stated(end: LogEnd) -> Known:
    """The root that a manifest says, whatever it is worth."""
    try:
        return Known(end.size, bytes.fromhex(end.root), "the manifest")
    except ValueError:
        return Known(end.size, end.root.encode(), "the manifest")


def _told(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return "none"
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
