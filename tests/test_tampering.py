"""Twelve ways to tamper with a log, each at 500 random places: all of them are found, and the place is named.

What names it: the stored leaf hashes where the tamperer left them; where all hashes were made anew, the earlier signed
checkpoints say between which two positions it is, and an auditor's own earlier copy says at which.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from audit_world import (
    SEALED_EVERY,
    Books,
    audited_firm,
    books_of,
    keys,
    make_export,
    read_books,
    signed,
    verify,
    write_books,
)
from conftest import fresh_database
from proof_world import ORIGIN
from support import T0, Clock, open_ledger

from ledger.audit import merkle
from ledger.audit.findings import Finding
from ledger.audit.notes import Signer, to_base64
from ledger.store import database as store
from ledger.store.embedded import EmbeddedServer

PLACES = 500
STRANGER = Signer(f"{ORIGIN}/firm/books", b"\x66" * 32)
CIPHERTEXT = re.compile(r'"(reason|details|display_name|tax_number)":"([A-Za-z0-9+/=]{30,})"')


class Tampered(NamedTuple):
    """Books that were tampered with from a position on. recomputed: every hash that needs no key was made anew."""

    books: Books
    position: int
    recomputed: bool = False


Tamper = Callable[[Books, random.Random], Tampered]


@pytest.fixture(scope="module")
def exported(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An export of some hundred events, and of their first 90."""
    with fresh_database(server, template) as name, open_ledger(store.urls(server, name), Clock(T0)) as ledger:
        firm = audited_firm(ledger, ledger.clock)  # type: ignore[arg-type]
        root = tmp_path_factory.mktemp("exports")
        make_export(firm, root / "whole")
        make_export(firm, root / "first", until=90)
        yield root


@pytest.fixture(scope="module")
def books(exported: Path) -> Books:
    """Its books, in memory."""
    return books_of(exported / "whole")


# --- tools ---------------------------------------------------------------------------------------------


def place(books: Books, draw: random.Random, fits: Callable[[str], bool] = lambda _: True) -> int:
    """A random position whose line fits."""
    return draw.choice([n for n, line in enumerate(books.lines, 1) if fits(line.decode())])


def with_line(books: Books, position: int, line: bytes) -> Books:
    """The same with another line at a position."""
    assert line != books.lines[position - 1]
    return books._replace(lines=[*books.lines[: position - 1], line, *books.lines[position:]])


def renumbered(lines: list[bytes], start: int = 1) -> list[bytes]:
    """The lines with the positions that they then have."""
    return [re.sub(rb'"position":\d+', b'"position":%d' % n, line, count=1) for n, line in enumerate(lines, start)]


def edited(line: bytes, pattern: str, draw: random.Random, new: Callable[[str], str]) -> bytes:
    """A line where one random match of a pattern says something else."""
    text = line.decode()
    match = draw.choice(list(re.finditer(pattern, text)))
    return (text[: match.start(1)] + new(match[1]) + text[match.end(1) :]).encode()


# --- twelve ways ---------------------------------------------------------------------------------------

AMOUNT, DATE, TOPIC = r'"\w*amount":(-?\d+)', r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", r'"topic":"(\w+)"'


def edit_amount(books: Books, draw: random.Random) -> Tampered:
    """Another amount in an event."""
    at = place(books, draw, lambda line: re.search(AMOUNT, line) is not None)
    line = edited(books.lines[at - 1], AMOUNT, draw, lambda was: str(int(was) + draw.choice((1, -1, 100, 10**6))))
    return Tampered(with_line(books, at, line), at)


def edit_date(books: Books, draw: random.Random) -> Tampered:
    """Another second, day or year, of recording or of happening."""
    at = place(books, draw)

    def other(was: str) -> str:
        part = draw.choice((0, 8, 17))
        width = 4 if part == 0 else 2
        number = (int(was[part : part + width]) + 1) % 28 + (2000 if part == 0 else 1)
        return was[:part] + f"{number:0{width}}" + was[part + width :]

    return Tampered(with_line(books, at, edited(books.lines[at - 1], DATE, draw, other)), at)


def edit_topic(books: Books, draw: random.Random) -> Tampered:
    """An event of another kind."""
    topics = ["ConversionApproved", "ConversionRejected", "ConversionHeld", "PayoutSettled", "NoSuchTopic"]
    at = place(books, draw)
    line = edited(books.lines[at - 1], TOPIC, draw, lambda was: draw.choice([one for one in topics if one != was]))
    return Tampered(with_line(books, at, line), at)


