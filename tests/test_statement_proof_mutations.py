"""Of a hundred thousand mutated proofs none is believed, and a proof file says everything once."""

from __future__ import annotations

import json
import random
import re
from base64 import b64decode
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from proof_world import compact, key_of
from statement_proof_world import KEY, World, one_page, run_one_page, world

from ledger.audit import merkle, notes
from ledger.audit.merkle import InvalidProof
from ledger.audit.statement_proof import NotAProof, verify
from ledger.audit.statement_rebuilt import DoesNotHold

__all__ = ["world"]  # the fixtures


# --- everything is said once ---------------------------------------------------------------------------------


def test_a_file_says_everything_once(world: World, tmp_path: Path) -> None:
    """A member twice is one thing for one reader and another for the next: neither takes a file that has it."""
    raw = world.files["ada", "2026-02", 2].rstrip()
    for twice_ in (
        raw[:-1] + b',"version":2}',
        raw.replace(b'"tree":{', b'"tree":{"index":9,', 1),
        raw.replace(b'"version":2', b'"version":2.0', 1),
        raw.replace(b'"index":', b'"index":NaN,"x":', 1),
    ):
        with pytest.raises(NotAProof, match=r"member twice|is no number that stands in a proof"):
            verify(twice_, [key_of()])
        code, said = run_one_page(tmp_path, twice_, KEY)
        assert (code, bool(re.match("NO: .*(member twice|is no integer)", said))) == (1, True), said


def test_one_page_reads_each_line_a_few_times_however_many_currencies_there_are() -> None:
    """A forged file with a currency a line must not keep the reader waiting for hours."""
    reads = 0

    class Counted(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            nonlocal reads
            reads += 1
            return super().__getitem__(name)

    some = [
        Counted(currency=f"{n:03}", source="adjustment", target="payable", amount=1, late=False) for n in range(300)
    ]
    assert len(one_page.sections_of(some[:100], some)) == 300
    assert reads < 400 * 40


# --- 100,000 mutations -----------------------------------------------------------------------------------------


def mutated(draw: random.Random, value: Any) -> Any:
    """A JSON value with one random change at a random place."""
    if isinstance(value, dict):
        name = draw.choice(sorted(value))
        if draw.random() < 0.05:
            return {key: one for key, one in value.items() if key != name}
        return value | {name: mutated(draw, value[name])}
    if isinstance(value, list) and value:
        at, other = draw.randrange(len(value)), draw.randrange(len(value))
        made = list(value)
        match draw.randrange(8):
            case 0:
                del made[at]
            case 1:
                made.insert(other, made[at])
            case 2:
                made[at], made[other] = made[other], made[at]
            case 3:
                del made[at:]
            case _:
                made[at] = mutated(draw, made[at])
        return made
    if isinstance(value, str) and value:
        at = draw.randrange(len(value))
        return value[:at] + draw.choice(("", chr(draw.randrange(32, 127)), value[at] * 2)) + value[at + 1 :]
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, 0, str(value), value + 0.5, None, 10**30))
    return draw.choice((0, [], {}, "", {"line": "{}", "proof": []}))


def meaning(file: dict[str, Any]) -> dict[str, Any]:
    """What a file says: hashes instead of their numbers. Keys that are not used say nothing."""
    nodes = [b64decode(node) for node in file["nodes"]]

    def said(one: Any) -> Any:
        if isinstance(one, dict) and "proof" in one:
            return one | {"proof": [nodes[n] if isinstance(n, int) else b64decode(n) for n in one["proof"]]}
        return [said(item) for item in one] if isinstance(one, list) else one

    *text, signature = file["checkpoint"].rstrip("\n").split(" ")
    return {name: said(one) for name, one in file.items() if name not in ("nodes", "keys", "checkpoint")} | {
        "checkpoint": [*text, b64decode(signature)]
    }


