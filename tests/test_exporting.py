"""`ledger export`: what is in the directory, and that nothing stops it from being whole, equal and nobody else's."""

from __future__ import annotations

import base64
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid5

import msgspec
import psycopg
import pytest
from conftest import fresh_database
from export_process import forked, kill_before, limit_files
from proof_world import KEYS, lively_firm
from statement_world import Firm
from support import MASTER_KEY, T0, Clock, by, open_ledger, owner, program_id

from ledger.application import CommissionLedger
from ledger.audit import directory as names
from ledger.audit import exporting_place, merkle, notes, sealing
from ledger.audit.directory import Manifest
from ledger.audit.exporting_place import PROGRESS, ExportRefused
from ledger.audit.keys import SigningKeys
from ledger.cli import main
from ledger.domain.affiliate import EnrolAffiliate
from ledger.domain.click import RecordClick
from ledger.domain.errors import InvalidInput
from ledger.domain.program import OpenProgram
from ledger.exporting.exporter import export
from ledger.projections import books
from ledger.store import database as store
from ledger.store import log
from ledger.store.database import Database
from ledger.store.embedded import EmbeddedServer

PERSONAL = ("Ada & Co", "Bob & Co", "@example.com", "DE123", "the bank says so", "agreed", "forgotten reason")
Tree = dict[str, bytes]


def seal_both(ledger: CommissionLedger, program: str, clock: Clock) -> None:
    """Sign a checkpoint of both logs."""
    for name in names.LOGS:
        sealing.seal(ledger, program, name, KEYS.signers(program, name), clock())


def click(firm: Firm, number: int) -> None:
    """Clicks, now."""
    clicks = [
        RecordClick(click_id=f"k{firm.clock.now:%d%H}-{n}", affiliate_id="ada", offer_id="shoes", occurred_at=T0)
        for n in range(number)
    ]
    firm.ledger.record_clicks(firm.program, clicks, by())


@pytest.fixture(scope="module")
def database(server: EmbeddedServer, template: str) -> Iterator[Database]:
    """One database for the module; a test that changes something takes it back or makes a program of its own."""
    with fresh_database(server, template) as name:
        yield store.urls(server, name)


@pytest.fixture(scope="module")
def firm(database: Database) -> Iterator[Firm]:
    """Three months with statements and a reissue, payouts and clicks; sealed, with events behind the seal."""
    clock = Clock(T0)
    with open_ledger(database, clock) as ledger:
        made = lively_firm(ledger, clock)
        click(made, 70)
        made.adjust("reasoned", 100)
        seal_both(ledger, made.program, clock)
        clock.advance(hours=1)
        click(made, 30)
        made.sell("behind the seal", 1_000)
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 40 positions."""
    monkeypatch.setattr(names, "SEGMENT_POSITIONS", 40)


def files_of(root: Path) -> Tree:
    """Every file below a directory, hidden ones included."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def manifest_of(root: Path) -> Manifest:
    """Its manifest."""
    return names.read_manifest((root / names.MANIFEST).read_bytes())


def export_firm(firm: Firm, root: Path, **more: Any) -> Manifest:
    """Export the firm."""
    return export(firm.ledger, firm.program, root, **more).manifest


def lines_in(root: Path, name: str) -> list[bytes]:
    """The export lines of a log, from its segments in the order of the manifest."""
    paths = [file.path for file in manifest_of(root).files if file.log == name]
    return [line for path in paths for line in (root / path).read_bytes().split(b"\n")[:-1]]


def stored_lines(firm: Firm, name: str, until: int) -> list[bytes]:
    """The export lines as the API gives them."""
    with firm.ledger.reading(firm.program) as (cur, id_):
        rows = log.select_rows(cur, id_, name, 0, until)
    return [log.stored_line(id_, name, row) for row in rows]


def sealed_size(firm: Firm, name: str) -> int:
    """How far a log is sealed."""
    with firm.ledger.reading(firm.program) as (cur, id_):
        cur.execute("SELECT max(size) FROM checkpoints WHERE program_id = %s AND log = %s", (id_, name))
        row = cur.fetchone()
    assert row is not None
    return int(row[0])


def _asked(query: str) -> list[Any]:
    """What DuckDB answers, which knows nothing of ours."""
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


