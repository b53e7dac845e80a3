"""Sealing: what is signed is what was recorded, whoever seals, however often, wherever it was interrupted; what was
changed, taken away or exchanged is not signed, and the position is named."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner
from conftest import fresh_database
from partitions import recorded
from partitions import template as stand_in  # noqa: F401
from psycopg import errors
from support import T0, Clock, by, open_ledger, open_shop, owner, program_id, sale
from test_distribution import check_statements
from test_jobs import Office
from third_parties import sigstore_accepts, sigstore_reads

from ledger.application import CommissionLedger
from ledger.audit import kept as keeping
from ledger.audit import merkle, proofs, sealing, tree
from ledger.audit.keys import SigningKeys
from ledger.audit.merkle import Tile, leaf_hash, root_of
from ledger.audit.notes import Signer, open_checkpoint
from ledger.audit.sealing import Sealing, SealRefused, seal
from ledger.audit.tree import SealedCheckpoint, StoredTree, TreeIncomplete
from ledger.cli import cli
from ledger.domain.click import RecordClick
from ledger.jobs import JOBS
from ledger.service import sealed_checkpoints_file
from ledger.store import log
from ledger.store.database import Database, urls
from ledger.store.embedded import EmbeddedServer
from ledger.store.log import Rows

OLD, NEW = b"\x01" * 32, b"\x02" * 32
KEYS = SigningKeys([OLD], "ledger.example")
_numbers = itertools.count(1)


class Traffic:
    """A program of its own with clicks, and who seals it."""

    def __init__(self, ledger: CommissionLedger, database: Database) -> None:
        self.ledger, self.database = ledger, database
        self.program = f"sealed{next(_numbers)}"
        self.id = program_id(self.program)
        open_shop(ledger, self.program)
        self._clicks = itertools.count()

    def click(self, count: int) -> None:
        """Record so many clicks."""
        while count:
            some = min(count, 5000)
            clicks = [
                RecordClick(click_id=f"c{next(self._clicks)}", affiliate_id="ada", offer_id="shoes", occurred_at=T0)
                for _ in range(some)
            ]
            self.ledger.record_clicks(self.program, clicks, by())
            count -= some

    def signers(self, keys: SigningKeys = KEYS) -> list[Signer]:
        return keys.signers(self.program, "traffic")

    def seal(self, keys: SigningKeys = KEYS, **more: Any) -> Sealing:
        return seal(self.ledger, self.program, "traffic", self.signers(keys), self.ledger.clock(), **more)

    def sealed(self) -> SealedCheckpoint:
        found = self.seal().checkpoint
        assert found is not None
        return found

    def lines(self) -> list[bytes]:
        """The export lines."""
        with self.ledger.reading(self.program) as (cur, id_):
            return [log.stored_line(id_, "traffic", row) for row in log.select_rows(cur, id_, "traffic", 0, 10**9)]

    def root(self, size: int | None = None) -> bytes:
        return root_of(leaf_hash(line) for line in self.lines()[:size])

    def checkpoints(self) -> list[int]:
        with owner(self.database) as conn:
            query = "SELECT size FROM checkpoints WHERE program_id = %s ORDER BY size"
            return [size for (size,) in conn.execute(query, (self.id,))]

    def tiles(self) -> list[tuple[int, int]]:
        with owner(self.database) as conn:
            query = "SELECT level, tile_index FROM tiles WHERE program_id = %s ORDER BY level, tile_index"
            return [(level, number) for level, number in conn.execute(query, (self.id,))]

    def tamper(self, table: str, statement: str, *params: Any) -> None:
        """What a superuser can do to this program's rows."""
        with owner(self.database) as conn:
            conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            changed = conn.execute(statement.format(table=table).encode(), (*params, self.id)).rowcount
            assert changed, "nothing was tampered with"

    def rewrite(self, position: int, *, hashed: bool) -> None:
        """Exchange an event for another; hashed: with its own leaf hash beside it."""
        self.tamper(
            "traffic_events", "UPDATE {table} SET actor = 'eve' WHERE position = %s AND program_id = %s", position
        )
        if hashed:
            leaf = leaf_hash(self.lines()[position - 1])
            self.tamper("traffic_events", "UPDATE {table} SET leaf_hash = %s WHERE position = %s AND program_id = %s",
                        leaf, position)  # fmt: skip


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """One database for all the tests here, each with a program of its own."""
    with fresh_database(server, template) as name:
        yield urls(server, name)


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def traffic(shared: Database, clock: Clock) -> Iterator[Traffic]:
    with open_ledger(shared, clock) as ledger:
        yield Traffic(ledger, shared)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit for every tile, so that a few hundred events have several."""
    monkeypatch.setattr(sealing, "BATCH", 256)


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


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """A ledger whose process dies at the n-th transaction that writes: before it, or after it was committed."""

    def __init__(self, ledger: CommissionLedger, writes: int, *, committed: bool) -> None:
        self._ledger, self._left, self._committed = ledger, writes, committed
        self.reading = ledger.reading

    @contextmanager
    def writing(self, program: str) -> Iterator[tuple[Rows, UUID]]:
        self._left -= 1
        if self._left == 0 and not self._committed:
            raise Killed
        with self._ledger.writing(program) as found:
            yield found
        if self._left == 0:
            raise Killed


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


# --- what is not signed -------------------------------------------------------------------------------------


def refused(traffic: Traffic, **more: Any) -> SealRefused:
    """The refusal; nothing was signed."""
    before = traffic.checkpoints()
    with pytest.raises(SealRefused) as found:
        traffic.seal(**more)
    assert traffic.checkpoints() == before
    for word in (traffic.program, "traffic", str(found.value.position), "nothing was signed"):
        assert word in str(found.value)
    return found.value


@pytest.mark.parametrize("position", [1, 256, 301, 650])
def test_an_event_that_is_not_what_was_hashed_is_not_sealed(traffic: Traffic, position: int) -> None:
    """Program, log and position are named, the hash that stands there and the one that it should have."""
    traffic.click(300)
    if position > 300:
        traffic.sealed()
        traffic.click(400)
    before = leaf_hash(traffic.lines()[position - 1]).hex()
    traffic.rewrite(position, hashed=False)
    found = refused(traffic)
    assert (found.fault, found.position, found.expected) == ("altered", position, before)
    assert found.found == leaf_hash(traffic.lines()[position - 1]).hex()


@pytest.mark.parametrize(
    ("position", "hashed", "fault"),
    [(1, False, "altered"), (1, True, "tile"), (200, True, "tile"), (512, True, "tile"), (600, False, "altered")],
)
def test_a_recheck_finds_what_was_changed_after_it_was_sealed(
    traffic: Traffic, position: int, hashed: bool, fault: str
) -> None:
    """Behind the last checkpoint a seal reads nothing; with a recheck it reads all, and names the position even where
    the stored hash was changed with the event."""
    traffic.click(700)
    traffic.sealed()
    traffic.rewrite(position, hashed=hashed)
    found = refused(traffic, recheck=True)
    assert (found.fault, found.position) == (fault, position)


def test_a_recheck_of_an_honest_log_changes_nothing(traffic: Traffic) -> None:
    """It reads everything and says that all is well; new events are sealed with it."""
    traffic.click(700)
    first = traffic.sealed()
    assert traffic.seal(recheck=True) == Sealing(first, 0)
    traffic.click(1)
    assert traffic.seal(recheck=True).events == 1


def test_a_fork_behind_the_last_tile_is_not_signed(traffic: Traffic) -> None:
    """An event behind the last complete tile exchanged together with its hash: the tree that was signed cannot be made
    again, so nothing more is, and the range in which it happened is named."""
    traffic.click(300)
    first = traffic.sealed()
    traffic.rewrite(290, hashed=True)
    traffic.click(300)
    found = refused(traffic)
    assert (found.fault, found.position, found.expected) == ("forked", 300, first.root.hex())
    assert "positions 1 to 300" in str(found)
    assert "positions 257 to 300" in str(refused(traffic, recheck=True))


def test_a_log_that_became_shorter_is_not_sealed(traffic: Traffic) -> None:
    """The end was cut off, and the head with it: the position that should be the last is named."""
    traffic.click(300)
    traffic.sealed()
    traffic.tamper("log_heads", "UPDATE {table} SET next_position = %s WHERE log = 'traffic' AND program_id = %s", 251)
    found = refused(traffic)
    assert (found.fault, found.position, found.expected, found.found) == ("shorter", 250, "300", "250")


@pytest.mark.parametrize(("position", "last"), [(100, 300), (300, 300)])
def test_a_gap_is_not_sealed(traffic: Traffic, position: int, last: int) -> None:
    """An event was taken away, in the middle or at the end: its position is named."""
    traffic.click(last)
    traffic.tamper("traffic_events", "DELETE FROM {table} WHERE position = %s AND program_id = %s", position)
    found = refused(traffic)
    assert (found.fault, found.position) == ("missing", position)


def test_a_tree_that_was_changed_is_not_gone_on_with(traffic: Traffic) -> None:
    """A root or a hash in a stored tile is not the events': the last checkpoint does not come out any more; a recheck
    names the first position of it. A tile that is gone is said to be."""
    traffic.click(700)
    traffic.sealed()
    traffic.click(1)
    with owner(traffic.database) as conn:
        (root,) = (
            conn.execute("SELECT root FROM tiles WHERE program_id = %s AND tile_index = 1", (traffic.id,)).fetchone()
            or ()
        )
    change = "UPDATE {table} SET root = %s WHERE tile_index = 1 AND program_id = %s"
    traffic.tamper("tiles", change, b"x" * 32)
    assert refused(traffic).fault == "forked"
    found = refused(traffic, recheck=True)
    assert (found.fault, found.position, found.expected) == ("tile", 257, (b"x" * 32).hex())
    traffic.tamper("tiles", change, root)
    traffic.tamper("tiles", "DELETE FROM {table} WHERE tile_index = %s AND program_id = %s", 0)
    with pytest.raises(TreeIncomplete, match="tiles are missing"):
        traffic.seal()
    assert traffic.seal(recheck=True).events == 1, "from the events it is made again"


# --- what is remembered outside -------------------------------------------------------------------------------


def forget(traffic: Traffic) -> None:
    """Whoever owns the tables takes away all that was sealed of the program."""
    for table in ("checkpoints", "tiles"):
        traffic.tamper(table, "DELETE FROM {table} WHERE program_id = %s")


@pytest.mark.parametrize(("position", "more"), [(30, 0), (30, 400), (290, 400)])
def test_a_history_that_was_rewritten_with_its_seals_is_not_signed(
    traffic: Traffic, tmp_path: Path, position: int, more: int
) -> None:
    """An event exchanged with its hash, no checkpoint and no tile left: consistent in itself, and yet not what this
    worker signed, which it remembers outside the database. Nothing else than the file stops it."""
    kept = tmp_path / "known.sealed.json"
    traffic.click(300)
    first = traffic.seal(kept=kept).checkpoint
    assert first is not None
    traffic.rewrite(position, hashed=True)
    forget(traffic)
    traffic.click(more)
    found = refused(traffic, kept=kept)
    assert (found.fault, found.position, found.expected) == ("forked", 300, first.root.hex())
    assert found.found == traffic.root(300).hex()
    assert refused(traffic, kept=kept, recheck=True).fault == "forked"
    kept.unlink()
    assert traffic.seal(kept=kept).events == 300 + more


def test_what_was_cut_off_together_with_its_seals_is_missed(traffic: Traffic, tmp_path: Path) -> None:
    """The log ends before what was signed, and the database has no memory of it."""
    kept = tmp_path / "known.sealed.json"
    traffic.click(300)
    traffic.seal(kept=kept)
    traffic.tamper("log_heads", "UPDATE {table} SET next_position = %s WHERE log = 'traffic' AND program_id = %s", 251)
    forget(traffic)
    found = refused(traffic, kept=kept)
    assert (found.fault, found.position, found.expected) == ("shorter", 250, "300")


def test_a_seal_killed_between_the_file_and_the_database_is_gone_on_with(traffic: Traffic, tmp_path: Path) -> None:
    """Signed and remembered, but never inserted; inserted by somebody with another file: both go on."""
    kept, elsewhere = tmp_path / "known.sealed.json", tmp_path / "other.sealed.json"
    traffic.click(300)
    mortal = Mortal(traffic.ledger, 2, committed=False)  # the tile is written, the checkpoint is not
    with pytest.raises(Killed):
        seal(mortal, traffic.program, "traffic", traffic.signers(), T0, kept=kept)
    name = traffic.signers()[0].key.name
    assert (traffic.checkpoints(), keeping.read(kept).logs[name].size) == ([], 300)
    traffic.click(300)
    assert traffic.seal(kept=elsewhere).events == 600
    traffic.seal(kept=kept)
    assert keeping.read(kept).logs[name].root == traffic.root().hex()
    traffic.click(1)
    assert traffic.seal(kept=kept).events == 1


def test_a_checkpoint_that_was_forged_in_the_database_is_not_gone_on_with(traffic: Traffic) -> None:
    """A row that says something else than its note, and a note that the key never signed."""
    traffic.click(300)
    first = traffic.sealed()
    traffic.click(1)
    for column, forged in (("root", b"x" * 32), ("note", first.note.replace("\n300\n", "\n299\n"))):
        traffic.tamper("checkpoints", f"UPDATE {{table}} SET {column} = %s WHERE program_id = %s", forged)
        found = refused(traffic)
        assert (found.fault, found.position) == ("checkpoint", 300)
        was = first.root if column == "root" else first.note
        traffic.tamper("checkpoints", f"UPDATE {{table}} SET {column} = %s WHERE program_id = %s", was)
    assert traffic.seal().events == 1


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


# --- by itself ----------------------------------------------------------------------------------------------

SEAL = [job for job in JOBS if job.name == "seal"]


@pytest.fixture
def office(shared: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Office]:
    monkeypatch.setenv("LEDGER_SIGNING_KEY", OLD.hex())
    monkeypatch.setenv("LEDGER_KNOWN_POSITIONS_FILE", str(tmp_path / "known.json"))
    with open_ledger(shared, clock) as ledger:
        yield Office(ledger, shared.app_url, clock)


def test_the_worker_seals_what_is_new_and_is_silent_when_nothing_is(office: Office) -> None:
    """A run for each due time at which something waited; none, and no row of history, at all the others. What it
    signed it also wrote down beside the known positions."""
    office.once(*SEAL)
    (name,) = keeping.read(sealed_checkpoints_file()).logs
    assert keeping.program_and_log(name) == (office.program, "books")
    for _ in range(5):
        office.clock.advance(seconds=10)
        office.once(*SEAL)
    office.ledger.execute(office.program, sale("A"), by())
    office.clock.advance(seconds=10)
    office.once(*SEAL)
    first, second = (run.detail["books"] for run in office.runs())
    assert (first["new"], second["new"]) == (first["size"], second["size"] - first["size"])
    assert [set(run.detail) for run in office.runs()] == [{"books"}, {"books"}], "quiet due times were not missed"
    with office.ledger.reading(office.program) as (cur, id_):
        assert sealing.unsealed_since(cur, id_) == {}


def test_due_times_at_which_something_waited_and_nobody_worked_are_a_gap(office: Office) -> None:
    """The worker was away for a minute with a sale waiting: the run says since when none was made."""
    office.once(*SEAL)
    office.clock.advance(minutes=10)
    office.ledger.execute(office.program, sale("A"), by())
    waits_since = office.clock.now
    office.clock.advance(minutes=1)
    office.once(*SEAL)
    gap = datetime.fromisoformat(office.runs()[-1].detail["none_since"])
    assert timedelta(0) <= waits_since - gap < timedelta(seconds=10)


def test_without_a_key_the_worker_says_so_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of history, and no more until there is a key; then everything is sealed."""
    monkeypatch.delenv("LEDGER_SIGNING_KEY")
    monkeypatch.setenv("DATABASE_URL", office.url)  # so that there is no home in which one would be made
    monkeypatch.delenv("LEDGER_HOME", raising=False)
    for _ in range(3):
        office.once(*SEAL)
        office.ledger.record_clicks(
            office.program, [RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0)], by()
        )
        office.clock.advance(seconds=10)
    assert [run.detail for run in office.runs()] == [{"signing_key": "none"}]
    monkeypatch.setenv("LEDGER_SIGNING_KEY", OLD.hex())
    office.once(*SEAL)
    assert office.runs()[-1].detail["traffic"] == {"size": 3, "new": 3}


def test_what_must_not_be_sealed_fails_the_run_with_the_position(office: Office, shared: Database) -> None:
    """Auditors read fault, log and position in the history; the other log is sealed all the same."""
    click = RecordClick(affiliate_id="ada", offer_id="shoes", occurred_at=T0)
    office.ledger.record_clicks(office.program, [click], by())
    with owner(shared) as conn:
        conn.execute("ALTER TABLE book_events DISABLE TRIGGER USER")
        conn.execute(
            "UPDATE book_events SET actor = 'eve' WHERE program_id = %s AND position = 3", (program_id(office.program),)
        )
    assert office.once(*SEAL).failures == 1
    (run,) = office.runs()
    found = {name: run.detail[name] for name in ("error", "fault", "log", "position")}
    assert (run.outcome, found) == (
        "failed", {"error": "SealRefused", "fault": "altered", "log": "books", "position": 3},
    )  # fmt: skip
    with office.ledger.reading(office.program) as (cur, id_):
        assert set(sealing.unsealed_since(cur, id_)) == {"books"}


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