def delete_row(books: Books, draw: random.Random) -> Tampered:
    """An event is gone; those behind it keep their positions, or move up."""
    at = place(books, draw)
    behind = books.lines[at:]
    lines = books.lines[: at - 1] + (renumbered(behind, at) if draw.random() < 0.5 else behind)
    return Tampered(books._replace(lines=lines, claimed=books.size), at)


def insert_row(books: Books, draw: random.Random) -> Tampered:
    """An event that never was; those behind it keep their positions, or move down."""
    at = draw.randint(1, books.size + 1)
    line = renumbered([draw.choice(books.lines)], at)[0].replace(b'"request_id":"', b'"request_id":"x', 1)
    behind = books.lines[at - 1 :]
    lines = [*books.lines[: at - 1], line, *(renumbered(behind, at + 1) if draw.random() < 0.5 else behind)]
    return Tampered(books._replace(lines=lines, claimed=books.size), at)


def swap_rows(books: Books, draw: random.Random) -> Tampered:
    """Two events change places, with their positions or without."""
    first, second = sorted(draw.sample(range(1, books.size + 1), 2))
    lines = list(books.lines)
    lines[first - 1], lines[second - 1] = lines[second - 1], lines[first - 1]
    return Tampered(books._replace(lines=renumbered(lines) if draw.random() < 0.5 else lines), first)


def truncate_tail(books: Books, draw: random.Random) -> Tampered:
    """The last events are gone; the manifest says as many as before, or as many as are left."""
    left = draw.randint(1, books.size - 1)
    short = books._replace(lines=books.lines[:left])
    if draw.random() < 0.5:
        return Tampered(short._replace(claimed=books.size), left + 1)
    return Tampered(short.recomputed(), left + 1)


def fork(books: Books, draw: random.Random) -> Tampered:
    """Another history from a position on, with every hash made anew, under the old checkpoint or a stranger's."""
    at = place(books, draw)
    lines = [line.replace(b'"request_id":"', b'"request_id":"f', 1) for line in books.lines[at - 1 :]]
    made = books._replace(lines=books.lines[: at - 1] + lines).recomputed()
    if draw.random() < 0.5:
        made = made._replace(note=signed(made.leaves, made.size, STRANGER), history=[])
    return Tampered(made, at, recomputed=True)


def recompute_all(books: Books, draw: random.Random) -> Tampered:
    """An edit, and every hash that needs no key made anew."""
    way = draw.choice((edit_amount, edit_date, edit_topic, swap_rows))
    found = way(books, draw)
    return Tampered(found.books.recomputed(), found.position, recomputed=True)


def old_database(books: Books, draw: random.Random) -> Tampered:
    """The log as it once was, all in itself right, beside the new checkpoint; and a proof between other sizes."""
    left = draw.randint(1, books.size - 1)
    old = books._replace(lines=books.lines[:left]).recomputed()
    other = draw.choice([size for size in range(1, books.size) if size != left])
    return Tampered(old._replace(consistency=draw.choice((b"", proof_file(books, other)))), left + 1)


def swap_ciphertexts(books: Books, draw: random.Random) -> Tampered:
    """Two events change what nobody can read."""
    holding = [n for n, line in enumerate(books.lines, 1) if CIPHERTEXT.search(line.decode())]
    first, second = sorted(draw.sample(holding, 2))
    texts = {at: CIPHERTEXT.search(books.lines[at - 1].decode())[2] for at in (first, second)}  # type: ignore[index]
    for at, other in ((first, second), (second, first)):
        line = books.lines[at - 1].decode().replace(texts[at], texts[other]).encode()
        books = with_line(books, at, line)
    return Tampered(books, first)


def forged_proof(books: Books, draw: random.Random) -> Tampered:
    """The beginning of the log, with a proof that it is one, of which something was changed."""
    left = draw.randint(1, books.size - 1)
    short = books._replace(lines=books.lines[:left]).recomputed()
    honest = short._replace(consistency=proof_file(books, left))
    proof: dict[str, Any] = json.loads(honest.consistency)
    way, hashes = draw.randrange(6), proof["proof"]
    if way == 0:
        hashes.pop(draw.randrange(len(hashes)))
    elif way == 1:
        hashes.insert(draw.randrange(len(hashes) + 1), to_base64(draw.randbytes(32)))
    elif way == 2:
        hashes[draw.randrange(len(hashes))] = to_base64(draw.randbytes(draw.choice((32, 32, 31, 0))))
    elif way == 3:
        proof[draw.choice(("from", "to"))] += draw.choice((1, -1))
    elif way == 4:
        hashes[:] = ["not base64"] * len(hashes)
    else:
        hashes += hashes
    return Tampered(short._replace(consistency=json.dumps(proof).encode()), left + 1)


