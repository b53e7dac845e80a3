"""A log's hashes from its bytes: leaves, root, and where the lines leave what was signed or stored of them.

A root alone says that something differs, not where. Whoever kept more finds the place: the leaf hashes of a log name
the exact position, earlier signed checkpoints the stretch between two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from ledger.audit.findings import Findings
from ledger.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, CompactRange, parents

TILE_BYTES = TILE_WIDTH * HASH_BYTES


class Known(NamedTuple):
    """A root that is known to be the log's at a size. source: who says so, for people."""

    size: int
    root: bytes
    source: str


class LeafSource(Protocol):
    """Leaf hashes from elsewhere, such as a file of an export, or the database's column. read: up to so many bytes."""

    def read(self, size: int, /) -> bytes: ...


class Stored(NamedTuple):
    """Leaf hashes from elsewhere. name: of where, for people; kind: of the finding when they differ; whole: whether
    they end where the log does, else they may end before."""

    source: LeafSource
    name: str
    kind: str = "leaf_differs"
    whole: bool = True


def leaf_hashes(lines: Iterable[bytes]) -> bytes:
    """The leaf hashes of some lines (without newlines), one behind the other."""
    return b"".join([sha256(b"\x00" + line).digest() for line in lines])


class Tree:
    """The Merkle tree over leaf hashes as they pass; 256 at once, which is what makes it quick."""

    def __init__(self) -> None:
        self._above = CompactRange()  # over complete tiles
        self._rest = b""  # leaf hashes that fill no tile yet
        self._part, self._part_of = CompactRange(), 0  # a beginning of the rest, and the tiles before it

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._above.size * TILE_WIDTH + len(self._rest) // HASH_BYTES

    def add(self, leaves: bytes) -> None:
        """The next leaf hashes, 32 bytes each."""
        hashes = self._rest + leaves
        tiles = len(hashes) // TILE_BYTES
        self._rest = hashes[tiles * TILE_BYTES :]
        hashes = hashes[: tiles * TILE_BYTES]
        for _ in range(TILE_HEIGHT):
            hashes = parents(hashes)
        for at in range(0, len(hashes), HASH_BYTES):
            self._above.add(hashes[at : at + HASH_BYTES])

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if self._part_of != self._above.size or self._part.size * HASH_BYTES > len(self._rest):
            self._part, self._part_of = CompactRange(), self._above.size
        for at in range(self._part.size * HASH_BYTES, len(self._rest), HASH_BYTES):
            self._part.add(self._rest[at : at + HASH_BYTES])
        return CompactRange(self.size, self._above.roots + self._part.roots).root()


class LogHashes:
    """Reads a log's leaf hashes and compares them with what is known. known: roots at sizes, in any order; stored: leaf
    hashes kept elsewhere. size, root(): of what was read."""

    def __init__(
        self,
        log: str,
        findings: Findings,
        known: Sequence[Known] = (),
        stored: Sequence[Stored] = (),
    ) -> None:
        self._log, self._findings = log, findings
        self._tree = Tree()
        self._known = sorted(known, key=lambda one: one.size, reverse=True)  # the next one last
        self._stored = list(stored)
        self.agreed = 0  # the last size at which a known root was met
        self.met = 0  # known roots that were met
        self._broken = False

    @property
    def size(self) -> int:
        """Events read."""
        return self._tree.size

    def root(self) -> bytes:
        """The root over what was read."""
        return self._tree.root()

    def add(self, leaves: bytes) -> None:
        """The leaf hashes of the next positions."""
        if self._stored:
            self._stored = [one for one in self._stored if self._agrees(one, leaves)]
        while self._known and not self._broken and self._known[-1].size <= self.size + len(leaves) // HASH_BYTES:
            known = self._known.pop()
            cut = (known.size - self.size) * HASH_BYTES
            self._tree.add(leaves[:cut])
            leaves = leaves[cut:]
            self._meet(known)
        self._tree.add(leaves)

    def _meet(self, known: Known) -> None:
        found = self._tree.root()
        if found == known.root:
            self.agreed, self.met = known.size, self.met + 1
            return
        self._broken = True  # every later root differs with this one
        between = f"between positions {self.agreed + 1} and {known.size}"
        self._findings.report(
            "root_differs",
            self._log,
            self.agreed + 1,
            f"root {known.root.hex()} at size {known.size} ({known.source})",
            f"root {found.hex()}",
            subject=between,
            exact=self.agreed + 1 == known.size,
        )

    def _agrees(self, one: Stored, leaves: bytes) -> bool:
        """Whether the comparison goes on behind these; after a difference all may only have moved."""
        stored = one.source.read(len(leaves))
        if stored == leaves:
            return True
        for at in range(0, len(leaves), HASH_BYTES):
            ours, theirs = leaves[at : at + HASH_BYTES], stored[at : at + HASH_BYTES]
            if ours != theirs and (theirs or one.whole):
                expected = f"leaf hash {theirs.hex() or 'none: the log ended before'} ({one.name})"
                position = self.size + at // HASH_BYTES + 1
                self._findings.report(one.kind, self._log, position, expected, f"leaf hash {ours.hex()}")
                break
        return False

    def end(self) -> None:
        """After the last leaf: what is known of more."""
        for one in self._stored:
            if more := one.source.read(HASH_BYTES):
                expected = f"an event with leaf hash {more.hex()} ({one.name})"
                self._findings.report("size_differs", self._log, self.size + 1, expected, "the end of the log")
        for known in reversed(self._known):
            if not self._broken and known.size > self.size:
                expected = f"{known.size} events ({known.source})"
                self._findings.report("size_differs", self._log, self.size + 1, expected, f"{self.size}")
                break