# --- what is in it ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_an_export_holds_every_sealed_event_and_says_so(firm: Firm, tmp_path: Path) -> None:
    """Segments are the export lines byte for byte; the manifest's sizes, hashes, roots and totals are theirs."""
    manifest = export_firm(firm, tmp_path / "out")
    root = tmp_path / "out"
    for name in names.LOGS:
        size = sealed_size(firm, name)
        lines = lines_in(root, name)
        assert lines == stored_lines(firm, name, size)
        assert manifest.logs[name].size == manifest.totals.events[name] == len(lines)
        assert manifest.logs[name].root == merkle.root_of(map(merkle.leaf_hash, lines)).hex()
    found = files_of(root)
    assert found.keys() == {file.path for file in manifest.files} | {names.MANIFEST}
    for file in manifest.files:
        assert (file.bytes, file.sha256) == (len(found[file.path]), sha256(found[file.path]).hexdigest())
    assert [f.path for f in manifest.files if f.log == "traffic"] == [
        "traffic/000000000001.ndjson", "traffic/000000000041.ndjson",
    ]  # fmt: skip
    assert [(f.first, f.last) for f in manifest.files if f.log == "traffic"] == [(1, 40), (41, 70)]
    assert manifest.totals.statements == found[names.STATEMENTS].count(b"\n") > 10
    assert manifest.totals.accounts == found[names.BALANCES].count(b"\n") > 10
    assert all((path.stat().st_mode & 0o077) == 0 for path in [root, *root.rglob("*")])


def test_the_checkpoints_vouch_for_what_was_exported(firm: Firm, tmp_path: Path) -> None:
    """Signed by the keys in keys.txt, over the size and the root in the manifest."""
    manifest = export_firm(firm, tmp_path / "out")
    keys = [notes.read_verifier_key(line) for line in (tmp_path / "out" / names.KEYS).read_text().splitlines()]
    assert {str(key) for key in keys} == {str(KEYS.signers("firm", name)[0].key) for name in names.LOGS}
    for name in names.LOGS:
        checkpoint = notes.open_checkpoint((tmp_path / "out" / name / names.CHECKPOINT).read_text(), keys)
        assert (checkpoint.size, checkpoint.root.hex()) == (manifest.logs[name].size, manifest.logs[name].root)


def test_a_retired_key_is_exported_with_the_size_where_it_ended(firm: Firm, tmp_path: Path) -> None:
    """`VKEY until SIZE`: an auditor with this file believes a stolen old key no larger checkpoint. The page's script
    and our own verify read it."""
    ledger, program = firm.ledger, "rotated"
    ledger.open_program(OpenProgram(program=program, currency="GBP"), by())
    both = [SigningKeys([seed], "ledger.example").signers(program, "books") for seed in (b"\x0a" * 32, b"\x0b" * 32)]
    sizes = []
    for number, signers in enumerate(both):
        ledger.execute(program, EnrolAffiliate(affiliate_id=f"a{number}"), by())
        sizes.append(sealing.seal(ledger, program, "books", signers, firm.clock()).checkpoint)
    assert sizes[0] is not None
    root = tmp_path / "out"
    export(ledger, program, root)
    old, new = (str(signers[0].key) for signers in both)
    assert (root / names.KEYS).read_text() == f"{old} until {sizes[0].size}\n{new}\n"
    script = re.findall(r"```python\n(.*?)```", (root / names.README).read_text(), re.DOTALL)[1]
    signed = subprocess.run([sys.executable, "-I", "-c", script], cwd=root, capture_output=True, text=True)
    assert (signed.returncode, signed.stdout.count("Signature Verified Successfully")) == (0, 1), signed.stderr


def test_an_export_until_a_position_is_as_of_that_position(firm: Firm, tmp_path: Path) -> None:
    """Clicks by then, balances and statements as they were, and a proof that leads from there to the checkpoint."""
    until = 90
    root = tmp_path / "out"
    manifest = export_firm(firm, root, until=until)
    assert manifest.logs["books"].size == until
    assert manifest.logs["traffic"].size == 0
    assert not (root / "traffic").exists()
    with firm.ledger.reading(firm.program) as (cur, id_):
        expected = {(a, c): n for a, c, n in books.account_balances(cur, id_, books.AsOf(until))}
        now = {(a, c): n for a, c, n in books.account_balances(cur, id_, books.AsOf())}
    found = [json.loads(line) for line in (root / names.BALANCES).read_bytes().splitlines()]
    assert {(one["account"], one["currency"]): one["amount"] for one in found} == expected != now
    consistency = json.loads((root / "books" / names.CONSISTENCY).read_bytes())
    checkpoint = notes.read_checkpoint((root / "books" / names.CHECKPOINT).read_text())
    assert (consistency["from"], consistency["to"]) == (until, checkpoint.size)
    assert checkpoint.size == sealed_size(firm, "books")
    proof = [base64.b64decode(one) for one in consistency["proof"]]
    merkle.verify_consistency(
        until, checkpoint.size, proof, bytes.fromhex(manifest.logs["books"].root), checkpoint.root
    )