def proof_file(books: Books, size: int) -> bytes:
    """consistency.json from a size to the checkpoint's."""
    leaves = [books.leaves[at : at + 32] for at in range(0, len(books.leaves), 32)]
    proof = merkle.consistency_proof(size, books.checkpoint_size, merkle.nodes_from_leaves(leaves))
    return msgspec.json.encode({"from": size, "to": books.checkpoint_size, "proof": [to_base64(one) for one in proof]})


WAYS: tuple[Tamper, ...] = (
    edit_amount, edit_date, edit_topic, delete_row, insert_row, swap_rows, truncate_tail, fork, recompute_all,
    old_database, swap_ciphertexts, forged_proof,
)  # fmt: skip


# --- what is found ---------------------------------------------------------------------------------------


def first(findings: Any) -> Finding:
    """What is told first."""
    found: Finding | None = findings.first()
    assert found is not None
    return found


def test_the_books_themselves_have_nothing_to_find(books: Books, exported: Path) -> None:
    """As they were exported, whole or in part with an honest proof, they verify: by streams and statements as well."""
    assert not read_books(books, keys(), whole=True)
    assert not read_books(books, keys(), copy=books.leaves[: 32 * 70])
    for size in range(1, books.size):
        short = books._replace(lines=books.lines[:size]).recomputed()
        assert not read_books(short._replace(consistency=proof_file(books, size)), keys())
    assert len(WAYS) == 12


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_tampering_is_found_wherever_it_is(books: Books, way: Tamper) -> None:
    """500 random places: each is found, and its position named; exactly, or, where every hash was made anew, between
    two signed checkpoints, and exactly by an earlier copy."""
    draw = random.Random(way.__name__)
    for _ in range(PLACES):
        tampered, position, recomputed = way(books, draw)
        if not recomputed:
            found = first(read_books(tampered, keys()))
            assert found.position == position, found
            continue
        blind = read_books(tampered, keys())
        named = [one for one in blind.kept if one.kind == "root_differs"]
        assert blind
        if tampered.history:
            start, end = map(int, re.findall(r"\d+", named[0].subject))
            assert start <= position <= end
            assert end - start < SEALED_EVERY
        found = first(read_books(tampered, keys(), copy=books.leaves))
        assert (found.kind, found.position, found.exact) == ("copies_differ", position, True)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_tampering_breaks_nothing_but_the_books(books: Books, way: Tamper) -> None:
    """What was tampered with is read to its end all the same, through folds, naive books and statements."""
    draw = random.Random(f"whole {way.__name__}")
    for _ in range(5):
        tampered, position, recomputed = way(books, draw)
        findings = read_books(tampered, keys(), whole=True)
        assert findings
        assert recomputed or first(findings).position == position


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_command_says_where(
    books: Books, exported: Path, tmp_path: Path, way: Tamper, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ledger verify` on a directory whose other hashes were all made to agree: exit code 1 and the position; with an
    earlier export beside it also where every hash was made anew."""
    draw = random.Random(f"command {way.__name__}")
    tampered, position, recomputed = way(books, draw)
    while recomputed and position > 90:  # behind what the earlier export has
        tampered, position, recomputed = way(books, draw)
    write_books(tampered, exported / "whole", tmp_path / "export")
    known = [f"--key={key}" for key in keys()]
    earlier = ["--against", exported / "first"] if recomputed else []
    code, told = verify(capsys, tmp_path / "export", *known, *earlier)
    assert code == 1
    assert re.search(rf"FIRST DIFFERENCE: .*\n  where +position {position} of books", told), told


def test_whoever_has_the_key_too_is_found_by_an_earlier_copy(books: Books) -> None:
    """An end of the log that the operator himself writes anew and signs verifies in itself; not beside what an auditor
    kept."""
    draw = random.Random(12)
    operator = Signer(f"{ORIGIN}/firm/books", b"\x07" * 32)
    bound = max(n for n, line in enumerate(books.lines, 1) if b"AffiliateTreesRecorded" in line)
    for _ in range(20):
        tampered, position, _ = fork(books, draw)
        if position <= bound:
            continue  # the trees of affiliates, which are in the log, would differ
        note = signed(tampered.leaves, tampered.size, operator)
        tampered = tampered._replace(note=note, history=[])
        assert not read_books(tampered, keys(), whole=True)
        found = first(read_books(tampered, keys(), copy=books.leaves))
        assert (found.kind, found.position) == ("copies_differ", position)
