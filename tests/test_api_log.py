"""The sealed logs over HTTP: whatever is served is accepted by programs that other people wrote, and nothing is served
that no checkpoint covers."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pymerkle
import pytest
from api_world import World, make_world, open_service
from conftest import fresh_database
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from support import T0, by, owner
from third_parties import Refused, pymerkle_accepts, pymerkle_tree, sigstore_accepts, sigstore_reads

from api import create_app
from ledger.audit import keys as signing
from ledger.audit import merkle, notes
from ledger.audit.keys import SigningKeys
from ledger.audit.merkle import Tile, leaf_hash, tile_width
from ledger.audit.sealing import seal
from ledger.domain.affiliate import EnrolAffiliate
from ledger.domain.click import RecordClick
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer

KEYS = SigningKeys([b"\x01" * 32], "ledger.example")
SIZES = (1, 255, 300, 600)  # of the checkpoints
UNSEALED = 20  # clicks behind the last one


@pytest.fixture(scope="module")
def database(server: EmbeddedServer, template: str) -> Iterator[Database]:
    with fresh_database(server, template) as name:
        yield urls(server, name)


@pytest.fixture(scope="module")
def app(database: Database) -> Iterator[Flask]:
    with open_service(database) as made:
        yield made


def sealed(world: World, log: str = "traffic") -> None:
    seal(world.ledger, world.program, log, KEYS.signers(world.program, log), world.now)


def click(world: World, count: int) -> None:
    clicks = [RecordClick(affiliate_id="uk", offer_id="spring", occurred_at=T0) for _ in range(count)]
    world.ledger.record_clicks(world.program, clicks, by())


@pytest.fixture(scope="module")
def world(app: Flask) -> World:
    """A program whose clicks were sealed four times, and some that were not."""
    made, before = make_world(app), 0
    for size in SIZES:
        click(made, size - before)
        made.now += timedelta(seconds=10)
        sealed(made)
        before = size
    sealed(made, "books")
    click(made, UNSEALED)
    return made


def get(world: World, path: str, role: str = "auditor", **more: Any) -> Any:
    return world.call(role, "GET", f"/log/traffic/{path}", **more)


def hashes(proof: dict[str, Any]) -> list[bytes]:
    return [b64decode(one, validate=True) for one in proof["hashes"]]


def verifier_key(world: World) -> notes.VerifierKey:
    (one,) = get(world, "keys").json["keys"]
    return notes.read_verifier_key(one["verifier_key"])


def checkpoint(world: World, size: int | None = None) -> tuple[int, bytes]:
    """(size, root) of a served checkpoint, as sigstore reads it with the served key."""
    answer = get(world, "checkpoint" if size is None else f"checkpoint/{size}")
    assert answer.status_code == 200
    origin, found, root = sigstore_reads(answer.get_data(as_text=True), verifier_key(world))
    assert origin == f"ledger.example/{world.program}/traffic"
    return found, root


def bundle(content: bytes) -> list[bytes]:
    """The entries of a bundle."""
    found, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from(">H", content, at)
        found.append(content[at + 2 : at + 2 + length])
        at += 2 + length
    assert at == len(content)
    return found


def entries(world: World, size: int) -> list[bytes]:
    """The first `size` entries, read as a tlog-tiles client reads them."""
    found: list[bytes] = []
    while len(found) < size:
        tile = Tile(0, len(found) // 256, tile_width(0, len(found) // 256, size))
        found += bundle(get(world, "tile/entries/" + tile.path().removeprefix("0/")).data)
    return found


# --- accepted by others -------------------------------------------------------------------------------------


def test_sigstore_accepts_checkpoints_and_inclusion_proofs_as_served(world: World) -> None:
    """Key, signed note, entries and proofs come over HTTP, and nothing else is needed; with another entry, or in
    another checkpoint, the same proofs are refused."""
    lines = entries(world, 600)
    for size in SIZES:
        _, root = checkpoint(world, size)
        for position in {1, 2, 17, 254, 255, 256, 257, 299, 300, 599, 600} & set(range(1, size + 1)):
            proof = get(world, f"proof/inclusion?position={position}&size={size}").json
            assert (proof["position"], proof["leaf_index"], proof["size"]) == (position, position - 1, size)
            assert b64decode(proof["leaf_hash"]) == leaf_hash(lines[position - 1])
            sigstore_accepts(lines[position - 1], proof["leaf_index"], size, hashes(proof), root)
            assert sigstore_reads(proof["checkpoint"], verifier_key(world))[2] == root == b64decode(proof["root"])
            for entry, at in ((lines[position - 2], position - 1), (lines[position - 1], position)):
                with pytest.raises(Refused):
                    sigstore_accepts(entry, at, max(size, at + 1), hashes(proof) or [bytes(32)], root)
    newest = get(world, "proof/inclusion?position=5").json
    assert newest["size"] == 600, "the newest checkpoint, unless another is named"


def test_pymerkle_makes_the_same_trees_from_the_served_entries(world: World) -> None:
    """Its roots are those that were signed, it accepts our inclusion proofs, and its own consistency proofs hold
    between our signed roots; RFC 9162's own check accepts those that we serve."""
    theirs = pymerkle_tree(entries(world, 600))
    signed = dict(checkpoint(world, size) for size in SIZES)
    assert signed == {size: theirs.get_root(size) for size in SIZES}
    for size, root in signed.items():
        for position in (1, size // 2 + 1, size):
            proof = get(world, f"proof/inclusion?position={position}&size={size}").json
            pymerkle_accepts(theirs.get_leaf(position), position - 1, size, hashes(proof), root)
        for old in (one for one in SIZES if one <= size):
            pymerkle.verify_consistency(signed[old], root, theirs.prove_consistency(old, size))
            served = get(world, f"proof/consistency?from={old}&to={size}").json
            assert (served["from"], served["to"], b64decode(served["root"])) == (old, size, root)
            merkle.verify_consistency(old, size, hashes(served), signed[old], root)


def test_a_client_of_tiles_finds_every_hash_and_the_root(world: World) -> None:
    """From tiles alone, complete and partial, at two levels: leaf hashes are those of the entries, and the root is the
    signed one; so proofs need no service."""

    def read(tile: Tile) -> bytes:
        answer = get(world, f"tile/{tile.path()}", "ingest")
        assert (answer.status_code, answer.content_type, len(answer.data)) == (
            200, "application/octet-stream", 32 * tile.width,
        )  # fmt: skip
        return bytes(answer.data)

    lines = entries(world, 600)
    for size in SIZES:
        node = merkle.nodes_from_tiles(read, size)
        assert [node(0, n) for n in range(size)] == [leaf_hash(line) for line in lines[:size]]
        assert merkle.range_root(0, size, node) == checkpoint(world, size)[1]
    assert len(read(Tile(1, 0, 2))) == 64
    # a tile that is complete by now has all its partial forms
    assert read(Tile(0, 0, 255)) == read(Tile(0, 0))[: 255 * 32]


def test_entries_are_the_export_lines(world: World) -> None:
    """Byte for byte what /events gives, which is what was hashed."""
    stream = world.call("auditor", "GET", "/events?log=traffic&limit=600", headers={"Accept": "application/x-ndjson"})
    assert entries(world, 600) == stream.data.splitlines()


def test_the_program_on_the_page_checks_a_served_proof(world: World, tmp_path: Path) -> None:
    """What docs/proof.md shows, run as it stands: yes to a proof as it was served, no to another event or root."""
    page = (Path(__file__).parents[1] / "docs" / "proof.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines, proof = entries(world, 600), get(world, "proof/inclusion?position=299&size=300").json
    broken = {**proof, "hashes": proof["hashes"][::-1]}
    for shown, line, good in ((proof, lines[298], True), (proof, lines[297], False), (broken, lines[298], False)):
        (tmp_path / "proof.json").write_text(json.dumps(shown))
        (tmp_path / "line.json").write_bytes(line + b"\n")
        done = subprocess.run(
            [sys.executable, "-c", program, str(verifier_key(world))],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = f"the event is in ledger.example/{world.program}/traffic of 300 events\n"
        assert (done.returncode == 0, done.stdout) == (good, said if good else ""), done.stderr


# --- what is not served -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint/299", "checkpoint/601", "proof/inclusion?position=601", "proof/inclusion?position=2&size=1",
        "proof/inclusion?position=2&size=299", "proof/consistency?from=1&to=299", "tile/0/002.p/89", "tile/0/002",
        "tile/0/003.p/1", "tile/1/000.p/3", "tile/1/000", "tile/2/000.p/1", "tile/entries/002.p/89",
        "tile/entries/002",
    ],
)  # fmt: skip
def test_nothing_is_served_beyond_a_checkpoint(world: World, path: str) -> None:
    """Events that are there and not sealed, sizes that no checkpoint has, nodes that are not complete: 404, and a word
    about what there is."""
    answer = get(world, path)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert re.search(r"newest checkpoint, of 600|No checkpoint has|not in the checkpoint of", answer.json["detail"])


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/2", "tile/0/0002", "tile/0/x000/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/",
        "tile/8/000", "tile/00/000", "tile/0/000.p/01", "tile/data/000", "checkpoint/0", "checkpoint/x",
        "tile/0/x001/x000",
    ],
)  # fmt: skip
def test_what_no_tile_is_called_is_nothing(world: World, path: str) -> None:
    """One name for each tile, as the specification spells it."""
    answer = get(world, path)
    assert (answer.status_code, answer.json["detail"]) == (404, "There is nothing at this address.")
    assert world.call("auditor", "GET", "/log/clicks/checkpoint").status_code == 404


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("proof/inclusion", "position"), ("proof/inclusion?position=0", "position"),
        ("proof/inclusion?position=x", "position"), ("proof/inclusion?position=1&size=0", "size"),
        ("proof/inclusion?position=1&index=0", "index"), ("proof/consistency?from=0", "from"),
        ("proof/consistency?to=300", "from"), ("proof/consistency?from=601", "from"),
        ("proof/consistency?from=300&to=255", "from"), ("proof/consistency?from=1&to=9223372036854775808", "to"),
    ],
)  # fmt: skip
def test_a_question_that_has_no_answer_is_named(world: World, path: str, parameter: str) -> None:
    """422 with the parameter."""
    answer = get(world, path)
    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json["errors"]] == [parameter]


