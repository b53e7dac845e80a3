"""An export that was stopped, repeated or continued; logs that were changed; the verb."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from export_process import forked, kill_before, limit_files
from exporting_world import (
    click,
    database,
    export_firm,
    files_of,
    firm,
    lines_in,
    seal_both,
    sealed_size,
    small,
    stored_lines,
)
from statement_world import Firm
from support import MASTER_KEY, Clock, by, open_ledger, owner, program_id

from ledger.audit import directory as names
from ledger.audit import exporting_place, merkle
from ledger.audit.exporting_place import PROGRESS, ExportRefused
from ledger.cli import main
from ledger.domain.program import OpenProgram
from ledger.exporting.exporter import export
from ledger.store import log
from ledger.store.database import Database

__all__ = ["database", "firm", "small"]  # the fixtures


# --- stopped, repeated, continued ------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", [names.NDJSON, names.PARQUET])
def test_killed_anywhere_it_ends_in_the_same_bytes(firm: Firm, tmp_path: Path, database: Database, form: str) -> None:
    """The process is killed before some of its operations on files, others on each run of the tests; the same command
    completes the rest."""
    whole, counted = tmp_path / "whole", tmp_path / "counted"

    def work(root: Path, number: int) -> None:
        with open_ledger(database, Clock(firm.clock.now)) as ledger:
            count = kill_before(number, root)
            export(ledger, firm.program, root, segments=form)
            done = count()
        counted.write_text(str(done))

    assert forked(lambda: work(whole, 0)) == 0
    expected = files_of(whole)
    operations = int(counted.read_text())
    assert operations > 40
    step = operations // (10 if form == names.NDJSON else 4) + 1
    for number in range(random.randint(1, step), operations + 1, step):
        root = tmp_path / f"killed-before-{number}"
        assert forked(lambda root=root, number=number: work(root, number)) == -9  # type: ignore[misc]
        assert not (root / names.MANIFEST).exists() or files_of(root).items() >= expected.items()
        export_firm(firm, root, segments=form)
        assert files_of(root) == expected


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_an_error_that_leaves_nothing_half(firm: Firm, tmp_path: Path, database: Database) -> None:
    """The message names the file; no part of it stays; with room again the same command completes the rest."""
    root = tmp_path / "out"
    said = tmp_path / "said"

    def work() -> None:
        with open_ledger(database, Clock(firm.clock.now)) as ledger:
            limit_files(15_000)
            try:
                export(ledger, firm.program, root)
            except ExportRefused as problem:
                said.write_text(str(problem))
                raise

    assert forked(work) == 1
    assert re.search(
        r"(books|traffic)/\d+\.ndjson cannot be written: File too large. What is complete is kept", said.read_text()
    )
    assert all(len(content) <= 15_000 and ".part-" not in path for path, content in files_of(root).items())
    export_firm(firm, root)
    export_firm(firm, tmp_path / "other")
    assert files_of(root) == files_of(tmp_path / "other")


@pytest.mark.usefixtures("small")
def test_a_repeated_export_keeps_what_is_whole_and_mends_what_is_not(firm: Firm, tmp_path: Path) -> None:
    """Nothing is written twice; a segment that lost a byte, or is gone, is written anew."""
    root = tmp_path / "out"
    export_firm(firm, root)
    expected = files_of(root)
    assert export(firm.ledger, firm.program, root).written == 0
    for path in ("books/000000000041.ndjson", names.STATEMENTS, names.README):
        (root / path).write_bytes(expected[path].replace(b"1", b"2", 1))
        export_firm(firm, root)
        assert files_of(root) == expected
    (root / "books/000000000001.ndjson").unlink()
    untouched = (root / "books/000000000041.ndjson").stat().st_ino
    export_firm(firm, root)
    assert files_of(root) == expected
    assert (root / "books/000000000041.ndjson").stat().st_ino == untouched


@pytest.mark.usefixtures("small")
def test_a_later_export_continues_an_earlier_one(firm: Firm, tmp_path: Path) -> None:
    """Full segments stay untouched, the rest is as in a new export; a proof that is no longer needed goes."""
    root = tmp_path / "out"
    export_firm(firm, root, until=90)
    full = (root / "books/000000000041.ndjson").stat()

    def unfinished(*_: object) -> None:
        assert not (root / names.MANIFEST).exists()

    export_firm(firm, root, progress=unfinished)
    now = (root / "books/000000000041.ndjson").stat()
    assert (now.st_ino, now.st_mtime_ns) == (full.st_ino, full.st_mtime_ns)
    export_firm(firm, tmp_path / "new")
    assert files_of(root) == files_of(tmp_path / "new")
    with pytest.raises(ExportRefused, match="holds an export of books up to position"):
        export_firm(firm, root, until=90)


@pytest.mark.usefixtures("small")
def test_an_unfinished_export_is_finished_as_it_was_begun(firm: Firm, tmp_path: Path, database: Database) -> None:
    """Though the log was sealed further meanwhile; asked for more, it goes on to there."""
    program = "unfinished"
    with open_ledger(database, firm.clock) as ledger:
        other = Firm(ledger, firm.clock, program)
        for n in range(30):
            other.sell(f"o{n}", 1_000)
        click(other, 3)
        seal_both(ledger, program, firm.clock)
        first = export_firm(other, tmp_path / "first")

        def stop(what: str, done: int, total: int | None) -> None:
            if what == "traffic":
                raise KeyboardInterrupt

        for name in ("a", "b"):
            with pytest.raises(KeyboardInterrupt):
                export_firm(other, tmp_path / name, progress=stop)
            assert not [path for path in files_of(tmp_path / name) if ".part-" in path]
        other.sell("more", 1_000)
        seal_both(ledger, program, firm.clock)
        assert export_firm(other, tmp_path / "a") == first
        assert files_of(tmp_path / "a") == files_of(tmp_path / "first")
        more = export_firm(other, tmp_path / "b", until=first.logs["books"].size + 1)
        assert more.logs["books"].size == first.logs["books"].size + 1
        assert lines_in(tmp_path / "b", "books") == stored_lines(other, "books", more.logs["books"].size)


def test_a_directory_with_anything_else_in_it_is_left_as_it_is(firm: Firm, tmp_path: Path) -> None:
    """A strange file, another program's export, another form, an unsealed one, somebody at work: refused, untouched."""
    strange = tmp_path / "strange"
    (strange / "photos").mkdir(parents=True)
    ours = tmp_path / "ours"
    export_firm(firm, ours)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    plain = tmp_path / "file"
    plain.write_text("mine")
    manifest = tmp_path / "manifest"
    manifest.mkdir()
    (manifest / names.MANIFEST).write_text('{"format":"other/7"}')
    firm.ledger.open_program(OpenProgram(program="other", currency="GBP"), by())
    seal_both(firm.ledger, "other", firm.clock)
    before = files_of(tmp_path)
    refusals: list[tuple[Path, str, dict[str, Any], str]] = [
        (strange, "firm", {}, r"there is photos/ in it"),
        (foreign, "firm", {}, r"there is notes\.txt in it"),
        (plain, "firm", {}, r"is a file"),
        (manifest, "firm", {}, r"the format is 'other/7'"),
        (tmp_path / "no" / "parent", "firm", {}, r"no is no directory: make it first"),
        (ours, "other", {}, r"holds an export of firm \(ndjson\)"),
        (ours, "firm", {"segments": names.PARQUET}, r"holds an export of firm \(ndjson\)"),
        (ours, "firm", {"unsealed": True}, r"holds an export of firm \(ndjson\)"),
    ]
    for root, program, more, why in refusals:
        with pytest.raises(ExportRefused, match=why):
            export(firm.ledger, program, root, **more)
    assert files_of(tmp_path) == before

    def again(*_: object) -> None:
        with pytest.raises(ExportRefused, match=r"another export into .* is at work"):
            export_firm(firm, tmp_path / "busy")

    export_firm(firm, tmp_path / "busy", progress=again)


