"""Sealing: what is signed is what was recorded, whoever seals, however often, wherever it was interrupted; what was
changed, taken away or exchanged is not signed, and the position is named."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner
from conftest import fresh_database
from partitions import recorded
from partitions import template as stand_in  # noqa: F401
from psycopg import errors
from sealing_world import KEYS, NEW, OLD, Killed, Mortal, Traffic, clock, shared, small_batches, traffic
from support import T0, Clock, by, open_ledger, owner, sale
from test_distribution import check_statements
from third_parties import sigstore_accepts, sigstore_reads

from ledger.audit import merkle, proofs, sealing, tree
from ledger.audit.keys import SigningKeys
from ledger.audit.merkle import Tile, leaf_hash, root_of
from ledger.audit.notes import open_checkpoint
from ledger.audit.sealing import Sealing, seal
from ledger.audit.tree import StoredTree
from ledger.cli import cli
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer
from ledger.store.log import Rows

__all__ = ["clock", "shared", "small_batches", "traffic"]  # the fixtures


# --- what is signed -----------------------------------------------------------------------------------------


def test_a_checkpoint_is_over_every_event_and_signed(traffic: Traffic, clock: Clock) -> None:
    """Size and root are the log's, the signature holds for us and for sigstore, under the log's own name."""
    traffic.click(700)
    assert traffic.seal().events == 700
    found = traffic.sealed()
    key = traffic.signers()[0].key
    assert (found.size, found.root, found.sealed_at) == (700, traffic.root(), clock.now)
    assert open_checkpoint(found.note, [key]) == (f"ledger.example/{traffic.program}/traffic", 700, found.root)
    assert sigstore_reads(found.note, key) == (key.name, 700, found.root)
    assert traffic.tiles() == [(0, 0), (0, 1)]


def test_sealing_again_signs_only_what_is_new(traffic: Traffic) -> None:
    """Nothing new: the same checkpoint and no other. More events: one more, and the earlier ones stay true."""
    assert traffic.seal() == Sealing(None, 0), "an empty log has no checkpoint"
    sizes = []
    for count in (3, 252, 1, 1, 600):
        traffic.click(count)
        sizes.append(traffic.sealed().size)
        assert traffic.seal() == Sealing(traffic.sealed(), 0)
    assert traffic.checkpoints() == sizes == [3, 255, 256, 257, 857]
    with traffic.ledger.reading(traffic.program) as (cur, id_):
        for size in sizes:
            one = tree.checkpoint_of(cur, id_, "traffic", size)
            assert one is not None
            assert one.root == traffic.root(size) == StoredTree(cur, id_, "traffic", size).root()
        over = tree.checkpoint_over(cur, id_, "traffic", 256)
        assert (over and over.size, tree.checkpoint_of(cur, id_, "traffic", 4)) == (256, None)


def test_two_levels_of_tiles(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """66,000 events: a tile of tiles; proofs from the database hold for sigstore and for us, and so does the tree that
    went on from tiles at both levels."""
    monkeypatch.setattr(sealing, "BATCH", 100 * 256)
    traffic.click(65_536 + 200)
    first = traffic.sealed()
    traffic.click(300)
    found, lines = traffic.sealed(), traffic.lines()
    assert (found.size, found.root) == (66_036, root_of(map(leaf_hash, lines)))
    assert traffic.tiles() == [(0, n) for n in range(257)] + [(1, 0)]
    with traffic.ledger.reading(traffic.program) as (cur, id_):
        stored = StoredTree(cur, id_, "traffic", found.size)
        for position in (1, 65_536, 65_537, 65_793, 66_036):
            proof = stored.inclusion_proof(position)
            sigstore_accepts(lines[position - 1], position - 1, found.size, proof, found.root)
        proof = stored.consistency_proof(first.size)
        merkle.verify_consistency(first.size, found.size, proof, first.root, found.root)
        assert stored.tile(Tile(1, 0)) == b"".join(
            root_of(map(leaf_hash, lines[n * 256 : n * 256 + 256])) for n in range(256)
        )
        assert stored.tile(Tile(1, 1, 1)) == root_of(map(leaf_hash, lines[65_536 : 65_536 + 256]))


def test_both_logs_and_every_program_are_sealed_apart(traffic: Traffic, clock: Clock) -> None:
    """The books have a checkpoint of their own, under their own name."""
    traffic.click(3)
    signers = KEYS.signers(traffic.program, "books")
    books = seal(traffic.ledger, traffic.program, "books", signers, clock.now).checkpoint
    assert books is not None
    assert open_checkpoint(books.note, [signers[0].key]).size == books.size > 3
    assert traffic.sealed().size == 3


# --- interrupted, and at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("writes", [1, 2, 4, 5])
def test_a_run_that_was_killed_is_gone_on_with(traffic: Traffic, writes: int, committed: bool) -> None:
    """Between any two transactions, also just behind the last: the next run ends in the same root, and what stood
    before it is proven to be its beginning."""
    traffic.click(300)
    first = traffic.sealed()
    traffic.click(1_000)
    mortal = Mortal(traffic.ledger, writes, committed=committed)
    with pytest.raises(Killed):
        seal(mortal, traffic.program, "traffic", traffic.signers(), T0)
    left = len(traffic.tiles())
    found = traffic.sealed()
    assert (found.size, found.root) == (1_300, traffic.root())
    assert left <= len(traffic.tiles()) == 5
    assert traffic.checkpoints() == [300, 1_300]
    with traffic.ledger.reading(traffic.program) as (cur, id_):
        proof = StoredTree(cur, id_, "traffic", 1_300).consistency_proof(300)
    merkle.verify_consistency(300, 1_300, proof, first.root, found.root)


def test_several_may_seal_at_once(traffic: Traffic) -> None:
    """Four at the same time: one checkpoint, one tree, and everybody has it."""
    traffic.click(1_000)
    ready = threading.Barrier(4)

    def run(_: int) -> Sealing:
        ready.wait()
        return traffic.seal()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(run, range(4)))
    assert {one.checkpoint for one in found} == {traffic.sealed()}
    assert sorted(one.events for one in found) == [0, 0, 0, 1_000]
    assert traffic.checkpoints() == [1_000]
    assert traffic.sealed().root == traffic.root()


def test_a_slow_sealer_is_overtaken_and_signs_no_older_checkpoint(traffic: Traffic) -> None:
    """While one is half way, more is recorded and another seals all of it: the slow one finds that, and signs nothing
    of its own."""
    traffic.click(600)
    overtaken: list[int] = []

    def overtake(position: int, _: int) -> None:
        if not overtaken:
            overtaken.append(position)
            traffic.click(400)
            assert traffic.sealed().size == 1_000

    assert traffic.seal(progress=overtake).events == 0
    assert overtaken == [256]
    assert traffic.checkpoints() == [1_000]


def test_sealing_holds_up_no_writer(traffic: Traffic) -> None:
    """In the middle of it, between two of its statements included, sales are recorded as ever."""
    traffic.click(600)
    sold = itertools.count()

    class Selling(Mortal):
        @contextmanager
        def writing(self, program: str) -> Iterator[tuple[Rows, UUID]]:
            with self._ledger.writing(program) as found:
                yield found
                self._ledger.execute(program, sale(f"A{next(sold)}"), by())
                self._ledger.record_clicks(program, [], by())

    seal(Selling(traffic.ledger, 0, committed=True), traffic.program, "traffic", traffic.signers(), T0)
    assert next(sold) == 3
    assert traffic.checkpoints() == [600]


# --- keys ---------------------------------------------------------------------------------------------------


def keys_of(traffic: Traffic) -> dict[str, tuple[int, int | None]]:
    """verifier key → first and last size, as anybody is told."""
    with traffic.ledger.reading(traffic.program) as (cur, id_):
        listed = proofs.keys(cur, id_, "traffic")["keys"]
    return {one["verifier_key"]: (one["first_size"], one["last_size"]) for one in listed}


def test_keys_rotate_with_an_overlap_and_stay_listed(traffic: Traffic) -> None:
    """Old, both, new: a reader with either key accepts the overlap's checkpoints; retired keys stay with the sizes
    between which they signed, also one that comes back and goes again."""
    old, new = (SigningKeys([seed], "ledger.example").signers(traffic.program, "traffic")[0].key for seed in (OLD, NEW))
    notes = []
    for seeds in ([OLD], [NEW, OLD], [NEW, OLD], [NEW]):
        traffic.click(10)
        found = traffic.seal(SigningKeys(seeds, "ledger.example")).checkpoint
        assert found is not None
        notes.append(found.note)
    for at, known in ((0, old), (1, old), (2, old), (1, new), (2, new), (3, new)):
        assert open_checkpoint(notes[at], [known]).size == 10 * (at + 1)
        assert sigstore_reads(notes[at], known)[1] == 10 * (at + 1)
    assert keys_of(traffic) == {str(old): (10, 30), str(new): (20, None)}
    with traffic.ledger.reading(traffic.program) as (cur, id_):
        lines = [one["line"] for one in proofs.keys(cur, id_, "traffic")["keys"]]
    assert lines == [f"{old} until 30", str(new)]
    for seeds in ([OLD], [NEW], [NEW]):
        traffic.click(10)
        traffic.seal(SigningKeys(seeds, "ledger.example"))
    assert keys_of(traffic) == {str(old): (10, 50), str(new): (20, None)}


def test_a_log_under_another_name_goes_on_from_the_same_tree(traffic: Traffic) -> None:
    """LEDGER_ORIGIN changed: the new name's checkpoints contain the old one's, whose keys are retired."""
    traffic.click(10)
    first = traffic.sealed()
    traffic.click(10)
    second = traffic.seal(SigningKeys([OLD], "new.example")).checkpoint
    assert second is not None
    assert second.note.startswith(f"new.example/{traffic.program}/traffic\n20\n")
    with traffic.ledger.reading(traffic.program) as (cur, id_):
        proof = StoredTree(cur, id_, "traffic", 20).consistency_proof(10)
        assert [one.last_size for one in tree.sealing_keys(cur, id_, "traffic")] == [10, None]
    merkle.verify_consistency(10, 20, proof, first.root, second.root)


def test_the_private_key_is_in_no_table(traffic: Traffic) -> None:
    """Whoever has the database has the verifier keys only."""
    traffic.click(10)
    traffic.sealed()
    with owner(traffic.database) as conn:
        for table in ("checkpoints", "sealing_keys", "retired_keys", "tiles"):
            text = str(conn.execute(f"SELECT * FROM {table}".encode()).fetchall())
            assert OLD.hex() not in text
            assert repr(OLD) not in text


# --- append-only --------------------------------------------------------------------------------------------


def test_what_was_sealed_cannot_be_changed(database: Database) -> None:
    """Neither the app role nor the owner changes or removes tiles, checkpoints or keys."""
    with open_ledger(database) as ledger:
        traffic = Traffic(ledger, database)
        for seed in (OLD, NEW):
            traffic.click(300)
            traffic.seal(SigningKeys([seed], "ledger.example"))
    for table in ("tiles", "checkpoints", "sealing_keys", "retired_keys"):
        for change in ("UPDATE {} SET program_id = program_id", "DELETE FROM {}", "TRUNCATE {}"):
            with psycopg.connect(database.app_url) as conn, pytest.raises(errors.InsufficientPrivilege):
                conn.execute(change.format(table).encode())
            with owner(database) as conn, pytest.raises(errors.InsufficientPrivilege, match="append-only"):
                conn.execute(change.format(table).encode())


# --- each statement touches one partition --------------------------------------------------------------------


def test_each_statement_touches_one_partition(server: EmbeddedServer, stand_in: str) -> None:  # noqa: F811
    """Sealing, rechecking and proving, on tables in hash partitions by program_id."""
    with fresh_database(server, stand_in) as name, open_ledger(urls(server, name)) as ledger:
        traffic = Traffic(ledger, urls(server, name))
        traffic.click(600)
        with recorded() as statements:
            traffic.seal()
            traffic.seal(recheck=True)
            with ledger.reading(traffic.program) as (cur, id_):
                proofs.inclusion(cur, id_, "traffic", 300)
                proofs.consistency(cur, id_, "traffic", 300)
                proofs.keys(cur, id_, "traffic")
                proofs.tile(cur, id_, "traffic", Tile(1, 0, 2))
                proofs.entries(cur, id_, "traffic", Tile(0, 0))
                tree.checkpoint_over(cur, id_, "traffic", 5)
                sealing.unsealed_since(cur, id_)
            sent = list(statements)
        with psycopg.connect(urls(server, name).app_url) as conn:
            assert check_statements(conn, sent) > 12


# --- the command line ---------------------------------------------------------------------------------------


def test_the_command_line_seals_shows_and_proves(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `checkpoint` prints is believed by sigstore, and what `proof` prints leads to it."""
    import json
    from base64 import b64decode

    traffic.click(300)
    for name, value in {
        "DATABASE_URL": traffic.database.app_url, "LEDGER_MASTER_KEY": "6b" * 32, "LEDGER_SIGNING_KEY": OLD.hex(),
        "LEDGER_ORIGIN": "ledger.example",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        where = ("--program", traffic.program, *(() if words[0] == "seal" else ("--log", "traffic")))
        done = CliRunner().invoke(cli, [*words, *where], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(run("seal", "--json"))["traffic"]["new"] == 300
    assert "traffic: 300 events (nothing new)" in run("seal", "--recheck")
    origin, size, root = sigstore_reads(run("checkpoint"), traffic.signers()[0].key)
    assert (origin, size, root) == (f"ledger.example/{traffic.program}/traffic", 300, traffic.root())
    assert run("checkpoint", "--size", "300") == run("checkpoint")
    proof = json.loads(run("proof", "inclusion", "7"))
    sigstore_accepts(traffic.lines()[6], proof["leaf_index"], size, list(map(b64decode, proof["hashes"])), root)
    proof = json.loads(run("proof", "consistency", "200"))
    merkle.verify_consistency(200, 300, list(map(b64decode, proof["hashes"])), traffic.root(200), root)
    (listed,) = json.loads(run("sealing-key", "list", "--json"))
    assert (listed["verifier_key"], listed["status"]) == (str(traffic.signers()[0].key), "current")
