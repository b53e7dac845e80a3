"""The root of a log's Merkle tree, leaf after leaf, in memory that grows with the logarithm of the log."""

from __future__ import annotations

from hashlib import sha256


class TreeHead:
    """Leaf hashes in, root out. Source: RFC 9162 (and 6962), section 2.1.1."""

    def __init__(self) -> None:
        self._count = 0
        self._roots: list[bytes] = []  # of the complete subtrees, the largest first

    def add(self, leaf: bytes) -> None:
        """The next leaf's hash, 32 bytes."""
        count = self._count
        while count & 1:  # two subtrees of one size make one
            leaf = sha256(b"\x01" + self._roots.pop() + leaf).digest()
            count >>= 1
        self._roots.append(leaf)
        self._count += 1

    def root(self) -> bytes:
        """The root over the leaves so far, 32 bytes; of none: SHA-256 of nothing."""
        if not self._roots:
            return sha256(b"").digest()
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = sha256(b"\x01" + left + root).digest()
        return root
