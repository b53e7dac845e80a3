"""Kept checkpoints: what was signed last of each log, written down outside the database.

Whoever owns the tables can exchange an event with its hash, and delete the checkpoints and tiles that say otherwise;
what is left is consistent. Whoever signs remembers by this file, and signs nothing that does not go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from ledger.store.durable import Memory, alone

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


_file = Memory("sealed checkpoints", KeptCheckpoints)
read = _file.read_or_new


class OtherRoot(Exception):
    """Another root of the same size was signed meanwhile. kept: that one."""

    def __init__(self, kept: Kept) -> None:
        super().__init__(kept)
        self.kept = kept


def file_beside(known_positions: Path) -> Path:
    """The file's place, from that of the known positions: known-positions.json → known-positions.sealed.json."""
    return known_positions.with_name(f"{known_positions.stem}.sealed.json")


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
            _file.write(path, said)


def forget_beyond(path: Path, ends: Mapping[tuple[str, str], int]) -> None:
    """Forget what was signed of logs that were put back, and its loss accepted. ends: (program, log) → the position
    that the log was put back to; a log that is not there has none. Raises StartupRefused, OSError."""
    with alone(path):
        said = read(path)
        logs = {name: one for name, one in said.logs.items() if one.size <= ends.get(program_and_log(name), 0)}
        if logs != said.logs:
            _file.write(path, KeptCheckpoints(FORMAT, logs))


def program_and_log(name: str) -> tuple[str, str]:
    """Of a log's name, which ends with both."""
    _, program, log = name.rsplit("/", 2)
    return program, log