@pytest.mark.parametrize("until", [None, 75])
def test_statements_are_those_that_the_log_issued(firm: Firm, tmp_path: Path, until: int | None) -> None:
    """In its order, each with the document that leads to the hash in its event, reissues included."""
    export_firm(firm, tmp_path / "out", until=until)
    lines = [json.loads(line) for line in lines_in(tmp_path / "out", "books")]
    issued = [line["state"] for line in lines if line["topic"] == "StatementIssued"]
    found = [json.loads(line) for line in (tmp_path / "out" / names.STATEMENTS).read_bytes().splitlines()]
    wanted = [(one["affiliate_id"], one["period"], one.get("version", 1), one["hash"]) for one in issued]
    assert [(one["affiliate_id"], one["period"], one["version"], one["hash"]) for one in found] == wanted
    assert len(wanted) > 2
    for one in found:
        assert sha256(one["document"].encode()).hexdigest() == one["hash"]
    if until is None:
        assert {one["version"] for one in found} == {1, 2}


def test_the_books_control_totals_are_the_journals(firm: Firm, tmp_path: Path, database: Database) -> None:
    """Lines and turnover by currency, as SQL adds them up."""
    manifest = export_firm(firm, tmp_path / "out", until=90)
    with owner(database) as conn:
        rows = conn.execute(
            "SELECT currency, count(*), sum(amount)::bigint FROM journal WHERE program_id = %s AND position <= 90"
            " GROUP BY 1",
            (program_id(firm.program),),
        ).fetchall()
    assert manifest.totals.turnover == {currency: amount for currency, _, amount in rows}
    assert manifest.totals.journal_lines == sum(count for _, count, _ in rows)


@pytest.mark.parametrize("form", [names.NDJSON, names.PARQUET])
def test_the_readme_tells_an_auditor_how_to_check_it_alone(firm: Firm, tmp_path: Path, form: str) -> None:
    """Its two scripts run as they stand, need nothing of ours, and find a change."""
    root = tmp_path / "out"
    manifest = export_firm(firm, root, segments=form)
    scripts = re.findall(r"```python\n(.*?)```", (root / names.README).read_text(), re.DOTALL)
    assert len(scripts) == 2

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-I", "-c", script], cwd=root, capture_output=True, text=True)

    said = run(scripts[0])
    assert said.returncode == 0, said.stderr
    for name in names.LOGS:
        root_text = base64.b64encode(bytes.fromhex(manifest.logs[name].root)).decode()
        assert f"{name}: {manifest.logs[name].size} events lead to the root {root_text}" in said.stdout
        assert root_text in (root / name / names.CHECKPOINT).read_text()
    signed = run(scripts[1])
    assert signed.returncode == 0, signed.stderr
    assert signed.stdout.count("Signature Verified Successfully") == 2
    note = root / "books" / names.CHECKPOINT
    note.write_text(note.read_text().replace("\n" + str(manifest.logs["books"].size) + "\n", "\n1\n"))
    assert run(scripts[0]).returncode != 0
    assert run(scripts[1]).returncode != 0


def test_no_plaintext_personal_data_is_in_an_export(firm: Firm, tmp_path: Path) -> None:
    """Names, e-mail addresses, tax numbers and reasons stand there as ciphertext only, in NDJSON and in Parquet."""
    for form in (names.NDJSON, names.PARQUET):
        export_firm(firm, tmp_path / form, segments=form)
        everything = b"".join(files_of(tmp_path / form).values())
        if form == names.PARQUET:  # its columns are compressed
            rows = _asked(f"SELECT COLUMNS(*)::VARCHAR FROM '{tmp_path / form}/*/*.parquet'")
            everything += "\n".join(text for row in rows for text in row).encode()
        for text in PERSONAL:
            assert text.encode() not in everything
            assert json.dumps(text)[1:-1].encode() not in everything
    assert b"display_name" in everything


NASTY = 'a"\\/\x01\x08\x0c\n\r\t\x7f é 語 \u2028 \U0001f600 <&>\' {"state":1}'


