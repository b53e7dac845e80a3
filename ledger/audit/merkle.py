"""The Merkle tree over a log: roots, proofs, and how a stranger checks them.

Source: RFC 9162 (and RFC 6962), section 2.1; tiles as in C2SP tlog-tiles. Hashes are SHA-256, 32 bytes. A node is named
(level, index): it covers the leaves index * 2^level up to (index + 1) * 2^level, all of them present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()

Node = Callable[[int, int], bytes]  # (level, index) → hash of a complete subtree


class InvalidProof(ValueError):
    """A proof that proves nothing; the message says what does not hold."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf that holds an entry (an export line without its newline)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two."""
    return sha256(b"\x01" + left + right).digest()


def parents(hashes: bytes) -> bytes:
    """The level above some nodes that lie side by side: an even number of hashes in, half as many out."""
    return b"".join([sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)])


class CompactRange:
    """Leaf hashes in, root out, in memory that grows with the logarithm of the log. roots: of the complete subtrees
    that `size` leaves consist of, the largest first."""

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self.roots = list(roots)
        if len(self.roots) != size.bit_count():
            raise ValueError(f"{size} leaves consist of {size.bit_count()} complete subtrees, not {len(self.roots)}")

    def add(self, leaf: bytes) -> None:
        """The next leaf's hash."""
        size, roots = self.size, self.roots
        while size & 1:  # two subtrees of one size make one
            leaf = sha256(b"\x01" + roots.pop() + leaf).digest()
            size >>= 1
        roots.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root over the leaves so far."""
        return _bagged(self.roots)


def _bagged(roots: Sequence[bytes]) -> bytes:
    if not roots:
        return EMPTY_ROOT
    root = roots[-1]
    for left in reversed(roots[:-1]):
        root = node_hash(left, root)
    return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over some leaf hashes."""
    tree = CompactRange()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


# --- proofs out ------------------------------------------------------------------------------------------


def complete_nodes(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The nodes that the leaves start ≤ n < end consist of, left to right. start: as a tree of `end` leaves splits."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def range_root(start: int, end: int, node: Node) -> bytes:
    """The hash over the leaves start ≤ n < end, a range that splitting a tree at powers of two leads to."""
    return _bagged([node(level, index) for level, index in complete_nodes(start, end)])


def _split(size: int) -> int:
    """The largest power of two below size, where RFC 9162 splits."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """That leaf `index` (from 0) is in the tree of the first `size` leaves (RFC 9162, 2.1.3.1). Raises ValueError."""
    return [range_root(start, end, node) for start, end in inclusion_ranges(index, size)]


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves (start ≤ n < end) whose hashes are an inclusion proof, in its order. Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """That the tree of the first `old` leaves is the beginning of that of the first `new` (RFC 9162, 2.1.4.1). Raises
    ValueError."""
    if not 0 < old <= new:
        raise ValueError(f"a tree of {new} leaves cannot go on from one of {old}")
    proof: list[bytes] = []
    start, end, whole = 0, new, True  # whole: the old tree ends where it began, so its root is known
    while old - start != end - start:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start, whole = middle, False
    if not whole:
        proof.append(range_root(start, end, node))
    return proof[::-1]


# --- proofs in -------------------------------------------------------------------------------------------


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check an inclusion proof (RFC 9162, 2.1.3.2). Raises InvalidProof."""
    if not 0 <= index < size:
        raise InvalidProof(f"leaf {index} is not within a tree of {size}")
    _all_hashes([leaf, root, *proof])
    first, last, found = index, size - 1, leaf
    for other in proof:
        if last == 0:
            raise InvalidProof("the proof is too long")
        if first & 1 or first == last:
            found = node_hash(other, found)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            found = node_hash(found, other)
        first, last = first >> 1, last >> 1
    if last:
        raise InvalidProof("the proof is too short")
    if found != root:
        raise InvalidProof("the proof leads to another root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check a consistency proof (RFC 9162, 2.1.4.2). Raises InvalidProof."""
    if not 0 < old <= new:
        raise InvalidProof(f"a tree of {new} leaves cannot go on from one of {old}")
    _all_hashes([old_root, new_root, *proof])
    if old == new:
        if proof or old_root != new_root:
            raise InvalidProof("two trees of one size have one root and need no proof")
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise InvalidProof("the proof is too short")
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    before = after = path[0]
    for other in path[1:]:
        if last == 0:
            raise InvalidProof("the proof is too long")
        if first & 1 or first == last:
            before, after = node_hash(other, before), node_hash(other, after)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            after = node_hash(after, other)
        first, last = first >> 1, last >> 1
    if last:
        raise InvalidProof("the proof is too short")
    if before != old_root:
        raise InvalidProof("the proof leads to another root of the old tree: the log was forked or rewritten")
    if after != new_root:
        raise InvalidProof("the proof leads to another root of the new tree")


def _all_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise InvalidProof(f"a hash has {HASH_BYTES} bytes")


# --- tiles -----------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """Up to 256 nodes of tree level 8 * level, side by side, from node 256 * number on. width: how many."""

    level: int
    number: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Its address below tile/ (tlog-tiles): 3 digits a part, all but the last with an x; .p/W when partial."""
        parts = [f"{self.number % 1000:03}"]
        rest = self.number // 1000
        while rest:
            parts.append(f"x{rest % 1000:03}")
            rest //= 1000
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{self.level}/{'/'.join(reversed(parts))}{partial}"


def tile_width(level: int, number: int, size: int) -> int:
    """How many nodes a tile has in a tree of `size` leaves: 0 to 256."""
    return max(0, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH))


def nodes_from_tiles(read: Callable[[Tile], bytes], size: int) -> Node:
    """A reader of nodes over a reader of tiles' bytes, for a tree of `size` leaves. Remembers what it computed."""
    known: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        found = known.get((level, index))
        if found is None:
            row, above = divmod(level, TILE_HEIGHT)
            if above:
                found = node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))
                known[level, index] = found
                return found
            number = index // TILE_WIDTH
            tile = Tile(row, number, tile_width(row, number, size))
            hashes = read(tile)
            for at in range(tile.width):
                known[level, number * TILE_WIDTH + at] = hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
            found = known[level, index]
        return found

    return node


def nodes_from_leaves(leaves: Sequence[bytes]) -> Node:
    """A reader of nodes over leaf hashes that are all at hand."""
    known: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        found = known.get((level, index))
        if found is None:
            found = known[level, index] = node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))
        return found

    return node