def test_a_link_that_somebody_planted_is_not_followed(firm: Firm, tmp_path: Path) -> None:
    """In a directory that others may write in too: the file that the link leads to stays as it is."""
    root, target = tmp_path / "out", tmp_path / "target"
    root.mkdir()
    target.write_text("precious")
    for path in (names.BALANCES, names.KEYS, "books/leaves", names.MANIFEST, "progress"):
        (root / f"{exporting_place.PART}{path.replace('/', '-')}").symlink_to(target)
    (root / exporting_place.PROGRESS).symlink_to(target)
    export_firm(firm, root)
    assert target.read_text() == "precious"
    assert not [path for path in root.rglob("*") if path.is_symlink()]


# --- logs that were changed ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_of_a_log_that_was_changed_no_export_is_made(firm: Firm, tmp_path: Path, database: Database) -> None:
    """An edited event, one with its hash recomputed, one taken away: refused, the first position named where known."""
    id_ = program_id(firm.program)
    with owner(database) as conn:
        conn.execute("ALTER TABLE book_events DISABLE TRIGGER USER")
        where = ("FROM book_events WHERE program_id = %s AND position = 61", (id_,))
        columns = (
            "position, originator_id, originator_version, topic, recorded_at, actor, key_id, request_id, cause, state"
        )
        row = conn.execute(f"SELECT {columns} {where[0]}", where[1]).fetchone()
        assert row is not None
        kept = conn.execute(f"SELECT * {where[0]}", where[1]).fetchone()
        forged = merkle.leaf_hash(log.stored_line(id_, "books", (*row[:5], "mallory", *row[6:])))
        edit = "UPDATE book_events SET actor = %s WHERE program_id = %s AND position = 61"
        rehash = "UPDATE book_events SET leaf_hash = %s WHERE program_id = %s AND position = 61"
        attacks: list[tuple[str, list[tuple[str, tuple[Any, ...]]]]] = [
            (r"books, position 61: .* it was changed after it was recorded", [(edit, ("mallory", id_))]),
            (
                r"books: the events 1 to \d+ are not those that were sealed",
                [(edit, ("mallory", id_)), (rehash, (forged, id_))],
            ),
            (r"books, position 61: there is no such event", [(f"DELETE {where[0]}", where[1])]),
        ]
        try:
            for why, statements in attacks:
                for statement, params in statements:
                    conn.execute(statement.encode(), params)
                for name, until in (("part", 90), ("out", None)):
                    with pytest.raises(ExportRefused, match=why):
                        export_firm(firm, tmp_path / name, until=until)
                    assert not (tmp_path / name / names.MANIFEST).exists()
                _restore(conn, id_, kept)
        finally:
            _restore(conn, id_, kept)
            conn.execute("ALTER TABLE book_events ENABLE ALWAYS TRIGGER book_events_append_only")
    export_firm(firm, tmp_path / "out")
    export_firm(firm, tmp_path / "new")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "new")