def test_before_the_first_checkpoint_there_is_nothing(app: Flask) -> None:
    """404 everywhere, and it says why."""
    fresh = make_world(app)
    click(fresh, 3)
    for path in ("checkpoint", "keys", "proof/inclusion?position=1", "proof/consistency?from=1", "tile/0/000.p/1",
                 "tile/entries/000.p/1"):  # fmt: skip
        answer = get(fresh, path)
        assert (answer.status_code, answer.json["detail"]) == (404, "Nothing of this log is sealed yet."), path


def test_a_line_too_long_for_a_bundle_is_to_be_read_elsewhere(app: Flask, database: Database) -> None:
    """Two bytes hold no length above 65,535: 422 with the address where the event is read, and its proof as ever."""
    world = make_world(app)
    sealed(world, "books")
    position = world.books_position() + 1
    world.ledger.execute(world.program, EnrolAffiliate(affiliate_id="de", note="x" * 2000), by())
    with owner(database) as conn:  # the longest that a command takes is shorter
        conn.execute("ALTER TABLE book_events DISABLE TRIGGER USER")
        conn.execute("UPDATE book_events SET cause = repeat('x', 66000) WHERE request_id = (SELECT request_id FROM"
                     " book_events e JOIN programs p USING (program_id) WHERE p.program = %s AND position = %s)",
                     (world.program, position))  # fmt: skip
        line = world.call("auditor", "GET", f"/events?after={position - 1}&limit=1",
                          headers={"Accept": "application/x-ndjson"}).data[:-1]  # fmt: skip
        conn.execute("UPDATE book_events SET leaf_hash = %s WHERE length(cause) = 66000", (leaf_hash(line),))
    sealed(world, "books")
    answer = world.call("auditor", "GET", f"/log/books/tile/entries/000.p/{position}")
    assert (answer.status_code, answer.json["code"]) == (422, "entry_too_long")
    assert f"/events?log=books&after={position - 1}&limit=1" in answer.json["detail"]
    assert world.call("auditor", "GET", f"/log/books/tile/entries/000.p/{position - 1}").status_code == 200
    proof = world.call("auditor", "GET", f"/log/books/proof/inclusion?position={position}").json
    sigstore_accepts(line, position - 1, proof["size"], hashes(proof), b64decode(proof["root"]))


