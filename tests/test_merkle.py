"""The tree: known answers, other people's programs, every small size, and a hundred thousand forged proofs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from third_parties import Refused, pymerkle_accepts, pymerkle_tree, sigstore_accepts

from ledger.audit import merkle
from ledger.audit.edge import TILE_BYTES, Edge, WholeTile
from ledger.audit.merkle import (
    CompactRange,
    InvalidProof,
    Tile,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    nodes_from_leaves,
    nodes_from_tiles,
    root_of,
    tile_width,
    verify_consistency,
    verify_inclusion,
)

# The tree that the implementations of Certificate Transparency are tested with (RFC 6962).
ENTRIES = [
    bytes.fromhex(entry)
    for entry in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
_0, _2_3, _4_7 = (
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
)
_4, _4_5, _6_7 = (
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
)


def entry(index: int) -> bytes:
    return b"entry %d" % index


@lru_cache
def leaves(count: int) -> tuple[bytes, ...]:
    return tuple(leaf_hash(entry(n)) for n in range(count))


def naive_root(hashes: Sequence[bytes]) -> bytes:
    """The definition, word for word (RFC 9162, 2.1.1)."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"").digest()
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(naive_root(hashes[:split]), naive_root(hashes[split:]))


# --- known answers -----------------------------------------------------------------------------------------------


def test_roots_of_the_reference_tree() -> None:
    """Every size of the eight-entry tree has its published root."""
    hashes = [leaf_hash(one) for one in ENTRIES]
    assert [root_of(hashes[:size]).hex() for size in range(9)] == ROOTS
    edges = [Edge() for _ in range(9)]
    for size, edge in enumerate(edges):
        edge.extend(b"".join(hashes[:size]))
    assert [edge.root().hex() for edge in edges] == ROOTS