@pytest.fixture
def signatures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signature of the same text is checked once: most mutations leave it as it is, and it takes longest."""
    monkeypatch.setattr(notes, "_check", lru_cache(notes._check))

    class Remembering:
        """Ed25519 public keys that know what they have said."""

        @staticmethod
        @lru_cache(4096)
        def from_public_bytes(public: bytes) -> Any:
            return Remembered(public)

    class Remembered:
        def __init__(self, public: bytes) -> None:
            self.key = real.from_public_bytes(public)
            self.verify = lru_cache(self.key.verify)

    real = one_page.Ed25519PublicKey
    monkeypatch.setattr(one_page, "Ed25519PublicKey", Remembering)


@pytest.mark.usefixtures("signatures_once")
def test_of_mutated_files_none_is_believed(world: World) -> None:
    """Random changes of bytes and of JSON anywhere in a file: whatever says something else is refused by both."""
    draw = random.Random(7)
    originals = [world.files[name] for name in (("d.e", "2026-01", 1), ("Zoe", "2026-02", 1), ("bob", "2026-02", 1))]
    believed = 0
    for count in range(4_000):
        raw = draw.choice(originals)
        original = json.loads(raw)
        if count % 4 == 0:
            at = draw.randrange(len(raw))
            raw = raw[:at] + bytes([raw[at] ^ 1 << draw.randrange(7)]) + raw[at + 1 :]
        else:
            raw = compact(mutated(draw, original)).encode("utf-8", "replace")
        for believe in (believed_by_package, *(() if count % 3 else (believed_on_one_page,))):
            if believe(raw):
                assert meaning(json.loads(raw)) == meaning(original), raw
                believed += 1
    assert believed < 400  # in keys, in white space, or a swap of one with itself


def believed_by_package(raw: bytes) -> bool:
    try:
        verify(raw, [key_of()])
    except (NotAProof, DoesNotHold):
        return False
    return True


def believed_on_one_page(raw: bytes) -> bool:
    try:
        one_page.verify(json.loads(raw), [KEY])[:3]
    except Exception:  # as its main() does
        return False
    return True


def test_of_mutated_inclusion_proofs_none_is_believed(world: World) -> None:
    """96,000 times a leaf, its place, or a hash of its proof is another one, dropped, doubled or swapped."""
    draw = random.Random(8)
    leaves = world.books.leaves()
    node, size, root = merkle.nodes_from_leaves(leaves), len(leaves), merkle.root_of(leaves)
    proofs = [merkle.inclusion_proof(index, size, node) for index in range(size)]
    believed = 0
    for _ in range(96_000):
        index = draw.randrange(size)
        leaf, place, path = changed(draw, leaves[index], index, proofs[index])
        try:
            merkle.verify_inclusion(leaf, place, size, path, root)
        except InvalidProof:
            continue
        believed += 1
        assert (leaf, place, path) == (leaves[index], index, proofs[index])
    assert believed < 6_000  # swapped with itself, or with its equal


def changed(draw: random.Random, leaf: bytes, index: int, path: list[bytes]) -> tuple[bytes, int, list[bytes]]:
    """The same with one change."""
    at, other, made = draw.randrange(len(path)), draw.randrange(len(path)), list(path)
    match draw.randrange(7):
        case 0:
            return flipped(draw, leaf), index, made
        case 1:
            return leaf, draw.choice((index + 1, index - 1, index ^ 1 << draw.randrange(8))), made
        case 2:
            made[at] = flipped(draw, made[at])
        case 3:
            del made[at]
        case 4:
            made.insert(other, made[at])
        case 5:
            made[at], made[other] = made[other], made[at]
        case 6:
            leaf, made[at] = made[at], leaf
    return leaf, index, made


def flipped(draw: random.Random, hash_: bytes) -> bytes:
    """One bit is another."""
    return (int.from_bytes(hash_) ^ 1 << draw.randrange(256)).to_bytes(32)