# --- as HTTP ------------------------------------------------------------------------------------------------


def test_what_never_changes_may_be_kept_for_ever(world: World) -> None:
    """Tiles are immutable, the newest checkpoint is looked at again after seconds; nothing goes into shared caches.
    Whoever has it already gets 304."""
    for path in ("tile/0/000", "tile/0/002.p/88", "tile/entries/001"):
        assert get(world, path).headers["Cache-Control"] == "private, max-age=31536000, immutable"
    newest = get(world, "checkpoint")
    assert (newest.content_type, newest.headers["Cache-Control"]) == (
        "text/plain; charset=utf-8", "private, max-age=5",
    )  # fmt: skip
    for path in ("checkpoint", "checkpoint/300", "keys", "proof/inclusion?position=1", "tile/0/000"):
        tag = get(world, path).headers["ETag"]
        again = get(world, path, headers={"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b""), path


def test_proofs_and_keys_are_as_documented(app: Flask, world: World) -> None:
    """Their schemas are in the OpenAPI document, and the answers are of them."""
    document: Any = app.test_client().get("/openapi.json").json

    def check(name: str, path: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(get(world, path).json, schema, cls=jsonschema.Draft202012Validator)

    check("InclusionProof", "proof/inclusion?position=3")
    check("ConsistencyProof", "proof/consistency?from=3")
    check("VerifierKeys", "keys")


def test_everybody_checks_and_few_read(world: World) -> None:
    """Checkpoints, keys and proofs are for every role, affiliates too; hashes in bulk not for affiliates, nor those of
    any event one by one; what was recorded only for those who may read the log."""
    for path in ("checkpoint", "checkpoint/300", "keys", "proof/consistency?from=3"):
        assert {get(world, path, role).status_code for role in world.tokens} == {200}, path
    for path in ("proof/inclusion?position=3", "tile/0/000"):
        assert [role for role in world.tokens if get(world, path, role).status_code != 200] == ["affiliate"], path
    assert {role for role in world.tokens if get(world, "tile/0/000", role).status_code == 403} == {"affiliate"}
    assert {role for role in world.tokens if get(world, "tile/entries/000", role).status_code == 200} == {"auditor"}


def test_an_affiliate_is_proven_its_own_entries_and_no_others(app: Flask) -> None:
    """Leaf hashes of others let their entries be guessed: whatever is not its own answers as what is not there."""
    world = make_world(app)
    positions = {}
    for order_id, affiliate_id in (("mine", "uk"), ("foreign", "fr")):
        world.sell(order_id, affiliate_id=affiliate_id)
        positions[affiliate_id] = world.books_position()
    sealed(world, "books")
    own = [one["position"] for one in world.call("affiliate", "GET", "/affiliates/uk/entries").json["items"]]
    served = {}
    for position in range(1, world.books_position() + 2):
        answer = world.call("affiliate", "GET", f"/log/books/proof/inclusion?position={position}")
        served[position] = answer.status_code
        if answer.status_code == 404:
            assert answer.json["detail"] == f"No entry of yours stands at position {position} of books."
    assert own
    assert {position for position, status in served.items() if status == 200} == set(own)
    assert served[positions["fr"]] == 404


def test_what_witnesses_signed_stands_under_the_checkpoint(app: Flask, database: Database) -> None:
    """Their lines come with the note, and the ETag with them; the log's own signature still holds."""
    world = make_world(app)
    click(world, 5)
    sealed(world)
    before = get(world, "checkpoint")
    line = notes.sign("x\n", [notes.Signer("witness.example", b"\x05" * 32)]).partition("\n\n")[2]
    with owner(database) as conn:
        conn.execute("INSERT INTO publications SELECT program_id, 'traffic', 'w', 5, %s, now() FROM programs"
                     " WHERE program = %s", (line, world.program))  # fmt: skip
    after = get(world, "checkpoint")
    assert after.get_data(as_text=True) == before.get_data(as_text=True) + line
    assert after.headers["ETag"] != before.headers["ETag"]
    assert sigstore_reads(after.get_data(as_text=True), verifier_key(world))[1] == 5


# --- without the key ----------------------------------------------------------------------------------------


def test_the_service_never_has_the_private_key(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves the same with settings in which every look at the key would fail, and nothing makes a signer."""
    before = get(world, "checkpoint").data

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the service asked for the signing key")

    for name in ("load_signing_keys", "key_file", "own_key_file", "has_signing_key"):
        monkeypatch.setattr(signing, name, never)
    monkeypatch.setattr(notes.Signer, "__init__", never)
    monkeypatch.setenv("LEDGER_SIGNING_KEY", "not a key")
    monkeypatch.setenv("LEDGER_SIGNING_KEY_FILE", "/nowhere")
    monkeypatch.setenv("DATABASE_URL", database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", (b"k" * 32).hex())
    from_environment = create_app(config={"LOG_REQUESTS": False})
    try:
        served = World(world.ledger, from_environment)
        served.program, served.tokens = world.program, world.tokens
        assert get(served, "checkpoint").data == before
        for path in (
            "keys",
            "proof/inclusion?position=3",
            "proof/consistency?from=3",
            "tile/0/000",
            "tile/entries/000",
        ):
            assert get(served, path).status_code == 200, path
    finally:
        from_environment.extensions["ledger"].pool.close()


@settings(max_examples=25)
@given(st.integers(1, 600), st.integers(1, 600))
def test_any_two_sizes_and_any_event(world: World, first: int, second: int) -> None:
    """From any size that somebody may have kept, to the newest; any event in it."""
    size, root = 600, b64decode(get(world, "proof/inclusion?position=1").json["root"])
    proof = get(world, f"proof/consistency?from={first}").json
    lines = _lines(world)
    old_root = merkle.root_of(map(leaf_hash, lines[:first]))
    merkle.verify_consistency(first, size, hashes(proof), old_root, root)
    proof = json.loads(get(world, f"proof/inclusion?position={second}").data)
    sigstore_accepts(lines[second - 1], second - 1, size, hashes(proof), root)


_known_lines: dict[str, list[bytes]] = {}


def _lines(world: World) -> list[bytes]:
    if world.program not in _known_lines:
        _known_lines[world.program] = entries(world, 600)
    return _known_lines[world.program]