def _restore(conn: psycopg.Connection[Any], id_: Any, row: Any) -> None:
    conn.execute("DELETE FROM book_events WHERE program_id = %s AND position = 61", (id_,))
    conn.execute(f"INSERT INTO book_events VALUES ({', '.join(['%s'] * len(row))})".encode(), row)


# --- the verb ----------------------------------------------------------------------------------------------


def test_the_verb_exports_and_explains(
    firm: Firm,
    tmp_path: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What an operator reads on success, the second time, and when it is refused."""
    monkeypatch.setenv("DATABASE_URL", database.app_url)
    monkeypatch.setenv("LEDGER_MASTER_KEY", MASTER_KEY.hex())
    for name in ("LEDGER_HOME", "LEDGER_MASTER_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["export", "-p", "firm", "--to", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, out, _ = run()
    size = sealed_size(firm, "books")
    assert code == 0
    assert f"books: {size:,} events, sealed up to {size:,}" in out
    assert f"ledger verify {tmp_path / 'out'}" in out
    assert "nothing was written" in run()[1]
    code, _, err = run("--until", str(size + 1))
    assert code == 1
    assert "run `ledger seal --program firm` first" in err
    assert run("--format", "parquet")[0] == 1
    assert not (tmp_path / "out" / PROGRESS).exists()
