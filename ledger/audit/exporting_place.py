"""The directory that an export is written into: whole files or none, and a memory of what is whole.

While an export is on its way a hidden file holds its plan and the hash of each file that is done; the manifest, written
last, takes its place. Whatever moment the process is killed at, the same command finds its way on from there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from ledger.audit import directory as names
from ledger.audit.directory import DataFile, Manifest
from ledger.store.durable import fsync_directory

PROGRESS = names.HIDDEN + "progress"
PART = names.HIDDEN + "part-"
FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
CHUNK = 1 << 20
GO_ON = "What is complete is kept, and the same command goes on from there"


class ExportRefused(Exception):
    """No export, or none into this directory; the message says why and what to do."""


class Plan(Struct, frozen=True):
    """What an export will hold, decided once: all that could change while it is written. sizes: last position by log;
    notes: the signed checkpoint by log, without those that have none; keys: the text of keys.txt."""

    segments: str
    program: str
    program_id: str
    currency: str
    exported_at: datetime
    sealed: bool
    sizes: dict[str, int]
    notes: dict[str, str]
    keys: str


_encode = msgspec.json.Encoder().encode
_decode_plan = msgspec.json.Decoder(Plan).decode
_decode_file = msgspec.json.Decoder(DataFile).decode


class Draft:
    """A file on its way. lines: for its writer to count."""

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._path, self._file, self._hash = path, file, sha256()
        self.bytes = self.lines = 0

    def write(self, content: bytes) -> None:
        """Add to its end. Raises ExportRefused when the disk refuses."""
        with told(self._path):
            self._file.write(content)
        self._hash.update(content)
        self.bytes += len(content)

    def fill_from(self, source: Path) -> None:
        """The bytes of another file."""
        for chunk in chunks_of(source):
            self.write(chunk)

    def sha256(self) -> str:
        """Of what was written, hex."""
        return self._hash.hexdigest()


class Place:
    """A directory that belongs to one export. manifest: of a finished one; plan: of one on its way; files: what is
    known to be whole, by path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest: Manifest | None = None
        self.plan: Plan | None = None
        self.files: dict[str, DataFile] = {}
        self.written = 0  # files, by this process
        self._read()

    # --- what is there ---------------------------------------------------------------------------------

    def _read(self) -> None:
        found = self._listing()
        if PROGRESS in found:
            self._read_progress()
        if names.MANIFEST in found:
            try:
                self.manifest = names.read_manifest((self.root / names.MANIFEST).read_bytes())
            except names.NoExport as problem:
                raise self._taken(f"its {names.MANIFEST} is not ours: {problem}") from None
            if self.plan is None or self.plan.sizes == sizes_of(self.manifest):
                # not on its way, or killed before the last step
                self.plan, self.files = None, {file.path: file for file in self.manifest.files}
                (self.root / PROGRESS).unlink(missing_ok=True)
            else:
                self.manifest = None  # it was being continued
        elif self.plan is None and (others := [path for path in found if not path.startswith(names.HIDDEN)]):
            raise self._taken(f"there is {others[0]} in it, and no {names.MANIFEST}")

    def _listing(self) -> list[str]:
        found = []
        for here, below, files in os.walk(self.root):
            place = Path(here).relative_to(self.root)
            if strange := [name for name in below if (place / name).as_posix() not in names.LOGS]:
                raise self._taken(f"there is {(place / strange[0]).as_posix()}/ in it")
            found += [(place / name).as_posix() for name in files]
        for path in sorted(found):
            if not is_ours(path):
                raise self._taken(f"there is {path} in it")
        return sorted(found)

    def _read_progress(self) -> None:
        lines = (self.root / PROGRESS).read_bytes().split(b"\n")
        with suppress(msgspec.DecodeError):
            self.plan = _decode_plan(lines[0])
            for line in lines[1:-1]:  # behind the last line feed stands what a crash cut off
                file = _decode_file(line)
                self.files[file.path] = file

    def _taken(self, why: str) -> ExportRefused:
        return ExportRefused(f"{self.root} holds something else ({why}): export into a new directory, or an empty one")

    # --- on its way --------------------------------------------------------------------------------------

    def begin(self, plan: Plan) -> None:
        """Write down what will be here, keeping what is known of full segments, and take an older manifest away."""
        if self.plan != plan:
            kept = (file for file in self.files.values() if file.log and file.last <= plan.sizes[file.log])
            self.files = {file.path: file for file in kept}
        self.plan = plan
        self._write_progress()
        with told(names.MANIFEST):
            (self.root / names.MANIFEST).unlink(missing_ok=True)
            fsync_directory(self.root)
            for log in names.LOGS:
                if plan.sizes[log]:
                    (self.root / log).mkdir(mode=DIRECTORY_MODE, exist_ok=True)

    def _write_progress(self) -> None:
        lines = [_encode(self.plan), *map(_encode, self.files.values())]
        with self._durable(PROGRESS) as draft:
            draft.write(b"".join(line + b"\n" for line in lines))

    def forget(self, log: str) -> None:
        """Let nothing of a log's segments count as whole: what they were made from was wrong."""
        self.files = {path: file for path, file in self.files.items() if file.log != log}
        self._write_progress()

    @contextmanager
    def draft(self, path: str, log: str = "", first: int = 0, last: int = 0) -> Iterator[Draft]:
        """A file that is in its place once the block is left, and remembered; after an error nothing is."""
        with self._durable(path) as draft:
            yield draft
        self._remember(DataFile(path, draft.bytes, draft.sha256(), log, first, last))

    def write(self, path: str, content: bytes) -> None:
        """A small file."""
        with self.draft(path) as draft:
            draft.write(content)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Where a file may lie that is gone afterwards."""
        path = self.root / f"{PART}{name}"
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    @contextmanager
    def _durable(self, path: str) -> Iterator[Draft]:
        with self.scratch(path.replace("/", "-")) as part:
            with told(path):
                file = open_private(part)
            with file:
                draft = Draft(path, file)
                yield draft
                with told(path):
                    file.flush()
                    os.fsync(file.fileno())
            with told(path):
                os.replace(part, self.root / path)
                fsync_directory((self.root / path).parent)

    def _remember(self, file: DataFile) -> None:
        with told(PROGRESS), open(self.root / PROGRESS, "ab") as progress:
            progress.write(_encode(file) + b"\n")
            progress.flush()
            os.fsync(progress.fileno())
        self.files[file.path] = file
        self.written += 1

    def is_whole(self, path: str, hashed: Callable[[Path], str] | None = None) -> bool:
        """Whether a file is there with the bytes that are remembered. hashed: how to read it, if not simply."""
        known = self.files.get(path)
        place = self.root / path
        if known is None or not place.is_file() or place.stat().st_size != known.bytes:
            return False
        return (hashed or file_sha256)(place) == known.sha256

    def finish(self, manifest: Manifest) -> None:
        """Remove what an older export or a killed process left, write the manifest, and forget the plan."""
        mine = {file.path for file in manifest.files} | {PROGRESS}
        with told(names.MANIFEST):
            for path in self._listing():
                if path not in mine:
                    (self.root / path).unlink()
        with self._durable(names.MANIFEST) as draft:
            draft.write(names.encode_manifest(manifest))
        with told(names.MANIFEST):
            (self.root / PROGRESS).unlink()
            fsync_directory(self.root)


@contextmanager
def opened(root: Path) -> Iterator[Place]:
    """A directory for one export and one process at a time; made, if it is not there, and taken away again if nothing
    came into it. Raises ExportRefused."""
    made = not root.exists()
    if made and not root.parent.is_dir():
        raise ExportRefused(f"{root.parent} is no directory: make it first")
    with told(str(root)):
        if made:
            root.mkdir(mode=DIRECTORY_MODE)
        elif not root.is_dir():
            raise ExportRefused(f"{root} is a file: an export is a directory")
        held = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ExportRefused(f"another export into {root} is at work") from None
        yield Place(root)
    finally:
        os.close(held)
        if made:
            with suppress(OSError):
                root.rmdir()


def open_private(path: Path) -> BinaryIO:
    """A new file for us alone, to be written. What a killed process left in its place goes; a link that somebody
    planted there is not followed. Raises OSError."""
    path.unlink(missing_ok=True)
    exclusive = os.O_EXCL | os.O_NOFOLLOW
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags | exclusive, FILE_MODE))


def is_ours(path: str) -> bool:
    """Whether a file of this name can belong to an export."""
    if path.startswith(names.HIDDEN) or names.read_segment_path(path):
        return True
    own = {names.MANIFEST, names.README, names.KEYS, names.BALANCES, names.STATEMENTS}
    in_logs = (names.CHECKPOINT, names.CONSISTENCY, names.LEAVES, names.EARLIER)
    return path in own | {f"{log}/{name}" for log in names.LOGS for name in in_logs}


def sizes_of(manifest: Manifest) -> dict[str, int]:
    """The last position by log."""
    return {log: end.size for log, end in manifest.logs.items()}


def chunks_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, a megabyte at a time."""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def file_sha256(path: Path) -> str:
    """A file's SHA-256, hex."""
    with open(path, "rb") as file:
        return _digest(file)


def _digest(file: BinaryIO) -> str:
    found = sha256()
    while chunk := file.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()


@contextmanager
def told(path: str) -> Iterator[None]:
    """Errors of the disk as a refusal that names the file."""
    try:
        yield
    except OSError as problem:
        raise ExportRefused(f"{path} cannot be written: {problem.strerror or problem}. {GO_ON}") from problem