@pytest.mark.parametrize(
    ("index", "size", "hashes"), [(0, 8, [_0, _2_3, _4_7]), (5, 8, [_4, _6_7, ROOTS[4]]), (2, 3, [ROOTS[2]])]
)
def test_inclusion_proofs_of_the_reference_tree(index: int, size: int, hashes: list[str]) -> None:
    """Published proofs, made and accepted."""
    node = nodes_from_leaves([leaf_hash(one) for one in ENTRIES])
    proof = inclusion_proof(index, size, node)
    assert [one.hex() for one in proof] == hashes
    verify_inclusion(leaf_hash(ENTRIES[index]), index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(
    ("old", "new", "hashes"),
    [(1, 1, []), (1, 8, [_0, _2_3, _4_7]), (6, 8, [_4_5, _6_7, ROOTS[4]]), (2, 5, [_2_3, _4])],
)
def test_consistency_proofs_of_the_reference_tree(old: int, new: int, hashes: list[str]) -> None:
    """Published proofs, made and accepted."""
    proof = consistency_proof(old, new, nodes_from_leaves([leaf_hash(one) for one in ENTRIES]))
    assert [one.hex() for one in proof] == hashes
    verify_consistency(old, new, proof, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


# --- every size --------------------------------------------------------------------------------------------------


def test_every_proof_of_every_small_tree_holds() -> None:
    """All leaves and all earlier sizes of all trees up to 40 leaves, also beside pymerkle and sigstore."""
    node = nodes_from_leaves(leaves(40))
    theirs = pymerkle_tree([entry(n) for n in range(40)])
    roots = [naive_root(leaves(40)[:size]) for size in range(41)]
    for size in range(1, 41):
        assert root_of(leaves(40)[:size]) == roots[size] == theirs.get_root(size)
        for index in range(size):
            proof = inclusion_proof(index, size, node)
            verify_inclusion(leaves(40)[index], index, size, proof, roots[size])
            sigstore_accepts(entry(index), index, size, proof, roots[size])
            pymerkle_accepts(leaves(40)[index], index, size, proof, roots[size])
        for old in range(1, size + 1):
            verify_consistency(old, size, consistency_proof(old, size, node), roots[old], roots[size])
            pymerkle.verify_consistency(roots[old], roots[size], theirs.prove_consistency(old, size))


@given(st.integers(1, 3000), st.data())
def test_proofs_of_larger_trees_hold(size: int, data: st.DataObject) -> None:
    """Any leaf and any earlier size; others accept the same proofs and refuse them for another leaf."""
    node = nodes_from_leaves(leaves(3000))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root = root_of(leaves(3000)[:size])
    proof = inclusion_proof(index, size, node)
    verify_inclusion(leaves(3000)[index], index, size, proof, root)
    sigstore_accepts(entry(index), index, size, proof, root)
    pymerkle_accepts(leaves(3000)[index], index, size, proof, root)
    with pytest.raises(Refused):
        sigstore_accepts(entry(index + 1), index, size, proof, root)
    verify_consistency(old, size, consistency_proof(old, size, node), root_of(leaves(3000)[:old]), root)


def test_what_cannot_be_proven_is_refused() -> None:
    """A leaf behind the end, a tree that would have to shrink, an empty one."""
    node = nodes_from_leaves(leaves(4))
    for index, size in ((4, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(index, size, node)
    for old, new in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match="cannot go on"):
            consistency_proof(old, new, node)


# --- tiles -------------------------------------------------------------------------------------------------------


def tiles_of(count: int, steps: Sequence[int]) -> tuple[Edge, dict[tuple[int, int], WholeTile]]:
    """An edge that took so many leaves in these steps, and the tiles that it gave."""
    edge, found, at = Edge(), {}, 0
    for step in [*steps, count]:
        some = leaves(count)[at : at + step]
        at += len(some)
        for tile in edge.extend(b"".join(some)):
            assert (tile.level, tile.number) not in found
            found[tile.level, tile.number] = tile
    return edge, found


@given(st.integers(0, 2000), st.lists(st.integers(0, 700), max_size=5))
def test_tiles_do_not_depend_on_the_steps_in_which_leaves_come(count: int, steps: list[int]) -> None:
    """The complete tiles, their roots, and the tree's root are those of the leaves."""
    edge, found = tiles_of(count, steps)
    assert (edge.size, edge.root()) == (count, root_of(leaves(count)))
    assert sorted(found) == [(0, n) for n in range(count // 256)]
    for (_, n), tile in found.items():
        assert tile.hashes == b"".join(leaves(count)[n * 256 : n * 256 + 256])
        assert tile.root == root_of(leaves(count)[n * 256 : n * 256 + 256])


def test_an_edge_goes_on_from_its_tiles() -> None:
    """Two levels of tiles: what was left behind complete tiles is enough to go on, and too little is refused."""
    count = 256 * 256 + 3 * 256
    edge, found = tiles_of(count, [])
    assert found[1, 0].root == root_of(leaves(count)[: 256 * 256])
    behind = [b"", b"".join(found[0, n].root for n in range(256, 259)), found[1, 0].root]
    again = Edge(count, behind)
    assert again.root() == edge.root() == root_of(leaves(count))
    for wrong in (behind[:2], [b"", behind[1][32:], behind[2]], [b"x" * 32, *behind[1:]]):
        with pytest.raises(ValueError, match="level"):
            Edge(count, wrong)

    def read(tile: Tile) -> bytes:
        if tile.width == 256:
            return found[tile.level, tile.number].hashes
        below = b"".join(found[tile.level - 1, tile.number * 256 + n].root for n in range(tile.width))
        assert len(below) == 32 * tile.width
        return below

    node = nodes_from_tiles(read, count)
    for index in (0, 255, 65_535, 65_536, count - 1):
        verify_inclusion(leaves(count)[index], index, count, inclusion_proof(index, count, node), edge.root())


def test_tiles_have_the_addresses_of_the_specification() -> None:
    """Numbers in parts of three digits; C2SP tlog-tiles' own example."""
    assert Tile(0, 1234067).path() == "0/x001/x234/067"
    assert Tile(1, 0, 7).path() == "1/000.p/7"
    assert [tile_width(0, n, 70_000) for n in (0, 273, 274)] == [256, 112, 0]
    assert [tile_width(1, n, 70_000) for n in (0, 1)] == [256, 17]
    assert TILE_BYTES == 8192


def test_a_compact_range_must_fit_its_size() -> None:
    """Five leaves consist of two complete subtrees."""
    with pytest.raises(ValueError, match="5 leaves consist of 2"):
        CompactRange(5, [b"x" * 32])


# --- forged proofs -----------------------------------------------------------------------------------------------

SIZE = 2_000
FORGERIES = 100_000


class Inclusion(NamedTuple):
    """Arguments of verify_inclusion."""

    leaf: bytes
    index: int
    size: int
    proof: tuple[bytes, ...]
    root: bytes


class Consistency(NamedTuple):
    """Arguments of verify_consistency."""

    old: int
    new: int
    proof: tuple[bytes, ...]
    old_root: bytes
    new_root: bytes


class Forger:
    """Proofs that hold, changed in one way. A checkpoint's size and root are signed together, so they change
    together: what a size alone says, no Merkle proof can bind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.node = nodes_from_leaves(leaves(SIZE))
        tree, self.roots = CompactRange(), [merkle.EMPTY_ROOT]
        for leaf in leaves(SIZE):
            tree.add(leaf)
            self.roots.append(tree.root())

    def size(self) -> int:
        return self.random.randint(1, SIZE)

    def flip(self, one: bytes) -> bytes:
        at = self.random.randrange(256)
        return (int.from_bytes(one, "big") ^ 1 << at).to_bytes(32, "big")

    def hashes(self, proof: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Another list of hashes: one changed, dropped, added, doubled, cut short, two swapped, or all turned round."""
        new, pick = list(proof), self.random.randrange
        way = pick(7)
        at, other = pick(len(new) or 1), pick(len(new) or 1)
        if way == 0 and new:
            new[at] = self.flip(new[at])
        elif way == 1 and new:
            del new[at]
        elif way == 2:
            new.insert(pick(len(new) + 1), self.random.randbytes(32))
        elif way == 3 and new:
            new.insert(at, new[at])
        elif way == 4 and new:
            new[at], new[other] = new[other], new[at]
        elif way == 5:
            new.reverse()
        elif new:
            new[at] = new[at][: pick(32)]
        return tuple(new)

    def inclusion(self) -> Inclusion:
        """A proof that holds."""
        size = self.size()
        index = self.random.randrange(size)
        proof = tuple(inclusion_proof(index, size, self.node))
        return Inclusion(leaves(SIZE)[index], index, size, proof, self.roots[size])

    def forge_inclusion(self, good: Inclusion) -> Inclusion:
        """One that must not."""
        choose, way = self.random.choice, self.random.randrange(8)
        if way == 0:
            return good._replace(leaf=choose([self.flip(good.leaf), choose(leaves(SIZE))]))
        if way == 1:
            return good._replace(index=choose([good.index ^ 1, self.random.randrange(-1, good.size + 2)]))
        if way == 2:
            other = choose([max(1, good.size - 1), min(SIZE, good.size + 1), self.size()])
            return good._replace(size=other, root=self.roots[other])
        if way == 3:
            return good._replace(root=self.flip(good.root))
        return good._replace(proof=self.hashes(good.proof))

    def consistency(self) -> Consistency:
        """A proof that holds."""
        new = self.size()
        old = self.random.randint(1, new)
        proof = tuple(consistency_proof(old, new, self.node))
        return Consistency(old, new, proof, self.roots[old], self.roots[new])

    def forge_consistency(self, good: Consistency) -> Consistency:
        """One that must not."""
        way = self.random.randrange(8)
        other = self.random.choice([max(1, good.old - 1), min(SIZE, good.new + 1), self.size()])
        if way == 0:
            return good._replace(old=other, old_root=self.roots[other])
        if way == 1:
            return good._replace(new=other, new_root=self.roots[other])
        if way == 2:
            return good._replace(old_root=self.flip(good.old_root))
        if way == 3:
            return good._replace(new_root=self.flip(good.new_root))
        return good._replace(proof=self.hashes(good.proof))


def accepts(check: Callable[..., None], claim: tuple[object, ...]) -> bool:
    try:
        check(*claim)
    except InvalidProof:
        return False
    return True


def test_a_hundred_thousand_forged_proofs_are_all_refused() -> None:
    """Bits flipped, hashes dropped, added, swapped or cut, another leaf, index, checkpoint or root: none is accepted,
    though each began as one that is."""
    seed = random.randrange(2**32)
    forger, made = Forger(seed), 0
    while made < FORGERIES:
        included, consistent = forger.inclusion(), forger.consistency()
        assert accepts(verify_inclusion, included)
        assert accepts(verify_consistency, consistent)
        for _ in range(10):
            # what came out as it was is no forgery
            one, other = forger.forge_inclusion(included), forger.forge_consistency(consistent)
            assert one == included or not accepts(verify_inclusion, one), (seed, included, one)
            assert other == consistent or not accepts(verify_consistency, other), (seed, consistent, other)
            made += (one != included) + (other != consistent)