@pytest.mark.parametrize("form", [names.NDJSON, names.PARQUET])
def test_lines_of_strange_text_are_exported_as_they_were_hashed(firm: Firm, tmp_path: Path, form: str) -> None:
    """Quotes, backslashes, control characters, other alphabets: made in SQL, equal to the codec's bytes."""
    program = f"strange-{form}"
    firm.ledger.open_program(OpenProgram(program=program, currency="GBP"), by())
    state = '{"text":' + json.dumps(NASTY) + ',"n":' + msgspec.json.encode(NASTY).decode() + ',"state":{},"e":1e5}'
    with firm.ledger.writing(program) as (cur, id_):
        head = log.lock_head(cur, id_, "traffic")
        rows = [
            log.row(uuid5(id_, str(n)), n, "Strange", state.encode(), NASTY, "", f"{n}{NASTY}", "\\\\N") for n in (1, 2)
        ]
        log.append(cur, id_, "traffic", head, rows, T0.replace(microsecond=7))
        log.advance_head(cur, id_, "traffic", head, len(rows), T0, head.master_position)
        expected = [log.stored_line(id_, "traffic", row) for row in log.select_rows(cur, id_, "traffic", 0, 9)]
    export(firm.ledger, program, tmp_path / "out", segments=form, unsealed=True)
    path = f"{tmp_path / 'out'}/traffic/000000000001.{form}"
    if form == names.NDJSON:
        assert Path(path).read_bytes() == b"".join(line + b"\n" for line in expected)
        return
    columns = ", ".join(names.PARQUET_COLUMNS).replace("recorded_at", "epoch_us(recorded_at)")
    rows_found = _asked(f"SELECT {columns} FROM '{path}'")
    assert [row[-1].encode() for row in rows_found] == expected
    assert rows_found[0][:-1] == (
        1, str(uuid5(id_, "1")), 1, "Strange", int(T0.timestamp()) * 10**6 + 7, NASTY, "", f"1{NASTY}", "\\\\N", state,
    )  # fmt: skip


@pytest.mark.usefixtures("small")
def test_parquet_holds_the_same_lines_and_comes_out_the_same_again(firm: Firm, tmp_path: Path) -> None:
    """The roots of both forms are equal; types are those of the description; a second export has the same bytes."""
    manifest = export_firm(firm, tmp_path / "a", segments=names.PARQUET)
    export_firm(firm, tmp_path / "b", segments=names.PARQUET)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert manifest.logs == export_firm(firm, tmp_path / "c").logs
    described = _asked(f"DESCRIBE SELECT * FROM '{tmp_path}/a/books/*.parquet'")
    assert [row[0] for row in described] == list(names.PARQUET_COLUMNS)
    assert dict(row[:2] for row in described)["recorded_at"] == "TIMESTAMP WITH TIME ZONE"
    lines = [line for (line,) in _asked(f"SELECT line FROM '{tmp_path}/a/books/*.parquet' ORDER BY position")]
    assert [line.encode() for line in lines] == lines_in(tmp_path / "c", "books")
    assert export(firm.ledger, firm.program, tmp_path / "a", segments=names.PARQUET).written == 0


# --- how far -----------------------------------------------------------------------------------------------


def test_what_is_not_sealed_is_refused_with_the_way_out(firm: Firm, tmp_path: Path) -> None:
    """A position behind the checkpoint, one that does not exist, a log that was never sealed: nothing is made."""
    out = tmp_path / "out"
    sealed = sealed_size(firm, "books")
    with pytest.raises(
        ExportRefused, match=f"books is sealed up to position {sealed}, not to {sealed + 1}: run `ledger seal"
    ):
        export_firm(firm, out, until=sealed + 1)
    for wrong in (0, 10**6):
        with pytest.raises(InvalidInput, match="must be a position of the books: 1 to"):
            export_firm(firm, out, until=wrong)
    firm.ledger.open_program(OpenProgram(program="unsealed", currency="GBP"), by())
    with pytest.raises(ExportRefused, match="books was never sealed: run `ledger seal --program unsealed` first"):
        export(firm.ledger, "unsealed", out)
    assert not out.exists()


def test_an_unsealed_export_says_so_loudly(firm: Firm, tmp_path: Path) -> None:
    """Everything to the logs' ends, no checkpoint and no keys; README and manifest say that nothing vouches for it."""
    manifest = export_firm(firm, tmp_path / "out", unsealed=True)
    assert not manifest.sealed
    assert manifest.logs["books"].size > sealed_size(firm, "books")
    assert "NOT SEALED" in (tmp_path / "out" / names.README).read_text()
    assert not {names.KEYS, "books/checkpoint", "traffic/checkpoint"} & files_of(tmp_path / "out").keys()


@pytest.mark.usefixtures("small")
def test_writing_goes_on_meanwhile_and_is_not_seen(firm: Firm, tmp_path: Path) -> None:
    """Sales recorded while the export runs change none of its bytes."""
    export_firm(firm, tmp_path / "quiet")
    sold = 0

    def sell(*_: object) -> None:
        nonlocal sold
        sold += 1
        firm.sell(f"meanwhile-{sold}", 5_000)

    export_firm(firm, tmp_path / "busy", progress=sell)
    assert sold > 5
    assert files_of(tmp_path / "busy") == files_of(tmp_path / "quiet")


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
