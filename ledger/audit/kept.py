"""Kept checkpoints: what was signed last of each log, written down outside the database.

Whoever owns the tables can exchange an event with its hash, and delete the checkpoints and tiles that say otherwise;
what is left is consistent. Whoever signs remembers by this file, and signs nothing that does not go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ledger.store.database import StartupRefused
from ledger.store.known import alone, write_durably

FORMAT = 1


class Kept(Struct, frozen=True):
    """The newest checkpoint that was signed of a log. root: hexadecimal."""

    size: int
    root: str
    sealed_at: datetime


class KeptCheckpoints(Struct):
    """The file: the log's name (its origin) → what was signed last under it."""

    format: int = FORMAT
    logs: dict[str, Kept] = {}


class OtherRoot(Exception):
    """Another root of the same size was signed meanwhile. kept: that one."""

    def __init__(self, kept: Kept) -> None:
        super().__init__(kept)
        self.kept = kept


def file_beside(known_positions: Path) -> Path:
    """The file's place, from that of the known positions: known-positions.json → known-positions.sealed.json."""
    return known_positions.with_name(f"{known_positions.stem}.sealed.json")


def read(path: Path | None) -> KeptCheckpoints:
    """What was signed; nothing without a file. Raises StartupRefused for a file that is not one."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=KeptCheckpoints) if path is not None else KeptCheckpoints()
    except FileNotFoundError:
        return KeptCheckpoints()
    except (msgspec.DecodeError, OSError) as problem:
        raise StartupRefused(
            f"the sealed checkpoints in {path} cannot be read ({problem}); put a copy of the file in place"
        ) from None
    if found.format != FORMAT:
        raise StartupRefused(f"{path} has format {found.format}, which this version does not know (it knows {FORMAT})")
    return found


def keep(path: Path, name: str, kept: Kept) -> None:
    """Remember a log's checkpoint, durably, unless a larger one is remembered. Raises OtherRoot, StartupRefused,
    OSError."""
    with alone(path):
        said = read(path)
        before = said.logs.get(name)
        if before is not None and before.size == kept.size and before.root != kept.root:
            raise OtherRoot(before)
        if before is None or before.size < kept.size:
            said.logs[name] = kept
            _write(path, said)


def forget_beyond(path: Path, ends: Mapping[tuple[str, str], int]) -> None:
    """Forget what was signed of logs that were put back, and its loss accepted. ends: (program, log) → the position
    that the log was put back to; a log that is not there has none. Raises StartupRefused, OSError."""
    with alone(path):
        said = read(path)
        logs = {name: one for name, one in said.logs.items() if one.size <= ends.get(program_and_log(name), 0)}
        if logs != said.logs:
            _write(path, KeptCheckpoints(FORMAT, logs))


def program_and_log(name: str) -> tuple[str, str]:
    """Of a log's name, which ends with both."""
    _, program, log = name.rsplit("/", 2)
    return program, log


def _write(path: Path, said: KeptCheckpoints) -> None:
    write_durably(path, msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n")
