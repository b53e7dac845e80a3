"""What is not signed: what was changed, cut off, forged, or does not go on from what was signed before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sealing_world import Killed, Mortal, Traffic, clock, shared, small_batches, traffic
from support import T0, owner

from ledger.audit import kept as keeping
from ledger.audit.merkle import leaf_hash
from ledger.audit.sealing import Sealing, SealRefused, seal
from ledger.audit.tree import TreeIncomplete

__all__ = ["clock", "shared", "small_batches", "traffic"]  # the fixtures


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
