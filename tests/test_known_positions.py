"""Known positions: a database, or a backup, that is older than what is known outside of it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from backup_world import World, bring_back, env_of, lines, tables
from support import PROGRAM, T0, open_ledger, read_log

from api.startup import Preflight
from ledger.audit import kept as keeping
from ledger.backup.manifest import BackupRefused
from ledger.backup.restoring import Choice
from ledger.service import open_service
from ledger.store import known
from ledger.store.database import Database, StartupRefused


@pytest.fixture
def world(backed_up: World) -> World:
    """A shop with two backups."""
    return backed_up


# --- known positions ---------------------------------------------------------------------------------------


def test_an_older_backup_than_what_is_known_needs_the_loss_accepted(
    world: World, tmp_path: Path, empty_database: Database
) -> None:
    """Refused before anything is touched, naming log and positions; accepted, the loss stands in the books and in the
    file, and the file begins again where the books are."""
    file = shutil.copy(world.known, tmp_path / "known.json")
    end = len(world.lines[PROGRAM, "books"])
    env = {"LEDGER_KNOWN_POSITIONS_FILE": str(file)}
    with pytest.raises(BackupRefused, match="older than what is known") as caught:
        bring_back(empty_database, world.early, **env)
    known_end = json.loads(file.read_text())["positions"][PROGRAM]["books"]["position"]
    assert known_end > end
    says = f"program shop, books: position {known_end} is known (2026-01-02T00:00:00Z), the backup ends at {end}."
    assert says in str(caught.value)
    assert "--accept-loss" in str(caught.value)
    assert tables(empty_database) == 0
    restored = bring_back(empty_database, world.early, Choice(accept_loss=True), **env)
    with open_ledger(empty_database) as ledger:
        state = read_log(ledger)[-1].state
        assert read_log(ledger, "other")[-1].state.get("lost") is None
    assert state["lost"] == [{"log": "books", "first": end + 1, "last": known_end}]
    assert [one.lost for one in restored if one.program == "other"] == [[]]
    said = json.loads(file.read_text())
    assert said["positions"][PROGRAM]["books"]["position"] == end + 1
    (loss,) = said["accepted_losses"]
    assert (loss["program"], loss["log"], loss["restored"], loss["lost_to"]) == (PROGRAM, "books", end, known_end)
    with open_service(env_of(empty_database, **env)):
        pass  # it serves


def test_a_backup_that_has_what_is_known_needs_no_acceptance(
    world: World, tmp_path: Path, empty_database: Database
) -> None:
    """The newest one; what is known stays known, and holds for the restored database."""
    file = shutil.copy(world.known, tmp_path / "known.json")
    bring_back(empty_database, world.late, LEDGER_KNOWN_POSITIONS_FILE=str(file))
    assert file.read_bytes() == world.known.read_bytes()
    with open_service(env_of(empty_database, LEDGER_KNOWN_POSITIONS_FILE=str(file))) as service:
        found = known.record_known_positions(service.pool, file)
    assert found.positions[PROGRAM]["books"].position == len(lines(empty_database)[PROGRAM, "books"])


def test_what_was_sealed_behind_the_backup_is_known_too(world: World, tmp_path: Path, empty_database: Database) -> None:
    """Seals are signed every few seconds, positions noted every few minutes: a checkpoint that goes on behind the
    backup is a loss to accept, and what is remembered of it goes then, so that the restored log can be sealed."""
    file, end = tmp_path / "known.json", len(world.lines[PROGRAM, "books"])
    kept, env = keeping.file_beside(file), {"LEDGER_KNOWN_POSITIONS_FILE": str(file)}
    within, beyond = (keeping.Kept(size, "ab" * 32, T0) for size in (3, end + 7))
    keeping.keep(kept, f"ledger.example/{PROGRAM}/books", beyond)
    keeping.keep(kept, f"ledger.example/{PROGRAM}/traffic", within)
    with pytest.raises(BackupRefused, match=f"position {end + 7} is known .* the backup ends at {end}"):
        bring_back(empty_database, world.early, **env)
    restored = bring_back(empty_database, world.early, Choice(accept_loss=True), **env)
    assert [(x.log, x.first, x.last) for one in restored for x in one.lost] == [("books", end + 1, end + 7)]
    assert keeping.read(kept).logs == {f"ledger.example/{PROGRAM}/traffic": within}
    with open_service(env_of(empty_database, **env)):
        pass  # it serves


def test_another_history_is_refused_even_with_the_loss_accepted(
    world: World, tmp_path: Path, empty_database: Database
) -> None:
    """A known event that is another one in the backup was not lost but rewritten. At the backup's end its manifest
    shows it, before any tool is looked for."""
    said = known.read(world.known)
    assert said is not None
    end = len(world.lines[PROGRAM, "books"])
    for position, leaf, more in ((5, "ab" * 32, {}), (end, "cd" * 32, {"LEDGER_PG_BIN": str(tmp_path)})):
        file = tmp_path / f"{position}.json"
        said.positions[PROGRAM]["books"] = known.Known(position, leaf, T0)
        known.write(file, said)
        more["LEDGER_KNOWN_POSITIONS_FILE"] = str(file)
        with pytest.raises(
            BackupRefused, match=f"another history .* position {position} is known with leaf hash {leaf}"
        ):
            bring_back(empty_database, world.early, Choice(accept_loss=True), **more)
        assert tables(empty_database) == 0


def test_nobody_serves_a_database_that_was_rolled_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a verb nor the API: one line names program, log, what is known and what was found. What is known is not
    overwritten either."""
    file = shutil.copy(world.known, tmp_path / "known.json")
    env = env_of(world.database, LEDGER_KNOWN_POSITIONS_FILE=str(file))
    with open_service(env) as service:
        pool = service.pool
        for logs, says in (
            (
                {PROGRAM: {"books": known.Known(99, "ab" * 32, T0)}},
                "program shop, books: position 99 is known (2026-01-",
            ),
            ({"gone": {"traffic": known.Known(1, "ab" * 32, T0)}}, "program gone, traffic: position 1 is known"),
            ({PROGRAM: {"traffic": known.Known(2, "ab" * 32, T0)}}, "another history than what is known of it"),
        ):
            known.write(file, known.KnownPositions(positions=logs))
            before = file.read_bytes()
            monkeypatch.setenv("LEDGER_KNOWN_POSITIONS_FILE", str(file))
            for serve in (
                lambda: open_service(env).__enter__(),
                lambda: Preflight(pool).check(),
                lambda: known.record_known_positions(pool, file),
            ):
                with pytest.raises(StartupRefused) as caught:
                    serve()
                assert says in str(caught.value)
                assert "\n" not in str(caught.value)
            assert file.read_bytes() == before
    file.write_text("{")
    with pytest.raises(StartupRefused, match="cannot be read"), open_service(env):
        pass
